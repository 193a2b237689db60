"""The form that every chapter keeps: what can be counted about a good chapter is counted here."""

import importlib
import json
import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
ANSWERS = json.loads((ROOT / "nfcourse" / "assets" / "answers.json").read_text("utf8"))

HEADINGS = [
    "The question",
    "Notation and direction",
    "Definitions and theorems",
    "From mathematics to code",
    "Invariants",
    "The experiment",
    "A picture that moves",
    "Pitfalls",
    "Settled here",
    "Summary",
    "Exercises",
    "References",
]

# Which questions, left open by the documents that the course grew from, which chapter settles. A question that two
# chapters share has one label in each: the later one ends in b.
SETTLED = {
    "01_measures": ["01", "03"],
    "02_pushforward": ["54", "56"],
    "03_change_of_variables": ["02", "04", "05", "55", "57"],
    "08_simple_flows": ["32", "44", "53", "57b"],
    "09_coupling": ["43"],
    "10_autoregressive": ["48", "65"],
    "11_images": ["22", "49"],
}

# A question on a page, whose answer stands elsewhere.
ASKED = re.compile(r'check\.answer\("([^"]+)", (\w+)\)')

# Words that tell the reader that not understanding is his fault.
SMUG = re.compile(r"\b(clearly|obviously|trivially|of course|it is easy to see|simply(?! connected))\b", re.IGNORECASE)

# Paths that only exist on somebody's machine.
MACHINE = re.compile(r"/(?:home|root|Users|tmp|work|workspace|var)/\w|site-packages|\b[A-Z]:\\\\\w|ipykernel_\d+")


