"""A badge under each theorem: what its check measured, and which wrong formulas it rejected.

All that a badge says is stored: the lines of the check cell's output that start with a mark, and what
scripts/mutants.py has found. Verdicts that are older than the chapter or the package are a warning, and with warnings
as errors no book.

A check cell is tagged ``check-thm-...``; tagged ``fold-check`` too, it stands inside of the badge.
"""

import ast
import importlib.util
import json
import os
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging

ROOT = Path(__file__).resolve().parents[2]

logger = logging.getLogger(__name__)


class element(nodes.General, nodes.TextElement):
    """An HTML element: ``tag``, and ``attributes`` that docutils has no name for."""


def html(tag, classes="", *children, ids=(), **attributes):
    made = element("", tag=tag, html={k.replace("_", "-"): v for k, v in attributes.items()})
    made["classes"], made["ids"] = classes.split(), list(ids)
    for child in children:
        made += nodes.Text(child) if isinstance(child, str) else child
    return made


BLOCKS = {"details", "div", "li", "ol", "p", "summary"}


def _visit(self, node):
    self.body.append(self.starttag(node, node["tag"], "", **node["html"]))


def _depart(self, node):
    self.body.append(f"</{node['tag']}>" + ("\n" if node["tag"] in BLOCKS else ""))


# What is stored.


