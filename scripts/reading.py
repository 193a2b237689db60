"""How long a chapter takes to read, counted on its built page.

Usage: ``python scripts/reading.py`` prints a line for each chapter of the built book.

The *main line* is what a reader sees from the title to the end of the summary with all folds closed: words of text,
captions, outputs and the comments of open code. A formula in a line is one word; a displayed one counts by itself.
What is folded, and the section "Further", are the *depths*. The time is words / 150 + displayed formulas / 2 +
2 × open code cells, in minutes.
"""

import io
import re
import tokenize
from dataclasses import asdict, dataclass
from pathlib import Path

from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"

#: sections that are no part of the main line, by their headings
APART = ("Further", "Exercises", "References")
#: directives that state a theorem
THEOREMS = ("theorem", "lemma", "corollary", "proposition", "axiom", "conjecture")
_WORD = re.compile(r"[^\W\d_][\w’'-]*|\d[\w.,]*")


@dataclass(frozen=True)
class Reading:
    """What the main line of a chapter asks of its reader.

    Attributes:
        words: Words of the main line.
        depths: Words that are folded, or stand under "Further".
        formulas: Displayed formulas.
        cells: Code cells that stand open.
        lines: Lines of open code, that which is shown from the package included.
        theorems: Theorems, lemmas, corollaries and propositions.
    """

    words: int
    depths: int
    formulas: int
    cells: int
    lines: int
    theorems: int

    @property
    def minutes(self) -> float:
        """Reading time."""
        return self.words / 150 + self.formulas / 2 + 2 * self.cells


def _comments(code: str) -> str:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (tokenize.TokenError, IndentationError, SyntaxError):  # a part of a definition: shown from the package
        return " ".join(re.findall(r"#(.*)", code))
    return " ".join(t.string for t in tokens if t.type == tokenize.COMMENT)


def _words(part: Tag) -> int:
    return len(_WORD.findall(part.get_text(" ")))


def main_line(page: str) -> tuple[Tag, list[Tag]]:
    """Return the main line of a built page, without badges and buttons, and its depths: folds, and "Further".

    Raises:
        ValueError: If the page has no article with a title.
    """
    article = BeautifulSoup(page, "html.parser").find("article")
    if article is None or article.find("h1") is None:
        raise ValueError("expected a built page: an article with a title.")
    for element in article.select("script, style, noscript, button, a.headerlink, title, desc, .nf-check, .nf-checks"):
        element.decompose()
    depths = []
    for section in article.find_all("section"):
        heading = section.find("h2", recursive=False)
        name = heading.get_text().strip().rstrip("#").strip() if heading else ""
        if name in APART:
            (depths if name == "Further" else []).append(section.extract())
    return article, [d.extract() for d in article.select("details") if d.find_parent("details") is None] + depths


def measure(page: str) -> Reading:
    """Count what stands on a built page.

    Raises:
        ValueError: If the page has no article with a title.
    """
    article, depths = main_line(page)
    formulas = len(article.select("div.math"))
    for part in (article, *depths):
        for display in part.select("div.math"):
            display.replace_with(" ")
        for inline in part.select("span.math"):
            inline.replace_with(" x ")
    cells = lines = 0
    for block in article.select("div.cell_input pre, div.cell_output div[class*=highlight-python] pre"):
        code = block.get_text()
        cells += block.find_parent("div", "cell_input") is not None
        lines += sum(bool(line.strip()) for line in code.splitlines())
        block.string = _comments(code)
    theorems = len(article.select(", ".join(f"div.proof.{kind}" for kind in THEOREMS)))
    return Reading(_words(article), sum(map(_words, depths)), formulas, cells, lines, theorems)


def main() -> None:
    """Print what each chapter asks."""
    if not (paths := sorted((HTML / "chapters").glob("*.html"))):
        raise SystemExit(f"there is no built book under {HTML}: run `make book`.")
    for path in paths:
        found = measure(path.read_text("utf8"))
        print(f"{path.stem:24} {found.minutes:4.0f} min", *(f"{k} {v}" for k, v in asdict(found).items()), sep="  ")


if __name__ == "__main__":
    main()
