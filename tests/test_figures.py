"""Drawings that fit and repeat; SVG figures that repeat; players and schematics numbered and captioned in the book."""

import base64
import hashlib
import io
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

import nfcourse as nf
from nfcourse import plot, schematic
from nfcourse.schematic import Schematic
from nfcourse.schematic.drawing import ROLES, UNIT

matplotlib.use("Agg")

ROOT = Path(__file__).resolve().parents[1]
GALLERY = {name: getattr(schematic, name) for name in schematic.__all__ if name != "Schematic"}
XML = "{http://www.w3.org/2000/svg}"


@pytest.fixture(params=GALLERY, ids=str)
def drawing(request):
    return GALLERY[request.param]()


def new(width=6, height=4):
    return Schematic(width, height, alt="A drawing made for a test.")


def parts(s, tag):
    return [e for e in ET.fromstring(s.svg()).iter(XML + tag) if e.get("width") != "100%"]


# ---------------------------------------------------------------- schematics


def test_is_valid_says_what_it_shows_and_scales(drawing):
    inline, file = ET.fromstring(drawing._repr_html_()), ET.fromstring(drawing.svg())
    for root in (inline, file):
        assert root.get("class") == "nf-schematic" and root.get("role") == "img"
        assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    assert inline.get("aria-label") == drawing.alt == file.find(XML + "title").text
    assert not [e for e in inline.iter() if e.get("id")], "two copies on a page would share an id"
    assert not re.search(r"url\(|@import|https?:", drawing._repr_html_())


