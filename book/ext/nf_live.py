"""Figures to drag on a page of Markdown: {nf-live} with a name, an alternative text, and the caption as its content."""

import json
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]


class Live(SphinxDirective):
    """A numbered figure around ``nfcourse.live.live``; parameters of its first state as JSON."""

    required_arguments = 1
    has_content = True
    option_spec = {
        "alt": directives.unchanged_required,
        "name": directives.unchanged,
        "play": directives.flag,
        "parameters": directives.unchanged_required,
    }

    def run(self):
        if str(ROOT) not in sys.path:
            sys.path.insert(0, str(ROOT))
        from nfcourse.live import live

        folders = [ROOT / "nfcourse" / "assets" / "live", ROOT / "nfcourse" / "live"]
        for path in (p for folder in folders for p in folder.glob("*.*")):
            self.env.note_dependency(str(path))
        try:
            parameters = json.loads(self.options.get("parameters", "{}"))
            figure = live(self.arguments[0], self.options.get("alt", ""), play="play" in self.options, **parameters)
        except (ValueError, TypeError) as error:
            raise self.error(f"nf-live: {error}") from error
        node = nodes.figure("", nodes.raw("", figure._repr_html_(), format="html"), classes=["nf-live-figure"])
        caption = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, caption)
        if caption.children:
            first, *rest = caption.children
            if not isinstance(first, nodes.paragraph):
                raise self.error("nf-live expects its content to start with a caption.")
            node += nodes.caption(first.rawsource, "", *first.children)
            if rest:
                node += nodes.legend("", *rest)
        self.set_source_info(node)
        self.add_name(node)
        return [node]


def setup(app):
    app.add_directive("nf-live", Live)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
