"""Finding things: a search that works from disk, previews of what a link leads to, links to and from the glossary.

Pages opened as files may not fetch anything, but they may load scripts. So the index of sections and the previews are
written as scripts, from the finished HTML (the text that a reader sees is the text that is found):

* ``_static/nf_search_index.js``: one entry for each section, theorem, exercise, figure, glossary entry and name of the
  package; hints, answers, solutions and outputs are left out;
* ``_static/tips/PAGE.js``: for each thing on a page that can be linked to, the HTML that its preview shows.

The first use of a glossary term in a chapter links to its entry, and the entry lists the chapters.
"""

import json
import re
from html import escape
from pathlib import Path

from bs4 import BeautifulSoup, NavigableString, Tag
from docutils import nodes
from sphinx import addnodes

# ---------------------------------------------------------------- formulas as text

SYMBOLS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "phi": "φ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ",
    "Theta": "Θ", "Lambda": "Λ", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω", "ell": "ℓ", "infty": "∞",
    "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "approx": "≈", "sim": "∼", "ll": "≪",
    "in": "∈", "subset": "⊂", "subseteq": "⊆", "cup": "∪", "cap": "∩", "setminus": "∖", "emptyset": "∅", "to": "→",
    "mapsto": "↦", "circ": "∘", "cdot": "·", "times": "×", "pm": "±", "partial": "∂", "nabla": "∇", "int": "∫",
    "sum": "∑", "prod": "∏", "det": "det ", "log": "log ", "exp": "exp ", "max": "max ", "min": "min ", "tanh": "tanh ",
    "lvert": "|", "rvert": "|", "lVert": "‖", "rVert": "‖", "|": "‖", "#": "#", "{": "{", "}": "}", "%": "%",
    "quad": " ", "qquad": " ", ",": "", ";": " ", ":": " ", "!": "", " ": " ", "left": "", "right": "", "bigl": "",
    "bigr": "", "Bigl": "", "Bigr": "", "big": "", "R": "ℝ", "E": "E", "KL": "KL", "dd": "d", "dots": "…",
    "ldots": "…", "cdots": "…", "colon": ":", "mid": "|", "top": "ᵀ", "prime": "′", "perp": "⊥",
}  # fmt: skip
RAISED = str.maketrans("-+=()0123456789abcdefghijklmnoprstuvwxyzT", "⁻⁺⁼⁽⁾⁰¹²³⁴⁵⁶⁷⁸⁹ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᵀ")
LOWERED = str.maketrans("-+=()0123456789", "₋₊₌₍₎₀₁₂₃₄₅₆₇₈₉")
LETTERS = {"R": "ℝ", "N": "ℕ", "Z": "ℤ", "Q": "ℚ", "E": "E", "P": "P"}


def word(mark, text):
    """Return upright or hollow letters: a word of its own, or whole as an index."""
    return f"{mark}{{{text}}}" if mark else f" {text}"


def script(text, mark, table):
    """Return an exponent or index: by its own letters where there are such, else behind its mark."""
    text = re.sub(r"\s+", "", text)
    if all(ord(c) in table for c in text):
        return text.translate(table)
    if text in "ᵀ′*#":
        return text
    return mark + (text if re.fullmatch(r"\w+", text) else f"({text})")


def readable(tex):
    r"""Return a short formula as text (``f_\#\mu`` becomes f#μ), and three dots for one that text cannot show."""
    text = re.sub(r"^\s*\\[(\[]|\\[)\]]\s*$", "", tex).strip()
    text = text.replace("{,}", ",")
    text = re.sub(r"([_^]?)\s*\\mathbb\s*(?:\{(\w)\}|(\w))",
                  lambda m: word(m[1], LETTERS.get(m[2] or m[3], m[2] or m[3])), text)  # fmt: skip
    text = re.sub(r"([_^]?)\s*\\(?:mathrm|mathcal|mathbf|mathsf|text|operatorname|boldsymbol)\s*(?:\{([^{}]*)\}|(\w))",
                  lambda m: word(m[1], m[2] or m[3]), text)  # fmt: skip
    known = True

    def symbol(match):
        nonlocal known
        known &= match[1] in SYMBOLS
        return SYMBOLS.get(match[1], "")

    text = re.sub(r"\\([A-Za-z]+|.)", symbol, text)
    for mark, table in (("_", LOWERED), ("^", RAISED)) * 2:  # an index may stand in an exponent, and the reverse
        pattern = rf"\{mark}(?:\{{([^{{}}]+)\}}|([^\s{{}}_^(]))"
        text = re.sub(pattern, lambda m, k=mark, t=table: script(m[1] or m[2], k, t), text)
    text = re.sub(r"(?<=[(\[{|]) | (?=[)\]}])", "", re.sub(r"\s+", " ", re.sub(r"_(?=[^\w(])", "", text))).strip()
    odd = re.search(r"[\\&]|[_^]\W*$|[_^][{}]", text) or len(re.findall("[_^]", text)) > 4
    return text if known and not odd and len(text) <= 40 and text.count("{") == text.count("}") < 3 else "…"


