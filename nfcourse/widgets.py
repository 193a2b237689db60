"""Pictures that move: a slider over figures, with a kernel or without one.

:func:`player` has two faces. While a person runs the notebook, it is an ipywidgets slider that draws each picture anew.
When outputs are stored (the environment variable ``NFCOURSE_STATIC`` is 1), it is plain HTML with all frames inside: it
works from disk, without a kernel, a network or a library, and repeats byte for byte.
"""

import base64
import hashlib
import html
import io
import json
import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from .live import live
from .values import plain

__all__ = ["Player", "live", "player"]

#: Formats of the stored pictures.
FORMATS = ("webp", "png")

# CSS pixels of an inch, as in the book's SVG figures, and how many times finer the stored pictures are.
_INCH, _FINER = 96, 1.5

# The colours of the book's theme, else JupyterLab's, else the page's own text colour: dark mode needs no script.
_STYLE = """
.nf-player{--nf-text:var(--pst-color-text-base,var(--jp-ui-font-color1,currentColor));
--nf-line:var(--pst-color-border,var(--jp-border-color1,#8c8c8c));
--nf-strong:var(--pst-color-primary,var(--jp-brand-color1,#0072b2));
width:100%;max-width:42rem;margin:.25rem auto .75rem;color:var(--nf-text);text-align:start}
.nf-player .nf-player-controls{display:flex;flex-wrap:wrap;align-items:center;gap:.4rem .75rem;margin:0 0 .5rem;
font-size:.95rem;line-height:1.4}
.nf-player button{flex:none;display:inline-flex;align-items:center;justify-content:center;width:2.25rem;
height:2.25rem;padding:0;border:1px solid var(--nf-line);border-radius:50%;background:transparent;
color:var(--nf-strong);cursor:pointer}
.nf-player button:hover:enabled{border-color:var(--nf-strong)}
.nf-player button:focus-visible,.nf-player input:focus-visible{outline:2px solid var(--nf-strong);outline-offset:2px}
.nf-player button svg{width:1rem;height:1rem;fill:currentColor}
.nf-player button[aria-pressed=true] .nf-play,.nf-player button[aria-pressed=false] .nf-pause{display:none}
.nf-player label{flex:1 1 14rem;display:flex;flex-wrap:wrap;align-items:center;gap:.2rem .75rem;margin:0;min-width:0}
.nf-player input{flex:1 1 8rem;min-width:6rem;margin:0;height:1.5rem;accent-color:var(--nf-strong);cursor:pointer}
.nf-player output{flex:none;min-width:var(--nf-digits);padding:0;font-variant-numeric:tabular-nums;font-weight:600;
color:inherit}
.nf-player button:disabled,.nf-player input:disabled{opacity:.5;cursor:default}
.nf-player .nf-player-frames{width:var(--nf-width);max-width:100%;margin:0 auto;aspect-ratio:var(--nf-ratio);
line-height:0;background:#fff;border-radius:.25rem;overflow:hidden}
.nf-player .nf-player-frames img{display:block;width:100%!important;height:auto!important;max-width:none!important;
margin:0!important;padding:0!important;border-radius:0!important}
.nf-player .nf-player-frames img[hidden]{display:none!important}
html[data-theme=dark] .bd-content div.cell_output .text_html:has(>div.nf-player){
background:none;color:inherit;padding:0}
@media print{.nf-player button,.nf-player input,.nf-player noscript{display:none!important}
.nf-player{break-inside:avoid}.nf-player label{justify-content:center}.nf-player output{min-width:0}}
"""

