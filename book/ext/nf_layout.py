"""Folds of one kind, formulas that are set when they come near, a page that is whole for every reader.

Every fold of the book becomes the same HTML, which needs no script::

    <details class="nf-fold nf-KIND"><summary>Label</summary> … </details>

KIND is proof, hint, solution, answer, code, output or source (``more`` for a label that is none of these).
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.locale import admonitionlabels
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx_design.shared import is_component
from sphinx_exercise.nodes import is_exercise_node, is_solution_node
from sphinx_proof.nodes import NODE_TYPES, proof_node, unenumerable_node

KINDS = ("proof", "hint", "solution", "answer", "code", "output", "source")
FOLDED = {"dropdown", "toggle"}  # the classes by which a source says so
STATEMENTS = (*NODE_TYPES.values(), unenumerable_node)  # theorems and their like


class nf_fold(nodes.General, nodes.Element):
    """A ``details`` element; its first child is the summary."""


class nf_summary(nodes.General, nodes.TextElement):
    """What is seen of a closed fold."""


def fold(label, content, ids=(), classes=(), opened=False):
    """Return the one kind of fold. ``label`` is a text or a list of inline nodes."""
    title = [nodes.Text(label)] if isinstance(label, str) else label
    text = label if isinstance(label, str) else "".join(n.astext() for n in label)
    word = re.match(r"\w*", text.lower())[0]
    kind = word if word in KINDS else word.removesuffix("s") if word.removesuffix("s") in KINDS else "more"
    node = nf_fold(ids=list(ids), classes=["nf-fold", f"nf-{kind}", *classes], opened=opened)
    node += nf_summary("", "", *title)
    node.extend(content)
    return node


class Fold(SphinxPostTransform):
    """Turn what the extensions fold, each in its way, into ``nf_fold``: before they write their own HTML."""

    default_priority = 198  # the titles of solutions are resolved at 21, sphinx-design and MyST-NB fold at 199
    formats = ("html",)

    def run(self, **kwargs):
        self._single_ids()
        self._proofs()
        for node in list(self.document.findall(nodes.Element)):
            if is_component(node, "dropdown"):
                self._dropdown(node)
            elif isinstance(node, nodes.container) and node.get("nb_element") == "cell_code":
                self._cell(node)
            elif is_solution_node(node) and FOLDED & set(node["classes"]):
                self._solution(node)
            elif self._is_toggle(node):
                self._toggle(node)

    def _single_ids(self):
        """Take away the id that sphinx-proof and sphinx-exercise give to the content of every theorem and solution."""
        for section in self.document.findall(nodes.section):
            section["ids"] = [i for i in section["ids"] if not re.fullmatch(r"(proof|exercise|solution)-content", i)]

    def _proofs(self):
        """A proof has the id ``proof-LABEL`` of the statement before it: each page names them all ``proof``."""
        last, taken = "", set()
        for node in list(self.document.findall(nodes.Element)):
            if isinstance(node, STATEMENTS):
                last = node.get("label", "")
            if not isinstance(node, proof_node):
                continue
            box = node[0]
            own = [i for i in [*node["ids"], *box["ids"]] if i != "proof"]
            name = f"proof-{last}" if last else "proof"
            count = sum(t == name or t.startswith(name + "--") for t in taken)
            taken.add(name := f"{name}--{count + 1}" if count else name)
            box["ids"] = []
            if not FOLDED & set(box["classes"]):
                box["ids"] = [name, *own]
                continue
            first = next(iter(box.findall(nodes.Text)), None)  # sphinx-proof writes "Proof. " into the first line
            if first is not None and first.startswith("Proof."):
                first.parent.replace(first, nodes.Text(first.removeprefix("Proof.").lstrip()))
            classes = set(box["classes"]) - {"proof"} - FOLDED
            node.parent.replace(
                node, fold("Proof", box.children, [name, *own], sorted(classes), "toggle-shown" in classes)
            )

    def _dropdown(self, node):
        title, content = ("More", node.children)
        ids = list(node["ids"])
        if node["has_title"]:
            title, content, ids = node[0].children, node.children[1:], ids + node[0]["ids"]
        classes = [c for c in [*node["container_classes"], *node["classes"]] if not c.startswith("sd-")]
        node.parent.replace(node, fold(title, content, ids, classes, node["opened"]))

    def _cell(self, node):
        """Tags hide-input, hide-output and hide-cell, as MyST-NB understands them."""
        mode = node.attributes.pop("hide_mode", None)
        if not mode or not node.children:
            return
        if mode == "all":
            content = list(node.children)
            node.children = []
            node += fold("Code", content)
            return
        for child in list(node.children):
            element = child.get("nb_element")
            if element == "cell_code_source" and mode in ("input", "input+output"):
                self._wrap(child, "Code")
            if element == "cell_code_output" and mode in ("output", "input+output"):
                self._wrap(child, "Output")

    @staticmethod
    def _wrap(node, label):
        parent, place = node.parent, node.parent.index(node)
        parent.remove(node)
        parent.insert(place, fold(label, [node]))

    def _solution(self, node):
        content = [c for child in node.children[1:] for c in (child.children if _is_section(child) else [child])]
        node.parent.replace(node, fold("Solution", content, node["ids"]))

    @staticmethod
    def _is_toggle(node):
        if not FOLDED & set(node.get("classes", [])) or is_exercise_node(node) or isinstance(node, STATEMENTS):
            return False
        return isinstance(node, nodes.Admonition) or (isinstance(node, nodes.container) and "toggle" in node["classes"])

    @staticmethod
    def _toggle(node):
        title, content = admonitionlabels.get(node.tagname, "More"), node.children
        if content and isinstance(content[0], nodes.title):
            title, content = content[0].children, content[1:]
        classes = [c for c in node["classes"] if c not in FOLDED and not c.startswith(("admonition", "toggle"))]
        node.parent.replace(node, fold(title, content, node["ids"], classes, "toggle-shown" in node["classes"]))


#: a formula of fewer characters of TeX fits a line of a phone
SHORT = 28


class KeepTogether(SphinxPostTransform):
    """Let no line end between a formula and the full stop behind it or the bracket before it: browsers break there."""

    default_priority = 900
    formats = ("html",)

    def run(self, **kwargs):
        for math in list(self.document.findall(nodes.math)):
            parent = math.parent
            place = parent.index(math)
            before = parent[place - 1] if place else None
            after = parent[place + 1] if place + 1 < len(parent) else None
            head = re.search(r"[(\[“‘]+$", before) if isinstance(before, nodes.Text) else None
            tail = re.match(r"(?:['’-]\w*)?[.,;:!?)\]”’…]*", after) if isinstance(after, nodes.Text) else None
            tail = tail if tail and tail[0] else None
            if not (head or tail):
                continue
            # a short one is kept together on a phone as well
            keep = nodes.inline(classes=["nf-keep", "nf-short"] if len(math.astext()) < SHORT else ["nf-keep"])
            parent[place] = keep  # by place: docutils would look for the first text that reads the same
            if head:
                parent[place - 1] = nodes.Text(before[: head.start()])
                keep += nodes.Text(head[0])
            keep += math
            if tail:
                parent[place + 1] = nodes.Text(after[tail.end() :])
                keep += nodes.Text(tail[0])


def _is_section(node):
    return isinstance(node, nodes.section)


def _visit_fold(self, node):
    self.body.append(self.starttag(node, "details", **({"open": "open"} if node["opened"] else {})))


def _depart_fold(self, node):
    self.body.append("</details>\n")


def _visit_summary(self, node):
    self.body.append(self.starttag(node, "summary", ""))


def _depart_summary(self, node):
    self.body.append("</summary>\n")


# ---------------------------------------------------------------- the page around the text

UNUSED = re.compile(r"togglebutton|toggleHint|toggleOpenOnPrint")  # the scripts and styles of folds that are gone


def _leave_out(app, page, template, context, doctree):
    """Load nothing that no page needs, and describe the page in its head."""
    for key in ("script_files", "css_files"):
        if key in context:
            context[key] = [f for f in context[key] if not UNUSED.search(_text(f))]
    description = _describe(context.get("body") or "")
    title = re.sub(r"<[^>]+>", "", context.get("title") or "") or app.config.html_title
    up = "../" * page.count("/")
    tags = {"description": description or app.config.html_title}
    card = {"og:type": "article", "og:site_name": app.config.project, "og:title": title,
            "og:description": tags["description"], "og:image": f"{up}_static/card.png"}  # fmt: skip
    context["metatags"] = context.get("metatags", "") + "".join(
        [f'\n<meta name="{k}" content="{_attribute(v)}" />' for k, v in tags.items()]
        + [f'\n<meta property="{k}" content="{_attribute(v)}" />' for k, v in card.items()]
        + ['\n<meta name="twitter:card" content="summary_large_image" />\n']
    )


def _text(file):
    return f"{getattr(file, 'filename', file)} {getattr(file, 'attributes', {}).get('body', '')}"


def _attribute(text):
    return text.replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


def _describe(body):
    """Return the first paragraphs of a page, some 160 characters, without formulas' code and mark-up."""
    words = ""
    for paragraph in re.findall(r"<p>(.*?)</p>", body[:200_000], re.S):
        text = re.sub(r'<span class="math[^>]*>.*?</span>', "…", paragraph, flags=re.S)
        text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text)).strip()
        if len(text) > 40:
            words = f"{words} {text}".strip()
        if len(words) > 120:
            break
    return words if len(words) <= 160 else words[:160].rsplit(" ", 1)[0].rstrip(",;:") + " …"