# ---------------------------------------------------------------- the finished page

# Nothing in here is text of the book, or it is an answer.
DROP_TAGS = {"script", "style", "button", "input", "select", "canvas", "noscript", "iframe"}
DROP_CLASSES = {
    "headerlink", "cell_output", "solution", "nf-player", "nf-live", "nf-hint", "nf-solution", "nf-answer", "nf-output",
    "nf-badge", "nf-break", "nf-check", "nf-checks", "nf-mutants", "nf-preview", "nf-used", "viewcode-link",
    "fn-bracket",
}  # fmt: skip
FOLDED = re.compile(r"\s*(?:hint|answer|solution|output|check your|what it shows)", re.I)
# Figures stand in outputs and in players: they are lifted out before the outputs go.
HEAVY = (
    (re.compile(r' src="data:[^"]*"'), ""),
    (re.compile(r"<script.*?</script>", re.S), ""),
    # the colours of code, and of signatures around them
    (re.compile(r'<span class="(?:[a-z0-9]{1,3}|sig-[a-z]+|default_value)">([^<]*)</span>'), r"\1"),
    (
        re.compile(r'<(?:span|em) class="(?:[a-z0-9]{1,3}|sig-[^"]+|default_value|property)">([^<]*)</(?:span|em)>'),
        r"\1",
    ),
)
BLOCKS = {"p", "li", "div", "dd", "dt", "tr", "td", "th", "figcaption", "section", "ul", "ol", "table", "summary"}
HEADINGS = {f"h{i}" for i in range(1, 7)}


def article(path):
    """Return the text of a page, without what is not to be found, and without its weight."""
    html = path.read_text("utf8")
    start, end = html.find("<article"), html.rfind("</article>")
    html = html[start : end + 10] if start >= 0 else ""
    for pattern, replacement in HEAVY:
        html = pattern.sub(replacement, html)
    soup = BeautifulSoup(html, "html.parser")
    for figure in soup.find_all("figure", id=True):
        box = figure.find_parent("div", class_="cell_output")
        if box:
            box.insert_after(figure.extract())
    for tag in soup.find_all(True):
        if tag.decomposed:
            continue
        kind = tag.get("class", ())
        if tag.name in DROP_TAGS or not DROP_CLASSES.isdisjoint(kind):
            tag.decompose()
        elif tag.name == "details" or "dropdown" in kind:
            label = tag.find(["summary", "p"])
            if label and FOLDED.match(label.get_text()):
                tag.decompose()
    return soup


def plain(node):
    """Return the words of one heading or title."""
    for formula in node.find_all(class_="math"):
        formula.string = readable(formula.get_text())
    return re.sub(r"\s+", " ", node.get_text()).strip()