def test_repeats_in_another_process():
    def digest(of):
        return [hashlib.sha256(of(name)._repr_html_().encode()).hexdigest() for name in sorted(GALLERY)]

    code = (
        "import hashlib; from nfcourse import schematic as s; print([hashlib.sha256(getattr(s, n)()._repr_html_()"
        ".encode()).hexdigest() for n in sorted(s.__all__) if n != 'Schematic'])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str(digest(lambda name: GALLERY[name]()))


def test_every_colour_is_a_variable_with_a_fallback(drawing):
    style = ET.fromstring(drawing._repr_html_()).find("style").text
    for role in ROLES:
        assert re.search(rf"\.r-{role}{{--c:var\(--nf-{role},[#\w]+\)}}", style)
    for element in ET.fromstring(drawing._repr_html_()).iter():
        assert not element.get("fill") and not element.get("stroke"), "a colour that ignores the theme"


LEAVES = """
const out = [];
document.querySelectorAll("svg.nf-schematic").forEach(s => {
  const v = s.viewBox.baseVal;
  s.querySelectorAll("text, rect, path, circle, ellipse, polygon").forEach(e => {
    const b = e.getBBox();
    if (b.x < -2 || b.y < -2 || b.x + b.width > v.width + 2 || b.y + b.height > v.height + 2)
      out.push([s.parentNode.id, e.tagName, e.textContent, b.x, b.y, b.width, b.height]);
  });
  s.querySelectorAll("text").forEach(e => {
    for (const t of [e, ...e.querySelectorAll("tspan")]) {
      const size = parseFloat(getComputedStyle(t).fontSize) * s.getBoundingClientRect().width / v.width;
      if (t.textContent.trim() && size < 7.5) out.push([s.parentNode.id, t.textContent, size]);
    }
  });
});
document.querySelectorAll("svg.nf-schematic").forEach(s => {  // a label may not run over the sides of its box
  const boxes = [...s.querySelectorAll("rect.s")].map(e => e.getBBox());
  s.querySelectorAll("text").forEach(e => {
    const t = e.getBBox(), x = t.x + t.width / 2, y = t.y + t.height / 2;
    for (const b of boxes)
      if (x > b.x && x < b.x + b.width && y > b.y && y < b.y + b.height && t.width > b.width)
        out.push([s.parentNode.id, e.textContent, "wider than its box"]);
  });
});
return out;
"""


def test_fits_its_frame_and_is_legible_on_a_phone_in_a_browser(browser, tmp_path):
    import browsing

    page = tmp_path / "gallery.html"
    body = "".join(f'<div id="{name}">{f()._repr_html_()}</div>' for name, f in GALLERY.items())
    page.write_text(f'<!doctype html><meta charset="utf-8"><body style="margin:16px">{body}', "utf8")
    browsing.view(browser, width=390)
    browser.get(page.as_uri())
    assert browser.execute_script(LEAVES) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


def test_arrows_go_from_edge_to_edge():
    s = new().box("a", (1.5, 1), size=(2, 1)).node("b", (4.5, 1), radius=0.5).arrow("a", "b")
    path, head = parts(s, "path")[0].get("d"), parts(s, "polygon")[0].get("points")
    assert path.startswith(f"M{2.5 * UNIT:g} {UNIT}L") and head.split()[0] == f"{4 * UNIT},{UNIT}"


def test_arrows_take_points_sides_and_corners():
    s = new().box("a", (1.5, 1), size=(2, 1))
    s.arrow("a.bottom", (4, 3), via=[(1.5, 3)], style="dashed", role="wrong")
    path = parts(s, "path")[0]
    assert path.get("d").startswith(f"M{1.5 * UNIT:g} {1.5 * UNIT:g}L{1.5 * UNIT:g} {3 * UNIT}L")
    assert {"dashed", "r-wrong"} <= set(path.get("class").split())
    assert not parts(new().arrow((1, 1), (2, 2), head=False), "polygon")


def test_masks_fill_the_cells_that_they_are_given():
    cells = np.tril(np.ones((3, 3)), -1)
    filled = [e for e in parts(new().mask("m", (2, 2), cells, cell=1), "rect")]
    assert {(float(e.get("x")), float(e.get("y"))) for e in filled} == {(0.5 * 40, 40 * 1.5), (20, 100), (60, 100)}


def test_made_masks_are_those_of_the_network():
    """What the drawing shows agrees with what `nf.MADE` would compute from the same degrees."""
    hears = [
        (float(e.get("x")), float(e.get("y"))) for e in parts(schematic.made(), "rect") if "r-ink" in e.get("class")
    ]
    assert len(hears) == 3 and len({x for x, _ in hears}) == 2  # strictly lower triangular: 2 from 1, 3 from 1 and 2


@pytest.mark.parametrize(("name", "cells"), [("mass_in_a_cell", 2), ("ruler_change", 2), ("fold", 3)])
def test_a_cell_keeps_its_mass(name, cells):
    """Both shaded areas of a colour are equal: the drawing obeys the theorem that it illustrates."""
    areas = {}
    for path in parts(GALLERY[name](), "path"):
        if path.get("d").endswith("Z"):
            x, y = np.array([p.split() for p in path.get("d")[1:-1].split("L")], dtype=float).T
            area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
            areas.setdefault(path.get("class"), []).append(area)
    assert len(areas) == cells
    for above, below in areas.values():
        assert above == pytest.approx(below, rel=1e-2)  # lengths are rounded to a tenth of a pixel


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("plain 1", [("plain 1", None)]),
        ("$x_1$", [("x", "m i"), ("1", "m")]),
        ("$z^{(2)} + a$", [("z", "m i"), ("(2)", "m"), (" + ", "m"), ("a", "m i")]),
        ("flow $f_k$", [("flow ", None), ("f", "m i"), ("k", "m i")]),
        ("$\\log τ'$", [("log ", "m"), ("τ", "m i"), ("′", "m")]),
        ("$a-b$", [("a", "m i"), ("−", "m"), ("b", "m i")]),
        (r"$\theta$", [("θ", "m i")]),
        (r"$x_\theta$", [("x", "m i"), ("θ", "m i")]),
        (r"$\mathbb{R}^d$", [("ℝ", "m"), ("d", "m i")]),
        (r"$x \in \mathbb{Z}$", [("x", "m i"), (" ∈ ℤ", "m")]),
        (r"$\mathbb{E}[\log p]$", [("𝔼[log ", "m"), ("p", "m i"), ("]", "m")]),
        (r"$\sum_{i} a \cdot b$", [("∑", "m"), ("i", "m i"), (" ", "m"), ("a", "m i"), (" · ", "m"), ("b", "m i")]),
        (r"$\{1, \infty\}$", [("{1, ∞}", "m")]),
        (r"$\int_A h \mathrm{d}\mu$", [("∫", "m"), ("A", "m i"), (" ", "m"), ("h", "m i"), (" d", "m"), ("μ", "m i")]),
        (r"$\Sigma_\varphi$", [("Σ", "m i"), ("φ", "m i")]),
        (r"$f \to g_{\{1\}}$", [("f", "m i"), (" → ", "m"), ("g", "m i"), ("{1}", "m")]),
        (r"$|\det J|$", [("|det ", "m"), ("J", "m i"), ("|", "m")]),
    ],
)
def test_formulas_in_labels(text, letters):
    element = parts(new().text((3, 2), text), "text")[0]
    found = [(element.text, None)] * bool(element.text) + [(t.text, t.get("class")) for t in element]
    assert found == letters
    shifts = [float(t.get("dy", 0)) for t in element]
    raised = [k for k, t in enumerate(element) if t.get("style")]
    assert all(shifts[k] != 0 for k in raised)
    if raised and raised[-1] + 1 < len(shifts):
        assert abs(sum(shifts)) < 0.11, "the line comes back after an index"


