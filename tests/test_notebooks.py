"""The form that every chapter keeps: what can be counted about a good chapter is counted here.

Chapters of the first edition (one list, in scripts/mutants.py, which only shrinks) keep the fixed headings that they
were written with; all others keep the bookends and the tags of the second.
"""

import functools
import io
import json
import os
import re
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path

import nbformat
import pytest
import torch
import yaml
from bs4 import BeautifulSoup
from scripted import script

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
ANSWERS = json.loads((ROOT / "nfcourse" / "assets" / "answers.json").read_text("utf8"))


FIRST_EDITION = script("mutants").FIRST_EDITION
reading = script("reading")

#: second-level headings that a chapter of the second edition begins and ends with; "Further" may be left out
FIRST, LAST = ["The question"], ["Pitfalls", "Further", "Summary", "Exercises", "References"]

#: what a chapter of the second edition has, by the tags of its cells
TAGS = {
    "header": "the header",
    "recall": "three questions that recall earlier chapters",
    "question": "the question",
    "breaks": "a run in which the previous chapter's tool breaks",
    "notation": "notation and direction",
    "code": "code from the mathematics, shown from the package",
    "invariants": "round trip, log-det, integral, also for D > 2",
    "experiment": "the experiment",
    "player": "a picture that moves",
    "pitfalls": "pitfalls, executed",
    "summary": "the summary",
    "bridge": "the bridge to the next chapter",
    "exercises": "the exercises",
    "references": "the references",
}

#: what a chapter need not have, and why
EXEMPT = {
    "00_first_flow": {
        "recall": "no chapter comes before it",
        "code": "it calls the package and opens no layer; that begins in chapter 3",
        "theorems": "it proves nothing: its formula is the theorem of chapter 3",
        "settled": "no question of the sources belongs to it",
        "players": "one, not two: fifteen minutes",
    },
}

#: what a reader may be asked to do in one sitting
LIMITS = {"words": 3500, "lines": 200, "theorems": 6}

HEADINGS = [
    "The question",
    "Notation and direction",
    "Definitions and theorems",
    "From mathematics to code",
    "Invariants",
    "The experiment",
    "A picture that moves",
    "Pitfalls",
    "Common mistakes",
    "Summary",
    "Exercises",
    "References",
]