class Pages:
    """Entries of the index, in the order of the book."""

    def __init__(self):
        self.titles, self.entries = [], []

    def add(self, page, soup):
        heading = soup.find("h1")
        self.titles.append([page, plain(heading) if heading else page])
        self.page, self.sections, self.theorem = page, [], None
        self.walk(soup, self.entry("section", "", ""))

    def entry(self, kind, anchor, title):
        section = self.sections[-1] if self.sections else ""
        entry = {"page": len(self.titles) - 1, "anchor": anchor, "kind": kind, "title": title, "text": [],
                 "code": set(), "section": section}  # fmt: skip
        self.entries.append(entry)
        return entry

    def titled(self, node, kind):
        title = node.find(class_="admonition-title")
        entry = self.entry(kind, node["id"], plain(title) if title else "")
        if title:
            title.decompose()
        self.walk(node, entry)
        return entry

    def walk(self, node, entry):
        for child in list(node.children):
            if isinstance(child, NavigableString):
                entry["text"].append(str(child))
            elif isinstance(child, Tag) and not child.decomposed:
                self.tag(child, entry)

    def tag(self, tag, entry):
        kind, label = tag.get("class", []), tag.get("id")
        if tag.name in HEADINGS or tag.name in ("svg", "summary") or "eqno" in kind:
            return
        if "admonition-title" in kind:
            title = plain(tag)
            entry["text"].append("" if title in ("Proof", "What you will be able to do") else f" {title.rstrip('.')}. ")
            return
        if "math" in kind:
            text = readable(tag.get_text())
            entry["text"].append(f" {text} " if tag.name == "div" else text)
        elif tag.name == "pre":
            entry["code"].update(re.findall(r"\b[A-Za-z]\w{3,}", tag.get_text()))
        elif tag.name == "section" and label:
            heading = tag.find(HEADINGS)
            title = plain(heading) if heading else ""
            inner = self.entry("section", label, title)
            self.theorem = None
            self.sections.append("" if heading and heading.name == "h1" else title)
            self.walk(tag, inner)
            self.sections.pop()
        elif "proof" in kind and label:
            self.theorem = self.titled(tag, "theorem")
        elif "nf-proof" in kind or "proof" in kind:
            self.walk(tag, self.theorem or entry)  # a proof is found under its theorem
        elif "exercise" in kind and label:
            self.titled(tag, "exercise")
        elif "admonition" in kind and label:
            self.titled(tag, "box")
        elif tag.name == "figure" and label:
            number = tag.find(class_="caption-number")
            figure = self.entry("figure", label, plain(number) if number else "Figure")
            if number:
                number.decompose()
            self.walk(tag, figure)
        elif tag.name == "dl" and "glossary" in kind:
            self.glossary(tag)
        elif tag.name == "dl" and "py" in kind:
            self.names(tag)
        elif "citation" in kind:
            if self.page.startswith("book/"):  # in the chapters the same sources stand again
                self.walk(tag, self.entry("source", label or "", ""))
        else:
            self.walk(tag, entry)
            if tag.name in BLOCKS:
                entry["text"].append(" ")

    def glossary(self, tag):
        terms = []
        for child in tag.find_all(["dt", "dd"], recursive=False):
            if child.name == "dt":
                terms.append(child)
            elif terms:
                entry = self.entry("term", terms[0].get("id", ""), ", ".join(plain(t) for t in terms))
                self.walk(child, entry)
                terms = []

    def names(self, tag):
        entry = None
        for child in tag.find_all(["dt", "dd"], recursive=False):
            if child.name == "dt" and child.get("id"):
                # nfcourse.nets.made.MADE.forward is MADE.forward, of nfcourse.nets.made
                parts = child["id"].split(".")
                first = next((i for i, part in enumerate(parts) if part[:1].isupper()), len(parts) - 1)
                kind = "method" if first < len(parts) - 1 else "name"
                entry = self.entry(kind, child["id"], ".".join(parts[first:]))
                entry["section"] = ".".join(parts[:first])
            elif entry and child.name == "dd":
                self.walk(child, entry)

    def script(self):
        rows = []
        for e in self.entries:
            text = re.sub(r"\s+([.,;:!?)])", r"\1", re.sub(r"\s+", " ", "".join(e["text"]))).strip()
            text = re.sub(r"(?:… ?){2,}", "… ", text).replace("….", "…")
            code = " ".join(sorted(c for c in e["code"] if c not in text))
            if text or (e["title"] and e["anchor"]):
                rows.append([e["page"], e["anchor"], e["kind"], e["title"], text, code, e["section"]])
        data = [f"window.nfSearchPages = {dump(self.titles)};", "window.nfSearchIndex = ["]
        return "\n".join([*data, ",\n".join(dump(row) for row in rows), "];", ""])


