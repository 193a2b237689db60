"""Each path of the start page is walked: no main line on it uses a result that its reader has not met.

A reader of a path has read the main lines of its chapters in their order, the depths not, and the summaries that the
path names. What a main line uses, it links: a theorem, a definition, a formula, a figure. To its own depths it may
point.
"""

import re
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup
from scripted import script

ROOT = Path(__file__).resolve().parents[1]
WALK = yaml.safe_load((ROOT / "book" / "walk.yml").read_text("utf8"))
FILES = {p.stem.split("_")[0]: p.stem for p in sorted((ROOT / "chapters").glob("*.ipynb"))}
RESULT = re.compile(r"(?:(\w+)\.html)?(?:\?[^#]*)?#((?:thm|lem|cor|def|exa|ex|sec|equation-eq|eq|fig)-\S+)$")


reading, FIRST_EDITION = script("reading"), script("mutants").FIRST_EDITION


def used(part, stem):
    """Return (chapter, label) of each result that a part of a page links to."""
    found = [RESULT.search(a["href"]) for a in part.select("a[href]")]
    return [(m[1] or stem, m[2]) for m in found if m]


def met(page, stem, summary_only=False):
    """Return what the reader of a chapter has met: what its main line states, or what its summary links."""
    article, _ = reading.main_line(page)
    if summary_only:
        (heading,) = [h for h in article.find_all("h2") if h.get_text().strip().startswith("Summary")]
        return set(used(heading.parent, stem))
    return {(stem, e["id"]) for e in article.find_all(id=True)}


def strangers(pages, chapters, summaries):
    """Return what main lines use and nobody on this path has met; chapters of the first edition may do so still.

    A link to a later chapter is a promise, and uses nothing.
    """
    known, found = set(), []
    for stem in summaries:
        known |= met(pages[stem], stem, summary_only=True)
    for stem in chapters:
        known |= met(pages[stem], stem)
        if stem not in FIRST_EDITION:
            article, _ = reading.main_line(pages[stem])
            found += [(stem, *use) for use in used(article, stem) if use[0] in earlier(stem) and use not in known]
    return found


def earlier(stem):
    """The chapters before one, in the order of the book."""
    stems = list(FILES.values())
    return stems[: stems.index(stem)]


def chapters_of(path):
    wanted = list(FILES) if path["chapters"] == "all" else path["chapters"]
    wanted = [max(FILES) if number == "newest" else number for number in wanted]
    return [FILES[number] for number in FILES if number in wanted]


@pytest.fixture(scope="module")
def texts(book):
    return {stem: (book / "chapters" / f"{stem}.html").read_text("utf8") for stem in FILES.values()}


@pytest.mark.parametrize("path", WALK["paths"], ids=lambda p: p["name"])
def test_no_main_line_uses_what_its_reader_has_not_met(path, texts):
    summaries = [FILES[number] for number in path.get("summaries", [])]
    found = strangers(texts, chapters_of(path), summaries)
    assert not found, found


def test_a_result_from_outside_is_found(texts):
    """Left out of its path, a chapter leaves gaps; and so does what stands in a fold."""
    assert strangers(texts, [FILES["02"], FILES["03"]], []), "Chapter 2 links results of Chapter 1"
    every = {e["id"] for e in BeautifulSoup(texts[FILES["02"]], "html.parser").select("article [id^=thm-]")}
    known = {label for _, label in met(texts[FILES["02"]], FILES["02"])}
    assert "thm-02-lotus" in known and "thm-02-lebesgue" in every - known, "the depths are no part of the main line"