# (pattern, replacement, why): on the whole page, as the theme writes it
MENDS = [
    (r'<div class="sidebar-primary-item">(\s*<a class="navbar-brand logo")',
     r'<div class="sidebar-primary-item" role="navigation" aria-label="Start of the book">\1',
     "the book's title stands in no landmark"),
    (r'(<meta name="viewport" content="width=device-width, initial-scale=1.0" />)<meta name="viewport"[^>]*>', r"\1",
     "said twice"),
]  # fmt: skip


def _mend_pages(app, exception):
    if exception or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        if "_static" in path.relative_to(app.outdir).parts:
            continue
        text = mended = path.read_text("utf8")
        for pattern, replacement, _ in MENDS:
            mended = re.sub(pattern, replacement, mended)
        if mended != text:
            path.write_text(mended, "utf8")


def _configure(app, config):
    """Say licence and version under every page: the version is the package's own."""
    package = Path(__file__).parents[2] / "nfcourse" / "__init__.py"
    version = re.search(r'__version__ = "([^"]+)"', package.read_text("utf8"))[1]
    config.html_theme_options["extra_footer"] = (
        f'<p class="nf-licence">Edition {version} · text under <a href="https://creativecommons.org/licenses/by/4.0/">'
        'CC BY 4.0</a>, code under the <a href="https://opensource.org/license/mit">MIT licence</a> · '
        '<a href="https://github.com/normalizing-flows-course/nfcourse">source</a></p>'
    )


def setup(app):
    app.add_node(nf_fold, html=(_visit_fold, _depart_fold))
    app.add_node(nf_summary, html=(_visit_summary, _depart_summary))
    app.add_post_transform(Fold)
    app.add_post_transform(KeepTogether)
    app.add_js_file("nf_layout.js", loading_method="defer")
    app.connect("config-inited", _configure, priority=900)
    app.connect("html-page-context", _leave_out, priority=900)
    app.connect("build-finished", _mend_pages, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
