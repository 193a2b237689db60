"""The pages around the chapters: what they state is what the files say, and everything that they promise is there."""

import importlib
import importlib.util
import json
import math
import re
import shutil
import statistics
import unicodedata
from types import SimpleNamespace

import nbformat
import pytest
from browsing import ROOT, visit

BOOK = ROOT / "book"
PROSE = sorted([*BOOK.glob("*.md"), *(BOOK / "api").glob("*.md")])
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))


@pytest.fixture(scope="module")
def made():
    """The extension that makes tables: the names of all its modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BOOK / "ext")
        modules = [importlib.import_module(f"nf_{name}") for name in ("book", "tables", "leaderboard", "api", "pages")]
    return SimpleNamespace(**{name: value for module in modules for name, value in vars(module).items()})


@pytest.fixture(scope="module")
def ours(made):
    return made.Book(ROOT)


@pytest.fixture
def copy(made, tmp_path):
    """A copy of the course's results and pages, to spoil."""
    (tmp_path / "book").mkdir()
    shutil.copytree(BOOK / "results", tmp_path / "book" / "results")
    for name in ("walk.yml", "status.json", "leaderboard.yml"):
        shutil.copy(BOOK / name, tmp_path / "book" / name)
    (tmp_path / "chapters").mkdir()
    for chapter in CHAPTERS:
        (tmp_path / "chapters" / chapter.name).write_text('{"cells": []}')
    return made.Book(tmp_path)


def result(name):
    return json.loads((BOOK / "results" / name).read_text("utf8"))


def rows(page, number=0):
    """The rows of a page's table, as text, without its head."""
    table = page.select("article table")[number]
    cells = [[re.sub(r"\s+", " ", c.get_text()).strip() for c in row.select("td, th")] for row in table.select("tr")]
    return cells[1:]


def text_of(page):
    return re.sub(r"\s+", " ", page.find("article").get_text())


# ---------------------------------------------------------------- tables and results


def test_costs_are_those_of_the_benchmarks(pages):
    table = {row[0]: row[1:] for row in rows(pages["book/which_flow.html"])}
    files = {
        "affine coupling": result("bench_coupling.json")["results"],
        "spline coupling": result("bench_spline.json")["results"]["time"],
        "affine MAF": result("bench_autoregressive.json")["results"],
    }
    for kind, found in files.items():
        for cell, task in zip(table[kind], ("log_prob", "sample", "training step"), strict=False):
            rows_ = [found[f"D={d} {task}"] for d in (2, 16, 64)]
            assert cell == " · ".join(f"{r['bare_ms'] * r['ours']:.1f}" for r in rows_), (kind, task)
    pair = result("autoregressive_comparison.json")
    names = {"affine coupling": "affine coupling", "spline coupling": "spline coupling",
             "affine MAF": "affine autoregressive", "spline MAF": "spline autoregressive"}  # fmt: skip
    for kind, flow in names.items():
        nll = {r["data"]: r["nll"] for r in pair["rows"] if r["flow"] == flow}
        above = statistics.fmean(nll["pinwheel"]) - pair["floor"]["pinwheel"]
        bits = statistics.fmean(nll["digits"]) / 64 / math.log(2)
        assert table[kind][3].startswith(f"{above:.3f} ±") and table[kind][4].startswith(f"{bits:.3f} ±"), kind


def test_sentences_on_costs_are_those_of_the_benchmarks(pages):
    maf, coupling = (result(f"bench_{n}.json")["results"]["D=64 sample"] for n in ("autoregressive", "coupling"))
    times = maf["bare_ms"] * maf["ours"] / (coupling["bare_ms"] * coupling["ours"])
    text = text_of(pages["book/which_flow.html"])
    assert f"takes {times:.1f} times as long" in text
    best = min(statistics.fmean(result(p.name)["test"]) for p in (BOOK / "results").glob("image_flow-*.json"))
    assert f"reaches {best:.2f} bits per dimension" in text
    runs = [result(f"image_flow-{noise}-2-epochs.json") for noise in ("uniform", "variational")]
    plain, learned = (statistics.fmean(run["test"]) for run in runs)
    assert runs[0]["budget"]["steps"] == runs[1]["budget"]["steps"]
    assert f"learned noise improves {plain:.3f} to {learned:.3f}" in text


