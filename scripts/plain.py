"""Make the plain edition of each chapter: a notebook for Colab, VS Code and viewers that know no MyST.

Usage: ``python scripts/plain.py`` (``make plain``) writes ``plain/*.ipynb`` from ``chapters/*.ipynb``. The code cells
stay as they are, without outputs. In the text, boxes become quotes with a bold title, folds become ``<details>``, and
references become readable links into the book, with the numbers that the book prints. A first cell installs the
package where it is missing, for Colab opens single files.

The numbers are counted here, from the sources, by the rules of the book: one count per chapter for theorems and their
like, one each for equations, figures and exercises. The tests compare them with the built pages.
"""

import ast
import json
import os
import re
import sys
from collections import Counter
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = ROOT / "chapters"
PLAIN = ROOT / "plain"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
REPOSITORY = CONFIG["repository"]["url"].rstrip("/")
BRANCH = CONFIG["repository"].get("branch", "main")
OWNER, NAME = REPOSITORY.split("/")[-2:]
BOOK = ((CONFIG.get("html") or {}).get("baseurl") or f"https://{OWNER}.github.io/{NAME}").rstrip("/") + "/"
RAW = f"https://raw.githubusercontent.com/{OWNER}/{NAME}/{BRANCH}/"
SPHINX = CONFIG["sphinx"]["config"]
COUNTERS = SPHINX.get("prf_realtyp_to_countertyp", {})
MACROS = SPHINX.get("mathjax3_config", {}).get("tex", {}).get("macros", {})
SUBSTITUTIONS = (CONFIG.get("parse") or {}).get("myst_substitutions") or {}

INSTALL = f"""# Fetches the course where its package is missing; else it does nothing.
import importlib.util

if importlib.util.find_spec("nfcourse") is None:
    url = "{REPOSITORY}"
    !git clone -q --depth 1 $url
    %pip install -q ./{NAME}
    %cd {NAME}/plain"""

ADMONITIONS = {"note", "tip", "hint", "important", "warning", "caution", "attention", "danger", "error", "seealso"}
FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<marks>:{3,}|`{3,}|~{3,})(?P<info>.*)$")
DIRECTIVE = re.compile(r"^\s*\{(?P<name>[^}`]+)\}\s*(?P<argument>.*)$")
# what MyST reads as attributes of the word, formula, link or code before them: {.class #id key=value}
ATTRIBUTES = r"\{(?:\s*(?:[.#][A-Za-z][\w:-]*|[A-Za-z][\w-]*=(?:\"[^\"]*\"|[^\s\"{}]+)))+\s*\}"
INLINE = re.compile(
    r"\{(?P<role>[A-Za-z][\w:.+-]*)\}(?P<ticks>`+)(?P<content>.+?)(?P=ticks)(?!`)"
    r"|(?P<code>(?<!`)(?P<t>`+)(?!`).+?(?<!`)(?P=t)(?!`))(?:" + ATTRIBUTES + r")?"
    r"|\$\$(?P<display>.+?)\$\$(?:[ \t]*\((?P<label>[^()\s]+)\))?"
    r"|(?<![\\$])\$(?P<math>(?![\s$])(?:\\.|[^$\\])+?)(?<!\s)\$(?!\d)"
    r"|(?P<image>!)?\[(?P<text>[^\[\]]*)\]\((?P<url>[^()\s]+)\)(?:" + ATTRIBUTES + r")?"
    r"|\[(?P<span>[^\[\]]*)\]" + ATTRIBUTES + r"|\{\{\s*(?P<substitution>\w+)\s*\}\}",
    re.DOTALL,
)
# What is left of MyST in text that was to be plain: fences in quotes, roles, attributes, substitutions, labels.
BLOCK = re.compile(r"^[ >]*(`{3,}|~{3,})(?!\{)[^`\n]*\n.*?^[ >]*\1[ \t]*$", re.M | re.S)
CODE = re.compile(r"(?<!`)(`{1,2})(?!`).+?(?<!`)\1(?!`)", re.S)
DISPLAY, FORMULA = re.compile(r"\$\$.+?\$\$", re.S), re.compile(r"(?<![\\$])\$(?![\s$])(?:\\.|[^$\\])+?(?<!\s)\$", re.S)
ENVIRONMENT = re.compile(r"\\begin\{\w+\*?\}")
MYST = re.compile(
    r"(?:^|(?<=[\s>]))(?::{3,}|[`~]{3,}\{)[^\n]*|\{[A-Za-z][\w:.+-]*\}`[^`\n]*|(?<=[\])`$])" + ATTRIBUTES
    + r"|\{\{[^\n]*?\}\}|^[ >]*\([\w-]+\)=[ \t]*$|^[ >]*:[a-z][a-z-]*:(?: .*)?$", re.M
)  # fmt: skip
TARGET = re.compile(r"^\s*\((?P<label>[^()\s]+)\)=\s*$")
HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
DROPPED = re.compile(r"^(?:%.*|\+\+\+.*|\{[.#][^}`]*\})$")
BOXES = {"theorem", "lemma", "corollary", "proposition", "definition", "example", "remark", "algorithm", "axiom",
         "conjecture", "criterion", "observation", "property", "assumption", "notation"}  # fmt: skip