def load_script():
    """The script of the mutants, which is no package; it needs nothing but Python until it runs a chapter."""
    spec = importlib.util.spec_from_file_location("nf_mutants", ROOT / "scripts" / "mutants.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The lines of nfcourse.check, and how many numbers each one states.
MANY = re.compile(r": (\d+) numbers agree within ")
ONE = re.compile(r": \S+, (?:expected \S+ ± |not \S+ \(at least )|: among \d+ numbers one is at least ")


def lines(cell):
    """The stored lines of a cell that a check has marked, each with what goes on below it, under its first word."""
    text, marked, under = "".join("".join(out["text"]) for out in cell["outputs"] if out.get("name") == "stdout"), [], 0
    for line in text.splitlines():
        said = line.lstrip()
        if said.startswith("✓ "):
            marked, under = [*marked, said.rstrip()], len(line) - len(said) + 2
        elif under and said and len(line) - len(said) >= under:
            marked[-1] += f" {said.rstrip()}"
        else:
            under = 0
    return marked


def count(marked):
    """How many numbers, and how many statements without one, the lines say to hold."""
    numbers = [int(m[1]) if (m := MANY.search(line)) else int(bool(ONE.search(line))) for line in marked]
    return sum(numbers), numbers.count(0)


def _plural(n, one, many=""):
    return f"{n:,} {one if n == 1 else many or one + 's'}"


VERDICTS = {  # in the words of the badge, and of the answer to a guess
    "killed": ("rejected", "caught"),
    "too close": ("rejected, but only just", "caught"),
    "survived": ("not noticed", "missed"),
    "fault": ("not judged", ""),
}


def label(marked, mutants):
    """The text of a badge: no more than what is stored."""
    numbers, statements = count(marked)
    parts = [_plural(numbers, "number")] if numbers else []
    parts += [_plural(statements, "statement")] if statements else []
    for verdict, (words, _) in VERDICTS.items():
        if found := sum(m["verdict"] == verdict for m in mutants):
            parts.append(f"{_plural(found, 'wrong formula')} {words}")
    return "checked: " + ", ".join(parts)


def judged(stored, stale, stem):
    """The mutants of each theorem of a chapter, but for those whose verdicts are old: nothing is said of them."""
    old = {line.split(":")[0] for line in stale}
    return {t: e["mutants"] for t, e in stored.get(stem, {}).items() if f"{stem}, {t}" not in old}


# A mutant as the reader meets it.


def prose(text):
    """Text with $formulas$ and `code`."""
    parts = re.split(r"(\$[^$]+\$|`[^`]+`)", text)
    kinds = {"$": nodes.math, "`": nodes.literal}
    return [kinds[p[0]]("", p[1:-1]) if p[:1] in kinds and len(p) > 2 else nodes.Text(p) for p in parts if p]


def function_source(where, cells):
    """The text of the function that a mutant changes: in the package, or in a cell of the chapter."""
    module, _, path = where.rpartition(":")
    texts = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    if module:
        file = ROOT / Path(*module.split("."))
        file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
        texts = [file.read_text("utf8")] if file.is_file() else []
    owner, name = ["", *path.split(".")][-2:]
    found = []
    for text in texts:
        try:
            tree = ast.parse(text)
        except SyntaxError:  # a cell with a command for the notebook
            continue
        places = ast.walk(tree) if not owner else (
            n for c in ast.walk(tree) if isinstance(c, ast.ClassDef) and c.name == owner for n in c.body
        )  # fmt: skip
        for node in places:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                found.append("\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno]))
    return found


def whole_lines(text, old, new):
    """The lines that a change touches, as (same, old, new, same)."""
    while old.endswith("\n") and new.endswith("\n"):
        old, new = old[:-1], new[:-1]
    start = text.index(old)
    first, end = text.rfind("\n", 0, start) + 1, start + len(old)
    last = (text + "\n").index("\n", end)
    return text[first:start], old, new, text[end:last]


def narrowed(before, old, new, after):
    """The same with the change cut down to whole words."""
    start = len(os.path.commonprefix([old, new]))
    while start and (old[start - 1].isalnum() or old[start - 1] == "_"):
        start -= 1
    before, old, new = before + old[:start], old[start:], new[start:]
    end = len(os.path.commonprefix([old[::-1], new[::-1]]))
    while end and (old[-end].isalnum() or old[-end] == "_"):
        end -= 1
    cut = len(old) - end, len(new) - end
    return before, old[: cut[0]], new[: cut[1]], old[cut[0] :] + after


def diff(mutant, cell, cells):
    """Old and new lines; where they cannot be found, old and new text."""
    texts = function_source(mutant["in"], cells) if "in" in mutant else ["".join(cell["source"])]
    places = [t for t in texts if t.count(mutant["old"]) == 1]
    change = mutant["old"], mutant["new"]
    before, old, new, after = narrowed(*(whole_lines(places[0], *change) if len(places) == 1 else ("", *change, "")))
    sides = [f"{before}\0{side}\1{after}" for side in (old, new)]
    bare = [line.replace("\0", "").replace("\1", "") for side in sides for line in side.split("\n")]
    margin = min((len(line) - len(line.lstrip()) for line in bare if line.strip()), default=0)
    made = []
    for tag, side in zip(("del", "ins"), sides, strict=True):
        side = re.sub(rf"(?m)^(\0?) {{0,{margin}}}", r"\1", side).rstrip()
        same, _, rest = side.partition("\0")
        changed, _, rest = rest.partition("\1")
        inside = [same, html("b", "", changed), rest] if same.strip() or rest.strip() else [changed]
        made.append(html(tag, "", html("code", "", *(part for part in inside if part))))
    return html("div", "nf-diff", *made)


def _times(number):
    if number < 1e6:
        return f"{number:,g}" if number >= 1000 else f"{number:g}"
    digits, power = f"{number:.1e}".split("e")
    high = str(int(power)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits.removesuffix('.0')} × 10{high}"


def _size(mutant):
    """The stored miss, in words."""
    if mutant.get("miss") is None:
        return "."
    if mutant.get("check") == "differs":
        return f": {_times(mutant['miss'])} times too close."
    return f": off by {_times(mutant['miss'])} times what the check allows."


def _ask(question, truth, *verdict):
    """A question with its answer; the script puts two buttons between them."""
    asked = html("p", "nf-question", *question), html("div", "nf-verdict", *verdict)
    return html("div", "nf-ask", *asked, data_truth=truth)


def _line(text):
    return html("p", "nf-line", html("code", "", text))


def mutant_item(mutant, cell, cells):
    verdict, truth = mutant["verdict"], VERDICTS[mutant["verdict"]][1]
    item = html("li", "nf-mutant", html("p", "nf-belief", *prose(mutant["belief"])))
    if "in" in mutant:
        item += html("p", "nf-where", "in ", html("code", "", mutant["in"].rpartition(":")[2]))
    item += diff(mutant, cell, cells)
    if verdict == "fault":
        item += html("p", "nf-say", html("b", "", "Not judged"), f": {mutant.get('why', 'it did not run')}")
        return item
    if verdict == "survived":
        said = [html("p", "nf-say", html("b", "", "Missed"), ": the check passes.")]
    else:
        just = " That is too little to rely on." if verdict == "too close" else ""
        said = [html("p", "nf-say", html("b", "", "Caught"), _size(mutant) + just), _line(mutant["claim"])]
    item += _ask(["Does the check catch it?"], truth, *said)
    weaker = mutant.get("weaker")
    if isinstance(weaker, dict) and weaker["missed"]:
        item += html("p", "nf-weaker", "A weaker check:")
        item += _line(weaker["source"])
        said = [html("p", "nf-say", html("b", "", "Missed"), ": it passes."), _line(weaker["line"])]
        item += _ask(["Does it catch it?"], "missed", *said)
    return item


# The badge, and the check with its way back.

INTRODUCTION = (
    " Each of these beliefs is wrong. The code was changed as if it were right, and the check was run again. A check "
    "compares two numbers; the changed one may be what was measured or what was expected."
)


def make_badge(theorem, marked, mutants, cells, folded):
    """Return the badge of a theorem.

    ``cells`` are its check cells, then all cells of the notebook; ``folded`` are nodes to stand inside.
    """
    checks, every = cells
    text = label(marked, mutants)
    head = [html("span", "nf-tick", "✓", aria_hidden="true"), html("span", "nf-said", text)]
    to_check = nodes.reference("", "the check", refid=f"check-{theorem}", classes=["nf-to-check"], internal=True)
    link = html("span", "nf-way", to_check)
    if not mutants and not folded:
        return html("div", "nf-check", html("p", "nf-head", *head), link, ids=[f"badge-{theorem}"])
    invitation = "Try to break it" if mutants else "Show the check"
    body = html("div", "nf-check-body", *folded)
    if mutants:
        cell = next((c for c in checks if c["metadata"].get("mutants")), checks[0])
        body += html("p", "nf-break", html("b", "", "Try to break it."), INTRODUCTION)
        body += html("ol", "nf-mutants", *(mutant_item(m, cell, every) for m in mutants))
    summary = html("summary", "nf-head", *head, html("span", "nf-invite", invitation))
    return html("div", "nf-check", html("details", "", summary, body), link, ids=[f"badge-{theorem}"])


def _checks(node):
    """The label of the theorem that a cell of the page checks."""
    if isinstance(node, nodes.container) and node.get("nb_element") == "cell_code":
        tags = node["cell_metadata"].get("tags", ())
        return next((tag.removeprefix("check-") for tag in tags if tag.startswith("check-thm-")), None)
    return None


def way_back(node, theorem, number):
    """Wrap a check cell: an anchor, and a link to its theorem."""
    name = nodes.inline("", theorem)
    xref = addnodes.pending_xref("", name, refdomain="prf", reftype="ref", reftarget=theorem, refexplicit=False)
    anchor = f"check-{theorem}" if number == 1 else f"check-{theorem}-{number}"
    wrapper = html("div", "nf-check-cell", html("p", "nf-checks", "checks ", xref), ids=[anchor])
    node.parent.replace(node, wrapper)  # replace_self would hand its classes on
    wrapper += node
    return wrapper, xref


def decorate(doctree, docname, notebook, mutants):
    """Set a badge under each theorem that has a check, and a way back above each check."""
    cells = notebook["cells"]
    stored = {}
    for cell in cells:
        tags = cell["metadata"].get("tags", ())
        if theorem := next((t.removeprefix("check-") for t in tags if t.startswith("check-thm-")), None):
            stored.setdefault(theorem, []).append(cell)
    shown = {}
    for node in list(doctree.findall(nodes.container)):
        if theorem := _checks(node):
            shown.setdefault(theorem, []).append(node)
    theorems = {n["label"]: n for n in doctree.findall(nodes.Admonition) if str(n.get("label", "")).startswith("thm-")}
    for theorem, boxes in shown.items():
        if theorem not in theorems:
            logger.warning("a cell checks %s, but no theorem of this chapter has this label", theorem, location=docname)
            continue
        marked = [line for cell in stored[theorem] for line in lines(cell)]
        if not marked:
            logger.warning("the check of %s has stored no line with a mark", theorem, location=docname)
            continue
        folded = []
        for number, node in enumerate(boxes, 1):
            wrapper, xref = way_back(node, theorem, number)
            xref["refdoc"] = docname
            if "fold-check" in node["cell_metadata"].get("tags", ()):
                wrapper.parent.remove(wrapper)
                if node.get("hide_mode") == "input":  # folded once is enough
                    del node["hide_mode"]
                folded.append(wrapper)
        badge = make_badge(theorem, marked, mutants.get(theorem, []), (stored[theorem], cells), folded)
        at = theorems[theorem]
        at.parent.insert(at.parent.index(at) + 1, badge)


def _load(app, env, docnames):
    script, results = load_script(), Path(app.srcdir, app.config.nf_checks_results)
    app.nf_mutants = script.load(results)
    paths = [p for doc in sorted(env.found_docs) if (p := Path(env.doc2path(doc))).suffix == ".ipynb"]
    app.nf_stale = script.stale(paths, app.nf_mutants)
    for line in app.nf_stale:
        logger.warning("%s: run `make mutants`, the badge would claim what nobody has seen", line)


def _read(app, doctree):
    if app.builder.format != "html" or not (path := Path(app.env.doc2path(app.env.docname))).suffix == ".ipynb":
        return
    app.env.note_dependency(str(Path(app.srcdir, app.config.nf_checks_results)))
    notebook = json.loads(path.read_text("utf8"))
    decorate(doctree, app.env.docname, notebook, judged(app.nf_mutants, app.nf_stale, path.stem))


def setup(app):
    app.add_config_value("nf_checks_results", "book/results/mutants.json", "env")
    app.add_node(element, html=(_visit, _depart))
    app.add_css_file("nf_checks.css")
    app.add_js_file("nf_checks.js", loading_method="defer")
    app.connect("env-before-read-docs", _load)
    app.connect("doctree-read", _read)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