def prose(notebook):
    """Return the Markdown cells, one string each, without fenced code."""
    cells = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    return [re.sub(r"^```(?:python|bash)\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL) for text in cells]


def code(notebook):
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def labels(text):
    """Return the labels that a Markdown text defines: of directives, of headings, of equations."""
    return re.findall(r"^:(?:label|name): *(\S+)", text, re.MULTILINE) + re.findall(
        r"^\(([\w-]+)\)=\s*$", text, re.MULTILINE
    )


@pytest.fixture(params=CHAPTERS, ids=lambda p: p.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def test_there_are_chapters():
    assert [p.stem for p in CHAPTERS] == sorted(SETTLED), "a new chapter needs a row in SETTLED"


def test_is_valid_and_neutral(path, notebook):
    nbformat.validate(notebook)
    assert path.stat().st_size < 3_000_000, f"{path.stat().st_size / 1e6:.1f} MB: fewer or smaller frames"
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}, "traces of an editor in the metadata"
    ids = [c.id for c in notebook.cells]
    assert len(set(ids)) == len(ids)


def test_was_executed_from_top_to_bottom(notebook):
    """A cell that never ran passes every comparison."""
    counts = [c.execution_count for c in code(notebook)]
    assert counts == list(range(1, len(counts) + 1)), counts


def test_stores_no_error(notebook):
    for cell in code(notebook):
        if "raises-exception" not in cell.metadata.get("tags", []):
            for output in cell.outputs:
                assert output.output_type != "error", f"{cell.id}: {output.get('ename')}: {output.get('evalue')}"
                assert output.get("name") != "stderr", f"{cell.id} wrote to stderr: {output.text[:200]}"


def test_headings(path, notebook):
    found = [re.match(r"(#+) +(.+)", line) for text in prose(notebook) for line in text.splitlines()]
    found = [(len(m[1]), m[2].strip()) for m in found if m]
    titles = [t for level, t in found if level == 1]
    assert len(titles) == 1 and found[0][0] == 1, titles
    assert [t for level, t in found if level == 2] == HEADINGS
    jumps = [(a, b) for a, b in zip(found, found[1:], strict=False) if b[0] > a[0] + 1]
    assert not jumps, jumps


def test_header(path, notebook):
    """Objectives, prerequisites, and the measured run time and memory, near what the last stored run took."""
    text = notebook.cells[0].source
    assert "{admonition} What you will be able to do" in text and "rerequisites" in text
    stated = re.search(r"^Run time: about (\d+) s on two cores; peak memory: ([\d.]+) GB\.$", text, re.MULTILINE)
    assert stated, "expected: Run time: about N s on two cores; peak memory: M GB."
    measured = json.loads((ROOT / "book" / "status.json").read_text())[path.stem]
    assert measured["seconds"] <= 60 and measured["memory_gb"] <= 2, f"over the limits: {measured}"
    assert measured["seconds"] / 2 - 2 <= float(stated[1]) <= min(60, 2 * measured["seconds"] + 5)
    assert abs(float(stated[2]) - measured["memory_gb"]) <= 0.3 and float(stated[2]) <= 2


def test_each_theorem_has_its_check(notebook):
    """Each label ``thm-...`` has a cell tagged ``check-thm-...`` after it, and the other way round."""
    stated, checked = {}, {}
    for k, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            stated |= {label: k for label in labels(cell.source) if label.startswith("thm-")}
        for tag in cell.metadata.get("tags", []):
            if tag.startswith("check-"):
                checked.setdefault(tag.removeprefix("check-"), k)
                assert re.search(r"\bcheck\.\w+\(|\bassert\b", cell.source), f"{tag} asserts nothing"
    assert stated.keys() == checked.keys(), f"in one list only: {sorted(stated.keys() ^ checked.keys())}"
    late = [label for label in stated if checked[label] <= stated[label]]
    assert not late, f"checked before they are stated: {late}"


def test_each_theorem_has_a_label_and_a_proof(notebook):
    """A proof follows each theorem; where the course only cites one, the text between says so."""
    text = "\n".join(prose(notebook))
    blocks = re.split(r"^:{3,}\{prf:(?=theorem|lemma|corollary|proposition)", text, flags=re.MULTILINE)[1:]
    assert blocks
    for block in blocks:
        options = "\n".join(line for line in block.splitlines()[1:5] if line.startswith(":"))
        assert ":label: thm-" in options, f"no label thm-...: {block[:80]}"
        label = re.search(r":label: (\S+)", block)[1]
        assert "{prf:proof}" in block or re.search(r"{cite}`|{cite:\w+}`", block), f"{label}: neither proof nor source"


def test_labels_are_unique_over_the_book():
    where = Counter()
    for chapter in CHAPTERS:
        for text in prose(nbformat.read(chapter, as_version=4)):
            where.update(labels(text))
    for page in (ROOT / "book").glob("*.md"):
        where.update(labels(page.read_text("utf8")))
    assert not [label for label, n in where.items() if n > 1], [label for label, n in where.items() if n > 1]


def test_open_questions_are_settled(path, notebook):
    text = "\n".join(prose(notebook))
    boxes = re.findall(r"\{admonition\} Settled (\d\d)[^\n]*\n((?::[^\n]*\n)*)", text)
    names = [re.search(r":name: settled-(\w+)", options)[1] for _, options in boxes]
    assert sorted(names) == SETTLED[path.stem]
    assert all(name[:2] == number for (number, _), name in zip(boxes, names, strict=True))


def outputs_of(cell):
    return [(o, o.get("data", {})) for o in cell.outputs]


def test_has_players(notebook):
    html = "".join("".join(d.get("text/html", "")) for c in code(notebook) for _, d in outputs_of(c))
    players = BeautifulSoup(html, "html.parser").select(".nf-player")
    assert len(players) >= 2, f"{len(players)} pictures that move"
    for player in players:
        frames = player.select(".nf-player-frames img")
        assert 8 <= len(frames) <= 40, f"{len(frames)} frames"
        assert len({f["alt"] for f in frames}) == len(frames), "frames that a reader cannot tell apart by their text"


def test_figures_have_alt_text_and_caption(notebook):
    for cell in code(notebook):
        if any(kind.startswith("image/") for _, d in outputs_of(cell) for kind in d):
            meta = cell.metadata.get("mystnb", {})
            alt = meta.get("image", {}).get("alt", "")
            assert len(alt) > 20 and len(alt.split()) >= 4, f"{cell.id}: no alt text in its metadata"
            assert meta.get("figure", {}).get("name") and len(meta["figure"].get("caption", "")) > 20, cell.id
            assert sum("image/png" in d for _, d in outputs_of(cell)) == 1, f"{cell.id}: one figure a cell"


def test_outputs_name_no_machine(notebook):
    for cell in code(notebook):
        for output, data in outputs_of(cell):
            texts = [v for k, v in data.items() if not k.startswith("image/")] + [output.get("text", "")]
            assert not any("widget" in kind for kind in data), f"{cell.id} stores a widget that needs a kernel"
            for text in texts:
                plain = re.sub(r"base64,[A-Za-z0-9+/=]+", "", "".join(text))
                assert not MACHINE.search(plain), f"{cell.id}: {MACHINE.search(plain)[0]}"
                assert str(ROOT) not in plain, cell.id


def test_sources_name_no_machine(notebook):
    for cell in notebook.cells:
        assert not MACHINE.search(cell.source), f"{cell.id}: {MACHINE.search(cell.source)[0]}"


def test_voice(notebook):
    for text in prose(notebook):
        smug = SMUG.search(text)
        assert not smug, f"'{smug[0]}' in: {text[max(0, smug.start() - 60) : smug.end() + 60]!r}"
        assert not re.search(r"TODO|FIXME", text)


def test_has_exercises(path, notebook):
    text = "\n".join(prose(notebook))
    number = path.stem[:2]
    exercises = re.findall(r"\{exercise\}[^\n]*\n(?::class:[^\n]*\n)?:label: (\S+)", text)
    assert len(exercises) >= 5 and all(e.startswith(f"ex-{number}-") for e in exercises), exercises
    solutions = re.findall(r"\{solution\} (\S+)\n((?::[^\n]*\n)*)", text)
    assert len(solutions) >= 2, "core tasks come with a sibling that is solved in full"
    for label, options in solutions:
        assert label in exercises and "dropdown" in options, label
    checks = [c for c in code(notebook) if "check.answer(" in c.source]
    asked = [ASKED.findall(c.source) for c in checks]
    assert all(len(found) == c.source.count("check.answer(") for c, found in zip(checks, asked, strict=True)), (
        "expected check.answer(label, name): the answer itself stands in nfcourse/assets/answers.json"
    )
    for label, name in (pair for found in asked for pair in found):
        assert label in ANSWERS and label.split(".")[0] in exercises, label
        assert ANSWERS[label]["tol"] > 0 and len(ANSWERS[label]["hint"]) > 20, label
        assert any(re.search(rf"\b{name}\b.*=.*None", c.source) for c in checks), f"{label}: shipped filled in"
    assert len(checks) >= 2, "warm-ups check themselves"
    for cell in checks:
        text = "".join(o.get("text", "") for o in cell.outputs)
        assert "not answered yet" in text and "incorrect" not in text, f"{cell.id}: the answer is shipped filled in"


def test_each_answer_is_asked_for():
    asked = set()
    for chapter in CHAPTERS:
        asked |= {m[1] for c in code(nbformat.read(chapter, as_version=4)) for m in ASKED.finditer(c.source)}
    assert asked == ANSWERS.keys()


def test_code_that_is_linked_exists():
    """Every {py:class} and {py:func} of the book names something that can be imported, where it is documented."""
    pages = [t for chapter in CHAPTERS for t in prose(nbformat.read(chapter, as_version=4))]
    pages += [page.read_text("utf8") for page in (ROOT / "book").glob("*.md")]
    names = {name for text in pages for name in re.findall(r"\{py:(?:class|func|meth)\}`([\w.]+)`", text)}
    documented = re.findall(r"automodule:: (\S+)", (ROOT / "book" / "api.md").read_text("utf8"))
    assert names
    for name in names:
        module = max((m for m in documented if name.startswith(m + ".")), key=len)
        thing = importlib.import_module(module)
        for part in name.removeprefix(module + ".").split("."):
            thing = getattr(thing, part)


def test_contents_list_every_chapter_by_its_number():
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))["parts"]
    listed = [entry["file"] for part in parts for entry in part["chapters"] if entry["file"].startswith("chapters/")]
    assert listed == [f"chapters/{p.stem}" for p in CHAPTERS], "chapters/ and _toc.yml differ"
    for chapter in CHAPTERS:
        title = nbformat.read(chapter, as_version=4).cells[0].source
        assert title.startswith(f"# {int(chapter.stem[:2])} · "), f"{chapter.stem}: the title must carry its number"