class Fault(ValueError):
    """What is wrong in a source, and where it stands."""


@contextmanager
def reading(path, number=None, cell=None):
    """Say of what goes wrong inside in which file, and in which of its cells."""
    where = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
    if number is not None:
        where += f", cell {number}" + (f" ({cell['id']})" if isinstance(cell, dict) and cell.get("id") else "")
    try:
        yield
    except Fault as error:
        raise Fault(f"{where}: {error}") from None
    except KeyError as error:
        raise Fault(f"{where}: it has no {error}") from error
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise Fault(f"{where}: {' '.join(str(error).split())}") from error


class Directive:
    """One directive: name, argument, options, and the lines of its body."""

    def __init__(self, name, argument, lines):
        self.name, self.argument = name.strip(), argument.strip()
        self.options, lines = _options(lines)
        while lines and not lines[0].strip():
            lines = lines[1:]
        while lines and not lines[-1].strip():
            lines = lines[:-1]
        self.body = lines

    @property
    def label(self):
        """The name by which others refer to it."""
        return self.options.get("label") or self.options.get("name") or ""

    @property
    def classes(self):
        """Its classes, as a set."""
        return set(self.options.get("class", "").split())

    @property
    def kind(self):
        """Its name without the domain."""
        return self.name.removeprefix("prf:")

    @property
    def is_box(self):
        """Whether it is counted with the theorems."""
        return self.name.startswith("prf:") and self.kind in BOXES


def _options(lines):
    """Split the options from a directive's body: ``:key: value`` lines, or a block between dashes."""
    options = {}
    if lines and lines[0].strip() == "---":
        end = next((k for k, line in enumerate(lines[1:], 1) if line.strip() == "---"), None)
        if end:
            try:
                given = yaml.safe_load("\n".join(lines[1:end])) or {}
            except yaml.YAMLError as error:
                raise Fault(f"the options of a directive are no YAML: {' '.join(str(error).split())}") from error
            if not isinstance(given, dict):
                raise Fault(f"the options of a directive are no names with values: {' '.join(lines[1:end])}")
            return {k: "" if v is None else str(v) for k, v in given.items()}, lines[end + 1 :]
    while lines and (match := re.match(r"^\s*:([\w-]+):(?:\s+(.*))?$", lines[0])):
        options[match[1]] = (match[2] or "").strip()
        lines = lines[1:]
    return options, lines