def dump(value):
    """Return JSON that may stand in any script: no line separators, no end of a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("</", "<\\/").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


# ---------------------------------------------------------------- previews

TARGETS = {"proof", "exercise", "admonition", "math", "citation"}


def light(nodes_, page):
    """Return the HTML of a preview: no ids that would stand twice, no links in a card that Tab does not enter."""
    # the str() of a text is what it says, not how it is written: < would open an element
    html = "".join(n.output_ready("minimal") if isinstance(n, NavigableString) else str(n) for n in nodes_)
    if "<details" in html:
        soup = BeautifulSoup(html, "html.parser")
        for fold in soup.find_all("details"):
            fold.extract()
        html = str(soup)
    html = re.sub(r"</?a\b[^>]*>", "", html)
    html = re.sub(r'(<[^>]*?) tabindex="[^"]*"', r"\1", html)
    html = "".join(
        re.sub(r'((?:\bid|href)="#?|url\(#)', r"\1tip-", part)  # a drawing refers to its own parts
        if part.startswith("<svg")
        else re.sub(r'(<[^>]*?) id="[^"]*"', r"\1", part)
        for part in re.split(r"(<svg.*?</svg>)", html, flags=re.S)
    )
    html = re.sub(r"<img\b[^>]*>", lambda m: picture(m[0], Path(page).parent), html)
    return re.sub(r"\n\s*\n+", "\n", html).strip()


def picture(tag, folder):
    """Return the image with its path from the root of the book: the card stands on another page."""
    given = BeautifulSoup(tag, "html.parser").img
    source, alt = given.get("src", ""), given.get("alt", "")
    if not source or re.match(r"\w+:", source):
        return ""
    parts = []
    for part in (folder / source).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return f'<img data-src="{escape("/".join(parts))}" alt="{escape(alt)}"/>'


def tips(page, soup):
    """Return what the links to the parts of a page show: their label, and the HTML of the card."""
    cards = {}
    for node in soup.find_all(["div", "figure", "section", "aside"], id=True):
        if node.name not in ("figure", "section") and TARGETS.isdisjoint(node.get("class", ())):
            continue
        if node.name == "section":
            heading, first = node.find(HEADINGS, recursive=False), node.find("p", recursive=False)
            if heading is None or heading.name == "h1" or first is None:
                continue
            cards[node["id"]] = f"<p class='nf-preview-title'>{light(heading.contents, page)}</p>{light([first], page)}"
            for label in node.find_all("span", id=True, recursive=False):
                cards[label["id"]] = cards[node["id"]]
            before = node.find_previous_sibling()
            if before is not None and before.name == "span" and before.get("id") and not before.get_text():
                cards[before["id"]] = cards[node["id"]]
        else:
            cards[node["id"]] = light([node], page)
    for entry in soup.find_all("dt", id=True):
        if "glossary" not in entry.parent.get("class", ()):
            continue
        meaning = entry.find_next_sibling("dd")
        if meaning is not None:
            title = f"<p class='nf-preview-title'>{light(entry.contents, page)}</p>"
            cards[entry["id"]] = title + light(meaning.contents, page)
    for entry in soup.find_all("dt", class_="sig", id=True):
        meaning = entry.find_next_sibling("dd")
        first = meaning.find("p", recursive=False) if meaning else None
        call = escape(re.sub(r"\s+", " ", entry.get_text()).strip().replace("[source]", ""))
        cards[entry["id"]] = f"<p><code>{call}</code></p>" + (light([first], page) if first else "")
    return cards


def write(app, exception):
    """Write the index and the previews from the pages as they were built."""
    if exception or app.builder.format != "html":
        return
    out, pages = Path(app.outdir), Pages()
    for page in sorted(app.env.found_docs, key=_order(app)):
        path = out / app.builder.get_target_uri(page)
        if not path.is_file():
            continue
        soup = article(path)
        cards = tips(page, soup)  # before the index takes the titles apart
        target = out / "_static" / "tips" / f"{page}.js"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"(window.nfTips ??= {{}})[{dump(page)}] = {dump(cards)};\n", "utf8")
        pages.add(page, soup)
    (out / "_static" / "nf_search_index.js").write_text(pages.script(), "utf8")
    for unused in ("searchtools.js", "language_data.js"):
        (out / "_static" / unused).unlink(missing_ok=True)


def _order(app):
    order, waiting = {}, [app.config.root_doc]
    while waiting:
        page = waiting.pop(0)
        if page not in order:
            order[page] = len(order)
            waiting = app.env.toctree_includes.get(page, []) + waiting
    return lambda page: (order.get(page, len(order)), page)


# ---------------------------------------------------------------- the glossary

MAIN = (nodes.section, nodes.document, nodes.bullet_list, nodes.enumerated_list, nodes.list_item, nodes.block_quote)
APART = ("cell", "solution", "dropdown", "sd-dropdown", "nf-fold", "cell_output")
# An ordinary word where it is not the term: "in base 2", "they measure how", "in this context".
ORDINARY = {
    "base": r"\b(?:in |to )?base (?:\d|e\b|two|ten|class)|\bbase of the",
    "measure": r"\b(?:to|[Ww]e|I|you|it|they|can|not|shall|which) measures?\b(?!-)"
               r"|\bmeasures? (?:how|what|whether|by|it\b|them\b)",
    "context": r"\bin (?:this|that|our|such a) context",
    "flow": r"\b(?:to|can|cannot|not|will|must|may|they|gradients|numbers) flows?\b|\bflows? (?:back|through|into)",
    "temperature": r"\b(?:room|body) temperature",
    "kernel": r"weights of a kernel|convolution\w* kernels?|×\d kernels?|kernel (?:model|density|size|of the notebook)",
}  # fmt: skip


def vocabulary(env):
    """Return one pattern for all terms (the longer before the shorter) and, group by group, their places."""
    terms = [(name, *place) for (kind, name), place in env.get_domain("std").objects.items() if kind == "term"]
    patterns, places = [], []
    for name, page, anchor in sorted(terms, key=lambda t: (-len(t[0]), t[0])):
        words = []
        for i, part in enumerate(re.split(r"([\s-]+)", name)):
            if i % 2:
                words.append(r"[-‐‑–\s]?" if "-" in part else r"[-\s]+")
            elif i == 0 and part[:1].islower() and not re.search(r"[A-Z]", part):
                words.append(f"[{part[0].upper()}{part[0]}]{re.escape(part[1:])}")  # it may open a sentence
            else:
                words.append(re.escape(part))  # MADE is not made, and NICE is not nice
        last = words[-1]
        words[-1] = f"{last[:-1]}(?:y|ies)" if re.search(r"[^aeiou]y$", last) else f"{last}(?:s|es)?"
        patterns.append("(" + "".join(words) + ")")
        places.append((name, page, anchor))
    pattern = re.compile(r"(?<![\w\-‑])(?:" + "|".join(patterns) + r")(?![\w+]|[-‑]\w)") if patterns else None
    return pattern, places


def uses(doctree, pattern, places, everywhere=False):
    """Yield (text node, match, place) for each use of a term in the running text of a chapter."""
    for paragraph in doctree.findall(nodes.paragraph):
        above, node = [], paragraph.parent
        while node is not None:
            above.append(node)
            node = node.parent
        if everywhere:
            wrong = any(set(APART) & set(a.get("classes", [])) or "solution" in type(a).__name__ for a in above)
        else:
            wrong = not all(isinstance(a, MAIN) for a in above)
        if wrong:
            continue
        for text in list(paragraph.findall(nodes.Text)):
            if type(text.parent) not in (nodes.paragraph, nodes.emphasis):
                continue
            words = text.astext()
            for match in pattern.finditer(words):
                place = places[match.lastindex - 1]
                odd = ORDINARY.get(place[0])
                if odd and any(m.start() <= match.start() < m.end() for m in re.finditer(odd, words)):
                    continue
                yield text, match, place


def section_of(node):
    """Return the nearest id that the page will have: a theorem's or exercise's label, or a heading's."""
    while node is not None:
        ids, module = node.get("ids", []), type(node).__module__
        heading = isinstance(node, nodes.section) and isinstance(node.parent, (nodes.section, nodes.document))
        if ids and (heading or (node.get("label") in ids and module.startswith(("sphinx_proof", "sphinx_exercise")))):
            return ids[0]
        node = node.parent
    return ""