# Which questions, left open by the documents that the course grew from, which chapter settles. A question that two
# chapters share has one label in each: the later one ends in b.
SETTLED = {
    "00_first_flow": [],
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


def exempt(path, what):
    return what in EXEMPT.get(path.stem, {})


def test_exemptions_name_chapters_of_the_second_edition():
    assert set(EXEMPT) <= {p.stem for p in CHAPTERS} - set(FIRST_EDITION)


def test_has_what_every_chapter_has(path, notebook):
    if path.stem in FIRST_EDITION:
        pytest.skip("first edition: fixed headings instead")
    tags = {tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
    lacks = {tag: what for tag, what in TAGS.items() if tag not in tags and not exempt(path, tag)}
    assert not lacks, lacks
    for cell in notebook.cells:
        assert "breaks" not in cell.metadata.get("tags", []) or cell.cell_type == "code", "what breaks must run"


def test_headings(path, notebook):
    found = [re.match(r"(#+) +(.+)", line) for text in prose(notebook) for line in text.splitlines()]
    found = [(len(m[1]), m[2].strip()) for m in found if m]
    titles = [t for level, t in found if level == 1]
    assert len(titles) == 1 and found[0][0] == 1, titles
    second = [t for level, t in found if level == 2]
    if path.stem in FIRST_EDITION:
        assert second == HEADINGS
    else:
        last = [t for t in LAST if t in second or t != "Further"]
        middle = second[len(FIRST) : len(second) - len(last)]
        assert second[: len(FIRST)] == FIRST and second[len(second) - len(last) :] == last, second
        assert 3 <= len(middle) <= 5 and not set(middle) & {*HEADINGS, *LAST}, f"three to five of its own: {middle}"
    jumps = [(a, b) for a, b in zip(found, found[1:], strict=False) if b[0] > a[0] + 1]
    assert not jumps, jumps


def test_header(path, notebook):
    """Objectives, prerequisites, and the run time and memory of the last stored run."""
    text = notebook.cells[0].source
    assert "{admonition} What you will be able to do" in text and "rerequisites" in text
    measured = json.loads((ROOT / "book" / "status.json").read_text())[path.stem]
    assert measured["seconds"] <= 60 and measured["memory_gb"] <= 2, f"over the limits: {measured}"
    before = text
    script("execute").state(notebook, measured["seconds"], measured["memory_gb"])
    assert notebook.cells[0].source == before, "the header states another run than the last: make execute"


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


def test_checks_leave_no_number_behind(path, notebook):
    """The last check of a cell is written ``_ = check...``, else the number that it returns stands below its line."""
    for cell in code(notebook):
        if path.stem not in FIRST_EDITION and "check." in cell.source:
            left = [o for o in cell.outputs if o.output_type == "execute_result" and set(o.data) == {"text/plain"}]
            assert not left, f"{cell.id} leaves {left[0].data}"


def test_each_theorem_has_a_label_and_a_proof(path, notebook):
    """A proof follows each theorem; where the course only cites one, the text between says so."""
    text = "\n".join(prose(notebook))
    blocks = re.split(r"^:{3,}\{prf:(?=theorem|lemma|corollary|proposition)", text, flags=re.MULTILINE)[1:]
    assert blocks or exempt(path, "theorems")
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
    assert sorted(re.findall(r"^:name: settled-(\w+)$", text, re.MULTILINE)) == SETTLED[path.stem]


def outputs_of(cell):
    return [(o, o.get("data", {})) for o in cell.outputs]


def test_has_players(path, notebook):
    html = "".join("".join(d.get("text/html", "")) for c in code(notebook) for _, d in outputs_of(c))
    players = BeautifulSoup(html, "html.parser").select(".nf-player")
    assert len(players) >= (1 if exempt(path, "players") else 2), f"{len(players)} pictures that move"
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
            pictures = sum(any(kind.startswith("image/") for kind in d) for _, d in outputs_of(cell))
            assert pictures == 1, f"{cell.id}: one figure a cell"


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


def lines_of(cell):
    """Return what a code cell is and prints, line by line, each with its limit."""
    found = [("code", 76, line) for line in cell.source.splitlines()]
    for output, data in outputs_of(cell):
        found += [("output", 76, line) for line in output.get("text", "").splitlines()]
        found += [("shown source", 96, line) for line in "".join(data.get("text/markdown", "")).splitlines()]
    return found


def test_code_and_output_fit(notebook):
    for cell in code(notebook):
        for kind, limit, line in lines_of(cell):
            assert len(line) <= limit, f"{cell.id}: {kind} of {len(line)} columns, more than {limit}: {line}"


def test_jupyterlab_folds_what_the_book_folds(path, notebook):
    before = [dict(cell.metadata) for cell in notebook.cells]
    script("execute").fold(notebook)
    assert [dict(cell.metadata) for cell in notebook.cells] == before, "make execute"
    assert any("jupyter" in metadata for metadata in before)


def test_reading_time(path, notebook, book):
    """The header states what is counted on the built page; the main line of a second edition is one sitting."""
    found = reading.measure((book / "chapters" / f"{path.stem}.html").read_text("utf8"))
    stated = re.search(r"^Reading time: about (\d+) minutes", notebook.cells[0].source, re.MULTILINE)
    assert stated, "expected: Reading time: about N minutes"
    assert abs(int(stated[1]) - found.minutes) <= max(3, found.minutes / 10), f"{found.minutes:.0f} minutes: {found}"
    if path.stem not in FIRST_EDITION:
        over = {what: getattr(found, what) for what, limit in LIMITS.items() if getattr(found, what) > limit}
        assert not over and found.minutes <= 90 and found.depths <= 1.5 * found.words, found


def exercises_of(notebook):
    """Return for each exercise its classes, and what stands between it and the next: hint and solution."""
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    parts = re.split(r"^:{3,}\{exercise\}[^\n]*\n", text, flags=re.MULTILINE)[1:]
    options = [dict(re.findall(r"^:(\w+): *(.+)$", p.split("\n\n")[0], re.MULTILINE)) for p in parts]
    return {o["label"]: (o.get("class", "").split(), part) for o, part in zip(options, parts, strict=True)}


def solution_code(part, label):
    """Return the Python code of an exercise's solution, or None where there is no folded solution."""
    found = re.search(rf"^(:{{3,}})\{{solution\}} {label}\n:class: dropdown\n(.*?)^\1$", part, re.MULTILINE | re.DOTALL)
    return found and "\n".join(re.findall(r"^```python\n(.*?)^```", found[2], re.MULTILINE | re.DOTALL))


def test_each_objective_has_an_exercise_and_each_exercise_a_solution(path, notebook):
    if path.stem in FIRST_EDITION:
        pytest.skip("first edition")
    objectives = len(re.findall(r"^- \*\*", notebook.cells[0].source, re.MULTILINE))
    exercises = exercises_of(notebook)
    practised = {name for classes, _ in exercises.values() for name in classes}
    wanted = {f"objective-{k}" for k in range(1, objectives + 1)}
    assert objectives and {name for name in practised if name.startswith("objective-")} == wanted
    for label, (_, part) in exercises.items():
        assert re.search(r"^:{3,}\{dropdown\} Hint$", part, re.MULTILINE), f"{label} has no folded hint"
        assert solution_code(part, label) is not None, f"{label} has no folded solution"


def test_solutions_run(path, notebook, monkeypatch, request):
    """From the setup cells alone; and what they find is the answer that is looked up."""
    if path.stem in FIRST_EDITION:
        pytest.skip("first edition")
    monkeypatch.setenv("NFCOURSE_STATIC", "1")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setitem(os.environ, "MPLBACKEND", "Agg")
    start, shared = [c.source for c in code(notebook) if "setup" in c.metadata.get("tags", [])], {}
    request.addfinalizer(functools.partial(torch.set_default_dtype, torch.get_default_dtype()))  # a chapter may set it
    with redirect_stdout(io.StringIO()):
        for source in start:
            exec(compile(source, "<setup>", "exec"), shared)
        for label, (_, part) in exercises_of(notebook).items():
            names = dict(shared)
            exec(compile(solution_code(part, label), f"<solution of {label}>", "exec"), names)
            asks = [c.source for c in code(notebook) if f'check.answer("{label}' in c.source]
            for source in asks:
                kept = "\n".join(line for line in source.splitlines() if not re.search(r"= *None", line))
                with redirect_stdout(io.StringIO()) as said:
                    exec(compile(kept, "<exercise>", "exec"), names)
                assert "✗" not in said.getvalue() and f"✓ {label}" in said.getvalue(), said.getvalue()


def test_each_answer_is_asked_for():
    asked = set()
    for chapter in CHAPTERS:
        asked |= {m[1] for c in code(nbformat.read(chapter, as_version=4)) for m in ASKED.finditer(c.source)}
    assert asked == ANSWERS.keys()


def test_contents_list_every_chapter_by_its_number():
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))["parts"]
    listed = [entry["file"] for part in parts for entry in part["chapters"] if entry["file"].startswith("chapters/")]
    assert listed == [f"chapters/{p.stem}" for p in CHAPTERS], "chapters/ and _toc.yml differ"
    for chapter in CHAPTERS:
        title = nbformat.read(chapter, as_version=4).cells[0].source
        assert title.startswith(f"# {int(chapter.stem[:2])} · "), f"{chapter.stem}: the title must carry its number"


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
    return lambda cell: any(key.startswith(kind) for _, data in outputs_of(cell) for key in data)


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
    "heading misspelt": (test_headings, without(r"^## Summary$", by="## Summing up")),
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
    "question of another chapter": (test_open_questions_are_settled, add(source=":name: settled-99")),
    "no player": (
        test_has_players,
        lambda nb: [c.update(outputs=[]) for c in code(nb) if "player" in c.source],
    ),
    "figure without alt text": (
        test_figures_have_alt_text_and_caption,
        lambda nb: first(nb, shows("image/")).metadata.mystnb.image.update(alt=""),
    ),
    "file name as alt text": (
        test_figures_have_alt_text_and_caption,
        lambda nb: first(nb, shows("image/")).metadata.mystnb.image.update(alt="_images/2f9a0c11d8e7b6a5f4.png"),
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
    "wide code": (test_code_and_output_fit, lambda nb: code(nb)[0].update(source="x = " + "1 + " * 30 + "1")),
    "wide output": (test_code_and_output_fit, lambda nb: code(nb)[0].outputs.append(printed("x" * 77))),
    "smug": (test_voice, add(source="This is obviously true.")),
    "solution for no exercise": (test_has_exercises, without(r"(\{solution\}) \S+", by=r"\1 ex-none")),
    "answer shipped": (
        test_has_exercises,
        lambda nb: first(nb, lambda c: "check.answer(" in c.source).update(outputs=[printed("correct")]),
    ),
}


