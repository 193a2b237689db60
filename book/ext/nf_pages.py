"""Tables, charts and links that the book makes from stored results, at build: nothing of it is typed by hand.

Directives and roles of the prose pages:

- ``{nf-made} NAME`` puts the Markdown or HTML that the maker NAME of `MAKERS` returns; the role of that name puts a
  number in a line.
- ``{nf-chapter}`08` `` links "Chapter 8" where the chapter is written, and else writes "Chapter 8 (to come)".
- ``{nf-question} 43`` is one of the questions that the sources left open, with a link to where it is settled.
- ``{nf-details} Title`` folds its content; ``{nf-api} GROUP`` documents a group of modules, a section each.

The makers are plain functions of a `Book`, the folder that holds everything, so that tests can give them another one.
"""

import ast
import html
import importlib
import importlib.util
import inspect
import json
import math
import re
import statistics
from functools import cached_property
from pathlib import Path

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style as UnsrtStyle
from pybtex.style.labels import BaseLabelStyle
from pybtex.style.names.plain import NameStyle
from pybtex.style.sorting.author_year_title import SortingStyle
from sphinx import addnodes
from sphinx.errors import SphinxError
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinxcontrib.bibtex.plugin import register_plugin as register_citation
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle
from sphinxcontrib.bibtex.style.referencing.basic_label import BasicLabelParentheticalReferenceStyle

#: what the header of a chapter states; a test holds the first number to what scripts/reading.py counts on the page
TIMES = re.compile(r"^Reading time: about (\d+) minutes, and (\d+) more with the exercises\.$", re.M)


class ResultError(SphinxError):
    """A stored result that a page cannot be made from."""

    category = "book/results"


# ---------------------------------------------------------------- the book's own sources


class Book:
    """The folder of the course, and what its files say."""

    def __init__(self, root):
        self.root = Path(root)

    @property
    def results(self):
        return self.root / "book" / "results"

    def result(self, name):
        """One stored result, by the name of its file."""
        try:
            return json.loads((self.results / name).read_text("utf8"))
        except (OSError, ValueError) as error:
            raise ResultError(f"{name}: {error}") from error

    @cached_property
    def walk(self):
        return yaml.safe_load((self.root / "book" / "walk.yml").read_text("utf8"))

    @cached_property
    def runs(self):
        """Which printed lines of the chapters are rows of the leaderboard."""
        return yaml.safe_load((self.root / "book" / "leaderboard.yml").read_text("utf8"))

    @cached_property
    def chapters(self):
        """The chapters of all parts, in order: number -> its row of walk.yml, with its file if it is written."""
        files = {p.stem.split("_")[0]: p for p in sorted((self.root / "chapters").glob("*.ipynb"))}
        rows = {}
        for part in self.walk["parts"]:
            for row in part["chapters"]:
                rows[row["number"]] = {**row, "part": part["part"], "file": files.get(row["number"])}
        return rows

    @property
    def written(self):
        return {number: row for number, row in self.chapters.items() if row["file"]}

    @cached_property
    def status(self):
        """Run times and memory, by chapter: the one source of every run time in the book."""
        return json.loads((self.root / "book" / "status.json").read_text("utf8"))

    @cached_property
    def cells(self):
        """The cells of every written chapter, by number."""
        return {n: json.loads(row["file"].read_text("utf8"))["cells"] for n, row in self.written.items()}

    @cached_property
    def prose(self):
        """The Markdown of every written chapter, by number."""
        return {
            number: "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
            for number, cells in self.cells.items()
        }

    def printed(self, number, name):
        """What a cell of a chapter has printed, as stored."""
        for cell in self.cells.get(number, []):
            if cell.get("id") == name:
                return "".join("".join(o.get("text", "")) for o in cell.get("outputs", []))
        raise ResultError(f"Chapter {number} has no cell {name}")

    def predictions(self, number):
        """How many prompts "Predict before you run" a written chapter has."""
        return len(re.findall(r"Predict before you run", self.prose[number]))

    def settled(self, question):
        """Where an open question is settled: (chapter, label) for each box of that number."""
        found = []
        for number, text in self.prose.items():
            for label in re.findall(rf"^:name: (settled-{question:02d}[a-z]?)\s*$", text, re.M):
                found.append((number, label))
        return found


def short(number):
    """08 -> 8, 04b -> 4b, 00 -> 0."""
    return number.lstrip("0") or "0"


def minutes(book, number):
    """Minutes of a written chapter, as its header states them: the main line, and its exercises."""
    stated = TIMES.search(book.prose[number])
    if stated is None:
        raise ResultError(f"Chapter {number}: expected in its header: {TIMES.pattern.strip('^$')}")
    return int(stated[1]), int(stated[2])


def duration(value):
    """Minutes as a reader says them: to 5 minutes below an hour, else to a quarter of an hour."""
    if value < 60:
        return f"{max(5, 5 * round(value / 5))}\N{NO-BREAK SPACE}min"
    quarters = round(value / 15)
    fraction = ("", "¼", "½", "¾")[quarters % 4]
    return f"{quarters // 4}{fraction}\N{NO-BREAK SPACE}h"


def link(book, number, title=False):
    """Markdown: a link to a chapter, or its name and that it is to come."""
    row = book.chapters[number]
    text = f"Chapter {short(number)}" + (f", {row['title']}" if title else "")
    return f"{{doc}}`{text} </chapters/{row['file'].stem}>`" if row["file"] else f"{text} *(to come)*"


