"""Print the book into one PDF: ``make pdf`` makes ``_build/nfcourse.pdf`` from the built HTML.

Each page of the book is printed by the browser, folds open, and merged in the order of the table of contents. The
browser gives each page's anchors as named destinations; from them come the page numbers of the contents, the bookmarks,
and the links between pages of the book, which would lead to files of this machine. Usage:

    python scripts/pdf.py                      the whole book
    python scripts/pdf.py -o x.pdf book/start  some pages, to another file
"""

import argparse
import base64
import difflib
import html
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote, urldefrag

import chromium
import yaml
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, Fit, FloatObject, NameObject, NullObject

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
PDF = ROOT / "_build" / "nfcourse.pdf"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
PAPER = {"paperWidth": 8.27, "paperHeight": 11.69, "marginTop": 0.7, "marginBottom": 0.8, "marginLeft": 0.75,
         "marginRight": 0.75}  # fmt: skip
WIDTH = round((PAPER["paperWidth"] - PAPER["marginLeft"] - PAPER["marginRight"]) * 96)  # of the text, in CSS pixels

# What a book needs beyond the print styles of a single page. The margins are those above: one footer for all pages.
STYLE = """
html { font-size: 13px !important; }
*, *::before, *::after { animation: none !important; transition: none !important; }
body, .bd-container, .bd-container__inner, .bd-main, .bd-content, .bd-article-container, .bd-article, main {
  display: block !important; max-width: none !important; width: auto !important; margin: 0 !important;
  padding: 0 !important; overflow: visible !important; height: auto !important; min-height: 0 !important; }
.bd-header, .bd-header-article, .bd-sidebar, .bd-sidebar-primary, .bd-sidebar-secondary, .bd-footer, .skip-link,
.bd-header-announcement, .prev-next-footer, .bd-footer-article, .bd-footer-content, .headerlink, .copybtn,
#jb-print-docs-body, #jb-print-toc, .header-article, .toggle-button, .nf-player-controls, .search-button-field, dialog,
#pst-back-to-top, .tippy-box { display: none !important; }
article { font-size: 1rem; line-height: 1.45; font-variant-ligatures: none; }
article h1 { display: block !important; font-size: 2.1rem !important; margin-top: 0 !important; }
article h2 { font-size: 1.6rem !important; margin-top: 2rem !important; }
article h3 { font-size: 1.25rem !important; margin-top: 1.6rem !important; }
h1, h2, h3, h4, summary, .admonition-title, .caption { break-after: avoid; }
figure, img, tr, mjx-container[display="true"], .nf-player { break-inside: avoid; }
.cell, .cell_input, .cell_output, .highlight, [class*="highlight-"], .output, pre, details, .proof, .admonition,
table, thead { break-inside: auto !important; }
.cell_input, .highlight, [class*="highlight-"] { display: block !important; }
pre, .highlight pre, div.cell_output pre { white-space: pre-wrap !important; overflow-wrap: anywhere; max-height: none
  !important; overflow: visible !important; }
.cell_output, .cell_output .output, div.math, .pst-scrollable-table-container { overflow: visible !important;
  max-height: none !important; }
summary { list-style: none; }
p, li { orphans: 2; widows: 2; }
img { max-height: 22cm; object-fit: contain; }
.nf-anchors { position: absolute; top: 0; left: 0; width: 1px; line-height: 0; }
.nf-anchors a { position: absolute; top: 0; left: 0; width: 1px; height: 1px; overflow: hidden; }
"""

# Formulas are set, pictures are there, folds are open; then what is too wide for the paper is made smaller.
READY = """const done = arguments[arguments.length - 1];
(async () => {
  if (document.readyState !== "complete") await new Promise(r => addEventListener("load", r));
  document.documentElement.dataset.theme = "light";
  document.documentElement.dataset.mode = "light";
  if (window.MathJax?.startup) {
    await MathJax.startup.promise;
    await MathJax.startup.document.lazyTypesetAll?.();
  }
  await document.fonts.ready;
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map(i => i.decode().catch(() => {})));
  document.querySelectorAll("article details").forEach(d => { d.open = true; });
  const unset = document.querySelectorAll("article mjx-lazy, article mjx-merror").length;
  if (unset || (document.querySelector("article .math") && !document.querySelector("article mjx-container")))
    throw Error(`${unset} formulas are not set`);
  document.querySelectorAll("article .toggle-hidden").forEach(e => e.classList.remove("toggle-hidden"));
  done();
})().catch(e => done(String(e)));"""

