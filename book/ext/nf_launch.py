"""The buttons that open or download a chapter give its plain edition, which needs neither MyST nor the package.

Colab opens single committed files and knows no MyST; so do most programs that open a downloaded notebook. Binder starts
from requirements.txt, where JupyterLab knows MyST: there the chapter itself opens. The plain editions lie in the built
book as well, so that the download works from disk.
"""

import shutil
from pathlib import Path


def _plain(app, page):
    """Return the plain edition of a page, or None."""
    folder, _, name = page.rpartition("/")
    path = Path(app.srcdir) / "plain" / f"{name}.ipynb"
    return path if folder == "chapters" and path.is_file() else None


def _buttons(groups):
    for button in groups or ():
        yield button
        if isinstance(button, dict):
            yield from _buttons(button.get("buttons"))


def _lead_to_the_plain_edition(app, page, template, context, doctree):
    path = _plain(app, page)
    if path is None:
        return
    for button in _buttons(context.get("header_buttons")):
        url = button.get("url") or "" if isinstance(button, dict) else ""
        if "colab.research.google.com" in url:
            button["url"] = url.replace(f"{page}.ipynb", f"plain/{path.name}")
        elif "download" in (button.get("label") or "") and url.endswith(".ipynb"):
            button.update(url=context["pathto"](f"plain/{path.name}", 1), tooltip="Download the notebook")


def _copy(app, error):
    """Put the plain editions into the built book."""
    if error or app.builder.format != "html":
        return
    target = Path(app.outdir) / "plain"
    target.mkdir(exist_ok=True)
    for path in sorted((Path(app.srcdir) / "plain").glob("*.ipynb")):
        shutil.copyfile(path, target / path.name)


def setup(app):
    app.connect("html-page-context", _lead_to_the_plain_edition, priority=900)  # after the theme has made the buttons
    app.connect("build-finished", _copy)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