def blocks(lines):
    """Yield ("text", lines), ("code", lines) and ("directive", Directive, indent), in order."""
    text, k = [], 0
    while k < len(lines):
        match = FENCE.match(lines[k])
        info = match["info"] if match else ""
        if not match or (match["marks"][0] == "`" and "`" in info) or (match["marks"][0] == ":" and not info.strip()):
            text.append(lines[k])
            k += 1
            continue
        closing = re.compile(rf"^\s*{match['marks'][0]}{{{len(match['marks'])},}}\s*$")
        end = next((j for j in range(k + 1, len(lines)) if closing.match(lines[j])), len(lines))
        indent, inside = match["indent"], lines[k + 1 : end]
        inside = [line[len(indent) :] if line.startswith(indent) else line.lstrip() for line in inside]
        if text:
            yield "text", text
            text = []
        directive = DIRECTIVE.match(info)
        if directive:
            yield "directive", Directive(directive["name"], directive["argument"], inside), indent
        else:
            yield "code", lines[k : end + 1]
        k = end + 1
    if text:
        yield "text", text


# ---------------------------------------------------------------- what has a label, and which number


class Page:
    """What one page of the book defines: its title, and its labels with the names that the book gives them."""

    def __init__(self, doc):
        self.doc, self.title, self.targets = doc, doc, {}
        match = re.match(r"chapters/0*(\d+)[a-z]?_", doc)
        self.number = match[1] if match else ""
        self._counts, self._waiting = Counter(), []

    def count(self, counter):
        """Return the next number of a counter, as the book writes it."""
        self._counts[counter] += 1
        return f"{self.number}.{self._counts[counter]}" if self.number else str(self._counts[counter])

    def define(self, label, name, *, anchor=None, title="", number=""):
        """Remember a label: ``name`` is what a reference without words of its own reads."""
        self.targets[label] = {"doc": self.doc, "name": name, "anchor": anchor or slug(label), "title": title,
                               "number": number}  # fmt: skip

    def scan(self, lines):
        """Count and label everything in some lines of source, in their order."""
        for block in blocks(lines):
            if block[0] == "text":
                self._scan_text("\n".join(block[1]))
            elif block[0] == "directive":
                self._scan_directive(block[1])

    def _scan_text(self, text):
        for match in INLINE.finditer(text):
            if match["label"]:
                self._equation(match["label"])
        for line in text.split("\n"):
            if target := TARGET.match(line):
                self._waiting.append(target["label"])
            elif heading := HEADING.match(line):
                title = heading[2]
                if self.title == self.doc:
                    self.title = title
                for label in self._waiting:
                    self.define(label, title, title=title)
                self._waiting = []

    def _equation(self, label):
        number = self.count("equation")
        self.define(label, f"({number})", anchor=slug(f"equation-{label}"), number=number)

    def _scan_directive(self, d):
        for label in self._waiting:
            self.define(label, d.argument, title=d.argument)
        self._waiting = []
        if d.name == "math":
            if d.label:
                self._equation(d.label)
            return
        if d.is_box:
            word = d.kind.capitalize()
            number = "" if "nonumber" in d.options else self.count(COUNTERS.get(d.kind, d.kind))
            self.define(d.label or f"_{d.kind}-{number}", f"{word} {number}".strip(), title=d.argument, number=number)
        elif d.name in ("exercise", "exercise-start"):
            number = "" if "nonumber" in d.options else self.count("exercise")
            self.define(d.label or f"_exercise-{number}", f"Exercise {number}".strip(), title=d.argument, number=number)
        elif d.name == "figure":
            self.figure(d.label)
        elif d.name == "glossary":
            for line in d.body:
                if line and not line[0].isspace():
                    self.define(f"term {line.strip().lower()}", line.strip(), anchor=f"term-{slug(line, case=True)}")
            return
        elif d.label:
            self.define(d.label, d.argument, title=d.argument)
        if d.name not in ("code", "code-block", "code-cell", "eval-rst", "raw", "bibliography"):
            self.scan(d.body)

    def figure(self, label):
        """Count a figure."""
        number = self.count("figure")
        self.define(label or f"_figure-{number}", f"Fig. {number}", number=number)


def slug(text, case=False):
    """Make an id as docutils does."""
    text = text.strip() if case else text.strip().lower()
    return re.sub(r"^[-0-9]+|-+$", "", re.sub(r"[^A-Za-z0-9]+", "-", text)) or text