def test_pages_know_every_chapter():
    """The start page, the README and the table of run times have a row for each chapter."""
    start, table = ((ROOT / "book" / name).read_text("utf8") for name in ("start.md", "status_table.md"))
    for chapter in CHAPTERS:
        assert f"chapters/{chapter.stem}>" in start, f"{chapter.stem} is not on the map of book/start.md"
        assert f"chapters/{chapter.stem}.ipynb" in table, f"{chapter.stem} has no run time: make execute"


def without(pattern, cell_type="markdown", count=1, by=""):
    """Return a change that replaces the first matches of a pattern in the sources, where it must occur."""

    def change(nb):
        left = count
        for cell in nb.cells:
            if cell.cell_type == cell_type and left:
                cell.source, n = re.subn(pattern, by, cell.source, count=left, flags=re.MULTILINE)
                left -= n
        assert left < count, f"the chapter has no {pattern}"

    return change


def first(nb, wanted):
    return next(c for c in code(nb) if wanted(c))


def shows(kind):
    return lambda cell: any(kind in data for _, data in outputs_of(cell))


def printed(text):
    return nbformat.v4.new_output("stream", name="stdout", text=text)


def add(**cell):
    return lambda nb: nb.cells.append(nbformat.v4.new_markdown_cell(**cell))


