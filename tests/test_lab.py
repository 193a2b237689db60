"""A chapter in a real JupyterLab: its text is set, its cells run, its slider moves the picture."""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import nbformat
import pytest
from browsing import CHAPTERS, ROOT, wait

sys.path.insert(0, str(ROOT / "scripts"))
import chromium  # noqa: E402

CHAPTER = "01_measures"  # the one that runs fastest

# JupyterLab knows the labels of the notebook that is open, and of it those in the text. Another chapter's theorem, or a
# figure that a cell draws, is shown by its bare label, unless the reference has words of its own:
# {prf:ref}`the quantile transform <thm-02-quantile>`. This list may only get shorter.
WORDLESS = {
    "09_coupling": {"thm-08-jump"},
    "10_autoregressive": {"thm-08-cells"},
    "11_images": {"thm-08-dequantisation", "thm-08-plu"},
}  # fmt: skip


def wordless(path):
    """Labels that stand bare in a chapter's text and that its notebook does not know."""
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
    text = "\n".join(cells)
    known = set(re.findall(r"(?:^\s*:(?:label|name): *|\$\$ *\(|^\()([\w-]+)", text, re.M))
    return set(re.findall(r"\{(?:prf:ref|eq|numref|ref)\}`([^`<>]+)`", text)) - known


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_references_out_of_the_notebook_have_words(chapter):
    name = chapter.removeprefix("chapters/")
    new = wordless(ROOT / f"{chapter}.ipynb") - WORDLESS.get(name, set())
    assert not new, f"JupyterLab shows the bare labels {sorted(new)}: write {{prf:ref}}`words <label>`"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab on a copy of the chapter, with no settings but these; gives its address and its folder."""
    for package in ("jupyterlab", "jupyterlab_myst"):
        if importlib.util.find_spec(package) is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{package} is not installed")
    folder = tmp_path_factory.mktemp("lab")
    notebooks = folder / "root"
    notebooks.mkdir()
    notebook = nbformat.read(ROOT / "chapters" / f"{CHAPTER}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    nbformat.write(notebook, notebooks / "chapter.ipynb")
    settings = folder / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    # all cells are drawn, not only those in view
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))
    own = {f"JUPYTER_{k}_DIR": str(folder / k) for k in ("CONFIG", "DATA", "RUNTIME")}
    own |= {
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }
    own |= {"IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": str(ROOT)}
    environment = {k: v for k, v in (os.environ | own).items() if k not in ("NFCOURSE_STATIC", "MPLBACKEND") and v}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
               f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=course",
               f"--ServerApp.root_dir={notebooks}", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # fmt: skip
    log = folder / "log"
    with log.open("w") as out:
        server = subprocess.Popen(command, env=environment, cwd=notebooks, stdout=out, stderr=subprocess.STDOUT)
    try:
        end = time.perf_counter() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert server.poll() is None and time.perf_counter() < end, log.read_text()[-2000:]
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/doc/tree/chapter.ipynb?token=course&reset"
    finally:
        server.terminate()  # it ends its kernels
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def page(lab, tmp_path_factory):
    """The chapter, opened in a browser."""
    if reason := chromium.missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    browser = chromium.start(tmp_path_factory.mktemp("profile"))
    try:
        browser.set_window_size(1280, 1600)
        browser.get(lab)
        cells = len(nbformat.read(ROOT / "chapters" / f"{CHAPTER}.ipynb", as_version=4).cells)
        count = "return document.querySelectorAll('.jp-Notebook .jp-Cell').length"
        wait(lambda: browser.execute_script(count) == cells, 60)
        yield browser
    finally:
        browser.quit()


# What stands in the text, without code and formulas; folds count, closed or not.
TEXTS = """return [...document.querySelectorAll(".jp-MarkdownCell")].map(e => {
  const copy = e.cloneNode(true);
  copy.querySelectorAll(".jp-Editor, pre, code, .katex, svg, style").forEach(x => x.remove());
  return copy.textContent; });"""


def test_text_is_set(page):
    """No directive, role, option or label is left raw; boxes are boxes, folds are closed, formulas are formulas."""
    cells = nbformat.read(ROOT / "chapters" / f"{CHAPTER}.ipynb", as_version=4).cells
    source = "\n".join(c.source for c in cells if c.cell_type == "markdown")

    def shown(selector):
        return page.execute_script("return document.querySelectorAll(arguments[0]).length", selector)

    def written(directive):
        return len(re.findall(rf"\{{{directive}\}}", source))

    wanted = {
        "aside.myst-proof": written(r"prf:(?!proof|ref)\w+"),
        "details.myst-proof:not([open])": written("prf:proof"),
        "details.myst-dropdown:not([open])": written("dropdown"),
        "aside.myst-exercise": written("exercise"),
        "details.myst-exercise:not([open])": written("solution"),
    }
    # the text is set cell by cell, from the top: the last ones come late
    end = time.perf_counter() + 60
    while (found := {k: shown(k) for k in wanted}) != wanted and time.perf_counter() < end:
        time.sleep(0.2)
    assert found == wanted
    assert wanted["aside.myst-proof"] > 3 and wanted["details.myst-exercise:not([open])"] > 0
    assert shown(".katex") > 100 and not shown(".katex-error")
    raw = re.compile(r":::|\{[a-z]+(?::[a-z]+)?\}|:(?:label|class|name):|\b(?:thm|def|exa|eq|fig)-\d\d-\w+")
    raws = [match[0] for text in page.execute_script(TEXTS) if (match := raw.search(text))]
    assert len(page.execute_script(TEXTS)) > 10 and not raws, raws


def test_cells_run_and_a_slider_moves_the_picture(page):
    wait(lambda: page.execute_script("return !!window.jupyterapp && jupyterapp.commands.hasCommand("
                                     "'notebook:run-all-cells')"), 30)  # fmt: skip
    # the kernel starts with the notebook; what is run before it is there is dropped
    wait(lambda: page.execute_script(
        "return jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status") == "idle", 60)  # fmt: skip
    page.execute_async_script(
        "const done = arguments[0]; jupyterapp.commands.execute('notebook:run-all-cells').then(() => done(), done);"
    )
    state = """const cells = [...jupyterapp.shell.currentWidget.content.widgets].filter(c => c.model.type === "code");
      return {todo: cells.filter(c => c.model.executionCount === null).length, count: cells.length, errors:
        cells.flatMap(c => c.model.outputs.toJSON().filter(o => o.output_type === "error").map(o => o.evalue))};"""
    wait(lambda: not page.execute_script(state)["todo"] or page.execute_script(state)["errors"], 80)
    done = page.execute_script(state)
    assert done["count"] > 10 and not done["todo"] and not done["errors"], done
    # the slider is live: each step is drawn anew by the kernel
    find = """const picture = e => [...e.querySelectorAll(".widget-html-content")]
        .find(f => f.querySelector("img, svg"));
      const box = [...document.querySelectorAll(".jp-OutputArea .jupyter-widgets")]
        .find(e => e.querySelector(".noUi-handle") && picture(e));
      if (!box) return null; box.scrollIntoView({block: "center"});
      return [box.querySelector(".noUi-handle"), picture(box).innerHTML];"""
    handle, first = wait(lambda: page.execute_script(find), 30)
    from selenium.webdriver.common.keys import Keys

    handle.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert len(first) > 1000
    wait(lambda: (page.execute_script(find) or [0, first])[1] != first, 20)