def caption(cell):
    """Return (label, caption) of the figure that a code cell draws, or None."""
    for key in ("mystnb", "render"):
        figure = (cell["metadata"].get(key) or {}).get("figure")
        if figure:
            return figure.get("name", ""), figure.get("caption", "")
    return None


def source(cell):
    """Return the source of a cell as one string."""
    return "".join(cell["source"])


@cache
def _read(path):
    with reading(path):
        return json.loads(path.read_text("utf8"))


def _cells(path):
    with reading(path):
        return _read(path)["cells"]


def _contents():
    """Return the pages that the table of contents names."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    return [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]


def chapters():
    """Return the paths of the chapters that the table of contents names."""
    return [ROOT / f"{name}.ipynb" for name in _contents() if name.startswith("chapters/")]


@cache
def documented():
    """Return {module: page that documents it}: the groups of the book's own directive for the package."""
    tree = ast.parse((ROOT / "book" / "ext" / "nf_api.py").read_text("utf8"))
    groups = next(ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)
                  and [getattr(target, "id", "") for target in node.targets] == ["GROUPS"])  # fmt: skip
    return {module: f"book/api/{group}" for group, (_, modules) in groups.items() for module in modules}


@cache
def index():
    """Return {doc: Page} of all sources of the book."""
    pages = {}
    for path in (ROOT / f"{name}.md" for name in _contents() if name.startswith("book/")):
        doc = path.relative_to(ROOT).with_suffix("").as_posix()
        page = pages[doc] = Page(doc)
        with reading(path):
            page.scan(path.read_text("utf8").split("\n"))
    for path in chapters():
        page = pages[f"chapters/{path.stem}"] = Page(f"chapters/{path.stem}")
        for number, cell in enumerate(_cells(path), 1):
            with reading(path, number, cell):
                if cell["cell_type"] == "markdown":
                    page.scan(source(cell).split("\n"))
                elif cell["cell_type"] == "code" and (drawn := caption(cell)):
                    page.figure(drawn[0])
    return pages


@cache
def targets():
    """Return {label: where it stands and how it is called} of the whole book."""
    return {label: target for page in index().values() for label, target in page.targets.items()}


@cache
def sources():
    """Return the bibliography's entries by key."""
    from pybtex.database import parse_file

    entries = {}
    for name in CONFIG.get("bibtex_bibfiles", []):
        entries.update(parse_file(str(ROOT / name)).entries)
    return entries


def _latex(text):
    """Return the readable text of a field of the bibliography."""
    from pybtex.richtext import Text

    return str(Text.from_latex(text)).strip()


def _people(entry, role="author"):
    return [_latex(" ".join(p.prelast_names + p.last_names)) for p in entry.persons.get(role, [])]


def authors(key):
    """Return how the book cites a source: "Dinh et al., 2017"."""
    entry = sources()[key]
    names = _people(entry) or _people(entry, "editor") or [key]
    if len(names) > 2:
        who = f"{names[0]} et al."
    else:
        who = " and ".join(names) if names[-1] != "others" else f"{names[0]} and others"
    return f"{who}, {entry.fields.get('year', 'n.d.')}"


def address(key):
    """Return the web address of a source: its DOI, its own address, or the book's bibliography."""
    fields = sources()[key].fields
    if "doi" in fields:
        return "https://doi.org/" + fields["doi"]
    if fields.get("archiveprefix", "").lower() == "arxiv" and "eprint" in fields:
        return "https://arxiv.org/abs/" + fields["eprint"]
    return fields.get("url") or f"{BOOK}book/bibliography.html"


# ---------------------------------------------------------------- the conversion