def test_words_are_escaped():
    s = Schematic(5, 2, alt='a < b & "c" or so').text((2.5, 1), "a<b & c")
    assert ET.fromstring(s._repr_html_()).get("aria-label") == 'a < b & "c" or so'
    assert parts(s, "text")[0].text == "a<b & c"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Schematic(20, 3, alt="Far too wide a drawing."), "a width up to 14"),
        (lambda: Schematic(3, 0, alt="A drawing of no height."), "a height above 0"),
        (lambda: Schematic(3, 3, alt=""), "alt expects a text"),
        (lambda: new().box("a", (0.5, 1)), "a leaves the drawing of 6 by 4 cells"),
        (lambda: new().box("a", (3, 1), "a label far too long for it"), "a label that fits"),
        (lambda: new().box("a", (3, 1), role="red"), "role expects one of ink, line, base"),
        (lambda: new().box("a", (3, 1), size=(0, 1)), "a positive size"),
        (lambda: new().box("a", (3, 1)).box("a", (3, 3)), "a name expects to be new"),
        (lambda: new().box("a.b", (3, 1)), "without a dot"),
        (lambda: new().box("a", (3, 1)).arrow("a", "b"), "got 'b'; drawn: a"),
        (lambda: new().box("a", (3, 1)).arrow("a.middle", (1, 3)), "got 'a.middle'"),
        (lambda: new().box("a", (3, 1)).arrow("a", "a"), "expects two places"),
        (lambda: new().arrow((1, 1), (1, 1)), "expects two places"),
        (lambda: new().arrow((1, 1), (3, 1), "f", side="up"), "side expects left or right"),
        (lambda: new().line([(1, 1)]), "at least two points"),
        (lambda: new().line([(1, 1), (9, 1)]), r"leaves the drawing .* at \(9, 1\)"),
        (lambda: new().line([(1, 1), (2, 1)], style="dotted"), "style expects solid or dashed"),
        (lambda: new().text((3, 1), "$x"), "dollars in pairs"),
        (lambda: new().text((0, 1), "leaves on the left"), "leaves the drawing"),
        (lambda: new().text((3, 1), "x", anchor="left"), "anchor expects"),
        (lambda: new().node("a", (3, 1), kind="seen"), "kind expects latent, observed"),
        (lambda: new().mask("m", (3, 1), [[1], [1, 0]]), "rows of one length"),
        (lambda: new().mask("m", (3, 1), []), "rows of one length"),
        (lambda: new().plate((1, 1), (9, 1)), "leaves the drawing"),
        *[
            (lambda text=text: new().text((3, 2), text), message)
            for text, message in [
                (r"$\frac{a}{b}$", r"got '\\\\frac'"),
                (r"$\mathbb{X}$", "got .*mathbb{X}'"),
                (r"$\mathbb R$", "got .*mathbb'"),
                (r"$\mathrm{x}$", "got .*mathrm'"),
                (r"$\thetaX$", "got .*thetaX'"),
                ("$a \\$", "commands for Greek letters"),
                (r"\theta", "commands between dollars"),
                ("$x_{a_{b}}$", "indices of one level"),
                ("$x_{a_b}$", "indices of one level"),
                ("${x}$", "indices of one level, .* got '{'"),
                ("$x}$", "got '}'"),
                ("$x_$", "got '_'"),
                ("$x_^2$", "indices of one level"),
                ("a\x00b", "without control characters"),
                ("a\ue000b", "without control characters"),
                ("a\tb", "without control characters"),
                (5, "a text expects letters"),
            ]
        ],
        (lambda: Schematic(3, 3, alt="A drawing with \x07 a bell."), "alt expects a text"),
        (lambda: new().text((3, 0.1), "high"), "leaves the drawing"),
        (lambda: new().text((3, 3.9), "low"), "leaves the drawing"),
        (lambda: new().text((3, 0.2), "$x^2$"), "leaves the drawing"),
        (lambda: new().text((3, 3.8), "$x_2$"), "leaves the drawing"),
        (lambda: new().text((3, 2), "寬" * 14), "leaves the drawing"),
        (lambda: new().box("a", (3, 1), "one\ntwo\nthree"), "by 1.5 cells, the box 2 by 1"),
        (lambda: new().node("a", (3, 2), "too wide a label"), "a node expects a label that fits"),
        (lambda: new().node("a", (3, 2), "$x$", radius=0.1), "a node expects a label that fits"),
        (lambda: new().node("a", (3, 2), kind="deterministic", radius=0.05), "radius expects room"),
        (lambda: new().node("a", (3, 2), radius=-1), "a positive size"),
        (lambda: new().box("a", (2, 1)).box("b", (3, 1)).arrow("a", "b"), "'a' and 'b', which overlap"),
        (lambda: new().box("a", (2, 1)).arrow("a", (2.5, 1)), "which overlap"),
        (lambda: new().box("a", (2, 1)).arrow("a", (5, 1), via=[(2, 1.3)]), "which overlap"),
        (lambda: new().box("a", (1.5, 1)).box("b", (3.6, 1)).arrow("a", "b"), "0.24 cells for its head, got 0.1"),
        (lambda: new().mask("m", (3, 1), ["10", "01"]), "cells expects booleans or numbers"),
        (lambda: new().mask("m", (3, 1), [[1, float("nan")]]), "cells expects booleans or numbers"),
        (lambda: new().mask("m", (3, 1), [[None, 1]]), "cells expects booleans or numbers"),
        (lambda: new().box("a", (3, 1), stack=0), "stack expects"),
        (lambda: new().box("a", (3, 1), stack=1.5), "stack expects"),
        (lambda: new().brace((1, 1), (1, 1.1)), "half a cell apart"),
    ],
)
def test_clear_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("fails", "works"),
    [
        (lambda s: s.box("a", (3, 1), "a label far too long", stack=2), lambda s: s.box("a", (3, 1), "short")),
        (lambda s: s.box("a", (3, 1), role="red"), lambda s: s.box("a", (3, 1))),
        (lambda s: s.node("a", (3, 2), role="red"), lambda s: s.node("a", (3, 2))),
        (lambda s: s.node("a", (3, 0.5), "$μ$", kind="fixed"), lambda s: s.node("a", (3, 1), "$μ$", kind="fixed")),
        (lambda s: s.region("a", (3, 2), (1, 1), role="red"), lambda s: s.region("a", (3, 2), (1, 1))),
        (lambda s: s.mask("a", (3, 2), [[1]], role="red"), lambda s: s.mask("a", (3, 2), [[1]])),
        (lambda s: s.plate((1, 1), (1, 1), "far too long"), lambda s: s.plate((1, 1), (1, 1))),
        (lambda s: s.arrow((1, 0.2), (4, 0.2), "label"), lambda s: s.arrow((1, 0.2), (4, 0.2))),
        (lambda s: s.text((3, 3.6), "one\ntwo"), lambda s: s.text((3, 3), "one\ntwo")),
        (lambda s: s.brace((1, 0.5), (2, 0.5), "n"), lambda s: s.brace((1, 1.5), (2, 1.5), "n")),
    ],
)
def test_what_fails_leaves_no_trace(fails, works):
    """Neither a part nor a name: the cell is corrected and run again."""
    s = new()
    with pytest.raises(ValueError):
        fails(s)
    assert s.svg() == new().svg()
    assert works(s).svg() == works(new()).svg()