def table(head, rows, align=None):
    """A Markdown table; text to the left, and to the right where ``align`` has an r."""
    marks = ["---:" if a == "r" else "---" for a in align or "l" * len(head)]
    rows = [
        [re.sub(r"(?<=\d) (?=s$|GB$|[±·] ?\d)|(?<=[±·]) (?=\d)", "\N{NO-BREAK SPACE}", cell) for cell in row]
        for row in rows
    ]
    lines = [head, marks, *([re.sub(r"(?<!\\)\|", r"\|", cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


# ---------------------------------------------------------------- start, status, instructors


def map_of_chapters(book):
    """Each part with its chapters: the question of those that are written, and the times."""
    rows = []
    for number, row in book.chapters.items():
        if row["file"]:
            seconds = book.status.get(row["file"].stem, {}).get("seconds")
            run = f"{seconds:.0f} s" if seconds is not None else ""
            rows.append([link(book, number, title=True), row["question"], duration(minutes(book, number)[0]), run])
        else:
            about = row.get("topic") or row["question"]
            rows.append([link(book, number, title=True), f"*{about}*", "", ""])
    text = table(["chapter", "its question", "reading", "run"], rows, "llrr")
    return text + f"\nPart VI, further *(to come)*: {' · '.join(book.walk['further'])}.\n"


def path_chapters(book, path):
    """The numbers of the chapters of one path, in the order of the walk."""
    wanted = list(book.chapters) if path["chapters"] == "all" else list(path["chapters"])
    newest = max(book.written, key=list(book.chapters).index)
    wanted = [newest if number == "newest" else number for number in wanted]
    return [number for number in book.chapters if number in wanted]


def paths(book):
    """The paths through the course, and how long what is written of each takes."""
    rows = []
    for path in book.walk["paths"]:
        numbers = path_chapters(book, path)
        done = [n for n in numbers if n in book.written]
        reading = sum(minutes(book, n)[0] for n in done)
        names = [link(book, n).replace("Chapter ", "") if n in done else f"*{short(n)}*" for n in numbers]
        rows.append([f"**{path['name']}**", path["for"], " · ".join(names), duration(reading)])
    return table(["path", "for whom", "chapters (those to come in italics)", "reading, as written"], rows, "lllr")


def status(book):
    """What each written chapter takes: run time, memory, reading."""
    rows = []
    for number, row in book.written.items():
        found = book.status.get(row["file"].stem)
        times = [f"{found['seconds']:.0f} s", f"{found['memory_gb']:.1f} GB"] if found else ["not run yet", ""]
        rows.append([link(book, number, title=True), *times, *map(duration, minutes(book, number))])
    head = ["chapter", "run time", "peak memory", "main line", "exercises"]
    return table(head, rows, "lrrrr")


def instructors(book):
    """What each written chapter offers for class, with its times."""
    rows = []
    for number, row in book.written.items():
        found = book.status.get(row["file"].stem)
        run = f"{found['seconds']:.0f} s" if found else ""
        times = map(duration, minutes(book, number))
        rows.append([link(book, number, title=True), row["class"], str(book.predictions(number)), *times, run])
    head = ["chapter", "a task that works in class", "predictions", "main line", "exercises", "run"]
    return table(head, rows, "llrrrr")


def written_so_far(book):
    """The written chapters in a sentence."""
    names = [short(n) for n in book.written]
    return f"Written so far: Chapters {', '.join(names[:-1])} and {names[-1]}, of {len(book.chapters)}."


def total_run(book):
    """Minutes that all written chapters take together, as text."""
    return f"{sum(book.status.get(r['file'].stem, {}).get('seconds', 0) for r in book.written.values()) / 60:.1f}"


def longest_run(book):
    """The longest run time of a chapter, in whole seconds."""
    stems = [row["file"].stem for row in book.written.values()]
    return f"{max(book.status[stem]['seconds'] for stem in stems if stem in book.status):.0f}"


# ---------------------------------------------------------------- which flow

#: name on the page -> file of its times, path inside it, flow of the comparison at equal weights
KINDS = {
    "affine coupling": ("bench_coupling.json", (), "affine coupling"),
    "spline coupling": ("bench_spline.json", ("time",), "spline coupling"),
    "affine MAF": ("bench_autoregressive.json", (), "affine autoregressive"),
    "spline MAF": (None, (), "spline autoregressive"),
}
TASKS = ("log_prob", "sample", "training step")
DIMS = (2, 16, 64)


def cost(book, kind, task, dim):
    """Milliseconds for a batch, of this package's flow, eager: the bare networks' time times the stored ratio."""
    name, keys, _ = KINDS[kind]
    found = book.result(name)["results"]
    for key in keys:
        found = found[key]
    row = found[f"D={dim} {task}"]
    return row["bare_ms"] * row["ours"]


def score(book, flow, dataset):
    """Mean and standard error over seeds: nats above the floor, or bits per dimension where the floor is unknown."""
    stored = book.result("autoregressive_comparison.json")
    row = next(r for r in stored["rows"] if r["data"] == dataset and r["flow"] == flow)
    floor, dim = stored["floor"][dataset], stored["budget"][dataset]["dim"]
    values = [v - floor if floor is not None else v / (dim * math.log(2)) for v in row["nll"]]
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values)), row["weights"]


def which_flow(book):
    """Costs and scores of each kind of flow, one row a kind."""
    rows = []
    for kind, (file, _, flow) in KINDS.items():
        if file:
            cells = [" · ".join(f"{cost(book, kind, task, d):.1f}" for d in DIMS) for task in TASKS]
        else:
            cells = ["not timed"] * 3
        pinwheel, digits = (score(book, flow, name) for name in ("pinwheel", "digits"))
        cells += [f"{pinwheel[0]:.3f} ± {pinwheel[1]:.3f}", f"{digits[0]:.3f} ± {digits[1]:.3f}"]
        rows.append([kind, *cells])
    head = ["flow", "log-density, ms", "sample, ms", "training, ms", "pinwheel, nats", "digits, bits"]
    return table(head, rows, "lrrrrr")


def which_flow_settings(book):
    """What the table was measured with, in one paragraph."""
    coupling, maf = book.result("bench_coupling.json"), book.result("bench_autoregressive.json")
    spline, pair = book.result("bench_spline.json"), book.result("autoregressive_comparison.json")
    weights = {name: [r["weights"] for r in pair["rows"] if r["data"] == name] for name in ("pinwheel", "digits")}
    size = {name: f"{min(w):,} to {max(w):,}" for name, w in weights.items()}
    c, m, s = coupling["settings"], maf["settings"], spline["settings"]
    return (
        f"**Times**: milliseconds for {c['batch']} points at $D =$ {' · '.join(f'${d}$' for d in c['dims'])}, "
        f"one thread, eager; {c['layers']} couplings, {s['layers']} spline couplings of {s['bins']} bins, "
        f"{m['layers']} autoregressive layers, all with networks of {' and '.join(map(str, c['hidden']))} "
        f"hidden units. "
        f"They do not have equal numbers of layers or of weights. **Scores**: mean ± standard error over "
        f"{len(pair['seeds'])} seeds; depth and learning rate of each flow chosen on validation data; "
        f"{size['pinwheel']} open weights and {pair['budget']['pinwheel']['steps']:,} steps on the pinwheel, "
        f"{size['digits']} and {pair['budget']['digits']['steps']:,} on the digits. Lower is better. "
        f"The pinwheel's score is exact, the digits' is a bound against counting measure.\n"
    )


def ratio_of(over, under, task, dim):
    return lambda book: f"{cost(book, over, task, dim) / cost(book, under, task, dim):.1f}"


def paired(worse, better, unit):
    """Mean of the paired differences, with its standard error."""
    differences = [(a - b) / unit for a, b in zip(worse, better, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{statistics.fmean(differences):.3f} ± {error:.3f}".replace("-", "\N{MINUS SIGN}")


def compared_scores(book, dataset):
    """Scores of each flow in nats, by seed; the unit in which the page states them; the floor."""
    stored = book.result("autoregressive_comparison.json")
    floor = stored["floor"][dataset]
    unit = 1 if floor is not None else stored["budget"][dataset]["dim"] * math.log(2)
    return {r["flow"]: r["nll"] for r in stored["rows"] if r["data"] == dataset}, unit, floor


def gain(dataset, worse, better):
    """How much lower the better flow's score is, with the standard error of the paired difference."""

    def made(book):
        rows, unit, _ = compared_scores(book, dataset)
        return paired(rows[worse], rows[better], unit)

    return made


def median_gain(book):
    """The median over seeds of what splines gain on the pinwheel: one stuck run does not move it."""
    rows, _, _ = compared_scores(book, "pinwheel")
    pairs = zip(rows["affine coupling"], rows["spline coupling"], strict=True)
    return f"{statistics.median(a - b for a, b in pairs):.2f}"


def first_seed(flow):
    """The maker of one flow's distance from the floor on the pinwheel, with the first seed."""

    def made(book):
        rows, _, floor = compared_scores(book, "pinwheel")
        return f"{rows[flow][0] - floor:.3f}"

    return made


def quality_gain(book):
    """How much affine couplings lead over affine autoregressive flows on the digits where libraries are compared."""
    rows = book.result("bench_quality.json")["results"]
    return paired(*(rows[f"digits, {flow}"]["ours"]["nll"] for flow in ("MAF", "affine coupling")), 64 * math.log(2))


def noise_bits(noise):
    """The maker of the score of the two-epoch image flow with one kind of noise."""
    return lambda book: f"{statistics.fmean(book.result(f'image_flow-{noise}-2-epochs.json')['test']):.3f}"


def precision(keys, form, settings=(5, 20)):
    """The maker of the worst of some figures of our splines, over the settings."""

    def made(book):
        found = book.result("bench_spline.json")["results"]["precision"]
        return form(max(found[f"ours {std}"][key] for std in settings for key in keys))

    return made


def precision_points(book):
    settings = book.result("bench_spline.json")["settings"]
    return f"{settings['points'] * len(settings['seeds']):,}"


def power(value):
    """A small number as text: 7.4·10⁻⁵."""
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}·10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def glow_bits(book):
    """The best stored bits per dimension of the image flow on Fashion-MNIST."""
    return f"{min(r['bits_per_dim'][0] for r in leaderboard_rows(book) if r['data'] == 'fashion-mnist'):.2f}"


def glow_parameters(book):
    rows = [r for r in leaderboard_rows(book) if r["data"] == "fashion-mnist"]
    return f"{min(rows, key=lambda r: r['bits_per_dim'][0])['parameters']:,}"


def glow_step(book):
    stored = book.result("bench_image.json")
    return f"{stored['results']['ours']['training step ms']:.0f}"


# ---------------------------------------------------------------- leaderboard

#: what a row must have, and of which type; a value that was not stored is null
SCHEMA = {
    "data": str,
    "model": str,
    "kind": str,
    "bits_per_dim": list,
    "seeds": list,
    "parameters": int,
    "steps": int,
    "seconds": (int, float, type(None)),
    "where": str,
}
DATA = {"digits": "Digits, 8 × 8, 17 levels", "fashion-mnist": "Fashion-MNIST, 28 × 28", "mnist": "MNIST, 28 × 28"}


def check_row(row, where):
    """Say what is wrong with a row of the leaderboard, in the words of its writer."""

    def wrong(text):
        raise ResultError(f"{where}: {text}")

    if not isinstance(row, dict):
        wrong(f"expected an object with the keys {', '.join(SCHEMA)}, found {row!r}")
    for key, kind in SCHEMA.items():
        if key not in row:
            wrong(f'"{key}" is missing')
        if not isinstance(row[key], kind) or isinstance(row[key], bool):
            wrong(f'"{key}" has the wrong type: {row[key]!r}')
    extra = set(row) - set(SCHEMA) - {"note"}
    if extra:
        wrong(f"unknown keys {sorted(extra)}; known are {', '.join(SCHEMA)} and note")
    if row["data"] not in DATA:
        wrong(f'"data" must be one of {", ".join(DATA)}, found "{row["data"]}"')
    if row["kind"] not in ("exact", "bound"):
        wrong(f'"kind" must be "exact" or "bound", found "{row["kind"]}"')
    bits = row["bits_per_dim"]
    if not bits or not all(isinstance(b, (int, float)) and math.isfinite(b) and 0 < b < 16 for b in bits):
        wrong(f'"bits_per_dim" must be a list of numbers between 0 and 16, one for each seed, found {bits}')
    if len(bits) != len(row["seeds"]):
        wrong(f"{len(bits)} scores for {len(row['seeds'])} seeds")
    return row


def rows_of_image_flow(name, stored):
    o = stored["options"]
    yield {
        "data": {"fashion": "fashion-mnist"}.get(o["data"], o["data"]),
        "model": f"Glow, {o['levels']} scales of {o['depth']} steps, width {o['width']}, {o['dequantization']} noise",
        "kind": "bound",
        "bits_per_dim": [statistics.fmean(stored["test"])],
        "seeds": [stored["seed"]],
        "parameters": stored["parameters"],
        "steps": stored["budget"]["steps"],
        "seconds": stored["seconds"]["training"],
        "where": name,
    }


def rows_of_comparison(name, stored):
    budget = stored["budget"].get("digits")
    for row in stored["rows"]:
        if row["data"] == "digits":
            yield {
                "data": "digits",
                "model": f"{row['flow']}, {row['depth']} layers",
                "kind": "bound",
                "bits_per_dim": [v / (budget["dim"] * math.log(2)) for v in row["nll"]],
                "seeds": stored["seeds"],
                "parameters": row["weights"],
                "steps": budget["steps"],
                "seconds": statistics.fmean(row["seconds"]),
                "where": name,
            }


def rows_of_quality(name, stored):
    for key, row in stored["results"].items():
        dataset, flow = key.split(", ")
        if dataset == "digits":
            yield {
                "data": "digits",
                "model": f"{flow}, as in the comparison of libraries",
                "kind": "bound",
                "bits_per_dim": [v / (64 * math.log(2)) for v in row["ours"]["nll"]],
                "seeds": stored["settings"]["seeds"],
                "parameters": row["ours"]["parameters"],
                "steps": row["steps"],
                "seconds": None,
                "where": name,
            }


def rows_of_bench_image(name, stored):
    s, row = stored["settings"], stored["results"]["ours"]
    for lr, bits in row["bits_per_dim"].items():
        yield {
            "data": "fashion-mnist",
            "model": f"Glow, {s['levels']} scales of {s['depth']} steps, width {s['widths']['ours']}, "
            f"learning rate {lr}",
            "kind": "bound",
            "bits_per_dim": bits,
            "seeds": s["seeds"],
            "parameters": row["parameters"],
            "steps": s["steps"],
            "seconds": None,
            "where": name,
            "note": "the 10,000 shipped training images, 2,000 test images",
        }


#: results from before the leaderboard had a form of its own: how to read them
READERS = {
    "image_flow-*.json": rows_of_image_flow,
    "autoregressive_comparison.json": rows_of_comparison,
    "bench_quality.json": rows_of_quality,
    "bench_image.json": rows_of_bench_image,
}


def leaderboard_rows(book):
    """Every row of the leaderboard: from the key "leaderboard" of any stored result, and from the older results."""
    rows = []
    for path in sorted(book.results.glob("*.json")):
        stored = book.result(path.name)
        found = []
        if isinstance(stored, dict) and "leaderboard" in stored:
            found = stored["leaderboard"]
            if not isinstance(found, list):
                raise ResultError(f'{path.name}: "leaderboard" must be a list of rows')
        else:
            for pattern, read in READERS.items():
                if path.match(pattern):
                    found = read(path.name, stored)
        rows += [check_row(row, f"{path.name}, row {k}") for k, row in enumerate(found, 1)]
    return rows


def bits_text(row):
    values = row["bits_per_dim"]
    mean = f"{statistics.fmean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.3f}"


def leaderboard(dataset):
    """The maker of the table of one data set, the best score first."""

    def made(book):
        rows = [r for r in leaderboard_rows(book) if r["data"] == dataset]
        cells, sources = [], []
        for r in sorted(rows, key=lambda r: statistics.fmean(r["bits_per_dim"])):
            seconds = "?" if r["seconds"] is None else f"{r['seconds']:,.0f}"
            note = f" ({r['note']})" if r.get("note") else ""
            if r["where"] not in sources:
                sources.append(r["where"])
            source = "abcdefghijklmnopqrstuvwxyz"[sources.index(r["where"])]
            counts = [f"{r['parameters']:,}", f"{r['steps']:,}", seconds, str(len(r["seeds"]))]
            cells.append([f"{r['model']}{note} ({source})", bits_text(r), r["kind"], *counts])
        if not cells:
            return "No result yet.\n"
        head = ["model", "bits", "kind", "parameters", "steps", "seconds", "seeds"]
        names = ", ".join(
            f"({letter}) `{name}`" for letter, name in zip("abcdefghijklmnopqrstuvwxyz", sources, strict=False)
        )
        return f"{table(head, cells, 'lrlrrrr')}\nFrom {names}.\n"

    return made


#: how a printed line of a chapter says a score, where book/leaderboard.yml does not say another form
FORM = r"{name} +{score}(?: ± {spread})?(?= |$)"


def chapter_rows(book):
    """The rows that chapters have printed: data, model, bits as text, kind, seeds, chapter."""
    rows = []
    for group in book.runs:
        text = book.printed(group["chapter"], group["cell"])
        for name, model in group["lines"].items():
            form = group.get("form", FORM).replace("{score}", r"(\d+\.\d+)").replace("{spread}", r"(\d+\.\d+)")
            found = re.findall("^ *" + form.replace("{name}", re.escape(name)), text, re.M)
            if len(found) != 1:
                where = f"book/leaderboard.yml, Chapter {group['chapter']}, cell {group['cell']}"
                raise ResultError(f'{where}: {len(found)} printed lines for "{name}", expected one')
            score, spread = found[0] if isinstance(found[0], tuple) else (found[0], "")
            bits = f"{score} ± {spread}" if spread else score
            rows.append({**group, "model": model, "bits": bits})
    return rows


def leaderboard_chapters(dataset):
    """The maker of the table of the chapters' own runs on one data set, the best score first."""

    def made(book):
        rows = [r for r in chapter_rows(book) if r["data"] == dataset]
        rows.sort(key=lambda r: float(r["bits"].split()[0]))
        cells = [[r["model"], r["bits"], r["kind"], str(r["seeds"]), link(book, r["chapter"])] for r in rows]
        return table(["model", "bits", "kind", "seeds", "where"], cells, "lrlrl")

    return made


def yardsticks(dataset):
    """What general compressors need for the same pictures."""

    def made(book):
        stored = book.result("yardsticks.json")
        found = stored["data"][dataset]
        rows = [(bits, name, "our script") for name, bits in found["measured"].items()]
        rows += [(bits, name, "its own program, once") for name, bits in found["elsewhere"].items()]
        cells = [[name, f"{bits:.2f}", "exact", source] for bits, name, source in sorted(rows)]
        text = table(["compressor", "bits per dimension", "kind", "measured by"], cells, "lrll")
        return f"{text}\nImages: {found['what']}, unless a row says otherwise. The script is `{stored['command']}`.\n"

    return made


# ---------------------------------------------------------------- charts

LIBRARIES = {
    "ours": "this package",
    "ours_compiled": "compiled",
    "zuko": "zuko",
    "nflows": "nflows",
    "normflows": "normflows",
    "FrEIA": "FrEIA",
    "flowjax": "flowjax, jit",
}


def bars(groups, title, form="{:.2f}", mark=None):
    """Horizontal bars as one SVG of any width: places in percent, letters in pixels, so a phone reads them too.

    ``groups`` holds pairs (heading, [(name, value, class)]); each has its own scale. ``mark`` draws a
    dashed line there.
    """
    label, room = 29, 53  # percent of the width for names, and for the longest bar; values stand behind the bars
    lines, y = [], 6
    for heading, rows in groups:
        top = max(mark or 0, *(value for _, value, _ in rows)) or 1
        lines.append(f'<text class="nf-bars-head" x="0" y="{y + 14}">{html.escape(heading)}</text>')
        y += 24
        if mark:
            at, end = f"{label + room * mark / top:.2f}%", y + 20 * len(rows)
            lines.append(f'<line class="nf-bars-one" x1="{at}" x2="{at}" y1="{y - 4}" y2="{end}"/>')
        for name, value, kind in rows:
            width = room * value / top
            lines.append(f'<text x="0" y="{y + 13}">{html.escape(name)}</text>')
            lines.append(f'<rect class="{kind}" x="{label}%" y="{y + 2}" width="{width:.2f}%" height="14" rx="2"/>')
            lines.append(f'<text x="{label + width:.2f}%" dx="6" y="{y + 13}">{form.format(value)}</text>')
            y += 20
        y += 8
    text = "; ".join(f"{h}: " + ", ".join(f"{n} {form.format(v)}" for n, v, _ in rows) for h, rows in groups)
    return (
        f'<figure class="nf-bars"><svg role="img" width="100%" height="{y}" '
        f'aria-label="{html.escape(title + ". " + text, quote=True)}">{"".join(lines)}</svg>'
        f"<figcaption>{html.escape(title)}</figcaption></figure>"
    )


def chart(name, keys, dims, title):
    """The maker of a chart of times over the bare networks."""

    def made(book):
        found = book.result(name)["results"]
        for key in keys:
            found = found[key]
        groups = []
        for dim in dims:
            for task in TASKS:
                row = found[f"D={dim} {task}"]
                shown = [(text, row[lib], "nf-bar-ours" if lib.startswith("ours") else "nf-bar-peer")
                         for lib, text in LIBRARIES.items() if lib in row]  # fmt: skip
                task = {"log_prob": "log-density"}.get(task, task)
                groups.append((f"{task}, D = {dim}", shown))
        return Html(bars(groups, title, mark=1))

    return made


def compared(rows):
    """(library, value) as bars: this package stands out."""
    return [(LIBRARIES[lib], value, "nf-bar-ours" if lib == "ours" else "nf-bar-peer") for lib, value in rows]


def chart_quality(book):
    """Test scores above the best library's, for each data set and flow."""
    groups = []
    for key, row in book.result("bench_quality.json")["results"].items():
        means = [(lib, row[lib]["mean"]) for lib in LIBRARIES if lib in row]
        best = min(value for _, value in means)
        groups.append((key, compared([(lib, value - best) for lib, value in means])))
    title = "Mean test score above that of the best library, in nats; shorter is better. Each group has its own scale"
    return Html(bars(groups, title, "{:.3f}"))


def chart_depth(book):
    """Test scores of 32 layers above the best library's."""
    groups = []
    for key, row in book.result("bench_depth.json")["results"].items():
        best = min(r["nll"] for r in row.values())
        head = f"learning rate {key.removeprefix('lr=')}"
        groups.append((head, compared([(lib, row[lib]["nll"] - best) for lib in LIBRARIES if lib in row])))
    title = "Test score above that of the best library, in nats, one run each. Each group has its own scale"
    return Html(bars(groups, title, "{:.3f}"))


def chart_precision(prefix):
    """The maker of the chart of points that lose more than four floors."""

    def made(book):
        found = book.result("bench_spline.json")["results"]["precision"]
        groups = []
        for std in sorted({key.split()[1] for key in found}, key=int):
            rows = [(lib, found[f"{lib} {std}"][f"{prefix}points_above_4_floors"]) for lib in LIBRARIES
                    if f"{lib} {std}" in found]  # fmt: skip
            groups.append((f"logits of standard deviation {std}", compared(rows)))
        settings = book.result("bench_spline.json")["settings"]
        total = settings["points"] * len(settings["seeds"])
        title = f"Points, of {total:,}, whose round trip loses more than four floors. Each group has its own scale"
        return Html(bars(groups, title, "{:.0f}"))

    return made


def chart_image(book):
    """Times and scores of the two Glows."""
    found = book.result("bench_image.json")["results"]
    groups = []
    for task in TASKS:
        rows = [(lib, found[lib][f"{task} ms"]) for lib in LIBRARIES if lib in found]
        groups.append((f"{({'log_prob': 'log-density'}).get(task, task)}, ms a batch", compared(rows)))
    for lr in found["ours"]["bits_per_dim"]:
        rows = [(lib, statistics.fmean(found[lib]["bits_per_dim"][lr])) for lib in LIBRARIES if lib in found]
        groups.append((f"bits per dimension, learning rate {lr}", compared(rows)))
    return Html(bars(groups, "Glow: times and bits per dimension; shorter is better. Each group has its own scale"))


def goals(book):
    """How many of the goals are reached, and which are not."""
    lines = (book.results / "bench_goals.md").read_text("utf8").splitlines()[2:]
    rows = [line.strip("| ").split(" | ") for line in lines]
    missed = [f"{row[0]} (measured: {row[1]})" for row in rows if row[2] != "yes"]
    head = f"Reached: {len(rows) - len(missed)} of {len(rows)}."
    return head + (" Missed:\n\n" + "\n".join(f"- {text}" for text in missed) if missed else "") + "\n"


class Html(str):
    """HTML, and not Markdown."""


# ---------------------------------------------------------------- the package

#: group -> (title, what it says first, modules); a module that is not there yet is passed over
GROUPS = {
    "bijections": (
        "Spaces and bijections",
        ["nfcourse.spaces", "nfcourse.bijections.base", "nfcourse.bijections.elementwise", "nfcourse.bijections.linear",
         "nfcourse.bijections.norm", "nfcourse.bijections.image"],
    ),
    "couplings": (
        "Couplings, autoregressive layers, transformers",
        ["nfcourse.bijections.coupling", "nfcourse.bijections.autoregressive", "nfcourse.bijections.transformers"],
    ),
    "flow": ("Flows and bases", ["nfcourse.bases", "nfcourse.flow", "nfcourse.dequantize"]),
    "models": (
        "Models and networks",
        ["nfcourse.models.autoregressive", "nfcourse.models.pixel", "nfcourse.models.multiscale", "nfcourse.nets.mlp",
         "nfcourse.nets.made", "nfcourse.nets.image"],
    ),
    "train": (
        "Training and experiments",
        ["nfcourse.train.loop", "nfcourse.train.history", "nfcourse.train.files", "nfcourse.train.processes",
         "nfcourse.experiments.image_flow", "nfcourse.experiments.autoregressive_comparison"],
    ),
    "check": ("Checks and contracts", ["nfcourse.check", "nfcourse.contracts", "nfcourse.values"]),
    "data": ("Data", ["nfcourse.data.toy", "nfcourse.data.images"]),
    "pictures": (
        "Pictures",
        ["nfcourse.plot", "nfcourse.widgets", "nfcourse.schematic", "nfcourse.live", "nfcourse.show"],
    ),
}  # fmt: skip
#: modules of which only some names are for users
MEMBERS = {
    "nfcourse.bijections.base": ["Bijection", "Compose", "Inverse"],
    "nfcourse.models.autoregressive": ["NADE", "RNADE", "Autoregressive", "Recurrent"],
    "nfcourse.nets.mlp": ["MLP", "ResidualMLP"],
    "nfcourse.train.loop": ["fit", "NegativeLogLikelihood"],
    "nfcourse.train.files": ["load_weights", "save_weights"],
    "nfcourse.train.processes": ["distributed"],
    "nfcourse.check": ["answer", "close", "differs", "holds", "integral", "integral_mc", "mass"],
    "nfcourse.contracts": ["check_bijection", "BijectionReport"],
    "nfcourse.values": ["validate", "draw_inputs", "randomize", "CheckFailed"],
}


def exists(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def public(name):
    """The documented names of a module, in the order of its source; of a package also those that it hands on."""
    module = importlib.import_module(name)
    found = MEMBERS.get(name) or getattr(module, "__all__", None)
    if found is None:
        found = [k for k, v in vars(module).items() if not k.startswith("_") and getattr(v, "__module__", "") == name]
    home = {n: getattr(getattr(module, n), "__module__", None) or "" for n in found}
    items = [n for n in found if f"{home[n]}.".startswith(f"{name}.")]
    items = [n for n in items if inspect.isclass(getattr(module, n)) or inspect.isroutine(getattr(module, n))]
    return sorted(items, key=lambda n: (home[n], inspect.getsourcelines(inspect.unwrap(getattr(module, n)))[1]))


def constants(name):
    """Documented values of a module: those with a comment ``#:`` above them or a text below them."""
    path = Path(importlib.util.find_spec(name).origin)
    lines = path.read_text("utf8").splitlines()
    names = {}
    tree = ast.parse("\n".join(lines))
    for statement, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        for target in targets:
            if not isinstance(target, ast.Name) or target.id.startswith("_"):
                continue
            comment, k = [], statement.lineno - 2
            while k >= 0 and lines[k].startswith("#:"):
                comment.insert(0, lines[k][2:].strip())
                k -= 1
            text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and after.value.value
            if comment or isinstance(text, str):
                names[target.id] = " ".join(comment) or text.strip().splitlines()[0]
    return names if not MEMBERS.get(name) else {}


def first_line(item):
    """The first sentence of a docstring, as Markdown."""
    text = (inspect.getdoc(item) or "").split("\n\n")[0].replace("\n", " ")
    return markdown(text)


def markdown(text):
    bar = {r"\|": r"\Vert ", "|": r"\vert "}
    text = re.sub(r":math:`([^`]+)`", lambda m: "$" + re.sub(r"\\?\|", lambda b: bar[b[0]], m[1]) + "$", text)
    text = re.sub(r":\w+(?::\w+)?:`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def api_table(book):
    """Every public name of the package, with the first sentence of its docstring, by module."""
    parts = []
    for group, (title, modules) in GROUPS.items():
        parts.append(f"**{{doc}}`{title} </book/api/{group}>`**")
        for name in filter(exists, modules):
            module = importlib.import_module(name)
            rows = []
            for item in public(name):
                call = "()" if inspect.isroutine(getattr(module, item)) else ""
                rows.append([f"{{py:obj}}`{item}{call} <{name}.{item}>`", first_line(getattr(module, item))])
            rows += [[f"{{py:obj}}`{item} <{name}.{item}>`", markdown(text)] for item, text in constants(name).items()]
            parts.append(f"`{name}`: {first_line(module)}\n\n" + table(["name", "what it is"], rows))
    return "\n\n".join(parts)


MAKERS = {
    "map": map_of_chapters,
    "paths": paths,
    "status": status,
    "instructors": instructors,
    "written": written_so_far,
    "total run": total_run,
    "longest run": longest_run,
    "which flow": which_flow,
    "which flow settings": which_flow_settings,
    "maf sample 64": ratio_of("affine MAF", "affine coupling", "sample", 64),
    "maf sample 2": ratio_of("affine MAF", "affine coupling", "sample", 2),
    "spline training 64": ratio_of("spline coupling", "affine coupling", "training step", 64),
    "spline training 2": ratio_of("spline coupling", "affine coupling", "training step", 2),
    "gain splines pinwheel": gain("pinwheel", "affine coupling", "spline coupling"),
    "gain splines digits": gain("digits", "affine coupling", "spline coupling"),
    "gain maf digits": gain("digits", "affine coupling", "affine autoregressive"),
    "gain coupling digits": quality_gain,
    "quality steps": lambda book: str(book.result("bench_quality.json")["results"]["digits, MAF"]["steps"]),
    "median splines pinwheel": median_gain,
    "pinwheel steps": lambda book: f"{book.result('autoregressive_comparison.json')['budget']['pinwheel']['steps']:,}",
    "affine pinwheel seed 0": first_seed("affine coupling"),
    "spline pinwheel seed 0": first_seed("spline coupling"),
    "uniform noise": noise_bits("uniform"),
    "learned noise": noise_bits("variational"),
    "precision points": precision_points,
    "precision ratio": precision(("worst_over_floor", "inverse_first_worst_over_floor"), "{:.1f}".format),
    "precision bounded": precision(("worst_bounded", "inverse_first_worst_bounded"), power),
    "precision worst 5": precision(("worst",), "{:.2f}".format, (5,)),
    "precision worst 20": precision(("worst",), "{:.2f}".format, (20,)),
    "glow bits": glow_bits,
    "glow parameters": glow_parameters,
    "glow step": glow_step,
    "leaderboard digits": leaderboard("digits"),
    "leaderboard fashion": leaderboard("fashion-mnist"),
    "leaderboard chapters digits": leaderboard_chapters("digits"),
    "leaderboard chapters fashion": leaderboard_chapters("fashion-mnist"),
    "yardsticks digits": yardsticks("digits"),
    "yardsticks fashion": yardsticks("fashion-mnist"),
    "goals": goals,
    "chart quality": chart_quality,
    "chart depth": chart_depth,
    "chart precision": chart_precision(""),
    "chart precision inverse first": chart_precision("inverse_first_"),
    "chart image": chart_image,
    "api": api_table,
}
for _kind, _file, _keys in (
    ("couplings", "bench_coupling.json", ()),
    ("autoregressive flows", "bench_autoregressive.json", ()),
    ("spline couplings", "bench_spline.json", ("time",)),
):
    _title = f"Times of {_kind} over the time of their bare networks; shorter is faster. "
    _title += "Each group has its own scale; the dashed line is at 1"
    _slug = _file.removeprefix("bench_").removesuffix(".json")
    MAKERS[f"chart {_slug} 64"] = chart(_file, _keys, (64,), _title)
    MAKERS[f"chart {_slug} small"] = chart(_file, _keys, (2, 16), _title)


# ---------------------------------------------------------------- directives and roles


class _Directive(SphinxDirective):
    has_content = True
    required_arguments = 1
    final_argument_whitespace = True

    @property
    def book(self):
        return _book(self.env)

    def parse(self, text):
        """Nodes of a Markdown text."""
        holder = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), source=self.env.doc2path(self.env.docname)), 0, holder)
        return holder.children


def _book(env):
    """One `Book` a build."""
    if not hasattr(env.app, "nf_book"):
        env.app.nf_book = Book(env.srcdir)
    return env.app.nf_book


def _raw(text):
    return nodes.raw("", text, format="html")


class Made(_Directive):
    """What a maker makes."""

    def run(self):
        text = MAKERS[self.arguments[0]](self.book)
        if isinstance(text, Html):
            return [_raw(text)]
        box = nodes.container(classes=["nf-made", f"nf-made-{self.arguments[0].replace(' ', '-')}"])
        box += self.parse(text)
        return [box]


class MadeRole(SphinxRole):
    """A number in a line."""

    def run(self):
        return [nodes.Text(MAKERS[self.text](_book(self.env)))], []


class ChapterRole(SphinxRole):
    """A link to a chapter, or that it is to come; with its title where the text ends in ``+``."""

    def run(self):
        book, number = _book(self.env), self.text.rstrip("+")
        if number not in book.chapters:
            raise SphinxError(f"{self.env.docname}: {number} is no chapter of book/walk.yml")
        row = book.chapters[number]
        text = f"Chapter {short(number)}" + (f", {row['title']}" if self.text.endswith("+") else "")
        if not row["file"]:
            return [nodes.Text(text + " "), nodes.emphasis("", "(to come)")], []
        return [_document(self.env, f"/chapters/{row['file'].stem}", text)], []


def _document(env, target, text):
    return addnodes.pending_xref("", nodes.inline("", text), refdomain="std", reftype="doc", refexplicit=True,
                                 reftarget=target, refdoc=env.docname, refwarn=True)  # fmt: skip


class Details(_Directive):
    """A fold."""

    def run(self):
        inside = nodes.container(classes=["nf-results"])
        self.state.nested_parse(self.content, self.content_offset, inside)
        head = html.escape(self.arguments[0])
        start = _raw(f'<details class="nf-fold nf-output"><summary>{head}</summary>')
        return [start, inside, _raw("</details>")]


class Question(_Directive):
    """A question that the sources left open: what they say, what is right, where it is settled."""

    option_spec = {"source": str, "chapter": str}

    def run(self):
        number = int(self.arguments[0])
        said, right = "\n".join(self.content).split("\n---\n")
        box = nodes.container(classes=["nf-question"], ids=[f"question-{number:02d}"])
        box += self.parse(f"**{number}** · *{self.options['source']}*")
        box += self.parse(f"They write: {said.strip()}")
        box += self.parse(f"Right: {right.strip()}")
        box += self.parse(self.settled(number))
        return [box]

    def settled(self, number):
        book = self.book
        found = book.settled(number)
        links = [f"{{ref}}`Chapter {short(chapter)} <{label}>`" for chapter, label in found]
        to_come = [c.strip() for c in self.options["chapter"].split(",")]
        to_come = [c for c in to_come if c not in {chapter for chapter, _ in found}]
        names = ", ".join("Part VI" if c == "VI" else f"Chapter {short(c)}" for c in to_come)
        parts = [f"Settled in {' and '.join(links)}."] * bool(links) + [f"To come: {names}."] * bool(to_come)
        return " ".join(parts)


class Api(_Directive):
    """The modules of a group, a section each."""

    def run(self):
        _, modules = GROUPS[self.arguments[0]]
        sections = []
        for name in filter(exists, modules):
            section = nodes.section(ids=[f"module-of-{name.replace('.', '-')}"], names=[])
            section += nodes.title("", "", nodes.literal("", name))
            members = ", ".join([*constants(name), *public(name)])
            section += self.parse(f"```{{eval-rst}}\n.. automodule:: {name}\n   :members: {members}\n```")
            sections.append(section)
        return sections


# ---------------------------------------------------------------- bibliography


class Labels(BaseLabelStyle):
    """Author and year, as in the text: [Evans and Gariepy, 2015]; letters tell equal ones apart."""

    def format_labels(self, sorted_entries):
        found = [label_of(entry) for entry in sorted_entries]
        seen = {}
        for text in found:
            twice = found.count(text) > 1
            seen[text] = seen.get(text, -1) + 1
            yield text + "abcdefgh"[seen[text]] if twice else text


def label_of(entry):
    names = [" ".join([*p.prelast_names, *p.last_names]) for p in entry.persons.get("author", [])]
    names = [re.sub(r"[{}]", "", _unescape(name)) for name in names]
    if len(names) > 2 or names[-1:] == ["others"]:
        names = [f"{names[0]} et al."]
    return f"{' and '.join(names)}, {entry.fields.get('year', 'n.d.')}"


def _unescape(text):
    from pybtex.richtext import Text

    return str(Text.from_latex(text))


class Style(UnsrtStyle):
    """Entries sorted by author, with linked DOI or arXiv number; labels as in the text."""

    default_sorting_style = SortingStyle
    default_label_style = Labels
    default_name_style = NameStyle

    def __init__(self, **options):
        super().__init__(**options)
        self.sort = SortingStyle().sort
        self.format_labels = Labels().format_labels


class Citation(AuthorYearReferenceStyle):
    """A citation in brackets is the label of the list, so that the two always agree; one in the text names the year."""

    def __post_init__(self):
        super().__post_init__()
        brackets = BasicLabelParentheticalReferenceStyle(bracket=self.bracket_parenthetical)
        for name in brackets.role_names():
            self.role_style[name] = brackets


def _configure(app, config):
    register_citation("sphinxcontrib.bibtex.style.referencing", "nf_author_year", Citation, force=True)
    config.bibtex_reference_style = "nf_author_year"
    register_plugin("pybtex.style.formatting", "nf_author_year", Style, force=True)
    config.bibtex_default_style = "nf_author_year"


def _skip(app, what, name, thing, skip, options):
    """Leave out attributes that only say None: a class writes them for its code and not for its readers."""
    return True if what == "class" and thing is None else None


def _cards(match):
    """A table whose cells say their column, so that a narrow window can stack them (nf_pages.css)."""
    text = match[0]
    heads = [html.escape(re.sub(r"<[^>]+>", "", h).strip()) for h in re.findall(r"<th\b.*?</th>", text, re.S)]

    def row(found):
        names = iter(heads)

        def cell(td):
            empty = "" if re.sub(r"<[^>]+>", "", td[2]).strip() else " data-empty"
            return f'<td role="cell" data-label="{next(names, "")}"{empty}{td[1]}>{td[2]}</td>'

        return re.sub(r"<td([^>]*)>(.*?)</td>", cell, found[0], flags=re.S)

    text = re.sub(r"<tr\b.*?</tr>", row, text, flags=re.S)
    for tag, role in (("table", "table"), ("thead", "rowgroup"), ("tbody", "rowgroup"), ("tr", "row")):
        text = re.sub(rf"<{tag}\b", f'<{tag} role="{role}"', text)  # a table that is shown as blocks stays one
    return re.sub(r"<th\b", '<th role="columnheader"', text)


def _mark(app, doctree):
    """Mark the tables of the prose pages."""
    if app.env.docname.startswith("book/"):
        for found in doctree.findall(nodes.table):
            found["classes"].append("nf-cards")


def _label(app, page, template, context, doctree):
    """Label the cells of marked tables."""
    if "nf-cards" in context.get("body", ""):
        context["body"] = re.sub(r'<table class="[^"]*nf-cards.*?</table>', _cards, context["body"], flags=re.S)


def setup(app):
    app.add_directive("nf-made", Made)
    app.add_role("nf-made", MadeRole())
    app.add_role("nf-chapter", ChapterRole())
    app.add_directive("nf-details", Details)
    app.add_directive("nf-question", Question)
    app.add_directive("nf-api", Api)
    app.add_css_file("nf_pages.css")
    app.connect("config-inited", _configure, priority=100)
    app.connect("autodoc-skip-member", _skip)
    app.connect("doctree-read", _mark)
    app.connect("html-page-context", _label)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