FIT = """const width = arguments[0], article = document.querySelector("article");
const natural = e => { const r = document.createRange(); r.selectNodeContents(e);
  return Math.max(e.scrollWidth, r.getBoundingClientRect().right - e.getBoundingClientRect().left); };
const large = 'mjx-container[display="true"], table, svg.nf-schematic, .output.text_html';
[...article.querySelectorAll(large)].map(e => [e, (e.parentElement.clientWidth || width) / natural(e)])
  .forEach(([e, ratio]) => { if (ratio < 0.998) e.style.zoom = Math.max(0.4, ratio * 0.99); });
const edge = article.getBoundingClientRect().left + width + 2;
for (const e of [...article.querySelectorAll('mjx-container:not([display="true"])')]
  .filter(e => e.getBoundingClientRect().right > edge))
  e.style.zoom = Math.max(0.4, 0.99 * e.closest("p, li, td, dd, div").clientWidth / e.getBoundingClientRect().width);

// the browser gives a destination to what something links to
const anchors = document.createElement("div"), ids = [...article.querySelectorAll("[id]")].map(e => e.id);
anchors.className = "nf-anchors";
for (const id of ids.filter(Boolean)) {
  const a = document.createElement("a");
  a.href = "#" + id; a.textContent = "."; anchors.append(a); }
article.prepend(anchors);

const words = h => { const c = h.cloneNode(true);
  c.querySelectorAll(".headerlink, style, script").forEach(e => e.remove());
  c.querySelectorAll("mjx-container").forEach(e => { const m = e.querySelector("mjx-assistive-mml, math");
    e.replaceWith(m ? m.textContent.replace(/\\s+/g, "") : ""); });
  return c.textContent.replace(/\\s+/g, " ").trim(); };
const hidden = e => { for (let p = e; p !== article; p = p.parentElement)
  if (p.tagName === "MJX-ASSISTIVE-MML" || p.parentElement.tagName === "svg"
    || getComputedStyle(p).clipPath !== "none") return true; };
const wide = [...article.querySelectorAll("*")]
  .filter(e => e.getBoundingClientRect().right > edge && e.checkVisibility() && !hidden(e));
return [wide.map(e => e.outerHTML.slice(0, 120)), [...article.querySelectorAll("h1, h2, h3")]
  .map(h => [+h.tagName[1], words(h), h.id || h.closest("section[id]")?.id || ""])];"""


class Printed:
    """One printed page of the book: its PDF, its headings, what is too wide for the paper, where its anchors are."""

    def __init__(self, doc, data, wide=(), headings=()):
        self.doc, self.wide, self.headings = doc, wide, headings
        self.reader = PdfReader(data)
        self.first = 0  # its first page in the merged book
        numbers = {page.indirect_reference.idnum: k for k, page in enumerate(self.reader.pages)}
        self.anchors = {}
        for name, place in self.reader.named_destinations.items():
            page = place.get("/Page")
            if page is not None and page.idnum in numbers:
                self.anchors[unquote(name.lstrip("/"))] = (numbers[page.idnum], float(place.get("/Top") or 0))

    def place(self, anchor):
        """Return (page of the merged book, height) of an anchor; the beginning for one that it does not have."""
        page, top = self.anchors.get(anchor, (0, PAPER["paperHeight"] * 72))
        return self.first + page, top


