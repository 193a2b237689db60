"""What the book knows about itself: its results, its chapters and their times, and how they are written in Markdown."""

import json
import re
from functools import cached_property
from pathlib import Path

import yaml
from sphinx.errors import SphinxError

#: what the header of a chapter states; a test holds the first number to what scripts/reading.py counts on the page
TIMES = re.compile(r"^Reading time: about (\d+) minutes, and (\d+) more with the exercises\.$", re.M)


#: what is timed
TASKS = ("log_prob", "sample", "training step")


class ResultError(SphinxError):
    """A stored result that a page cannot be made from."""

    category = "book/results"


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


class Html(str):
    """HTML, and not Markdown."""
