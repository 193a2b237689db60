"""Sphinx extension: the built HTML loads nothing from outside, is valid, and counts by the chapters' numbers."""

import importlib.util
import re
import shutil
import sys
from pathlib import Path

from sphinx.environment.collectors.toctree import TocTreeCollector


def _mathjax_root() -> Path:
    spec = importlib.util.find_spec("sphinx-mathjax-offline")  # the wheel of MathJax 3 on PyPI
    if spec is None:
        raise RuntimeError("MathJax is missing: expected the package sphinx-mathjax-offline of requirements.txt.")
    return Path(spec.origin).parent / "static" / "mathjax"


def _configure(app, config):
    config.mathjax_path = "vendor/mathjax/tex-chtml.js"
    # the players are plain HTML: no page needs require.js or the widget manager
    config.nb_ipywidgets_js = {}
    # sphinx_thebe is always on in Jupyter Book 1 and names a CDN: unhook the part that writes it
    for hooks in app.events.listeners.values():
        hooks[:] = [h for h in hooks if getattr(h.handler, "__name__", "") != "init_thebe_core"]


def _copy(app):
    if app.builder.format != "html":
        return
    destination = Path(app.outdir) / "_static" / "vendor" / "mathjax"
    for part in ("tex-chtml.js", "ui/lazy.js", "output/chtml/fonts", "input/tex/extensions"):
        source, target = _mathjax_root() / part, destination / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)


def _mend(app, page, template, context, doctree):
    """Take out obsolete roles: a list of citations has no list items, and doc-biblioentry is no longer one."""
    if context.get("body"):
        context["body"] = re.sub(r' role="(?:list|doc-biblioentry)"', "", context["body"])


def _number_by_file_name():
    """Let theorem, figure and equation 3 of chapters/08_*.ipynb be 8.3: Sphinx would count the files."""
    count = TocTreeCollector.assign_figure_numbers
    if getattr(count, "by_file_name", False):
        return

    def assign_figure_numbers(self, env):
        chapters = {doc: re.match(r"chapters/0*(\d+)_", doc) for doc in env.found_docs}
        kept = env.toc_secnumbers
        env.toc_secnumbers = {**kept, **{doc: {"": (int(m[1]),)} for doc, m in chapters.items() if m}}
        try:
            return count(self, env)
        finally:
            env.toc_secnumbers = kept  # headings stay without numbers: the chapters' titles have their own

    assign_figure_numbers.by_file_name = True
    TocTreeCollector.assign_figure_numbers = assign_figure_numbers


def setup(app):
    sys.path.insert(0, str(Path(app.srcdir)))  # autodoc finds the package
    _number_by_file_name()
    app.connect("config-inited", _configure, priority=900)
    app.connect("builder-inited", _copy, priority=100)
    app.connect("html-page-context", _mend)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
