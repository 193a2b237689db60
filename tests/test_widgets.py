"""The slider over pictures: the same bytes each time, readable by everybody, working without a kernel; and `show`."""

import base64
import html
import io
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ipywidgets
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from PIL import Image

import nfcourse as nf
from nfcourse import plot, widgets

matplotlib.use("Agg")

SANITIZE = Path(__file__).with_name("nbval_sanitize.cfg")
CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")


def draw(value):
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.plot([0, 1], [0, float(value)])
    ax.set(ylim=(-2, 2))
    return fig


@pytest.fixture
def static(monkeypatch):
    monkeypatch.setenv("NFCOURSE_STATIC", "1")


@pytest.fixture
def live(monkeypatch):
    monkeypatch.delenv("NFCOURSE_STATIC", raising=False)


def make(values=(0.5, 1.0, 1.5), label="Slope", alt="A line of slope {}", **options):
    return widgets.player(draw, values, label, alt, **options)


def soup(player):
    return BeautifulSoup(player._repr_html_(), "html.parser")


# ---------------------------------------------------------------- the stored player


def test_same_bytes_each_time(static):
    assert make().html == make().html


def test_same_bytes_in_another_process(static):
    code = (
        "import hashlib, sys; sys.path.insert(0, 'tests'); import test_widgets as t;"
        "print(hashlib.sha256(t.make().html.encode()).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[1],
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] and len(runs[0].strip()) == 64


def test_id_tells_of_words_and_not_of_pixels(static):
    other = widgets.player(lambda v: draw(-v), (0.5, 1.0, 1.5), "Slope", "A line of slope {}")
    assert other.id == make().id and other.html != make().html
    assert make(label="Rise").id != make().id
    assert make(alt="Slope {}").id != make().id
    assert make(values=(0.5, 1.0, 1.6)).id != make().id


def test_sanitized_players_differ_in_nothing_but_pixels(static):
    pattern = re.search(r"^regex: (.*)$", SANITIZE.read_text(), re.M).group(1)
    texts = {
        re.sub(pattern, "PICTURE", widgets.player(f, (1, 2), "L", "{}", fmt=fmt).html)
        for f in (draw, lambda v: draw(-v))
        for fmt in ("webp", "png")
    }
    assert len(texts) == 1
    assert "base64" not in texts.pop()


def test_repr_names_no_address(static):
    assert repr(make()) == "Player('Slope', 3 frames)"


def test_structure(static):
    page = soup(make(interval=250))
    root = page.find(class_="nf-player")
    assert root["id"] == make().id and root["role"] == "group" and root["data-interval"] == "250"
    assert root.find(class_="nf-player-controls") and root.find(class_="nf-player-frames")
    button, slider, output = root.find("button"), root.find("input"), root.find("output")
    assert button["type"] == "button" and button["aria-pressed"] == "false" and button["aria-label"] == "Play: Slope"
    assert (slider["type"], slider["min"], slider["max"], slider["value"]) == ("range", "0", "2", "0")
    # JupyterLab would take the arrow keys of a focused element without this mark
    assert button["data-lm-suppress-shortcuts"] == slider["data-lm-suppress-shortcuts"] == "true"
    assert slider["aria-label"] == "Slope" and slider["aria-valuetext"] == "0.5" and output.text == "0.5"