class Plain:
    """Converts the Markdown of one page. ``lost`` collects what it met and did not know."""

    def __init__(self, doc):
        self.doc, self.page, self.lost = doc, index()[doc], []
        self.cited, self._counts = [], Counter()

    def lines(self, lines, quoted=False):
        """Convert lines of source into lines of plain Markdown."""
        out = []
        for block in blocks(lines):
            if block[0] == "code":
                out += block[1]
            elif block[0] == "text":
                out += self._text(block[1], quoted)
            else:
                _, directive, indent = block
                made = self._directive(directive, quoted)
                if out and out[-1].strip():
                    out.append("")
                out += [indent + line if line else line for line in made] + [""]
        while out and not out[-1].strip():
            out.pop()
        # one empty line where removed marks leave several
        return [line for k, line in enumerate(out) if line.strip() or (k and out[k - 1].strip())]

    def _text(self, lines, quoted):
        kept = [line for line in lines if not TARGET.match(line) and not DROPPED.match(line)]
        return self.inline("\n".join(kept), quoted).split("\n")

    def inline(self, text, quoted=False):
        """Convert what stands inside of paragraphs: roles, formulas, links."""

        def convert(match):
            if match["role"]:
                return self._role(match["role"], match["content"].replace("\n", " "))
            if match["display"] is not None:
                return self._display(match["display"], match["label"], quoted)
            if match["math"] is not None:
                return "$" + _macros(" ".join(match["math"].split("\n"))) + "$"
            if match["url"] is not None:
                return self._link(match["text"], match["url"], match["image"])
            if match["span"] is not None:
                return self.inline(match["span"], quoted)
            if name := match["substitution"]:
                if name not in SUBSTITUTIONS:
                    self.lost.append(f"substitution {name}")
                return str(SUBSTITUTIONS.get(name, name))
            return match["code"] or match[0]

        return INLINE.sub(convert, text)

    def leftovers(self, made):
        """Note what is still MyST in converted text: it stands where nothing here looks, as a box inside of a quote."""
        words = FORMULA.sub("$", DISPLAY.sub("$$", CODE.sub("`code`", BLOCK.sub("", made))))
        self.lost += [f"formula {match[0]} outside of dollar signs" for match in ENVIRONMENT.finditer(words)]
        self.lost += [f"as written: {match[0].strip()[:60]}" for match in MYST.finditer(words)]

    def _display(self, formula, label="", quoted=False):
        formula = _macros(formula.strip("\n"))
        if label:
            formula = formula.rstrip() + rf" \tag{{{self._number(label)}}}"
        if quoted:  # a viewer that takes formulas out before it reads quotes would take their marks along
            return "$$" + " ".join(line.strip() for line in formula.split("\n")).strip() + "$$"
        return f"$${formula}$$" if "\n" not in formula else f"$$\n{formula.strip()}\n$$"

    def _number(self, label):
        return self.page.targets[label]["number"]

    def _link(self, text, url, image):
        path, _, anchor = url.partition("#")
        if re.match(r"[a-z]+:", url):
            return f"{image or ''}[{text}]({url})"
        if image:
            return f"![{text}]({self._raw(url)})"
        if not path:
            target = targets().get(anchor)
            return self._to(target, text or (target or {}).get("name") or anchor, anchor)
        if path.endswith((".ipynb", ".md")):
            doc = self._resolve(re.sub(r"\.(ipynb|md)$", "", path))
            page = self._page(doc)
            return f"[{text or (page.title if page else doc)}]({BOOK}{doc}.html{'#' + anchor if anchor else ''})"
        return f"[{text}]({REPOSITORY}/blob/{BRANCH}/{self._file(path)})"

    def _resolve(self, path):
        """Return a path, relative to the page's folder, as one relative to the repository."""
        return Path(os.path.relpath((CHAPTERS / path).resolve(), ROOT)).as_posix()

    def _page(self, doc):
        """Return a page of the book; one that it does not have is noted."""
        if doc not in index():
            self.lost.append(f"page {doc}")
        return index().get(doc)

    def _file(self, path):
        """Return the path of a file of the repository; one that it does not have is noted."""
        found = self._resolve(path)
        if found.startswith("../") or not (ROOT / found).exists():
            self.lost.append(f"file {found}")
        return found

    def _raw(self, path):
        return path if re.match(r"[a-z]+:", path) else RAW + self._file(path)

    def _to(self, target, text, label=""):
        if not target:
            self.lost.append(f"label {label}")
            return text
        return f"[{text}]({BOOK}{target['doc']}.html#{target['anchor']})"

    def _role(self, role, content):
        match = re.match(r"^(?P<text>.*?)\s*<(?P<target>[^<>]+)>$", content, re.DOTALL)
        text, name = (match["text"].strip(), match["target"].strip()) if match else ("", content.strip())
        if role in ("cite", "cite:p", "cite:t", "cite:ps", "cite:ts", "cite:alp"):
            links = []
            for key in re.split(r"\s*,\s*", name):
                if key in sources():
                    self.cited.append(key)
                    links.append(f"[{authors(key)}]({address(key)})")
                else:
                    self.lost.append(f"source {key}")
                    links.append(key)
            return "; ".join(links)
        if role.startswith("py:"):
            words = text or (name.lstrip("~").rsplit(".", 1)[-1] if name.startswith("~") else name)
            words += "()" if role in ("py:func", "py:meth") and not text and not words.endswith(")") else ""
            full = name.lstrip("~").removesuffix("()")
            if not full.startswith("nfcourse"):
                return f"`{words}`"
            parts = full.split(".")
            modules = (".".join(parts[:k]) for k in range(len(parts), 0, -1))
            doc = next((documented()[m] for m in modules if m in documented()), None)
            if doc is None:
                self.lost.append(f"name {full}")
            return f"[`{words}`]({BOOK}{doc}.html#{full})" if doc else f"`{words}`"
        if role == "doc":
            doc = self._resolve(re.sub(r"\.(ipynb|md)$", "", name)) if not name.startswith("/") else name[1:]
            page = self._page(doc)
            return f"[{text or (page.title if page else doc)}]({BOOK}{doc}.html)"
        if role == "term":
            return self._to(targets().get(f"term {name.lower()}"), text or name, f"term {name}")
        if role in ("prf:ref", "eq", "numref", "ref", "any", "myst"):
            target = targets().get(name)
            reads = target["name"] if target else name
            if text and target:
                number = target["number"]
                reads = text.replace("%s", number).replace("{number}", number).replace("{name}", target["title"])
            return self._to(target, self.inline(reads) if role == "ref" else reads, name)
        if role == "math":
            return f"${_macros(content)}$"
        if role in ("sub", "sup", "kbd"):
            return f"<{role}>{content}</{role}>"
        if role in ("abbr", "guilabel", "menuselection", "index", "sub-ref"):
            return str(SUBSTITUTIONS.get(content, content))
        if role in ("code", "file", "command", "program", "samp", "literal"):
            return f"`{content}`"
        if role == "download":
            return self._link(text or name, name, None)
        self.lost.append(f"role {role}")
        return text or name

    # ------------------------------------------------------------ directives

    def _directive(self, d, quoted):
        if d.name == "math":
            formula = "\n".join(d.body)
            if r"\\" in formula and r"\begin{" not in formula:  # the book's builder aligns rows by itself
                formula = f"\\begin{{aligned}}\n{formula}\n\\end{{aligned}}"
            return self._display(formula, d.options.get("label", ""), quoted).split("\n")
        if d.is_box:
            return self._box(d, *self._next(d, COUNTERS.get(d.kind, d.kind)))
        if d.name == "prf:proof":
            if d.classes & {"dropdown"}:
                return self._fold("Proof" + (f" ({d.argument})" if d.argument else ""), d.body, quoted)
            body = self.lines(d.body, quoted) or [""]
            return [f"**Proof.** {body[0]}", *body[1:]]
        if d.name in ("exercise", "exercise-start"):
            title, _ = self._next(d, "exercise")
            return [f"**{title}**", "", *self.lines(d.body, quoted)]
        if d.name in ("solution", "solution-start"):
            target = targets().get(d.argument)
            title = f"Solution to {target['name']}" if target else "Solution"
            if d.name == "solution":
                return self._fold(title, d.body, quoted)
            return [f"**{title}.** The cells up to the next heading or exercise.", "", *self.lines(d.body, quoted)]
        if d.name in ("exercise-end", "solution-end"):
            return []
        if d.name in ("dropdown", "toggle"):
            return self._fold(d.argument or "Details", d.body, quoted, "open" in d.options)
        if d.name == "admonition" or d.name in ADMONITIONS:
            title = d.argument if d.name == "admonition" else {"seealso": "See also"}.get(d.name, d.name.capitalize())
            body = d.body if d.name == "admonition" or not d.argument else [d.argument, *d.body]
            if d.classes & {"dropdown", "toggle"}:
                return self._fold(title, body, quoted)
            return _quote([f"**{self.inline(title)}**", "", *self.lines(body, True)])
        if d.name in ("figure", "image"):
            picture = f"![{d.options.get('alt', '')}]({self._raw(d.argument)})"
            if d.name == "image":
                return [picture]
            words = self.lines(d.body, quoted)
            return [picture, "", f"**{self.figure()}.** {words[0] if words else ''}", *words[1:]]
        if d.name == "bibliography":
            return [f"- {entry}" for entry in map(reference, sorted(set(self.cited), key=lambda k: (authors(k), k)))]
        if d.name in ("code", "code-block", "sourcecode"):
            return [f"```{d.argument}", *d.body, "```"]
        if d.name == "raw":
            return d.body if d.argument == "html" else []
        if d.name in ("margin", "sidebar", "topic"):
            return _quote([f"**{d.argument}**", ""] * bool(d.argument) + self.lines(d.body, True))
        if d.name in ("tab-set", "grid", "div", "container", "only", "tab-item", "grid-item", "card", "grid-item-card"):
            title = [f"**{self.inline(d.argument)}**", ""] if d.name in ("tab-item", "grid-item-card", "card") else []
            return title + self.lines(d.body, quoted)
        if d.name == "table":
            return [f"**{self.inline(d.argument)}**", ""] * bool(d.argument) + self.lines(d.body, quoted)
        if d.name == "nf-live":
            return _quote([f"*A figure to drag stands here [in the book]({BOOK}{self.doc}.html).*"])
        self.lost.append(f"directive {d.name}")
        return [f"*Here [the book]({BOOK}{self.doc}.html) has more to show.*", "", *self.lines(d.body, quoted)]

    def figure(self):
        """Return the name of the next figure."""
        self._counts["figure"] += 1
        return f"Fig. {self.page.number}.{self._counts['figure']}"

    def _next(self, d, counter):
        """Return the title of a counted directive, and its label."""
        if "nonumber" in d.options:
            name = d.kind.removesuffix("-start").capitalize()
        else:
            self._counts[counter] += 1
            name = f"{d.kind.removesuffix('-start').capitalize()} {self.page.number}.{self._counts[counter]}"
        return name + (f" ({self.inline(d.argument)})" if d.argument else "") + ".", d.label

    def _box(self, d, title, label):
        if d.classes & {"dropdown"}:
            return self._fold(title.rstrip("."), d.body, False)
        return _quote([f"**{title}**", "", *self.lines(d.body, True)])

    def _fold(self, title, body, quoted, is_open=False):
        head = f"<details{' open' if is_open else ''}><summary>{self.inline(title)}</summary>"
        return [head, "", *self.lines(body, quoted), "", "</details>"]