# the same for what only the second edition must have
BROKEN_SECOND = {
    "no experiment": (
        test_has_what_every_chapter_has,
        lambda nb: [c.metadata.update(tags=[]) for c in nb.cells if "experiment" in c.metadata.get("tags", [])],
    ),
    "number left behind": (
        test_checks_leave_no_number_behind,
        lambda nb: first(nb, lambda c: "check." in c.source).outputs.append(
            nbformat.v4.new_output("execute_result", {"text/plain": "0.17"}, execution_count=1)
        ),
    ),
    "summary last": (test_headings, without(r"^## (Summary|Exercises)$", count=2, by="## Exercises")),
    "too few sections": (test_headings, without(r"^## (How to|Shapes,) .*$", count=2)),
    "objective without exercise": (
        test_each_objective_has_an_exercise_and_each_exercise_a_solution,
        without(r"^:class: objective-2$"),
    ),
    "exercise without hint": (
        test_each_objective_has_an_exercise_and_each_exercise_a_solution,
        without(r"\{dropdown\} Hint"),
    ),
    "exercise without solution": (
        test_each_objective_has_an_exercise_and_each_exercise_a_solution,
        without(r"\{solution\} ex-", by="{note} "),
    ),
    "wrong solution": (test_solutions_run, without(r"^yours = 9$", by="yours = 3")),
    "solution that fails": (test_solutions_run, without(r"^yours = 9$", by="yours = 9 / 0")),
}