def test_frames_have_texts_and_one_size_and_the_first_is_visible(static):
    frames = soup(make()).find_all("img")
    assert [f["alt"] for f in frames] == [f"A line of slope {v}" for v in (0.5, "1.0", 1.5)]
    assert [f["data-value"] for f in frames] == ["0.5", "1.0", "1.5"]
    assert [f.has_attr("hidden") for f in frames] == [False, True, True]
    assert {(f["width"], f["height"]) for f in frames} == {("288", "192")}  # 3 by 2 inches on the page
    for f in frames:
        data = re.fullmatch(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", f["src"]).group(1)
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (432, 288), "blurred on fine screens"


def test_png(static):
    assert soup(make(fmt="png")).find("img")["src"].startswith("data:image/png;base64,")


def test_nothing_from_outside(static):
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", make().html)
    assert not re.search(r"(https?:)?//|@import|url\(", text)


def test_words_are_escaped(static):
    player = make(label='a < b & "c"', alt='<script>alert("{}")</script>')
    page = soup(player)
    assert page.find("input")["aria-label"] == 'a < b & "c"'
    assert page.find("img")["alt"] == '<script>alert("0.5")</script>'
    assert len(page.find_all("script")) == 1
    assert html.escape('<script>alert("0.5")</script>') in player.html


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((1, 2, 10), ["1", "2", "10"]),
        ((-1, 0, 1), ["−1", "0", "1"]),
        ((0.5, 1.0, 2.25), ["0.50", "1.00", "2.25"]),
        ((0.0, 1 / 3, 2 / 3, 1.0), ["0.00", "0.33", "0.67", "1.00"]),
        ((-0.0, -0.25), ["0.00", "−0.25"]),
        (np.linspace(0, 1, 11, dtype=np.float32)[:3], ["0.0", "0.1", "0.2"]),
        (torch.tensor([1, 2]), ["1", "2"]),
        ((1e-6, 1e-3, 1.0), ["1e−06", "0.001", "1"]),
        (("fixed", "batch"), ["fixed", "batch"]),
        ((True, False), ["True", "False"]),
        ((0.3,), ["0.3"]),
        ((2.0, 2.0), ["2", "2"]),
        ((1e6, 1e6 + 0.5, 1e6), ["1000000", "1000000.5", "1000000"]),
        ((0.1, 0.1000001), ["0.1000000", "0.1000001"]),
        ((-0.0, 0.0, 1e6), ["−0", "0", "1e+06"]),
        (((1, 2), (1, 3)), ["(1, 2)", "(1, 3)"]),
    ],
)
def test_values_read_well(static, values, texts):
    player = widgets.player(lambda v: draw(1), values, "v", lambda v: f"value {v}")
    assert [f["data-value"] for f in soup(player).find_all("img")] == texts


def test_alt_may_name_the_value_twice_format_it_or_be_a_function(static):
    alts = [f["alt"] for f in soup(make((0.5, 1.0), alt="{} is {:.2f} is {:.3f}")).find_all("img")]
    assert alts == ["0.5 is 0.50 is 0.500", "1.0 is 1.00 is 1.000"]
    assert [f["alt"] for f in soup(make((1, 2), alt=lambda v: "x" * v)).find_all("img")] == ["x", "xx"]


@pytest.mark.parametrize("texts", [["3 steps", "9 steps", "21 steps"], lambda k: f"{(3, 9, 21)[k]} steps"])
def test_the_slider_says_what_the_value_means(static, texts):
    player = make((0, 1, 2), alt="A line after {}", texts=texts)
    frames = soup(player).find_all("img")
    assert [f["data-value"] for f in frames] == ["3 steps", "9 steps", "21 steps"]
    assert frames[2]["alt"] == "A line after 21 steps" and soup(player).find("output").text == "3 steps"
    assert player.id != make((0, 1, 2), alt="A line after {}").id


def test_the_live_slider_says_it_too(live):
    _, slider, frame = parts(make((0, 1), alt="A line after {}", texts=["3 steps", "9 steps"]))
    slider.index = 1
    assert slider.label == "9 steps" and 'alt="A line after 9 steps"' in frame.value


def test_figures_are_closed_and_other_figures_are_not(static):
    mine = plt.figure()
    make()
    assert plt.get_fignums() == [mine.number]
    with pytest.raises(RuntimeError, match="in the middle"):

        def broken(value):
            plt.figure()
            raise RuntimeError("in the middle")

        widgets.player(broken, [1], "v", "{}")
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)


def test_axes_stand_for_their_figure(static):
    assert widgets.player(lambda v: draw(v).axes[0], [1], "v", "{}").count == 1


@pytest.mark.parametrize("values", [[], np.array([]), torch.zeros(0)])
def test_no_values(static, values):
    with pytest.raises(ValueError, match="at least one value"):
        make(values)


class Alike:
    """Values that do not say which is which."""

    def __str__(self):
        return "one"