def _quote(lines):
    return [f"> {line}".rstrip() for line in lines]


def _macros(formula):
    """Write the book's own commands out: no viewer knows them."""
    for name, meaning in MACROS.items():
        if isinstance(meaning, str):
            formula = re.sub(rf"\\{name}(?![A-Za-z])", lambda _, m=meaning: m, formula)
    return formula


def reference(key):
    """Return one line of the list of sources."""
    entry = sources()[key]
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [_latex(" ".join(p.first_names + p.middle_names + p.prelast_names + p.last_names)) for p in people]
    who = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)
    fields = entry.fields
    title = _latex(fields.get("title", key))
    place = next((_latex(fields[f]) for f in ("journal", "booktitle", "publisher", "school", "howpublished", "note")
                  if f in fields), "")  # fmt: skip
    words = f"{who} ({fields.get('year', 'n.d.')}). [*{title}*]({address(key)})."
    return words + (f" {place.rstrip('.')}." if place else "")


def _convert(cell, plain, solving):
    """Return the plain cells of one cell, and whether the next ones belong to a solution."""
    text, identity, tags = source(cell), cell["id"], cell["metadata"].get("tags", [])
    if cell["cell_type"] == "markdown":
        if "remove-cell" in tags:
            return [], solving
        solving = ("{solution-start}" in text or solving) and "{solution-end}" not in text
        made = "\n".join(plain.lines(text.split("\n")))
        plain.leftovers(made)
        return [{"cell_type": "markdown", "id": identity, "metadata": {}, "source": made}] * bool(made.strip()), solving
    if cell["cell_type"] != "code":
        return [], solving
    metadata = {"tags": tags} if tags else {}
    if {"hide-input", "hide-cell", "remove-input"} & set(tags) or solving:
        metadata["jupyter"] = {"source_hidden": True}  # JupyterLab and VS Code fold it
    cells = [{"cell_type": "code", "id": identity, "metadata": metadata, "source": text}]
    if drawn := caption(cell):
        made = f"**{plain.figure()}.** {plain.inline(drawn[1])}".rstrip()
        plain.leftovers(made)
        cells.append({"cell_type": "markdown", "id": f"{identity[:56]}-caption", "metadata": {}, "source": made})
    return cells, solving


