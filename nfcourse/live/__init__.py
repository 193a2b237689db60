"""Figures to drag: they compute in the page, in a few dozen lines of plain JavaScript, without a kernel or a network.

:func:`live` returns HTML that a notebook displays. Its picture is drawn here, from this package's numbers: it is what
one sees without scripts and while the page loads. The script, from ``assets/live``, then takes the same picture over,
adds controls and handles, and says the current numbers in a text. A browser test holds them against the package's.
"""

import functools
import html
import json
from importlib import resources

from . import autoregressive, coupling, darts, hero, ruler, twist
from .frame import one_of

__all__ = ["NAMES", "Live", "live"]

_FIGURES = {
    module.__name__.rpartition(".")[2]: module.FIGURE
    for module in (hero, darts, ruler, twist, coupling, autoregressive)
}

#: The figures that :func:`live` knows.
NAMES = tuple(_FIGURES)


class Live:
    """A figure to drag: plain HTML that a notebook displays.

    Attributes:
        name: Which figure it is.
        html: The whole element, with its style and script.
        text: What it says in its first state.
    """

    def __init__(self, name: str, html: str, text: str):
        self.name, self.html, self.text = name, html, text

    def __repr__(self) -> str:
        return f"Live({self.name!r})"

    def _repr_html_(self) -> str:
        return self.html


@functools.cache
def _asset(name: str) -> str:
    return resources.files("nfcourse").joinpath("assets", "live", name).read_text("utf8")


def live(name: str, alt: str, play: bool = False, **parameters) -> Live:
    """Return a figure to drag.

    Let the call be the last expression of a cell. The HTML is the same, byte for byte, each time.

    Args:
        name: One of :data:`NAMES`.
        alt: What the figure shows, for readers who do not see it.
        play: Let the hero move once when the page is opened, unless the reader's system asks for calm.
        **parameters: The first state: ``strength``, ``inflate``, ``w`` (``"hero"``); ``cell``, ``side``, ``map``
            (``"twist"``); ``passes``, ``knots``, ``slopes``, ``x`` (``"coupling"``); ``order``, ``x``
            (``"autoregressive"``); ``board``, ``n``, ``seed`` (``"darts"``); ``law``, ``centre``, ``width``
            (``"ruler"``).

    Raises:
        ValueError: If the name or a parameter is unknown, a parameter is out of its range, or ``alt`` is empty.
    """
    if name not in _FIGURES:
        raise ValueError(f"live expects one of {NAMES}, got {name!r}.")
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"live({name!r}): alt expects a text that says what the figure shows, got {alt!r}.")
    play = one_of(False, True)(name, "play", play)
    if play and name != "hero":
        raise ValueError(f"live({name!r}): play expects False, got {play!r}: only 'hero' moves by itself.")
    draw, known, columns = _FIGURES[name]
    for key in parameters:
        if key not in known:
            raise ValueError(f"live({name!r}) expects parameters among {tuple(known)}, got {key!r}.")
    state = {
        key: check(name, key, parameters[key]) if key in parameters else default
        for key, (default, check) in known.items()
    }
    panels, controls, text, data = draw(state)
    config = html.escape(json.dumps({"state": state, "data": data}, separators=(",", ":"), sort_keys=True))
    layout = f' style="--l-columns:{columns}"' if columns.isdigit() else ""
    script = f"(()=>{{\n{_asset('core.js')}{_asset(name + '.js')}}})();"
    page = (
        f'<div class="nf-live nf-live-{name}" role="group" aria-label="{html.escape(alt)}" data-nf="{config}"'
        f"{' data-play' * play}{layout}>\n<style>\n{_asset('live.css')}</style>\n"
        f'<div class="nf-live-body"><div class="nf-live-panels">{"".join(p.html() for p in panels)}</div>\n'
        f'<div class="nf-live-side"><div class="nf-live-controls">{controls}</div>\n'
        f'<p class="nf-live-text" aria-live="polite">{html.escape(text)}</p></div></div>\n'
        f'<noscript><p class="nf-live-noscript">This figure can be dragged where JavaScript runs.</p></noscript>\n'
        f"<script>{script}</script></div>"
    )
    return Live(name, page, text)