def test_every_method_returns_the_drawing():
    s = new()
    assert s.text((3, 1), "x") is s.box("a", (1.5, 1)) is s.node("b", (4, 1)) is s.region("c", (3, 3), (1, 1)) is s
    assert s.mask("d", (5, 3), [[1]]) is s.plate((1, 2), (1, 1), "N") is s.line([(1, 1), (2, 2)]) is s
    assert s.arrow("a", "b") is s.brace((1, 3.5), (2, 3.5), "n") is s
    assert nf.schematic.Schematic is Schematic and repr(s) == "Schematic(6 by 4 cells)"


# ---------------------------------------------------------------- SVG figures


def dense_figure():
    rng = np.random.default_rng(0)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(6, 2.2))
    left.scatter(*rng.normal(size=(2, 2000)))
    left.scatter(*rng.normal(size=(2, 5)), color="k")
    middle.imshow(rng.random((20, 20)))
    right.hist(rng.normal(size=500), bins=40)
    right.plot([0, 1], [0, 50], label="a line")
    right.legend()
    return figure


@pytest.fixture
def styled():
    with matplotlib.rc_context():
        plot.style()
        yield
    plt.close("all")


def test_svg_repeats_byte_for_byte(styled):
    first, second = plot.svg(dense_figure()), plot.svg(dense_figure())
    assert first == second and plot.svg(plt.gcf()) == second, "a second rendering of one figure differs"
    assert "<dc:date>" not in first and "<text" not in first
    assert plot.svg(plt.gcf().axes[0]) == first, "axes stand for their figure"