# One way to break a chapter, and the test that must notice it.
BROKEN = {
    "never executed": (test_was_executed_from_top_to_bottom, lambda nb: code(nb)[3].update(execution_count=None)),
    "executed out of order": (test_was_executed_from_top_to_bottom, lambda nb: code(nb)[0].update(execution_count=9)),
    "stored error": (
        test_stores_no_error,
        lambda nb: code(nb)[0].outputs.append(nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])),
    ),
    "heading left out": (test_headings, without(r"^## Pitfalls$")),
    "heading misspelt": (test_headings, without(r"^## Settled here$", by="## Settled")),
    "headings swapped": (test_headings, without(r"^## (Summary|Exercises)$", count=2, by="## Exercises")),
    "second title": (test_headings, add(source="# Another title")),
    "no objectives": (test_header, without(r"What you will be able to do", by="Goals")),
    "no run time": (test_header, without(r"^Run time.*$")),
    "theorem without a check": (test_each_theorem_has_its_check, add(source=":label: thm-new")),
    "check without a theorem": (
        test_each_theorem_has_its_check,
        lambda nb: code(nb)[-1].metadata.update(tags=["check-thm-none"]),
    ),
    "theorem without a label": (
        test_each_theorem_has_a_label_and_a_proof,
        add(source=":::{prf:theorem} Nameless\nIt holds.\n:::"),
    ),
    "theorem without a proof": (
        test_each_theorem_has_a_label_and_a_proof,
        add(source=":::{prf:theorem} Bare\n:label: thm-bare\nIt holds.\n:::"),
    ),
    "question not settled": (
        test_open_questions_are_settled,
        without(r"^:name: settled-\d\w+$", by=":name: settled-99"),
    ),
    "no player": (
        test_has_players,
        lambda nb: [c.update(outputs=[]) for c in code(nb) if "player" in c.source],
    ),
    "figure without alt text": (
        test_figures_have_alt_text_and_caption,
        lambda nb: first(nb, shows("image/png")).metadata.mystnb.image.update(alt=""),
    ),
    "file name as alt text": (
        test_figures_have_alt_text_and_caption,
        lambda nb: first(nb, shows("image/png")).metadata.mystnb.image.update(alt="_images/2f9a0c11d8e7b6a5f4.png"),
    ),
    "path in an output": (
        test_outputs_name_no_machine,
        lambda nb: code(nb)[0].outputs.append(printed("read /home/someone/x")),
    ),
    "path in a source": (test_sources_name_no_machine, lambda nb: code(nb)[0].update(source="open('/tmp/x')")),
    "widget that needs a kernel": (
        test_outputs_name_no_machine,
        lambda nb: code(nb)[0].outputs.append(
            nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}})
        ),
    ),
    "smug": (test_voice, add(source="This is obviously true.")),
    "solution for no exercise": (test_has_exercises, without(r"(\{solution\}) \S+", by=r"\1 ex-none")),
    "answer shipped": (
        test_has_exercises,
        lambda nb: first(nb, lambda c: "check.answer(" in c.source).update(outputs=[printed("correct")]),
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_chapters_are_noticed(path, notebook, how):
    """Each test above passes on the chapter as it is, and fails on a copy that is broken in one place."""
    test, change = BROKEN[how]
    arguments = {"path": path, "notebook": notebook}
    names = test.__code__.co_varnames[: test.__code__.co_argcount]
    change(notebook)
    with pytest.raises(AssertionError):
        test(**{name: arguments[name] for name in names})