def paired(worse, better):
    differences = [a - b for a, b in zip(worse, better, strict=True)]
    return statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences))


def test_gains_have_the_sign_of_each_comparison(pages):
    """Autoregressive flows lead on the digits in one comparison and couplings in the other: the page says both."""
    text = text_of(pages["book/which_flow.html"])
    pair, bits = result("autoregressive_comparison.json"), 64 * math.log(2)
    nll = {(r["data"], r["flow"]): r["nll"] for r in pair["rows"]}
    mean, error = paired(nll["digits", "affine coupling"], nll["digits", "affine autoregressive"])
    assert mean > 0 and f"it gains {mean / bits:.3f} ± {error / bits:.3f} bits a dimension over couplings" in text
    quality = result("bench_quality.json")["results"]
    mean, error = paired(*(quality[f"digits, {flow}"]["ours"]["nll"] for flow in ("MAF", "affine coupling")))
    assert mean > 0 and f"the couplings are better by {mean / bits:.3f} ± {error / bits:.3f}" in text
    affine, spline = nll["pinwheel", "affine coupling"], nll["pinwheel", "spline coupling"]
    median = statistics.median(a - s for a, s in zip(affine, spline, strict=True))
    assert f"{median:.2f} in the median" in text
    floor = pair["floor"]["pinwheel"]
    assert f"came from {affine[0] - floor:.3f} to 0.109 nats" in text and f"stand at {spline[0] - floor:.3f}" in text


def test_precision_is_that_of_the_benchmark(pages):
    text = text_of(pages["book/which_flow.html"])
    stored = result("bench_spline.json")
    ours = [stored["results"]["precision"][f"ours {std}"] for std in (5, 20)]
    assert f"{stored['settings']['points'] * len(stored['settings']['seeds']):,} random splines" in text
    ways = ("", "inverse_first_")
    assert all(row[f"{way}{what}"] == 0 for row in ours for way in ways for what in ("nan", "errors"))
    ratio = max(row[f"{way}worst_over_floor"] for row in ours for way in ways)
    assert f"at most {ratio:.1f} times its rounding floor" in text
    bounded = re.search(r"at most ([\d.]+)·10⁻⁵ where slopes", text)[1]
    assert float(bounded) == round(1e5 * max(row[f"{way}worst_bounded"] for row in ours for way in ways), 1)
    assert f"were {ours[0]['worst']:.2f} with logits" in text and f"and {ours[1]['worst']:.2f} with 20" in text


def test_handicaps_of_peers_are_those_of_the_benchmark():
    """Each row that the page calls handicapped is the worst of its table, and by far."""
    found = result("bench_quality.json")["results"]
    for peer, flow in (("nflows", "affine coupling"), ("normflows", "MAF")):
        for dataset in ("moons", "digits"):
            row = found[f"{dataset}, {flow}"]
            others = [v["mean"] for k, v in row.items() if isinstance(v, dict) and k != peer]
            assert row[peer]["mean"] > max(others) + 3 * row[peer]["std"], (peer, dataset)


def test_leaderboard_has_every_score(pages, made, ours):
    page = pages["book/leaderboard.html"]
    shown = [row for n in range(len(page.select("article table"))) for row in rows(page, n) if len(row) == 7]
    assert "counts open weights only" in text_of(page)
    wanted = made.leaderboard_rows(ours)
    assert len(shown) == len(wanted) >= 12
    flows = [p.name for p in (BOOK / "results").glob("image_flow-*.json")]
    for name in flows:
        stored = result(name)
        row = [statistics.fmean(stored["test"]), f"{stored['parameters']:,}", f"{stored['budget']['steps']:,}"]
        assert any(r[1] == f"{row[0]:.3f}" and r[3:5] == row[1:] and r[2] == "bound" for r in shown), name
    digits = [r for r in result("autoregressive_comparison.json")["rows"] if r["data"] == "digits"]
    for row in digits:
        bits = statistics.fmean(row["nll"]) / (64 * math.log(2))
        assert any(r[1].startswith(f"{bits:.3f}") and r[3] == f"{row['weights']:,}" and r[6] == "5" for r in shown)
    for n in range(6):
        scores = [float(row[1].split()[0]) for row in rows(page, n)]
        assert scores == sorted(scores)


