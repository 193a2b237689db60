"""Tables, charts and links that the book makes from stored results, at build: nothing of it is typed by hand.

Directives and roles of the prose pages:

- ``{nf-made} NAME`` puts the Markdown or HTML that the maker NAME of `MAKERS` returns; the role of that name puts a
  number in a line.
- ``{nf-chapter}`08` `` links "Chapter 8" where the chapter is written, and else writes "Chapter 8 (to come)".
- ``{nf-question} 43`` is one of the questions that the sources left open, with a link to where it is settled.
- ``{nf-details} Title`` folds its content; ``{nf-api} GROUP`` documents a group of modules, a section each.

The makers are plain functions of a `Book` (nf_book), the folder that holds everything, so that tests can give them
another one. They stand in nf_tables, nf_leaderboard, nf_charts and nf_api; nf_bib is the style of the bibliography.
"""

import html
import re

import nf_api
import nf_charts
import nf_leaderboard
import nf_tables
from docutils import nodes
from docutils.statemachine import StringList
from nf_api import GROUPS, constants, exists, public
from nf_book import Book, Html, short
from sphinx import addnodes
from sphinx.errors import SphinxError
from sphinx.util.docutils import SphinxDirective, SphinxRole

#: name of a maker -> the maker
MAKERS = nf_tables.MAKERS | nf_leaderboard.MAKERS | nf_charts.MAKERS | nf_api.MAKERS


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


# ---------------------------------------------------------------- what Sphinx calls


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
    app.setup_extension("nf_bib")
    app.add_directive("nf-made", Made)
    app.add_role("nf-made", MadeRole())
    app.add_role("nf-chapter", ChapterRole())
    app.add_directive("nf-details", Details)
    app.add_directive("nf-question", Question)
    app.add_directive("nf-api", Api)
    app.add_css_file("nf_pages.css")
    app.connect("autodoc-skip-member", _skip)
    app.connect("doctree-read", _mark)
    app.connect("html-page-context", _label)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