def test_svg_keeps_lines_and_stores_dense_layers_as_sharp_pictures(styled):
    figure = dense_figure()
    text = plot.svg(figure)
    pictures = [Image.open(io.BytesIO(base64.b64decode(d))) for d in re.findall(r"base64,([^\"]+)\"", text)]
    assert len(pictures) == 2, "one cloud and one heat map"
    inches = figure.axes[1].get_window_extent().width / figure.dpi
    assert max(p.width for p in pictures) >= 1.9 * 96 * inches, (
        "blurred where a pixel of the page is four of the screen"
    )
    assert text.count("<use ") > 5 + 40 // 40 and len(text) < 400_000
    assert [c.get_rasterized() for c in figure.axes[0].collections] == [True, False]
    assert not any(p.get_rasterized() for p in figure.axes[2].patches)


KERNEL = """
import matplotlib.pyplot as plt
from nfcourse import plot
plot.style()
fig, ax = plt.subplots()
ax.plot([0, 1])
plt.show()
"""


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A notebook, run: an SVG figure, a player, a schematic, each with name and caption."""
    from nbclient import NotebookClient

    def figure(k, caption):
        return {"mystnb": {"figure": {"name": f"fig-09-{k}", "caption": caption}, "image": {"alt": "A rising line."}}}

    player = (
        "from nfcourse import widgets\ndef draw(k):\n    fig, ax = plt.subplots(figsize=(3, 2))\n    ax.plot([0, k])\n"
        "    return fig\nwidgets.player(draw, [1, 2], 'steps', 'A line up to {}', texts=lambda k: f'{7 * k} steps')"
    )
    nb = nbformat.v4.new_notebook()
    markdown, cell = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    nb.cells = [
        markdown("# A chapter\n\nSee {numref}`fig-09-moves` and {ref}`fig-09-drawn`."),
        cell(KERNEL, metadata=figure("line", "A *line* and $x_1$.")),
        cell(player, metadata=figure("moves", "What moves: $\\log p(x)$.")),
        cell("from nfcourse import schematic\nschematic.coupling()", metadata=figure("drawn", "Drawn: $z_A$.")),
    ]
    nb.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NFCOURSE_STATIC", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        NotebookClient(nb, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    return nb


def test_a_notebook_shows_svg_and_nothing_else(notebook):
    data = notebook.cells[1].outputs[0].data
    assert set(data) == {"image/svg+xml", "text/plain"}
    assert "<dc:date>" not in data["image/svg+xml"]


def test_nbval_compares_that_there_is_a_figure_not_its_bytes(notebook):
    from nbval.plugin import get_sanitize_patterns

    patterns = get_sanitize_patterns((ROOT / "tests" / "nbval_sanitize.cfg").read_text("utf8"))

    def sanitize(text):
        for regex, replace in patterns:
            text = re.sub(regex, replace, text)
        return text

    assert sanitize(notebook.cells[1].outputs[0].data["image/svg+xml"]) == "SVG FIGURE"
    drawn = notebook.cells[3].outputs[0].data["text/html"]
    assert sanitize(drawn) == drawn, "schematics are compared letter by letter"


CONF = f"""
import sys
sys.path.insert(0, {str(ROOT / "book" / "ext")!r})
extensions = ["myst_nb", "sphinx.ext.mathjax", "nf_offline", "nf_figures"]
nb_execution_mode = "off"
numfig = True
myst_enable_extensions = ["dollarmath"]
"""


@pytest.fixture(scope="module")
def built(notebook, tmp_path_factory):
    """A book of one chapter, built as the course's is: its figures, by their ids."""
    folder = tmp_path_factory.mktemp("figures")
    (folder / "chapters").mkdir()
    (folder / "conf.py").write_text(CONF)
    (folder / "index.md").write_text("# Book\n\n```{toctree}\n:numbered:\nchapters/09_x\n```\n")
    nbformat.write(notebook, folder / "chapters" / "09_x.ipynb")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(folder), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return BeautifulSoup((folder / "html" / "chapters" / "09_x.html").read_text("utf8"), "html.parser")


@pytest.mark.parametrize(
    ("name", "number", "kind", "inside"),
    [
        ("fig-09-line", "Fig. 9.1", "image", "img"),
        ("fig-09-moves", "Fig. 9.2", "player", "div.nf-player"),
        ("fig-09-drawn", "Fig. 9.3", "schematic", "svg.nf-schematic"),
    ],
)
def test_pictures_players_and_schematics_have_number_and_caption(built, name, number, kind, inside):
    figure = built.find(id=name)
    assert figure.name == "figure" and {"nf-figure", f"nf-figure-{kind}"} <= set(figure["class"])
    assert len(figure.select(inside)) == 1
    caption = figure.find("figcaption")
    assert caption.select_one(".caption-number").text.strip() == number
    assert len(caption.select(".math")) == 1 and "$" not in caption.text


def test_references_say_number_and_lead_to_the_figure(built):
    links = {a["href"]: a.text for a in built.select("p a.reference.internal") if "fig-09" in a["href"]}
    assert links["#fig-09-moves"] == "Fig. 9.2" and links["#fig-09-drawn"].startswith("Drawn")


def test_the_slider_says_its_unit_in_the_book(built):
    assert built.select_one(".nf-player output").text == "7 steps"