def test_leaderboard_has_what_chapters_print(pages, ours):
    """Every line with a score in the named cells has a row, and the row has the line's figures."""
    printed = {"digits": [], "fashion-mnist": []}
    for group in ours.runs:
        path = next(p for p in CHAPTERS if p.stem.startswith(group["chapter"]))
        cell = next(c for c in nbformat.read(path, as_version=4).cells if c.get("id") == group["cell"])
        text = "".join(o.get("text", "") for o in cell.outputs)
        lines = [line for line in text.splitlines() if re.search(r" \d\.\d", line) and line[0] not in "✓✗·"]
        assert len(lines) == len(group["lines"]), (path.stem, group["cell"])
        for line in lines:
            scores = re.findall(r"\d+\.\d+(?: ± \d+\.\d+)?", line)
            score = scores[1] if group["cell"] == "exp-gap" else scores[0]
            printed[group["data"]].append(
                (score, group["kind"], str(group["seeds"]), f"Chapter {int(group['chapter'])}")
            )
    for number, dataset in ((1, "digits"), (4, "fashion-mnist")):
        shown = rows(pages["book/leaderboard.html"], number)
        assert sorted(map(tuple, (row[1:] for row in shown))) == sorted(printed[dataset]), dataset
    kinds = {row[2] for row in rows(pages["book/leaderboard.html"], 1)}
    assert kinds == {"exact", "bound"}


def test_a_line_that_a_chapter_no_longer_prints_is_named(made, ours, copy):
    for path in CHAPTERS:
        shutil.copy(path, copy.root / "chapters")
    assert made.chapter_rows(copy) == made.chapter_rows(ours)
    for cell in copy.cells["10"]:
        if cell.get("id") == "exp-digits":
            cell["outputs"] = [{"output_type": "stream", "text": ["PixelCNN 1.99\n", "PixelCNN 1.98\n"]}]
    with pytest.raises(made.ResultError, match='Chapter 10, cell exp-digits: 0 printed lines for "one histogram'):
        made.chapter_rows(copy)


GOOD = {"data": "digits", "model": "a new model", "kind": "exact", "bits_per_dim": [1.5, 1.7], "seeds": [0, 1],
        "parameters": 10, "steps": 20, "seconds": None, "where": "python -m x"}  # fmt: skip


def test_leaderboard_takes_a_new_file(made, copy):
    (copy.results / "new.json").write_text(json.dumps({"leaderboard": [GOOD]}))
    line = next(line for line in made.leaderboard("digits")(copy).splitlines() if "a new model" in line)
    assert "1.600 ± 0.141" in line.replace("\xa0", " ") and "exact" in line and "| ? |" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "approximate"}, '"exact" or "bound"'),
        ({"data": "imagenet"}, "must be one of"),
        ({"bits_per_dim": [1.5]}, "1 scores for 2 seeds"),
        ({"bits_per_dim": [1.5, math.nan]}, "numbers between 0 and 16"),
        ({"bits_per_dim": []}, "numbers between 0 and 16"),
        ({"parameters": "10"}, '"parameters" has the wrong type'),
        ({"steps": None}, '"steps" has the wrong type'),
        ({"extra": 1}, "unknown keys"),
        ({"where": ...}, '"where" is missing'),
    ],
)
def test_leaderboard_says_what_is_wrong(made, copy, change, message):
    row = {k: v for k, v in {**GOOD, **change}.items() if v is not ...}
    (copy.results / "new.json").write_text(json.dumps({"leaderboard": [GOOD, row]}))
    with pytest.raises(made.ResultError, match="new.json, row 2") as caught:
        made.leaderboard_rows(copy)
    assert message in str(caught.value)


def test_results_that_cannot_be_read_are_named(made, copy):
    (copy.results / "new.json").write_text("{")
    with pytest.raises(made.ResultError, match=r"new\.json"):
        made.leaderboard_rows(copy)
    (copy.results / "new.json").write_text('{"leaderboard": 3}')
    with pytest.raises(made.ResultError, match="must be a list"):
        made.leaderboard_rows(copy)