@pytest.mark.parametrize("mode", ["static", "live"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fmt": "gif"}, "fmt expects one of"),
        ({"interval": 0}, "interval expects a positive"),
        ({"alt": "no place for the value"}, "alt expects a text with {}"),
        ({"alt": "{name}"}, "alt expects a text with {}"),
        ({"alt": ""}, "alt expects"),
        ({"alt": lambda v: None}, "alt expects a text for every value"),
        ({"texts": ["one", "two"]}, "texts expects one text for each of 3 values"),
        ({"texts": lambda v: v}, "texts expects one text for each"),
        ({"texts": ["a", " ", "c"]}, "texts expects one text for each"),
        ({"texts": "abc"}, "texts expects a list of texts"),
        ({"texts": {"a": 1, "b": 2, "c": 3}}, "texts expects a list of texts"),
        ({"texts": 5}, "texts expects a list of texts"),
        ({"values": [Alike(), Alike()], "alt": lambda v: f"{id(v)}"}, "values whose texts differ, got .'one', 'one'"),
        ({"alt": lambda v: "a line"}, "alt expects .* one text per frame, got 'a line' for all"),
        ({"alt": "{.foo}"}, "alt expects a text with {}"),
        ({"alt": "{[0]}"}, "alt expects a text with {}"),
        ({"alt": 5}, "alt expects a text with {}"),
        ({"label": None}, "label expects a text"),
        ({"label": " "}, "label expects a text"),
        ({"interval": 0.5}, "interval expects .* at least 1"),
        ({"interval": "400"}, "interval expects .* at least 1"),
        ({"interval": math.inf}, "interval expects .* at least 1"),
    ],
)
def test_clear_errors(request, mode, options, message):
    request.getfixturevalue(mode)
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("mode", ["static", "live"])
def test_draw_must_return_a_figure(request, mode):
    request.getfixturevalue(mode)
    with pytest.raises(ValueError, match="draw expects to return a matplotlib Figure, got NoneType for 1"):
        widgets.player(lambda v: None, [1, 2], "v", "{}")


def test_one_size(static):
    with pytest.raises(ValueError, match="one size.*the one for 3 is 3 by 1"):
        widgets.player(lambda v: plt.figure(figsize=(3, 2 if v < 3 else 1)), [1, 2, 3], "v", "{}")
    assert not plt.get_fignums()


# ---------------------------------------------------------------- in a live kernel


def parts(box):
    (play, slider), frame = box.children[0].children, box.children[1]
    return play, slider, frame


def test_live_widgets_draw_again(live):
    drawn = []
    box = widgets.player(lambda v: (drawn.append(v), draw(v))[1], (0.5, 1.0), "Slope", "slope {}", interval=123)
    play, slider, frame = parts(box)
    assert isinstance(slider, ipywidgets.SelectionSlider) and play.interval == 123
    assert drawn == [0.5] and 'alt="slope 0.5"' in frame.value
    play.value = 1
    assert slider.label == "1.0" and drawn == [0.5, 1.0] and 'alt="slope 1.0"' in frame.value
    slider.index = 0
    assert play.value == 0 and drawn == [0.5, 1.0, 0.5]
    assert not plt.get_fignums()


@pytest.mark.parametrize("value", ["", "0"])
def test_an_empty_or_zero_variable_means_live(monkeypatch, value):
    monkeypatch.setenv("NFCOURSE_STATIC", value)
    assert isinstance(make(), ipywidgets.VBox)


def test_live_errors_are_shown_and_left_again(live):
    def fussy(value):
        if value == 2:
            raise RuntimeError("not <two>")
        return draw(value)

    _, slider, frame = parts(widgets.player(fussy, (1, 2, 3), "v", "frame {}"))
    slider.index = 1
    assert "RuntimeError: not &lt;two&gt;" in frame.value
    slider.index = 2
    assert 'alt="frame 3"' in frame.value


def test_without_ipywidgets_the_player_is_stored(live, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert isinstance(make(), widgets.Player)


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser():
    if not (CHROMIUM and DRIVER):
        pytest.skip("Chromium and chromedriver are not installed: the player's script was not run")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, static, tmp_path):
    """Two equal players and a third: the worst page for scripts that look for ids."""
    players = [make(interval=60), make(interval=60), make(label="Rise", interval=60)]
    file = tmp_path / "page.html"
    file.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Players</title><main><h1>Players</h1>'
        + "".join(p.html for p in players)
    )
    browser.get(file.as_uri())
    return browser


def shown(root):
    from selenium.webdriver.common.by import By

    visible = [i.get_attribute("data-value") for i in root.find_elements(By.TAG_NAME, "img") if i.is_displayed()]
    slider, output = root.find_element(By.TAG_NAME, "input"), root.find_element(By.TAG_NAME, "output")
    assert visible == [output.text] == [slider.get_attribute("aria-valuetext")]
    return visible[0]