def plan(app, env):
    """Decide, before any page is written, where each chapter links to which term."""
    if app.builder.format != "html":
        return []
    pattern, places = vocabulary(env)
    before, env.nf_terms = getattr(env, "nf_terms", {}), {}
    if pattern is None:
        return []
    for page in sorted(env.found_docs):
        if not page.startswith("chapters/"):
            continue
        doctree, found = env.get_doctree(page), {}
        named = {name.lower(): anchor for name, _, anchor in places}
        for link in doctree.findall(addnodes.pending_xref):  # the writer's own links count
            anchor = named.get(re.sub(r"\s+", " ", link.get("reftarget", "")).lower())
            if link.get("reftype") == "term" and anchor:
                found.setdefault(anchor, section_of(link))
        for _, _, (_, _, anchor) in uses(doctree, pattern, places):
            found.setdefault(anchor, None)  # None: the link is made, and has an id
        for text, _, (_, _, anchor) in uses(doctree, pattern, places, everywhere=True):
            found.setdefault(anchor, section_of(text.parent))
        env.nf_terms[page] = found
    changed = {page for page in env.nf_terms if before.get(page) != env.nf_terms[page]}
    return sorted(changed | {page for _, page, _ in places}) if changed else []


def use_id(anchor):
    return f"use-of-{anchor}"


