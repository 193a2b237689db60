"""Players, figures to drag and schematics are numbered and captioned like every other figure.

MyST-NB wraps the output of a cell with `mystnb.figure` in its metadata, whatever its kind, in a figure node before
Sphinx counts: number, caption with formulas, `{numref}` and `{ref}` come from there. (One such output a cell: a name
has one place, and a second one is a warning.) What is left to do: the figure says by a class what it holds, so that
style sheets and print can tell, and what moves or is drawn inline but was given no caption is named in the log.
"""

import re

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

KINDS = re.compile(r'class="(?:[^"]* )?(nf-player|nf-live|nf-schematic)[ "]')
LOG = logging.getLogger(__name__)


def kind_of(node):
    """Return player, live, schematic or image: what an output shows; None if it is neither."""
    for raw in node.findall(nodes.raw):
        if raw.get("format") == "html" and (found := KINDS.search(raw.astext())):
            return found[1].removeprefix("nf-")
    return "image" if next(node.findall(nodes.image), None) is not None else None


class Figures(SphinxTransform):
    default_priority = 700  # after the parser, before Sphinx notes labels and captions

    def apply(self, **kwargs):
        for bundle in list(self.document.findall(nodes.container)):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            kind, figure = kind_of(bundle), bundle.parent
            if isinstance(figure, nodes.figure):
                if kind:
                    figure["classes"] += ["nf-figure", f"nf-figure-{kind}"]
            elif kind not in (None, "image"):
                LOG.info("%s: a %s without number and caption", self.env.docname, kind, location=bundle)


def setup(app):
    app.add_transform(Figures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
