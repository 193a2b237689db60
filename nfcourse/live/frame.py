"""What the figures to drag share: numbers as text and a panel, as in ``core.js``; controls; checks of parameters."""

import html
import math
import numbers
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

import numpy as np
import torch
from contourpy import contour_generator  # comes with matplotlib
from torch import Tensor

from ..values import plain

_KNOB = {"handle": '<circle class="knob" r="7.5"/>', "handle ring": '<circle class="knob" r="9"/>'
         '<circle class="core" r="2"/>', "handle small": '<circle class="knob" r="5.5"/>'}  # fmt: skip


class Figure(NamedTuple):
    """A figure: how it is drawn from its state, its parameters with their defaults and checks, its columns.

    ``draw`` returns the panels, the controls, the text, and what the script is given.
    """

    draw: Callable[[dict], tuple]
    parameters: dict[str, tuple]
    columns: str


# ---------------------------------------------------------------- text and drawing, as in core.js


def num(value: float, digits: int = 2) -> str:
    """Write fixed decimals, a true minus, no minus before zero."""
    if not math.isfinite(value):
        return f"{value}".replace("-", "−").replace("inf", "∞")
    # as toFixed does: of two that are equally near, the one further from 0
    text = format(Decimal(float(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP), "f")
    return (text.replace("-", "") if float(text) == 0 else text).replace("-", "−")


def sig(value: float) -> str:
    """Write four digits that count, never in powers of ten."""
    digits, size = 3, abs(value)
    while 0 < size < 1 and digits < 9:
        digits, size = digits + 1, size * 10
    while size >= 10 and digits > 0:
        digits, size = digits - 1, size / 10
    return num(value, digits)


def count(n: int) -> str:
    """Write a whole number with commas."""
    return f"{n:,}"


def pair(p, digits: int = 2) -> str:
    """Write a point."""
    return f"({num(p[0], digits)}, {num(p[1], digits)})"


def short(value: float) -> str:
    """Write a length of the picture."""
    text = f"{float(value):.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


class Plane:
    """A panel: an SVG with a scale, whose named parts the script draws anew."""

    def __init__(self, name: str, title: str, box, size=(260, 260), margins=(0, 0, 0, 0), frame=True, classes="small"):
        self.name, self.title, self.box, self.size, self.frame, self.classes = name, title, box, size, frame, classes
        left, right, bottom, top = margins
        self.ends = (left, size[0] - right, size[1] - bottom, top)
        self.parts: list[str] = []

    def px(self, points) -> np.ndarray:
        """Pixels of points (n, 2)."""
        (x0, x1), (y0, y1) = self.box
        left, right, bottom, top = self.ends
        p = np.asarray(points, dtype=float).reshape(-1, 2)
        u = left + (p[:, 0] - x0) / (x1 - x0) * (right - left)
        v = bottom + (p[:, 1] - y0) / (y1 - y0) * (top - bottom)
        return np.stack([u, v], 1).clip(-2e3, 2e3)

    def at(self, point) -> str:
        """Write a point in pixels."""
        u, v = self.px(point)[0]
        return f"{short(u)} {short(v)}"

    def line(self, points, close: bool = False) -> str:
        """Return the path of a curve through points."""
        return "M" + " ".join(f"{short(u)} {short(v)}" for u, v in self.px(points)) + "Z" * close

    def lines(self, curves, close: bool = False) -> str:
        """Return the path of several curves."""
        return "".join(self.line(c, close) for c in curves)

    def dots(self, points) -> str:
        """Return the path of a cloud."""
        return "".join(f"M{short(u)} {short(v)}h0" for u, v in self.px(points))

    def path(self, part: str, classes: str, d: str) -> None:
        """Draw a part that the script draws anew."""
        self.parts.append(f'<path data-part="{part}" class="{classes}" d="{d}"/>')

    def text(self, part: str, x: float, y: float, content: str, more: str = "") -> None:
        """A label, placed in pixels."""
        name = f' data-part="{part}"' if part else ""
        self.parts.append(f'<text{name} x="{short(x)}" y="{short(y)}" {more}>{html.escape(content)}</text>')

    def circle(self, part: str, classes: str, point, r: float) -> None:
        """Draw a mark, its radius in pixels."""
        u, v = self.px(point)[0]
        self.parts.append(f'<circle data-part="{part}" class="{classes}" cx="{short(u)}" cy="{short(v)}" r="{r}"/>')

    def handle(self, name: str, label: str, point, kind: str = "handle", color: str = "accent") -> None:
        """What the reader drags; the script makes it a slider."""
        knob = _KNOB[kind]
        self.parts.append(
            f'<g class="{kind} {color}" data-handle="{name}" data-label="{html.escape(label)}" '
            f'transform="translate({self.at(point)})">'
            f'<circle class="hit" r="22"/><circle class="focus" r="13"/>{knob}</g>'
        )

    def axes(self, across: str, up: str, ticks=(-2, 2)) -> None:
        """Lines through the origin, a few numbers, the names of the axes."""
        (x0, x1), (y0, y1) = self.box
        self.path("axes", "grid", self.lines([[(x0, 0), (x1, 0)], [(0, y0), (0, y1)]]))
        left, right, bottom, top = self.ends
        for t in ticks:
            self.text("", self.px((t, 0))[0, 0], bottom - 5, num(t, 0), 'class="small halo" text-anchor="middle"')
            self.text("", left + 5, self.px((0, t))[0, 1] + 4, num(t, 0), 'class="small halo"')
        self.text("", right - 6, bottom - 6, across, 'class="halo" text-anchor="end"')
        self.text("", left + 6, top + 16, up, 'class="halo"')

    def html(self) -> str:
        """Return the panel, with its title."""
        width, height = self.size
        box = " ".join(repr(float(v)).removesuffix(".0") for v in (*self.box[0], *self.box[1], *self.ends))
        wide, small = "wide" if "wide" in self.classes else "", "small" if "small" in self.classes else ""
        plane = f"{'nf-live-plane ' if self.frame else ''}{small}".strip()
        title, _, hint = self.title.partition("|")
        shown = html.escape(
            title
        ) + f' <span class="nf-live-hint">{html.escape(f"({hint})" if title else hint)}</span>' * bool(hint)
        return (
            f'<div class="nf-live-panel {wide} nf-live-panel-{self.name}"><p class="nf-live-title">{shown}</p>'
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{plane}" viewBox="0 0 {width} {height}" '
            f'data-plane="{self.name}" data-box="{box}" role="group" aria-label="{html.escape(title or hint)}">'
            f"{''.join(self.parts)}</svg></div>"
        )


def hundredths(points) -> list[int]:
    """Hundredths, as integers: what the script gets and what is drawn here are the same points."""
    return [int(v) for v in np.rint(100 * np.asarray(points, dtype=float)).ravel()]


def rounded(points) -> np.ndarray:
    """Round to what :func:`hundredths` keeps."""
    return np.rint(100 * np.asarray(points, dtype=float)) / 100


def draws(n: int) -> np.ndarray:
    """Draws of the standard normal law of the plane."""
    return rounded(np.random.default_rng(8).normal(size=(n, 2)).clip(-3.3, 3.3))


def level_sets(density: np.ndarray, x: np.ndarray, y: np.ndarray, masses, corners: int = 44) -> list[list[np.ndarray]]:
    """The smallest regions that hold these shares of the mass: their borders, as closed curves."""
    cells = np.sort(density.ravel())[::-1]
    held = cells.cumsum() / cells.sum()
    lines = contour_generator(x, y, density)
    found = []
    for mass in masses:
        loops = [c[:-1] for c in lines.lines(float(cells[np.searchsorted(held, mass)])) if len(c) > 20]
        found.append([rounded(c[np.linspace(0, len(c), corners, endpoint=False).astype(int)]) for c in loops])
    return found


def double(points) -> Tensor:
    """Return points as a tensor of float64."""
    return torch.as_tensor(np.asarray(points, dtype=float))


# ---------------------------------------------------------------- the controls


def slider(key: str, label: str, low: float, high: float, step: float, value: float, text: str, log=False) -> str:
    """Return a slider; with ``log`` its ends and steps are those of the logarithm to base 10."""
    at = math.log10(value) if log else value
    return (
        f'<label class="wide"><span>{label}</span><input type="range" data-key="{key}" min="{low:g}" max="{high:g}" '
        f'step="{step:g}" value="{at:g}"{" data-log" * log} autocomplete="off" aria-valuetext="{text}" '
        f'data-lm-suppress-shortcuts="true"><output data-out="{key}" aria-live="off">{text}</output></label>'
    )


def steps(key: str, label: str, choices: tuple, value, text: str) -> str:
    """Return a slider whose places are these numbers."""
    places = f'min="0" max="{len(choices) - 1}" step="1" value="{choices.index(value)}"'
    return (
        f'<label class="wide"><span>{label}</span><input type="range" data-key="{key}" {places} '
        f'data-choices="{" ".join(map(str, choices))}" autocomplete="off" '
        f'aria-valuetext="{text}" data-lm-suppress-shortcuts="true"><output data-out="{key}" aria-live="off">{text}'
        "</output></label>"
    )


def radio(key: str, legend: str, choices: dict, value) -> str:
    """Return buttons of which one is pressed."""
    items = "".join(
        f'<label><input type="radio" data-key="{key}" value="{v}"{" checked" * (v == str(value))} autocomplete="off" '
        f'data-lm-suppress-shortcuts="true"><span>{html.escape(text)}</span></label>'
        for v, text in choices.items()
    )
    return f"<fieldset><legend>{html.escape(legend)}</legend>{items}</fieldset>"


def button(action: str, text: str) -> str:
    """Return a button that calls one of the script's actions."""
    return f'<button type="button" data-do="{action}">{text}</button>'


RESET = button("reset", "Reset")


# ---------------------------------------------------------------- parameters


def fail(name: str, key: str, expected: str, got) -> None:
    """Refuse a parameter."""
    raise ValueError(f"live({name!r}): {key} expects {expected}, got {got!r}.")


def real(value) -> float:
    """Return a number, also one of numpy or torch; not a number for anything else."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not abs(value) < 1e9:
        return math.nan
    return float(value)


def within(low: float, high: float) -> Callable:
    """Return the check of a number."""

    def read(name, key, value):
        number = real(value)
        if not low <= number <= high:
            fail(name, key, f"a number in [{low:g}, {high:g}]", value)
        return number

    return read


def point_within(*sides) -> Callable:
    """Return the check of a point in a rectangle."""

    def read(name, key, value):
        expected = "a point (a, b) with " + " and ".join(
            f"{v} in [{a:g}, {b:g}]" for v, (a, b) in zip("ab", sides, strict=True)
        )
        try:
            p = [real(v) for v in value]
        except TypeError:
            fail(name, key, expected, value)
        if len(p) != 2 or not all(a <= v <= b for v, (a, b) in zip(p, sides, strict=True)):
            fail(name, key, expected, value)
        return p

    return read


def one_of(*choices) -> Callable:
    """Return the check of a choice."""

    def read(name, key, value):
        one = plain(value)
        if isinstance(one, bool) is not isinstance(choices[0], bool) or not isinstance(one, str | numbers.Real):
            fail(name, key, f"one of {choices}", value)
        if one not in choices:
            fail(name, key, f"one of {choices}", value)
        return choices[choices.index(one)]  # 1 for 1.0

    return read


def in_disc(radius: float) -> Callable:
    """Return the check of a point in a disc around the origin."""

    def read(name, key, value):
        p = point_within((-radius, radius), (-radius, radius))(name, key, value)
        if math.hypot(*p) > radius + 1e-9:  # the page's own rounding
            fail(name, key, f"a point at most {radius:g} from the origin", value)
        return p

    return read