def contents():
    """Return [(part's caption, [pages])] in the order of the table of contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    return [("", [toc["root"]])] + [(p.get("caption", ""), [c["file"] for c in p["chapters"]]) for p in toc["parts"]]


def choose(parts, names):
    """Return the pages to print, in the order of the contents: those that are named, or else all."""
    docs = [doc for _, listed in parts for doc in listed]
    for name in names:
        if name not in docs:
            near = [d for d in docs if name and name in d] + difflib.get_close_matches(name, docs, 5, 0.5)
            near = list(dict.fromkeys(near or docs))
            raise SystemExit(f"The book has no page {name!r}. Pages with such names: {', '.join(near)}.")
    return [doc for doc in docs if doc in names or not names]


def as_pdf(browser):
    """Print what the browser shows."""
    options = {**PAPER, "printBackground": True, "displayHeaderFooter": False, "preferCSSPageSize": False}
    return base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", options)["data"])


def _show(browser, url):
    """Open an address as if on paper."""
    size = {"width": WIDTH, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [
        {"name": "prefers-color-scheme", "value": "light"},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    browser.get(url)


def print_page(browser, doc, folder, root=HTML):
    """Print one page of the book into a file of the folder, and return it as ``Printed``."""
    _show(browser, f"{(root / doc).as_uri()}.html")
    browser.execute_script(
        """for (const sheet of document.styleSheets) {  // the margins of paper are given once, for all pages
             const sweep = rules => { for (let k = rules.length - 1; k >= 0; k--) {
               if (rules[k] instanceof CSSPageRule) rules[k].parentRule?.deleteRule(k) ?? sheet.deleteRule(k);
               else if (rules[k].cssRules?.length) sweep(rules[k].cssRules); } };
             try { sweep(sheet.cssRules); } catch { /* a sheet from disk tells no rules */ } }
           const style = document.createElement("style"); style.textContent = arguments[0];
           document.head.append(style);""",
        STYLE + "@page { margin: 17.8mm 19mm 20.3mm 19mm !important; size: A4 !important; }",
    )
    if error := browser.execute_async_script(READY):
        raise RuntimeError(f"{doc}: {error}")
    wide, headings = browser.execute_script(FIT, WIDTH)
    path = Path(folder) / (doc.replace("/", "--") + ".pdf")
    path.write_bytes(as_pdf(browser))
    return Printed(doc, path, wide, headings)


FRONT = """<!doctype html><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 11pt/1.5 "DejaVu Serif", Georgia, serif; font-variant-ligatures: none; margin: 0; color: #111; }}
.title {{ break-after: page; padding-top: 6cm; text-align: center; }}
.title h1 {{ font-size: 28pt; line-height: 1.25; margin: 0 0 1cm; }} .title p {{ margin: .2cm 0; }}
h2 {{ font-size: 18pt; margin: 0 0 .5cm; }} h3 {{ font-size: 11pt; margin: .5cm 0 .1cm; color: #005a8c; }}
a {{ display: flex; gap: .3cm; color: inherit; text-decoration: none; break-inside: avoid; }}
a i {{ flex: 1; border-bottom: 1px dotted #888; position: relative; top: -.35em; }}
a.h2 {{ padding-left: .8cm; font-size: 9.5pt; line-height: 1.4; }} a b {{ font-weight: normal; }}
a.h1 {{ font-weight: bold; margin-top: .15cm; }}
</style><div class="title"><h1>{title}</h1><p>{author}</p><p>{note}</p></div><h2>Contents</h2>{lines}"""


def front(browser, printed, parts, folder):
    """Print the title page and the contents with the page numbers that the merged book has."""
    found = {p.doc: p for p in printed}
    lines = []
    for caption, docs in parts:
        docs = [d for d in docs if d in found]
        if caption and docs:
            lines.append(f"<h3>{html.escape(caption)}</h3>")
        for doc in docs:
            for level, words, anchor in found[doc].headings:
                if level < 3:
                    number = found[doc].place(anchor if level > 1 else "")[0] + 1
                    url = f"{(HTML / doc).as_uri()}.html" + (f"#{anchor}" if level > 1 else "")
                    lines.append(f'<a class="h{level}" href="{url}"><span>{html.escape(words)}</span><i></i>'
                                 f"<b>{number}</b></a>")  # fmt: skip
    site = CONFIG["repository"]["url"]
    page = FRONT.format(title=html.escape(CONFIG["title"]), author=html.escape(CONFIG["author"]),
                        note=html.escape(site.removeprefix("https://")), lines="\n".join(lines))  # fmt: skip
    path = Path(folder) / "front.html"
    path.write_text(page, "utf8")
    _show(browser, path.as_uri())
    pdf = path.with_suffix(".pdf")
    pdf.write_bytes(as_pdf(browser))
    return Printed("", pdf)


def footers(browser, count, folder):
    """Print as many empty pages as the book has, each with its number."""
    path = Path(folder) / "footers.html"
    size = f"width: 100%; height: {PAPER['paperHeight'] * 96 - 1}px; position: relative; break-after: page;"
    pages = "".join(f'<div style="{size}"><p>{k + 1}</p></div>' for k in range(count))
    style = "@page { margin: 0; } body { margin: 0; } p { position: absolute; bottom: 11mm; width: 100%; margin: 0; \
text-align: center; font: 9pt sans-serif; color: #333; }"
    path.write_text(f"<!doctype html><meta charset='utf-8'><style>{style}</style>{pages}", "utf8")
    _show(browser, path.as_uri())
    none = {k: 0 for k in PAPER if k.startswith("margin")}
    data = browser.execute_cdp_cmd("Page.printToPDF", {**PAPER, **none, "printBackground": True})["data"]
    pdf = path.with_suffix(".pdf")
    pdf.write_bytes(base64.b64decode(data))
    return PdfReader(pdf)


def _relink(writer, start, pages, own, found, root):
    """Let the links of some pages lead to places of this PDF: by name inside a page, by file between pages."""
    for number in range(start, start + pages):
        page, kept = writer.pages[number], ArrayObject()
        for reference in page.get("/Annots") or []:
            link = reference.get_object()
            left, bottom, right, top = (float(v) for v in link["/Rect"])
            action = link.get("/A", {})
            target, anchor = (own, link["/Dest"]) if "/Dest" in link else (None, "")
            if isinstance(anchor, str) and target is not None and right - left < 2 and top - bottom < 2:
                continue  # made to have a destination, not to be followed
            uri = str(action.get("/URI", "")) if action else ""
            if uri.startswith("file:"):
                file, anchor = urldefrag(uri)
                doc = unquote(file).removeprefix(root.as_uri() + "/").removesuffix(".html")
                target = found.get(doc)
                if target is None:  # a page that is not in the PDF, a file to download
                    continue
            if target is not None:
                place, height = target.place(unquote(str(anchor)).lstrip("/"))
                link.pop("/A", None)
                link[NameObject("/Dest")] = ArrayObject([writer.pages[place].indirect_reference, NameObject("/XYZ"),
                                                         NullObject(), FloatObject(height), NullObject()])  # fmt: skip
            kept.append(reference)
        page[NameObject("/Annots")] = kept


def bind(browser, printed, parts, folder, out, root=HTML):
    """Merge printed pages into one PDF with title, contents, numbers, bookmarks and links; return its page count."""
    first = 0
    for part in printed:
        part.first = first
        first += len(part.reader.pages)
    head = front(browser, printed, parts, folder)
    shift, body = len(head.reader.pages), first
    writer = PdfWriter()
    for part in (head, *printed):
        writer.append(part.reader, import_outline=False)
    numbers = footers(browser, body, folder)
    for number in range(body):
        writer.pages[shift + number].merge_page(numbers.pages[number])
    for part in printed:
        part.first += shift
    found = {part.doc: part for part in printed}
    _relink(writer, 0, shift, head, found, root)
    for part in printed:
        _relink(writer, part.first, len(part.reader.pages), part, found, root)
    for name in ("/Dests", "/Names"):  # the same names in many pages: every link holds its place itself now
        writer._root_object.pop(name, None)
    writer.add_outline_item(title="Contents", page_number=1)
    for caption, docs in parts:
        docs = [doc for doc in docs if doc in found]
        above = writer.add_outline_item(title=caption, page_number=found[docs[0]].first) if caption and docs else None
        for doc in docs:
            parents = {0: above}
            for level, words, anchor in found[doc].headings:
                page, top = found[doc].place(anchor if level > 1 else "")
                parent = next(parents[k] for k in range(level - 1, -1, -1) if k in parents)
                fit = Fit.xyz(left=0, top=top)
                parents = {k: v for k, v in parents.items() if k < level}
                parents[level] = writer.add_outline_item(
                    title=words, page_number=page, parent=parent, fit=fit, is_open=False
                )
    writer.set_page_label(0, shift - 1, style="/r")
    writer.set_page_label(shift, shift + body - 1, style="/D", start=1)
    writer.add_metadata({"/Title": CONFIG["title"], "/Author": CONFIG["author"]})
    writer.compress_identical_objects()
    Path(out).parent.mkdir(exist_ok=True)
    writer.write(out)
    return shift + body


def main():
    """Print the pages that the command line names, else all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", help="pages such as book/start; default: all, in the order of the contents")
    parser.add_argument("-o", "--output", type=Path, default=PDF)
    chosen = parser.parse_args()
    parts = contents()
    docs = choose(parts, chosen.pages)
    if reason := chromium.missing():
        sys.exit(f"The PDF is printed by the browser. {reason}.")
    if not (HTML / "index.html").is_file():
        subprocess.run([sys.executable, str(ROOT / "scripts" / "build_book.py")], check=True)
    with tempfile.TemporaryDirectory() as folder:
        browser = chromium.start(Path(folder) / "profile")
        try:
            printed = []
            for doc in docs:
                start = time.perf_counter()
                printed.append(print_page(browser, doc, folder))
                print(f"{doc}: {len(printed[-1].reader.pages)} pages, {time.perf_counter() - start:.0f} s", flush=True)
                if printed[-1].wide:
                    print("  too wide for the paper: " + "\n    ".join(printed[-1].wide[:5]))
            count = bind(browser, printed, parts, folder, chosen.output)
        finally:
            browser.quit()
    print(f"{count} pages, {chosen.output.stat().st_size / 1e6:.1f} MB. Open {chosen.output.resolve().as_uri()}")


if __name__ == "__main__":
    main()