# One script serves every player that it finds unprepared, by class and not by id: two equal players on a page, or a
# second view of an output in JupyterLab, work as well. JupyterLab may run it before its element is on the page:
# hence the later rounds. A player whose script is not parsed yet may lack frames: it waits for its own round.
_SCRIPT = """
const prepare=()=>document.querySelectorAll(".nf-player:not([data-ready])").forEach(p=>{
if(!p.querySelector("script"))return;
const s=p.querySelector("input"),o=p.querySelector("output"),b=p.querySelector("button"),
f=[...p.querySelectorAll(".nf-player-frames img")],last=f.length-1;let t=null;
const show=()=>{const k=+s.value;f.forEach((e,j)=>{e.hidden=j!==k});
o.value=f[k].dataset.value;s.setAttribute("aria-valuetext",f[k].dataset.value)};
const stop=()=>{clearInterval(t);t=null;b.setAttribute("aria-pressed","false")};
const step=()=>{if(!p.isConnected)return stop();s.value=+s.value+1;show();if(+s.value>=last)stop()};
s.addEventListener("input",()=>{stop();show()});
b.addEventListener("click",()=>{if(t!==null)return stop();
if(+s.value>=last){s.value=0;show()}
const calm=matchMedia("(prefers-reduced-motion: reduce)").matches,every=+p.dataset.interval;
b.setAttribute("aria-pressed","true");t=setInterval(step,calm?Math.max(every,1500):every)});
f.forEach(e=>{if(e.decode)e.decode().catch(()=>{})});
s.value=0;s.disabled=b.disabled=false;p.dataset.ready="";show()});
prepare();requestAnimationFrame(prepare);setTimeout(prepare,500);
"""

_ICONS = (
    '<svg class="nf-play" viewBox="0 0 16 16" aria-hidden="true"><path d="M4 2.5v11l9-5.5z"/></svg>'
    '<svg class="nf-pause" viewBox="0 0 16 16" aria-hidden="true"><path d="M4 2.5h3v11H4zM9 2.5h3v11H9z"/></svg>'
)


class Player:
    """A slider over stored pictures: plain HTML that a notebook displays.

    Attributes:
        html: The whole element, with its style and script.
        id: Its id: a hash of label, values and alternative texts, not of the pictures.
        label: The slider's name.
        count: Number of frames.
    """

    def __init__(self, html: str, id: str, label: str, count: int):
        self.html, self.id, self.label, self.count = html, id, label, count

    def __repr__(self) -> str:
        return f"Player({self.label!r}, {self.count} frames)"

    def _repr_html_(self) -> str:
        return self.html


class _Value:
    """A value in an alternative text: ``{}`` gives the text on the slider, ``{:.1f}`` formats the value itself."""

    def __init__(self, value, text: str):
        self.value, self.text = value, text

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else self.text


def _texts(values: list) -> list[str]:
    """Format the values alike, with as few decimals as tell them apart."""
    if not all(isinstance(v, numbers.Real) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        texts = [str(v) for v in values]
        if len(set(texts)) < _different(values):
            raise ValueError(f"player expects values whose texts differ, got {texts!r}; say what they mean in texts.")
        return texts
    if all(isinstance(v, numbers.Integral) for v in values):
        return [f"{v:d}".replace("-", "−") for v in values]
    sizes = [abs(v) for v in values if v]
    if sizes and (max(sizes) >= 1e5 or max(sizes) / min(sizes) > 2e3 or max(sizes) < 1e-3):
        digits = next((d for d in range(3, 17) if len({f"{v:.{d}g}" for v in values}) >= _different(values)), 17)
        return [f"{v:.{digits}g}".replace("-", "−") for v in values]
    exact = (d for d in range(4) if all(math.isclose(round(v, d), v, rel_tol=0, abs_tol=1e-6) for v in values))
    distinct = sorted(set(values))
    gap = min((b - a for a, b in zip(distinct, distinct[1:], strict=False)), default=1.0)
    decimals = next(exact, max(0, math.ceil(-math.log10(gap / 5))))
    while len({f"{v:.{decimals}f}" for v in values}) < len(distinct):
        decimals += 1
    texts = [f"{v:.{decimals}f}" for v in values]
    return [(t.lstrip("-") if not float(t) else t).replace("-", "−") for t in texts]


def _different(values: list) -> int:
    try:
        return len(set(values))
    except TypeError:  # lists and arrays
        return len(values)


def _words(texts: Sequence[str] | Callable, values: list) -> list[str]:
    """Return the slider's texts as the caller wants them: one a value."""
    if isinstance(texts, str | Mapping | Set) or not (callable(texts) or isinstance(texts, Iterable)):
        raise ValueError(f"texts expects a list of texts, or a function of the value, got {texts!r}.")
    words = [texts(v) for v in values] if callable(texts) else list(texts)
    if len(words) != len(values) or not all(isinstance(w, str) and w.strip() for w in words):
        raise ValueError(f"texts expects one text for each of {len(values)} values, got {words!r}.")
    return words


def _alternatives(alt: str | Callable, values: list, texts: list[str]) -> list[str]:
    if callable(alt):
        result = [alt(v) for v in values]
    else:
        try:  # nine copies: the text may name the value several times
            result = [alt.format(*[_Value(v, t)] * 9) for v, t in zip(values, texts, strict=True)]
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"alt expects a text with {{}} for the value, got {alt!r}: {error}") from error
    for value, text in zip(values, result, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"alt expects a text for every value, got {text!r} for {value!r}.")
    if len(set(texts)) > 1 and len(set(result)) == 1:
        raise ValueError(f"alt expects a text with {{}} for the value, one text per frame, got {result[0]!r} for all.")
    return result