def convert(path):
    """Return the plain edition of one chapter, as a notebook, and what the conversion did not know."""
    doc = f"chapters/{path.stem}"
    plain = Plain(doc)
    page = index()[doc]
    note = (
        f"*The plain edition of [{page.title}]({BOOK}{doc}.html), for Colab and other programs that know no MyST. The "
        "next cell installs the package of the course where it is missing. Then run the cells in their order.*"
    )
    cells = [
        {"cell_type": "markdown", "id": "plain-edition", "metadata": {}, "source": note},
        {"cell_type": "code", "id": "install", "metadata": {"tags": ["install"]}, "source": INSTALL},
    ]
    solving = False
    for number, cell in enumerate(_cells(path), 1):
        with reading(path, number, cell):
            made, solving = _convert(cell, plain, solving)
            cells += made
    for cell in cells:
        if cell["cell_type"] == "code":
            cell |= {"execution_count": None, "outputs": []}
        cell["source"] = cell["source"].splitlines(keepends=True)
    made = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return made, plain.lost


def text(notebook):
    """Return a notebook as the text of its file."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def editions():
    """Return ({file name: its text}, [what was not known]) of all chapters."""
    files, lost = {}, []
    for path in chapters():
        notebook, unknown = convert(path)
        files[path.name] = text(notebook)
        lost += [f"{path.name}: {what}" for what in unknown]
    return files, lost


def main():
    """Write the plain editions, and remove those of chapters that are gone."""
    try:
        files, lost = editions()
    except Fault as fault:
        sys.exit(f"No plain edition was made. {fault}")
    PLAIN.mkdir(exist_ok=True)
    for path in PLAIN.glob("*.ipynb"):
        if path.name not in files:
            path.unlink()
    for name, content in files.items():
        path = PLAIN / name
        if not path.is_file() or path.read_text("utf8") != content:
            half = path.with_name(f".{name}.{os.getpid()}")  # a run that is stopped leaves no half of a file
            half.write_text(content, "utf8")
            half.replace(path)
            print(f"plain/{name}")
    if lost:
        sys.exit("Not known to scripts/plain.py:\n" + "\n".join(sorted(set(lost))))


if __name__ == "__main__":
    main()