def test_keyboard_moves_one_player_and_nothing_jumps(page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    roots = page.find_elements(By.CLASS_NAME, "nf-player")
    sizes = [r.size for r in roots]
    slider = roots[1].find_element(By.TAG_NAME, "input")
    for key, value in ((Keys.ARROW_RIGHT, "1.0"), (Keys.END, "1.5"), (Keys.ARROW_LEFT, "1.0"), (Keys.HOME, "0.5")):
        slider.send_keys(key)
        assert [shown(r) for r in roots] == ["0.5", value, "0.5"]
    assert [r.size for r in roots] == sizes


def test_play_runs_to_the_end_and_starts_again(page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    root = page.find_elements(By.CLASS_NAME, "nf-player")[2]
    button = root.find_element(By.TAG_NAME, "button")
    for _ in range(2):
        button.send_keys(Keys.SPACE)
        assert button.get_attribute("aria-pressed") == "true"
        WebDriverWait(page, 5, 0.02).until(lambda _: button.get_attribute("aria-pressed") == "false")
        assert shown(root) == "1.5"


def test_play_can_be_paused(page):
    from selenium.webdriver.common.by import By

    root = page.find_elements(By.CLASS_NAME, "nf-player")[0]
    page.execute_script("arguments[0].dataset.interval = 60000", root)
    button = root.find_element(By.TAG_NAME, "button")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false" and shown(root) == "0.5"


def test_players_are_centred_in_one_width_and_print_one_frame_without_controls(page):
    from selenium.webdriver.common.by import By

    measure = """return [...document.querySelectorAll(".nf-player")].map(p => {
      const box = p.getBoundingClientRect(), frame = p.querySelector(".nf-player-frames").getBoundingClientRect();
      return [box.width, frame.left - box.left - (box.right - frame.right), frame.width]; })"""
    found = page.execute_script(measure)
    assert len({width for width, _, _ in found}) == 1
    assert all(abs(off) <= 1 and width == 288 for _, off, width in found)
    root = page.find_elements(By.CLASS_NAME, "nf-player")[0]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        controls = root.find_elements(By.CSS_SELECTOR, "button, input")
        assert [c.is_displayed() for c in controls] == [False, False]
        assert shown(root) == "0.5" and "Slope" in root.text
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_no_accessibility_violation_and_no_console_error(page):
    package = pytest.importorskip("axe_playwright_python")
    page.execute_script((Path(package.__file__).parent / "axe.min.js").read_text())
    # two equal players share their id here, on purpose; the page has nothing else that axe could blame
    rules = {"rules": {"duplicate-id": {"enabled": False}}}
    found = page.execute_async_script("axe.run(document, arguments[0]).then(arguments[1])", rules)
    assert [(v["id"], [n["html"][:90] for n in v["nodes"]]) for v in found["violations"]] == []
    assert page.get_log("browser") == []


# ---------------------------------------------------------------- show


def test_show_displays_the_source_as_markdown():
    source = nf.show(plot.line)
    assert repr(source) == "Source(nfcourse.plot.line)"
    text = source._repr_markdown_()
    assert text.startswith("`nfcourse.plot.line`\n\n```python\ndef line(") and text.endswith("\n```")
    assert "Draw a curve" in text


def test_show_several_objects_and_methods():
    source = nf.show(nf.Affine, nf.Affine.inverse, widgets.player)
    assert source.names == [
        "nfcourse.bijections.elementwise.Affine",
        "nfcourse.bijections.elementwise.Affine.inverse",
        "nfcourse.widgets.player",
    ]
    assert source.codes[1].startswith("def inverse(")


def test_show_without_docstring_keeps_comments():
    def commented(x):
        """Say something.

        At length.
        """
        # the reason
        return x

    def empty():
        """Nothing but words."""

    source = nf.show(commented, empty, docstring=False)
    assert source.codes == ["def commented(x):\n    # the reason\n    return x", "def empty():\n    ..."]


def test_show_unwraps():
    class Holder:
        @property
        def area(self):
            return 1

        @staticmethod
        def side():
            return 2

    assert nf.show(Holder.area, Holder.__dict__["side"], Holder().side).codes[0].startswith("@property")


def test_show_fences_code_that_holds_a_fence():
    def fenced():
        return "```"

    assert "\n````python\n" in nf.show(fenced)._repr_markdown_()


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (3, "expects a class, a function or a method, got int$"),
        (nf, "got module$"),
        (len, "got builtin_function_or_method$"),
        (nf.PReLU(2), r"got PReLU; did you mean show\(PReLU\)\?"),
        (int, "builtins.int has no source"),
    ],
)
def test_show_says_what_it_expects(thing, message):
    with pytest.raises(ValueError, match=message):
        nf.show(thing)
