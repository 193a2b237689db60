"""The PDF, of two pages: everything is on paper, the contents' numbers and the links are right."""

import os
import re
import sys
from collections import Counter

import pytest
from browsing import ROOT
from pypdf import PdfReader

sys.path.insert(0, str(ROOT / "scripts"))
import chromium  # noqa: E402
import pdf  # noqa: E402

CHAPTER, SMALL = "chapters/01_measures", "book/glossary"
WORD = re.compile(r"[^\W\d_]{4,}")


@pytest.fixture(scope="module")
def bound(book, tmp_path_factory):
    """The two pages, printed and bound as the whole book would be; gives the parts and the PDF."""
    if reason := chromium.missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    folder = tmp_path_factory.mktemp("pdf")
    browser = chromium.start(folder / "profile")
    try:
        printed = [pdf.print_page(browser, doc, folder) for doc in (CHAPTER, SMALL)]
        parts = [("", [CHAPTER]), ("Reference", [SMALL])]
        pdf.bind(browser, printed, parts, folder, folder / "book.pdf")
    finally:
        browser.quit()
    return printed, PdfReader(folder / "book.pdf")


@pytest.fixture(scope="module")
def texts(bound):
    return [page.extract_text() for page in bound[1].pages]


def squeezed(text):
    return re.sub(r"\s+", "", text)


def words(element):
    """The words of a part of the page, without formulas and what is not for paper."""
    off = "script, style, .math, .headerlink, button, summary p, .nf-player, .visually-hidden, .nf-invite"
    for other in element.select(off):
        other.extract()
    return WORD.findall(element.get_text(" "))


def test_pages_are_chosen_by_name():
    """In the order of the contents; a name that is none ends the run, and tells those that are near."""
    parts = [("", ["book/start"]), ("One", ["chapters/01_a", "book/glossary"])]
    assert pdf.choose(parts, []) == ["book/start", "chapters/01_a", "book/glossary"]
    assert pdf.choose(parts, ["book/glossary", "book/start", "book/start"]) == ["book/start", "book/glossary"]
    for wrong, near in (("book/strat", "book/start"), ("glossary", "book/glossary"), ("chapters/01_a.ipynb", "01_a")):
        with pytest.raises(SystemExit, match=rf"no page '{wrong}'.*{near}"):
            pdf.choose(parts, ["book/start", wrong])


@pytest.mark.parametrize(
    "selector",
    ["h1, h2, h3", ".admonition-title", "div.proof p", "details.nf-proof p", "details.nf-hint p",
     "details.nf-solution p", "details.nf-output pre", "details.nf-code pre", "details:not(.nf-fold)", "summary",
     "div.cell_input pre", "div.cell_output pre", "figcaption"],
)  # fmt: skip
def test_nothing_is_lost(texts, pages, selector):
    """Each word of headings, boxes, folds, code and outputs is printed at least as often as it stands there."""
    from bs4 import BeautifulSoup

    article = BeautifulSoup(str(pages[f"{CHAPTER}.html"].find("article")), "html.parser")
    for way_back in article.select(".nf-checks"):  # on paper nobody follows it
        way_back.decompose()
    wanted = Counter(w for e in article.select(selector) if not e.find_parent("summary") for w in words(e))
    everything = " ".join(texts)
    printed, run_on = Counter(WORD.findall(everything)), squeezed(everything)
    # a long word may be broken at the end of a line
    lost = {w: n for w, n in (wanted - printed).items() if run_on.count(w) < wanted[w]}
    assert not lost, lost
    assert sum(wanted.values()) > 20


def test_code_is_whole_and_not_clipped(bound, texts, pages):
    """The last line of each long cell is there, and nothing reaches beyond the paper's margin."""
    run_on = squeezed(" ".join(texts))
    cells = [e.get_text().strip().split("\n") for e in pages[f"{CHAPTER}.html"].select("div.cell_input pre")]
    long = [lines for lines in cells if len(lines) > 15]
    assert long
    for lines in cells:
        widest = max(lines, key=len)
        for line in (lines[-1], widest):
            assert squeezed(line)[-25:] in run_on, line
    for part in bound[0]:
        assert not part.wide, part.wide


def test_no_page_is_blank(bound, texts):
    for number, (page, text) in enumerate(zip(bound[1].pages, texts, strict=True), 1):
        assert len(squeezed(text)) > 60 or page.images, f"page {number} holds {text!r}"


def test_contents_and_footers_tell_the_right_numbers(bound, texts):
    printed, reader = bound
    shift = printed[0].first
    assert [p.first for p in printed] == [shift, shift + len(printed[0].reader.pages)]
    listing = squeezed(" ".join(texts[1:shift]))
    for part in printed:
        for level, heading, _ in part.headings:
            if level > 2:
                continue
            found = re.search(re.escape(squeezed(heading)) + r"\.*(\d+)", listing)
            assert found, heading
            number = next(
                n for n in (found[1][:k] for k in range(len(found[1]), 0, -1)) if int(n) <= len(texts) - shift
            )
            page = texts[shift + int(number) - 1]
            assert squeezed(heading) in squeezed(page), f"{heading!r} is not on page {number}"
    for k, text in enumerate(texts[shift:], 1):
        assert re.search(rf"(?<!\d){k}$", text.strip()) or f"\n{k}\n" in text, f"no number {k} in the footer"
    assert reader.page_labels[:2] == ["i", "ii"] and reader.page_labels[shift : shift + 2] == ["1", "2"]


def test_links_stay_in_the_pdf(bound):
    """No link to a file of this machine; those between pages of the book lead to the right page of the PDF."""
    printed, reader = bound
    numbers = {page.indirect_reference.idnum: k for k, page in enumerate(reader.pages)}
    inside, across = 0, 0
    for k, page in enumerate(reader.pages):
        for link in (a.get_object() for a in page.get("/Annots") or []):
            assert not str((link.get("/A") or {}).get("/URI", "")).startswith("file:")
            if "/Dest" in link:
                target = numbers[link["/Dest"][0].idnum]
                inside += 1
                across += printed[0].first <= k < printed[1].first <= target
    assert inside > 30 and across > 1


def test_bookmarks_lead_to_headings(bound, texts):
    printed, reader = bound

    def walk(items):
        for item in items:
            if isinstance(item, list):
                yield from walk(item)
            else:
                yield item.title, reader.get_destination_page_number(item)

    marks = dict(walk(reader.outline))
    for level, heading, _ in printed[0].headings:
        if level == 2:
            assert squeezed(heading) in squeezed(texts[marks[heading]])