def _encode(picture: Image.Image, fmt: str) -> bytes:
    """Compress without loss, or, where that is far larger (a heat map in WebP), with as little as the eye forgives."""

    def save(**options) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, format=fmt.upper(), **options)
        return buffer.getvalue()

    if fmt == "png":
        return save(optimize=True)
    exact, lossy = save(lossless=True, quality=60, method=4), save(quality=88, method=4)
    return exact if len(exact) <= 1.25 * len(lossy) else lossy


def _render(draw: Callable, value, fmt: str) -> tuple[bytes, tuple[int, int]]:
    """Draw one frame; return its bytes and its size in CSS pixels. All figures made on the way are closed."""
    before = set(plt.get_fignums())
    try:
        figure = draw(value)
        if isinstance(figure, Axes):
            figure = figure.get_figure(root=True)
        if not isinstance(figure, Figure):
            raise ValueError(f"draw expects to return a matplotlib Figure, got {type(figure).__name__} for {value!r}.")
        width, height = (round(_INCH * side) for side in figure.get_size_inches())
        figure.set_dpi(_FINER * _INCH)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)
    return _encode(picture, fmt), (width, height)


def _image(picture: bytes, fmt: str, alt: str, size: tuple[int, int], more: str = "") -> str:
    data = base64.b64encode(picture).decode()
    width, height = size
    alt = html.escape(alt)
    return f'<img alt="{alt}" width="{width}" height="{height}"{more} src="data:image/{fmt};base64,{data}">'


def _same_size(size: tuple[int, int], first: tuple[int, int], value) -> None:
    if size != first:
        raise ValueError(
            f"player expects figures of one size, so that nothing jumps: the first is {first[0] / _INCH:.3g} by "
            f"{first[1] / _INCH:.3g} inches, the one for {value!r} is {size[0] / _INCH:.3g} by {size[1] / _INCH:.3g}."
        )


def _static(draw, values, texts, label, alts, interval, fmt) -> Player:
    images, first = [], None
    for k, (value, text, alt) in enumerate(zip(values, texts, alts, strict=True)):
        picture, size = _render(draw, value, fmt)
        first = first or size
        _same_size(size, first, value)
        images.append(_image(picture, fmt, alt, size, f' data-value="{html.escape(text)}"' + " hidden" * (k > 0)))
    uid = "nf-" + hashlib.sha256(json.dumps([label, texts, alts]).encode()).hexdigest()[:10]
    name, (width, height) = html.escape(label), first
    value = html.escape(texts[0])
    lab = 'data-lm-suppress-shortcuts="true"'  # else JupyterLab takes the arrow keys; it asks the focused element alone
    digits = max(len(t) for t in texts)
    page = f"""<div class="nf-player" id="{uid}" role="group" aria-label="{name}" data-interval="{interval:d}"
style="--nf-width:{width}px;--nf-ratio:{width}/{height};--nf-digits:{digits}ch">
<style>{_STYLE}</style>
<div class="nf-player-controls"><button type="button" aria-label="Play: {name}" aria-pressed="false"
{lab} disabled>
{_ICONS}</button>
<label><span>{name}</span><input type="range" min="0" max="{len(values) - 1}" step="1" value="0" autocomplete="off"
aria-label="{name}" aria-valuetext="{value}" {lab} disabled><output aria-live="off">{value}</output></label></div>
<div class="nf-player-frames">{"".join(images)}</div>
<noscript><p>The slider needs JavaScript; this is the first of {len(values)} pictures.</p></noscript>
<script>(()=>{{{_SCRIPT}}})();</script></div>"""
    return Player(page, uid, label, len(values))