def link_terms(app, doctree, page):
    """Link the first use of each term, and let each entry of the glossary list its chapters."""
    if app.builder.format != "html" or not getattr(app.env, "nf_terms", None):
        return
    pattern, places = vocabulary(app.env)
    due = {anchor for anchor, section in app.env.nf_terms.get(page, {}).items() if section is None}
    cuts = {}
    for text, match, (name, home, anchor) in uses(doctree, pattern, places) if due else ():
        if anchor in due:
            due.discard(anchor)
            cuts.setdefault(id(text), (text, []))[1].append((match, name, home, anchor))
    for text, found in cuts.values():
        words, parts, end = text.astext(), [], 0
        for match, _, home, anchor in found:
            uri = f"{app.builder.get_relative_uri(page, home)}#{anchor}"
            parts.append(nodes.Text(words[end : match.start()]))
            parts.append(nodes.reference("", match[0], internal=True, refuri=uri, ids=[use_id(anchor)],
                                         classes=["nf-term"]))  # fmt: skip
            end = match.end()
        text.parent.replace(text, [*parts, nodes.Text(words[end:])])
    if page in {home for _, home, _ in places}:
        for item in doctree.findall(nodes.definition_list_item):
            anchors = [i for term in item.findall(nodes.term) for i in term["ids"]]
            if line := used_in(app, page, anchors):
                list(item.findall(nodes.definition))[0] += line


def used_in(app, page, anchors):
    links = []
    for chapter, found in app.env.nf_terms.items():
        anchor = next((a for a in anchors if a in found), None)
        number = re.match(r"chapters/0*(\d+[a-z]?)_", chapter)
        if anchor is None or number is None:
            continue
        target = use_id(anchor) if found[anchor] is None else found[anchor]
        uri = app.builder.get_relative_uri(page, chapter) + (f"#{target}" if target else "")
        title = app.env.titles[chapter].astext() if chapter in app.env.titles else chapter
        links += [nodes.Text(", "), nodes.reference("", number[1], internal=True, refuri=uri, reftitle=title)]
    if not links:
        return None
    word = "Used in chapter " if len(links) == 2 else "Used in chapters "
    return nodes.paragraph("", "", nodes.Text(word), *links[1:], nodes.Text("."), classes=["nf-used"])


# ---------------------------------------------------------------- Sphinx


def _configure(app, config):
    config.templates_path = [*config.templates_path, str(Path(__file__).resolve().parents[1] / "_templates")]
    config.html_additional_pages = {**config.html_additional_pages, "search": "nf_search.html"}


def _own_search(app):
    app.builder.search = False  # Sphinx need not index every word of every page as well


def setup(app):
    app.add_css_file("nf_search.css")
    app.add_js_file("nf_preview.js", loading_method="defer")
    app.connect("config-inited", _configure)
    app.connect("builder-inited", _own_search)
    app.connect("env-updated", plan)
    app.connect("doctree-resolved", link_terms, priority=200)  # before other parts change the tree
    app.connect("build-finished", write, priority=900)  # after others have changed the pages
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