def test_yardsticks_are_measured(pages):
    spec = importlib.util.spec_from_file_location("yardsticks", ROOT / "scripts" / "yardsticks.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    images = script.load_digits().images.astype("uint8")
    stored = result("yardsticks.json")["data"]
    per_pixel = {"digits": script.parts(script.data.digits, 17),
                 "fashion-mnist": script.parts(script.data.fashion_mnist_small, 256)}  # fmt: skip
    for name, (what, bits) in per_pixel.items():
        assert stored[name]["measured"].pop(what) == round(bits, 2), name
    assert {k: round(v, 2) for k, v in script.measure(images, False).items()} == stored["digits"]["measured"]
    for name, (what, bits) in per_pixel.items():
        stored[name]["measured"][what] = round(bits, 2)
    page = pages["book/leaderboard.html"]
    for number, name in ((2, "digits"), (5, "fashion-mnist")):
        shown = {row[0]: float(row[1]) for row in rows(page, number)}
        assert shown == stored[name]["measured"] | stored[name]["elsewhere"]


def test_charts_draw_the_benchmarks(pages):
    charts = pages["book/benchmarks.html"].select("figure.nf-bars svg")
    labels = [c["aria-label"] for c in charts]
    for name, keys in (("coupling", ()), ("autoregressive", ()), ("spline", ("time",))):
        found = result(f"bench_{name}.json")["results"]
        for key in keys:
            found = found[key]
        for key, row in found.items():
            dim, task = key.split(" ", 1)
            head = f"{task.replace('log_prob', 'log-density')}, {dim.replace('=', ' = ')}: "
            values = f"this package {row['ours']:.2f}, compiled {row['ours_compiled']:.2f}, zuko {row['zuko']:.2f}"
            assert any(head + values in label for label in labels), (name, key)
    for chart in charts:
        bars = chart.select("rect")
        widths = [float(b["width"].rstrip("%")) for b in bars]
        assert len(bars) >= 4 and 0 <= min(widths) and 20 < max(widths) <= 53.01
    tables = pages["book/benchmarks.html"].select("article table")
    assert all(t.find_parent("details") for t in tables), "a table that is not folded"


def test_charts_are_legible_on_a_phone(browser):
    visit(browser, "book/benchmarks", width=390)
    small, out = browser.execute_script(
        """const texts = [...document.querySelectorAll(".nf-bars text")].filter(e => e.getBoundingClientRect().width);
           const box = e => e.closest("svg").getBoundingClientRect();
           return [texts.filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).length,
                   texts.filter(e => e.getBoundingClientRect().right > box(e).right + 1).map(e => e.textContent)];"""
    )
    assert not small and not out, (small, out)


@pytest.mark.parametrize("width", [390, 1280])
def test_tables_and_commands_fit_their_column(browser, width):
    """A narrow window shows a row as a card; its cells say their columns. Boxes of code scroll on a phone only."""
    for page in (
        "start",
        "which_flow",
        "leaderboard",
        "instructors",
        "status",
        "run",
        "companion",
        "api",
        "api/pictures",
    ):
        visit(browser, f"book/{page}", width=width)
        wide, silent = browser.execute_script(
            """const out = [...document.querySelectorAll("article table, article pre")].filter(e => {
                 const box = e.tagName === "PRE" ? e : e.parentElement;
                 return box.scrollWidth > box.clientWidth + 1 && (e.tagName !== "PRE" || innerWidth > 1000); });
               const cells = [...document.querySelectorAll("table.nf-cards td:nth-child(2)")];
               const mute = cells.filter(e => !e.dataset.label || e.getAttribute("role") !== "cell");
               return [out.map(e => e.innerText.slice(0, 80)), mute.map(e => e.innerText)];"""
        )
        assert not wide and not silent, (page, wide, silent)


# ---------------------------------------------------------------- the walk


def test_walk_knows_every_chapter(ours):
    assert {row["file"].stem for row in ours.written.values()} == {p.stem for p in CHAPTERS}
    for number, row in ours.written.items():
        assert row["question"].endswith("?") and len(row["class"]) > 20, number


def test_readme_names_each_written_chapter(ours):
    text = re.sub(r"\s+", " ", (ROOT / "README.md").read_text("utf8"))
    for number, row in ours.written.items():
        assert f"Chapter {number.lstrip('0') or '0'}, {row['title']}" in text
    named = len(re.findall(r"Chapter \d+b?, ", text))
    assert f"{named} of {len(ours.chapters)} chapters" in text
    for command in ("book", "test", "pdf", "plain"):
        assert f"make {command} " in text


def test_start_page_names_each_question_and_time(pages, ours):
    page = pages["book/start.html"]
    status = json.loads((BOOK / "status.json").read_text("utf8"))
    table = {row[0]: row for n in range(2) for row in rows(page, n)}
    for number, row in ours.chapters.items():
        name = f"Chapter {number.lstrip('0') or '0'}, {row['title']}"
        found = next(cells for key, cells in table.items() if key.startswith(name))
        if row["file"]:
            seconds = status[row["file"].stem]["seconds"]
            assert found[1].replace("’", "'") == row["question"] and found[3] == f"{seconds:.0f} s" and found[2], found
            assert page.select(f"article table a[href*='{row['file'].stem}.html']"), number
        else:
            assert "(to come)" in found[0], found


def test_paths_are_those_of_the_design(ours, made):
    paths = {p["name"]: made.path_chapters(ours, p) for p in ours.walk["paths"]}
    assert list(paths) == ["The whole walk", "The fast lane", "You know measure theory"]
    assert paths["The whole walk"] == list(ours.chapters)
    newest = list(ours.written)[-1]
    assert paths["The fast lane"] == ["00", "03", "04", "08", "09", newest]
    assert paths["You know measure theory"] == [n for n in ours.chapters if n not in ("01", "02")]


def test_reading_times_are_those_of_the_headers(made, ours):
    number = next(iter(ours.written))
    reading, exercises = made.minutes(ours, number)
    assert f"Reading time: about {reading} minutes, and {exercises} more with the exercises." in ours.prose[number]
    ours.prose[number] = text = ours.prose[number].replace("Reading time", "Reading")
    with pytest.raises(made.ResultError, match="expected in its header"):
        made.minutes(ours, number)
    ours.prose[number] = text.replace("Reading:", "Reading time:")
    assert [made.duration(m) for m in (2, 52, 61, 100, 119)] == [
        f"{t}\N{NO-BREAK SPACE}{u}" for t, u in (("5", "min"), ("50", "min"), ("1", "h"), ("1¾", "h"), ("2", "h"))
    ]


def test_code_that_is_linked_exists(made, ours):
    """Every {py:class} and {py:func} of the book names something that can be imported, where it is documented."""
    texts = [*ours.prose.values(), *(page.read_text("utf8") for page in PROSE)]
    names = {name for text in texts for name in re.findall(r"\{py:(?:class|func|meth)\}`(?:[^`<]*<)?([\w.]+)>?`", text)}
    documented = [module for _, modules in made.GROUPS.values() for module in modules]
    assert len(names) > 20
    for name in names:
        module = max((m for m in documented if name.startswith(m + ".")), key=len)
        thing = importlib.import_module(module)
        for part in name.removeprefix(module + ".").split("."):
            thing = getattr(thing, part)


def test_run_times_have_one_source(pages, ours):
    """Tables show book/status.json; no page types a run time."""
    status = json.loads((BOOK / "status.json").read_text("utf8"))
    for page in ("status", "instructors"):
        shown = {row[0]: row for row in rows(pages[f"book/{page}.html"])}
        for number, row in ours.written.items():
            cells = next(c for key, c in shown.items() if key.startswith(f"Chapter {number.lstrip('0') or '0'},"))
            assert f"{status[row['file'].stem]['seconds']:.0f} s" in cells, (page, number)
    assert not (BOOK / "status_table.md").exists()
    for page in ("start", "status", "instructors"):
        text = (BOOK / f"{page}.md").read_text("utf8")
        assert not re.search(r"\b\d+ s\b", text), page
        assert re.search(r"processor time on\s+one core", text), f"{page}: another wording"
    total = sum(status[row["file"].stem]["seconds"] for row in ours.written.values())
    assert f"take {total / 60:.1f} minutes together" in text_of(pages["book/start.html"])


def test_schedules_mention_each_chapter(ours):
    text = (BOOK / "instructors.md").read_text("utf8")
    parts = re.split(r"^### (Five|Ten|Fourteen) weeks[^\n]*$", text.split("## Exercises")[0], flags=re.M)
    for name, part, weeks in zip(parts[1::2], parts[2::2], (5, 10, 14), strict=True):
        numbered = re.findall(r"^\| (\d+) \|", part, re.M)
        assert numbered == [str(k) for k in range(1, weeks + 1)], name
        named = re.findall(r"\{nf-chapter\}`(\w+)`", part)
        assert set(named) <= set(ours.chapters)
    assert set(named) == set(ours.chapters), "the schedule of the whole walk leaves a chapter out"
    first = {}
    for k, number in enumerate(named):
        first.setdefault(number, k)
    assert list(first) == list(ours.chapters), "a chapter before one that it needs"


# ---------------------------------------------------------------- questions


def questions():
    found = re.findall(
        r"^::::\{nf-question\} (\d+)\n:source: ([^\n]+)\n:chapter: ([^\n]+)\n(.+?)\n---\n(.+?)\n::::$",
        (BOOK / "questions.md").read_text("utf8"), re.M | re.S,
    )  # fmt: skip
    return {int(n): (source, chapter, said, right) for n, source, chapter, said, right in found}


def test_all_questions_are_there(ours, pages):
    found = questions()
    assert sorted(found) == list(range(1, 68))
    for number, (source, chapter, said, right) in found.items():
        assert re.search(r"notes|thesis|poster", source) and len(said) > 15 and len(right) > 15, number
        assert set(re.split(", *", chapter)) <= {*ours.chapters, "VI"}, number
    ids = {e["id"] for e in pages["book/questions.html"].select(".nf-question[id]")}
    assert ids == {f"question-{k:02d}" for k in range(1, 68)}


def test_every_settled_place_is_linked(pages):
    """Each box named settled-NN in a chapter is linked from question NN, and the link leads there."""
    boxes = {}
    for path in CHAPTERS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                for label in re.findall(r"^:name: (settled-\w+)", cell.source, re.M):
                    boxes[label] = path.stem
    assert len(boxes) >= 18
    page = pages["book/questions.html"]
    for label, stem in boxes.items():
        box = page.find(id=f"question-{label[8:10]}")
        links = [a["href"] for a in box.select("a[href]")]
        assert f"../chapters/{stem}.html#{label}" in links, (label, links)
        assert pages[f"chapters/{stem}.html"].find(id=label), label
    known = questions()
    for box in page.select(".nf-question"):
        number = int(box["id"][-2:])
        written = {chapter[:2] for chapter in boxes.values()}
        open_ = [c for c in re.split(", *", known[number][1]) if c not in written]
        assert ("To come" in box.get_text()) == bool(open_), number


PRIVATE = re.compile(r"Magda|Pavesi|\b[Tt]he thesis\b|\b[Tt]he poster\b|\b[Qq]uestion \d|Settled \d\d\b")
OTHERS = [*(p for p in PROSE if p.name != "questions.md"), ROOT / "README.md", *CHAPTERS]


@pytest.mark.parametrize("path", OTHERS, ids=lambda p: p.stem)
def test_private_sources_are_named_on_one_page(path):
    text = path.read_text("utf8")
    if path.suffix == ".ipynb":
        text = "\n".join(c.source for c in nbformat.reads(text, as_version=4).cells)
    found = PRIVATE.search(text)
    assert not found, f"{path.name}: {found[0]}"


def test_private_sources_are_not_in_the_package():
    for path in (ROOT / "nfcourse").rglob("*.py"):
        assert not PRIVATE.search(path.read_text("utf8")), path.name
    assert PRIVATE.search("as question 49 asks") and PRIVATE.search("Magda's") and not PRIVATE.search("the question")


# ---------------------------------------------------------------- words


def test_one_spelling():
    texts = [*PROSE, ROOT / "README.md", BOOK / "walk.yml", *(ROOT / "nfcourse").rglob("*.py")]
    for path in texts:
        found = re.search(r"\w*ormalis\w*", path.read_text("utf8"))
        assert not found, f"{path.name}: {found[0]}"


def test_one_form_of_chapter():
    for path in [*PROSE, ROOT / "README.md"]:
        found = re.search(r"\b[Cc]hapters? 0\d|\bchapters? \d|\b\d+ · [A-Z]\w+", path.read_text("utf8"))
        assert not found, f"{path.name}: {found[0]}"


def glossary():
    """Term -> its definition, in the order of the page; a term with two names stands under the first."""
    text = re.search(r"```\{glossary\}\n(.*?)^```", (BOOK / "glossary.md").read_text("utf8"), re.M | re.S)[1]
    entries = [entry.split("\n") for entry in text.strip("\n").split("\n\n")]
    return {e[0]: " ".join(line for line in e if line.startswith("  ")) for e in entries}


def test_glossary_is_in_order_and_linked(pages):
    found = glossary()

    def key(term):
        plain = unicodedata.normalize("NFKD", term.replace("σ", "sigma")).casefold()
        return re.sub(r"[^a-z0-9 ]", "", plain)

    assert list(found) == sorted(found, key=key)
    wanted = {"likelihood", "entropy", "KL", "NICE", "RealNVP", "Glow", "ELBO", "maximum likelihood", "posterior", "EM"}
    assert wanted <= set(found)
    for term, text in found.items():
        _, arrow, where = text.partition("→")
        assert arrow and re.search(r"\{(nf-chapter|doc|py:class)\}", where), term
    for term in pages["book/glossary.html"].select("dl.glossary dd"):
        assert "→" in term.get_text() and (term.select("a[href]") or "(to come)" in term.get_text())


def test_prose_says_nothing_smug():
    smug = re.compile(r"\b(clearly|obviously|trivially|of course|it is easy to see|TODO|FIXME)\b", re.I)
    for path in PROSE:
        found = smug.search(path.read_text("utf8"))
        assert not found, f"{path.name}: {found[0]}"


# ---------------------------------------------------------------- papers


def test_companion_has_twelve_papers(pages):
    text = (BOOK / "companion.md").read_text("utf8")
    parts = re.split(r"^## ", text.split("## References")[0], flags=re.M)[1:]
    assert len(parts) == 12
    for part in parts:
        name = part.splitlines()[0]
        assert re.search(r"\{cite\}`\w+`", part), name
        for word in ("Theirs.", "Ours.", "What differs.", "Watch out.", "Where."):
            assert part.count(f"**{word}**") == 1, (name, word)
        assert "{nf-chapter}`" in part.split("**Where.**")[1], name


def test_companion_counts_right():
    """Numbers and identities that the page states."""
    import torch
    from torch.func import jacrev

    text = (BOOK / "companion.md").read_text("utf8")
    found = re.findall(r"(\d) - ([\d.]+)/\((\d+)\\log 2\) \\approx ([\d.]+)", text)
    assert [f[0] for f in found] == ["8", "7"]
    for whole, nats, dim, bits in found:
        assert abs(float(whole) - float(nats) / (float(dim) * math.log(2)) - float(bits)) < 0.005
    torch.manual_seed(0)
    z, ref, alpha, beta = torch.randn(3).double(), torch.randn(3).double(), 0.7, -0.4

    def radial(z):
        return z + beta / (alpha + (z - ref).norm()) * (z - ref)

    r = (z - ref).norm()
    stated = (1 + beta / (alpha + r)) ** 2 * (1 + alpha * beta / (alpha + r) ** 2)
    assert torch.allclose(torch.linalg.det(jacrev(radial)(z)), stated)
    for beta in (-0.69, -0.4, 2.5):
        x = radial(z)
        half = (alpha + beta - (x - ref).norm()) / 2
        root = -half + (half**2 + alpha * (x - ref).norm()).sqrt()
        assert torch.allclose(root, r) and torch.allclose(ref + (x - ref) * (alpha + root) / (alpha + root + beta), z)
    s, t, a = torch.randn(3).double()
    sigma, mu = (-s).exp(), -t * (-s).exp()  # Inverse(MAF) in the letters of IAF
    assert torch.allclose((a - t) * (-s).exp(), mu + sigma * a)
    xi, sk, d0, d1 = (torch.rand(4).double() + 0.1).clamp(max=0.9)
    u, v = xi, 1 - xi
    n, m = u * (sk * u + d0 * v), v * (sk * v + d1 * u)
    theirs = (sk * xi**2 + d0 * xi * v) / (sk + (d1 + d0 - 2 * sk) * xi * v)
    assert torch.allclose(n / (n + m), theirs)


# ---------------------------------------------------------------- bibliography

#: works without a number that could be linked
UNLINKED = {"rudin1987real", "folland1999real", "chen2000gaussianization"}


def entries():
    text = (BOOK / "references.bib").read_text("utf8")
    found = {}
    for key, body in re.findall(r"^@\w+\{(\w+),\n(.*?)^\}", text, re.M | re.S):
        found[key] = dict(re.findall(r"^ *(\w+) *= *\{(.*?)\},?$", body, re.M))
    return found


def test_every_work_is_linked(pages):
    links = {a["href"] for a in pages["book/bibliography.html"].select("article a.reference.external")}
    for key, fields in entries().items():
        starts = {"doi": "https://doi.org/", "eprint": "https://arxiv.org/abs/", "url": ""}
        wanted = [start + fields[kind] for kind, start in starts.items() if kind in fields]
        assert bool(wanted) != (key in UNLINKED), key
        assert set(wanted) <= links, (key, set(wanted) - links)


def test_a_citation_reads_like_its_label(pages):
    seen = 0
    for name, page in pages.items():
        for link in page.select("article a.reference.internal[href^='#']"):
            target = page.find(id=link["href"][1:])
            label = target.select_one("span.label") if target and "citation" in (target.get("class") or []) else None
            if label and not link.find_parent(class_="citation"):
                whole = label.get_text().strip("[]")
                year = whole.rsplit(", ")[-1]  # in a sentence: Durkan et al. [2019]
                assert link.get_text() in (whole, year), f"{name}: {link.get_text()}"
                assert re.fullmatch(r"\d{4}[a-h]?|n\.d\.", year), whole
                seen += 1
    assert seen > 60


# ---------------------------------------------------------------- the package's pages


def test_api_table_leads_to_every_name(pages, made):
    page = pages["book/api.html"]
    links = {a["href"].split("#")[1] for a in page.select("article td:first-child a[href*='#nfcourse']")}
    names = [
        f"{m}.{n}" for _, modules in made.GROUPS.values() for m in modules if made.exists(m) for n in made.public(m)
    ]
    assert len(names) > 80 and set(names) <= links, set(names) - links
    assert not [row for row in page.select("article tr") if row.select("td") and not row.select("td:first-child a")]
    for row in page.select("article tr"):
        cells = row.select("td")
        assert not cells or len(cells[1].get_text()) > 10, cells


def test_every_module_is_documented(made):
    """A module of the package with names of its own stands in a group, or serves only inside."""
    inside = {
        "contracts",
        "fingerprint",
        "noise",
        "rows",
        "events",
        "module",
        "values",
        "show",
        "process",
    }
    doors = {"live", "schematic"}  # folders whose names are handed on by their __init__
    grouped = {m for _, modules in made.GROUPS.values() for m in modules}
    for path in (ROOT / "nfcourse").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.name != "__init__.py" and module not in grouped:
            assert path.stem in inside or path.parent.name in doors, f"{module} is in no group of book/ext/nf_api.py"


def test_api_pages_state_no_empty_values(pages):
    for name, page in pages.items():
        if name.startswith("book/api"):
            for entry in page.select("dt.sig"):
                assert not re.search(r"= None\b", entry.get_text()) or "(" in entry.get_text(), entry.get_text()


def test_api_pages_are_not_endless(browser, made):
    for group in [None, *made.GROUPS]:
        page = f"book/api/{group}" if group else "book/api"
        visit(browser, page)
        height = browser.execute_script("return document.documentElement.scrollHeight")
        assert 400 < height < 20_000, f"{page}: {height} px"