def _live(draw, values, texts, label, alts, interval, fmt):
    import ipywidgets

    picture, first = _render(draw, values[0], fmt)
    frame = ipywidgets.HTML(_image(picture, fmt, alts[0], first))
    slider = ipywidgets.SelectionSlider(
        options=list(zip(texts, range(len(values)), strict=True)),
        description=label,
        style={"description_width": "initial"},
        layout={"width": f"{max(first[0] - 160, 240)}px"},
    )
    play = ipywidgets.Play(min=0, max=len(values) - 1, interval=interval, description=f"Play: {label}")
    ipywidgets.link((play, "value"), (slider, "index"))

    def show(change) -> None:
        k = change["new"]
        try:
            picture, size = _render(draw, values[k], fmt)
            _same_size(size, first, values[k])
            frame.value = _image(picture, fmt, alts[k], size)
        except Exception as error:  # a callback's traceback is lost in the browser's log: the reader sees the message
            frame.value = f"<pre>{html.escape(f'{type(error).__name__}: {error}')}</pre>"

    slider.observe(show, names="value")
    return ipywidgets.VBox([ipywidgets.HBox([play, slider]), frame])


def player(
    draw: Callable[..., Figure],
    values: Sequence,
    label: str,
    alt: str | Callable[..., str],
    interval: int = 400,
    fmt: str = "webp",
    texts: Sequence[str] | Callable[..., str] | None = None,
):
    """Show the figures ``draw(value)`` under a slider with a play button.

    Let the call be the last line of a cell.

    Args:
        draw: Makes the figure of one value, always of the same size; its figures are closed.
        values: One value per frame, in the order of the slider.
        label: The slider's name, with its unit: ``"training steps"``, not ``"snapshot"``.
        alt: Alternative text of a frame: a text with ``{}`` for the slider's text, or a function of the value. It says
            what is seen in **this** frame; what happens along the slider is the caption's matter.
        interval: Milliseconds per frame while playing.
        fmt: Format of the pictures: ``"webp"`` (smaller) or ``"png"``.
        texts: What the slider says at each value, where the value itself says little: one text a value, or a function
            of the value (``lambda k: f"{steps[k]} steps"``). The value with as few decimals as needed if absent.

    Returns:
        A :class:`Player` of plain HTML if the environment variable ``NFCOURSE_STATIC`` is set (and not 0), or if
        ipywidgets is not installed; else ipywidgets that draw each frame anew. A notebook displays either.

    Raises:
        ValueError: If there are no values, ``draw`` does not return a figure, the figures differ in size, ``texts``
            does not give one text a value, or is absent where the values' own texts are alike, ``alt`` does not tell
            the frames apart, ``label`` is no text, ``interval`` is below 1 or ``fmt`` unknown.
    """
    values = [plain(v) for v in values]
    if not values:
        raise ValueError("player expects at least one value, got none.")
    if fmt not in FORMATS:
        raise ValueError(f"fmt expects one of {FORMATS}, got {fmt!r}.")
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"label expects a text, the slider's name, got {label!r}.")
    interval = plain(interval)
    if not isinstance(interval, numbers.Real) or isinstance(interval, bool) or not 1 <= interval < math.inf:
        raise ValueError(f"interval expects a positive number of milliseconds, at least 1, got {interval!r}.")
    texts = _texts(values) if texts is None else _words(texts, values)
    arguments = (draw, values, texts, label, _alternatives(alt, values, texts), int(interval), fmt)
    if os.environ.get("NFCOURSE_STATIC", "0") not in ("", "0"):
        return _static(*arguments)
    try:
        return _live(*arguments)
    except ImportError:
        return _static(*arguments)
