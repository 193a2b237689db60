"""The badge under a theorem says what its check has stored, no more, and leads to the check and back."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import browsing
import nbformat
import pytest
import torch

from nfcourse import check

ROOT = Path(__file__).resolve().parents[1]
EXTENSION = ROOT / "book" / "ext" / "nf_checks.py"


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


badges = load(EXTENSION)


# What a badge counts.

CLAIMS = {  # a claim, and how many numbers and statements it is
    "close": (lambda: check.close("x: of 7", 1.0, 1.0, tol=0.1), (1, 0)),
    "close-large": (lambda: check.close("x", 12345.678, 12345.6, tol=0.1), (1, 0)),
    "close-infinite": (lambda: check.close("x", float("inf"), float("inf")), (1, 0)),
    "close-relative": (lambda: check.close("x", 1.0, 1.0, tol=0.1, rtol=0.1), (1, 0)),
    "close-many": (lambda: check.close("x", torch.ones(12), 1.0, tol=0.1), (12, 0)),
    "differs": (lambda: check.differs("x", 1.0, 0.0, by=0.5), (1, 0)),
    "differs-many": (lambda: check.differs("x", torch.ones(12), 0.0, by=0.5), (1, 0)),
    "holds": (lambda: check.holds("x > 0: expected by all", True), (0, 1)),
    "integral": (lambda: check.integral(lambda x: torch.zeros(len(x)), 0.0, 1.0), (1, 0)),
    "mass": (lambda: check.mass(lambda x: torch.log(x), torch.tensor([0.5, 0.5])), (1, 0)),
    "indented": (lambda: check.holds("  x", True), (0, 1)),
    "wrapped": (lambda: check.close(f"{'long ' * 13}x", torch.ones(12), 1.0, tol=0.1), (12, 0)),
    "wrapped, one": (lambda: check.close(f"  {'long ' * 13}", 1.0, 1.0, tol=0.1), (1, 0)),
    "in lines": (lambda: check.close("a\nb", 1.0, 1.0, tol=0.1), (1, 0)),
    "something below": (lambda: (check.holds("x", True), print("y: 12 numbers agree within 1")), (0, 1)),
    "wrapped twice": (lambda: [check.close(f"{'long ' * 13}x", torch.ones(12), 1.0, tol=1) for _ in "ab"], (24, 0)),
    "silent": (lambda: print("x: 0.5, expected 0.5 ± 0.1"), (0, 0)),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_every_kind_of_line_is_counted(name, capsys):
    claim, expected = CLAIMS[name]
    claim()
    cell = {"outputs": [{"output_type": "stream", "name": "stdout", "text": capsys.readouterr().out}]}
    assert badges.count(badges.lines(cell)) == expected


@pytest.mark.parametrize(
    ("marked", "verdicts", "text"),
    [
        (["✓ a: 1, expected 1 ± 0"], [], "checked: 1 number"),
        (["✓ a: 1000 numbers agree within 1"], ["killed"], "checked: 1,000 numbers, 1 wrong formula rejected"),
        (["✓ a", "✓ b"], ["killed", "killed"], "checked: 2 statements, 2 wrong formulas rejected"),
        (["✓ a"], ["killed", "survived"],
         "checked: 1 statement, 1 wrong formula rejected, 1 wrong formula not noticed"),
        (["✓ a"], ["too close"], "checked: 1 statement, 1 wrong formula rejected, but only just"),
        (["✓ a"], ["fault"], "checked: 1 statement, 1 wrong formula not judged"),
    ],
)  # fmt: skip
def test_badge_says_no_more_than_what_is_stored(marked, verdicts, text):
    assert badges.label(marked, [{"verdict": v} for v in verdicts]) == text


def test_old_verdicts_are_not_claimed():
    stored = {"00_a": {"thm-00-a": {"mutants": [1]}, "thm-00-ab": {"mutants": [2]}}}
    stale = ["00_a, thm-00-a: has changed (cell)", "00_b, thm-00-ab: is not stored"]
    assert badges.judged(stored, stale, "00_a") == {"thm-00-ab": [2]}


@pytest.mark.parametrize(
    ("miss", "words"), [(3.1, "3.1"), (57000.0, "57,000"), (5.7e11, "5.7 × 10¹¹"), (2e6, "2 × 10⁶")]
)
def test_misses_are_legible(miss, words):
    assert badges._size({"check": "close", "miss": miss}) == f": off by {words} times what the check allows."
    assert badges._size({"check": "differs", "miss": miss}) == f": {words} times too close."
    assert badges._size({"check": "holds", "miss": None}) == "."


def sides(mutant, source, *others):
    """Old and new text of a change, what has changed in brackets."""
    cell, *rest = ({"cell_type": "code", "source": s} for s in (source, *others))
    made = badges.diff(mutant, cell, [cell, *rest])
    parts = [[c.astext() if c.tagname == "#text" else f"[{c.astext()}]" for c in side[0]] for side in made]
    return ["".join(p) for p in parts]


@pytest.mark.parametrize(
    ("mutant", "expected"),
    [
        ({"old": "sqrt(t)", "new": "t**2"}, ["return 1 - [sqrt(t)]", "return 1 - [t**2]"]),
        ({"old": "max(", "new": "min("}, ["y = [max](", "y = [min]("]),
        ({"old": "    y = max(\n", "new": "    y = min(\n"}, ["y = [max](", "y = [min]("]),
        ({"old": "1 - ", "new": ""}, ["return [1 - ]sqrt(t)", "return []sqrt(t)"]),
        ({"old": "absent", "new": "other"}, ["absent", "other"]),
        ({"in": "f", "old": "2 * x", "new": "3 * x"}, ["return [2] * x", "return [3] * x"]),
        ({"in": "A.g", "old": "x", "new": "y"}, ["return [x]", "return [y]"]),
        ({"in": "nfcourse.check:_marked", "old": "lstrip()", "new": "strip()"},
         ["claim = name.[lstrip]()", "claim = name.[strip]()"]),
    ],
)  # fmt: skip
def test_change_is_shown_in_its_lines(mutant, expected):
    cell = "def s(t):\n    y = max(\n        t, 0)\n    return 1 - sqrt(t)"
    others = [
        "def f(x):\n    return 2 * x\n",
        "class A:\n    def g(self):\n        return x\n\ndef g():\n    return -x",
        "%time",
    ]
    assert sides(mutant, cell, *others) == expected


# A small book.

THEOREM = "````{{prf:{kind}}} One\n:label: {label}\n\nIt holds.\n````\n\n````{{prf:proof}}\nSo.\n````"
BELIEF = "If $a<b$ then `x & y`, <b>not</b>."
WEAKER = {"source": "check.holds('weak <', x > 0)", "line": "✓ weak <", "missed": True}
CONF = """
import sys
sys.path.insert(0, {ext!r})
extensions = ["myst_nb", "sphinx_proof", "nf_checks"]
numfig, nb_execution_mode, html_theme = True, "off", "basic"
nf_checks_results = "mutants.json"
"""


def small_book(folder, change=lambda stored: None, tags=(), checks=None):
    """Build a book of one chapter; return what was said, the status, and the page. ``checks`` are outputs by label."""
    mutant = {"belief": BELIEF, "old": "x = 1", "new": "x = 2", "weaker": WEAKER["source"]}
    lemma = THEOREM.format(kind="lemma", label="thm-00-b")
    cells = [
        nbformat.v4.new_markdown_cell(
            "# Title\n\n" + THEOREM.format(kind="theorem", label="thm-00-a") + "\n\n" + lemma
        ),
        nbformat.v4.new_markdown_cell("## Later\n\nText."),
    ]
    for label, output in (checks or {"thm-00-a": "✓ x: 1, expected 1 ± 0\n"}).items():
        made = nbformat.v4.new_code_cell("x = 1\ncheck.close('x', x, 1)", execution_count=1)
        made.metadata = {"tags": [f"check-{label}", *tags], "mutants": [mutant]}
        made.outputs = [nbformat.v4.new_output("stream", name="stdout", text=output)]
        cells.append(made)
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    folder.mkdir(exist_ok=True)
    nbformat.write(notebook, folder / "index.ipynb")
    (folder / "conf.py").write_text(CONF.format(ext=str(EXTENSION.parent)))
    script = badges.load_script()
    found = {"verdict": "killed", "check": "close", "claim": "✗ x <: measured 2", "miss": 4.0, "weaker": WEAKER}
    stored = {
        theorem: script.entry(cell, needed, script.package_hash(), [found])
        for theorem, (cell, needed) in script.plan(folder / "index.ipynb").items()
    }
    change(stored)
    (folder / "mutants.json").write_text(json.dumps({"index": stored}))
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(folder), str(folder / "out")]
    done = subprocess.run(build, capture_output=True, text=True, cwd=folder)
    page = folder / "out" / "index.html"
    from bs4 import BeautifulSoup

    return done.stderr, done.returncode, BeautifulSoup(page.read_text("utf8"), "html.parser") if page.exists() else None


def test_small_book(tmp_path):
    """A belief is text, not mark-up; the badge stands between theorem and proof; what has no check has no badge."""
    said, status, page = small_book(tmp_path / "book")
    assert status == 0, said
    (badge,) = page.select(".nf-check")
    assert badge.find_previous_sibling() == page.find(id="thm-00-a")
    assert badge.find_next_sibling().get("class")[0] == "proof"
    assert badge.select_one(".nf-said").get_text() == "checked: 1 number, 1 wrong formula rejected"
    belief = badge.select_one(".nf-belief")
    assert belief.get_text() == r"If \(a<b\) then x & y, <b>not</b>."
    assert belief.select_one("span.math").get_text() == r"\(a<b\)"
    assert belief.b is None
    texts = [line.get_text() for line in badge.select(".nf-line")]
    assert texts == ["✗ x <: measured 2", WEAKER["source"], WEAKER["line"]]
    assert [ask["data-truth"] for ask in badge.select(".nf-ask")] == ["caught", "missed"]
    back = page.select_one("#check-thm-00-a > .nf-checks")
    assert back.get_text().split() == ["checks", "Theorem", "1"]
    assert back.a["href"] == "#thm-00-a"
    assert not badge.select(".nf-check-cell")


def test_folded_check_stands_in_the_badge(tmp_path):
    """With its anchor, once, and without a second fold; so does each of several."""
    checks = {"thm-00-b": "✓ x: 1, expected 1 ± 0", "thm-00-a": "✓ x: 12 numbers agree within 1"}
    said, status, page = small_book(tmp_path / "book", tags=["fold-check", "hide-input"], checks=checks)
    assert status == 0, said
    for label, output in checks.items():
        (cell,) = page.select(f"#check-{label}")
        (inside,) = page.select(f"#badge-{label} > details #check-{label}")
        assert cell is inside
        assert "x = 1" in cell.get_text() and output in cell.get_text()
        assert cell.select_one(".nf-checks a")["href"] == f"#{label}"
        assert not cell.select("details")
    assert len(page.select("div.cell")) == 2


def another(stored, **changes):
    entry = stored["index"]["thm-00-a"]
    entry.update(changes) if "package" in changes else entry["mutants"][0].update(changes)


STALE = {
    "mutant": (lambda s: another(s, belief="another"), "index, thm-00-a: has other mutants"),
    "weaker": (lambda s: another(s, weaker="check.holds('y', y)"), "index, thm-00-a: has other mutants"),
    "package": (lambda s: another(s, package="0"), "index, thm-00-a: has changed (package)"),
    "gone": (lambda s: s["index"].clear(), "index, thm-00-a: is not stored"),
    "fresh": (lambda s: None, ""),
    "chapter that is gone": (lambda s: s.update(other=s["index"]), "other: is stored, but there is no such chapter"),
}


@pytest.fixture(scope="module")
def stale_book(tmp_path_factory):
    """A book whose stored verdicts are old."""
    folder = tmp_path_factory.mktemp("stale") / "book"
    return folder, small_book(folder, lambda stored: stored["thm-00-a"].update(cell="0"))


def test_stale_verdicts_fail_the_build(stale_book):
    """And nothing is claimed of them where warnings are no errors."""
    _, (said, status, page) = stale_book
    assert status != 0
    assert "index, thm-00-a: has changed (cell): run `make mutants`" in said
    assert page.select_one(".nf-said").get_text() == "checked: 1 number"
    assert not page.select(".nf-mutant")


@pytest.mark.parametrize("name", STALE)
def test_every_kind_of_staleness_is_said(name, stale_book, monkeypatch, tmp_path):
    folder, _ = stale_book
    stored = json.loads((folder / "mutants.json").read_text())
    stored["index"]["thm-00-a"]["cell"] = badges.load_script().hashes(*plan_of(folder), "")["cell"]
    change, words = STALE[name]
    change(stored)
    (tmp_path / "mutants.json").write_text(json.dumps(stored))
    said = []
    monkeypatch.setattr(badges.logger, "warning", lambda text, *args: said.append(text % args))
    app = SimpleNamespace(srcdir=tmp_path, config=SimpleNamespace(nf_checks_results="mutants.json"))
    env = SimpleNamespace(found_docs={"index", "prose"}, doc2path=lambda doc: folder / f"{doc}.{SUFFIX[doc]}")
    badges._load(app, env, [])
    assert [line.split(": run `make mutants`")[0] for line in said] == ([words] if words else [])


SUFFIX = {"index": "ipynb", "prose": "md"}


def plan_of(folder):
    return badges.load_script().plan(folder / "index.ipynb")["thm-00-a"]


def test_check_without_words_or_theorem_fails_the_build(tmp_path):
    checks = {"thm-00-a": "x is 1\n", "thm-00-c": "✓ x\n"}
    said, status, page = small_book(tmp_path / "book", checks=checks)
    assert status != 0
    assert "the check of thm-00-a has stored no line with a mark" in said
    assert "a cell checks thm-00-c, but no theorem of this chapter has this label" in said
    assert not page.select(".nf-check")


# The book.


def facts(page):
    """By theorem: the lines of its check cells, and its stored mutants."""
    notebook = json.loads((ROOT / f"{page}.ipynb").read_text("utf8"))
    stored = json.loads((ROOT / "book" / "results" / "mutants.json").read_text("utf8")).get(Path(page).name, {})
    found = {}
    for cell in notebook["cells"]:
        for tag in cell["metadata"].get("tags", ()):
            if tag.startswith("check-thm-"):
                text = "".join("".join(o.get("text", "")) for o in cell["outputs"])
                found.setdefault(tag[6:], []).extend(x.strip() for x in text.splitlines() if x.strip().startswith("✓ "))
    return {theorem: (marked, stored.get(theorem, {}).get("mutants", [])) for theorem, marked in found.items()}


def counted(marked, mutants):
    """What the badge must say: counted in another way than the extension does."""
    many = [int(m[1]) for line in marked if (m := re.search(r"(\d+) numbers agree", line))]
    others = [line for line in marked if "numbers agree" not in line]
    single = [x for x in others if re.search(r"(, expected [^ ]+ ±|, not [^ ]+ \(at least|numbers one is at least)", x)]
    rejected = [m for m in mutants if m["verdict"] == "killed"]
    assert len(rejected) == len(mutants)  # other tests see to it
    counts = [
        (sum(many) + len(single), "number"),
        (len(others) - len(single), "statement"),
        (len(mutants), "wrong formula"),
    ]
    return [f"{n:,} {word}{'s' * (n > 1)}" for n, word in counts if n]


@pytest.mark.parametrize("name", browsing.CHAPTERS)
def test_badges_say_what_is_stored(name, pages):
    page = pages[f"{name}.html"]
    expected = facts(name)
    assert {b["id"].removeprefix("badge-") for b in page.select(".nf-check")} == set(expected)
    for theorem, (marked, mutants) in expected.items():
        badge = page.find(id=f"badge-{theorem}")
        assert badge.find_previous_sibling() is page.find(id=theorem), theorem
        said = badge.select_one(".nf-said").get_text()
        words = said.removeprefix("checked: ").replace(" rejected", "").split(", ")
        assert words == counted(marked, mutants), theorem
        assert said.endswith("rejected") == bool(mutants)
        asked = badge.select("li.nf-mutant")
        assert len(asked) == len(mutants)
        for item, mutant in zip(asked, mutants, strict=True):
            lines = [line.get_text() for line in item.select(".nf-line")]
            weaker = mutant.get("weaker")
            assert lines == [mutant["claim"], *([weaker["source"], weaker["line"]] if weaker else [])]
            assert "$" not in item.select_one(".nf-belief").get_text()


@pytest.mark.parametrize("name", browsing.CHAPTERS)
def test_links_lead_to_the_check_and_back(name, pages):
    page = pages[f"{name}.html"]
    for theorem in facts(name):
        (link,) = page.find(id=f"badge-{theorem}").select("a.nf-to-check")
        assert link["href"] == f"#check-{theorem}"
        target = page.find(id=f"check-{theorem}")
        assert f"tag_check-{theorem}" in target.select_one("div.cell")["class"]
        cells = page.select(f"div.cell.tag_check-{theorem}")
        for cell in cells:
            back = cell.find_parent(class_="nf-check-cell").select_one(".nf-checks a")
            assert back["href"] == f"#{theorem}"
            assert re.fullmatch(r"[A-Z][a-z]+ \d+\.\d+", back.get_text())
            title = page.find(id=theorem).select_one(".caption-number").get_text().strip()
            assert back.get_text() == title


def test_some_weaker_checks_stand_beside(pages):
    """Else a reader only ever guesses "caught"."""
    truths = [ask["data-truth"] for page in pages.values() for ask in page.select(".nf-ask")]
    assert truths.count("missed") >= 2


@pytest.mark.parametrize("name", browsing.CHAPTERS)
def test_badge_by_keyboard(name, browser):
    """Open it, guess, and read the stored number; then go to the check and find it open."""
    with_mutants = {theorem: mutants for theorem, (_, mutants) in facts(name).items() if mutants}
    browsing.visit_once(browser, name)
    browsing.view(browser)
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = false; });")

    def one(css):
        return browser.find_element("css selector", css)

    assert not browser.execute_script(
        "return [...document.querySelectorAll('.nf-verdict, .nf-line')].filter(e => e.checkVisibility()).length"
    )
    for theorem, mutants in list(with_mutants.items())[:2]:
        fold = f"#badge-{theorem} > details"
        browsing.keys(one(f"{fold} > summary"), "ENTER")
        assert one(fold).get_property("open")
        ask = f"{fold} .nf-mutant:first-of-type .nf-ask"
        told = one(f"{ask} [aria-live=polite]")
        assert not told.text
        buttons = browser.find_elements("css selector", f"{ask} button")[:2]
        assert [b.text for b in buttons] == ["caught", "missed"]
        group = one(f"{ask} [role=group]")
        assert one(f"#{group.get_attribute('aria-labelledby')}").text == "Does the check catch it?"
        browsing.keys(buttons[1], "SPACE")
        assert told.text.startswith("Not so. Caught")
        assert mutants[0]["claim"] in told.text.replace("\n", " ")
        browsing.keys(buttons[0], "SPACE")  # one guess is all
        assert told.text.startswith("Not so. Caught")
        assert [b.get_attribute("aria-pressed") for b in buttons] == ["false", "true"]
        formulas = "document.querySelectorAll(arguments[0] + ' .nf-belief mjx-container').length"
        raw = sum(m["belief"].count("$") // 2 for m in mutants)
        browsing.wait(lambda f=fold, n=raw, js=formulas: browser.execute_script(f"return {js}", f) == n)
    for theorem in list(facts(name))[:2]:
        browsing.keys(one(f"#badge-{theorem} a.nf-to-check"), "ENTER")
        browsing.wait(lambda t=theorem: one(f"#check-{t}").is_displayed())
    assert browsing.complaints(browser) == []


def test_answers_stand_in_the_page_without_scripts(browser, tmp_path):
    """Also on paper, where nobody guesses; and a link into a closed badge opens it."""
    _, _, page = small_book(tmp_path / "book", tags=["fold-check"])
    out = tmp_path / "book" / "out"
    shutil.copy(ROOT / "book" / "_static" / "nf_checks.css", out / "_static" / "nf_checks.css")
    assert "nf_checks.js" in str(page)
    seen = "return [...document.querySelectorAll('.nf-verdict')].map(e => e.checkVisibility())"
    browser.get((out / "index.html").as_uri())  # the script is not there
    browser.execute_script("document.querySelector('details').open = true")
    assert browser.execute_script(seen) == [True, True]
    assert not browser.find_elements("css selector", "button.nf-guess")

    shutil.copy(ROOT / "book" / "_static" / "nf_checks.js", out / "_static" / "nf_checks.js")
    browser.get("about:blank")  # with the fragment alone the page would not be loaded again
    browser.get((out / "index.html").as_uri() + "#check-thm-00-a")
    browsing.wait(lambda: browser.find_element("id", "check-thm-00-a").is_displayed())
    assert browser.execute_script(seen) == [False, False]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert browser.execute_script(seen) == [True, True]
        assert not browser.find_element("css selector", "button.nf-guess").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