@pytest.mark.parametrize("how", BROKEN_SECOND)
def test_broken_second_editions_are_noticed(how, monkeypatch, request):
    test, change = BROKEN_SECOND[how]
    path = ROOT / "chapters" / "00_first_flow.ipynb"
    notebook = nbformat.read(path, as_version=4)
    # what a solution computes is not the point here, only that it is run: no training
    setup = [c for c in code(notebook) if "fit(" in c.source]
    for cell in setup:
        cell.metadata["tags"] = [tag for tag in cell.metadata.tags if tag != "setup"]
    change(notebook)
    arguments = {"path": path, "notebook": notebook, "monkeypatch": monkeypatch, "request": request}
    names = test.__code__.co_varnames[: test.__code__.co_argcount]
    with pytest.raises((AssertionError, ZeroDivisionError)):
        test(**{name: arguments[name] for name in names})


@pytest.mark.parametrize("how", BROKEN)
def test_broken_chapters_are_noticed(path, notebook, how):
    """Each test above passes on the chapter as it is, and fails on a copy that is broken in one place."""
    test, change = BROKEN[how]
    arguments = {"path": path, "notebook": notebook}
    names = test.__code__.co_varnames[: test.__code__.co_argcount]
    change(notebook)
    with pytest.raises((AssertionError, SystemExit)):
        test(**{name: arguments[name] for name in names})
