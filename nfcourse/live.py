"""Figures to drag: they compute in the page, in a few dozen lines of plain JavaScript, without a kernel or a network.

:func:`live` returns HTML that a notebook displays. Its picture is drawn here, from this package's numbers: it is what
one sees without scripts and while the page loads. The script, from ``assets/live``, then takes the same picture over,
adds controls and handles, and says the current numbers in a text. A browser test holds them against the package's.
"""

import functools
import html
import json
import math
import numbers
from collections.abc import Callable
from importlib import resources

import numpy as np
import torch
from contourpy import contour_generator  # comes with matplotlib
from torch import Tensor

from .bijections import RQSTransformer
from .data import Pinwheel
from .values import plain

__all__ = ["NAMES", "Live", "live"]

_KNOB = {"handle": '<circle class="knob" r="7.5"/>', "handle ring": '<circle class="knob" r="9"/>'
         '<circle class="core" r="2"/>', "handle small": '<circle class="knob" r="5.5"/>'}  # fmt: skip


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


# ---------------------------------------------------------------- text and drawing, as in core.js


def _num(value: float, digits: int = 2) -> str:
    text = f"{float(value):.{digits}f}"
    return (text.replace("-", "") if float(text) == 0 else text).replace("-", "−").replace("inf", "∞")


def _pair(p, digits: int = 2) -> str:
    return f"({_num(p[0], digits)}, {_num(p[1], digits)})"


def _short(value: float) -> str:
    text = f"{float(value):.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


class _Plane:
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
        u, v = self.px(point)[0]
        return f"{_short(u)} {_short(v)}"

    def line(self, points, close: bool = False) -> str:
        return "M" + " ".join(f"{_short(u)} {_short(v)}" for u, v in self.px(points)) + "Z" * close

    def lines(self, curves, close: bool = False) -> str:
        return "".join(self.line(c, close) for c in curves)

    def dots(self, points) -> str:
        return "".join(f"M{_short(u)} {_short(v)}h0" for u, v in self.px(points))

    def path(self, part: str, classes: str, d: str) -> None:
        self.parts.append(f'<path data-part="{part}" class="{classes}" d="{d}"/>')

    def text(self, part: str, x: float, y: float, content: str, more: str = "") -> None:
        """A label, placed in pixels."""
        name = f' data-part="{part}"' if part else ""
        self.parts.append(f'<text{name} x="{_short(x)}" y="{_short(y)}" {more}>{html.escape(content)}</text>')

    def circle(self, part: str, classes: str, point, r: float) -> None:
        u, v = self.px(point)[0]
        self.parts.append(f'<circle data-part="{part}" class="{classes}" cx="{_short(u)}" cy="{_short(v)}" r="{r}"/>')

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
            self.text("", self.px((t, 0))[0, 0], bottom - 5, _num(t, 0), 'class="small halo" text-anchor="middle"')
            self.text("", left + 5, self.px((0, t))[0, 1] + 4, _num(t, 0), 'class="small halo"')
        self.text("", right - 6, bottom - 6, across, 'class="halo" text-anchor="end"')
        self.text("", left + 6, top + 16, up, 'class="halo"')

    def html(self) -> str:
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


def _flat(points) -> list[int]:
    """Hundredths, as integers: what the script gets and what is drawn here are the same points."""
    return [int(v) for v in np.rint(100 * np.asarray(points, dtype=float)).ravel()]


def _rounded(points) -> np.ndarray:
    return np.rint(100 * np.asarray(points, dtype=float)) / 100


def _cloud(n: int) -> np.ndarray:
    """Draws of the standard normal law of the plane."""
    return _rounded(np.random.default_rng(8).normal(size=(n, 2)).clip(-3.3, 3.3))


def _regions(density: np.ndarray, x: np.ndarray, y: np.ndarray, masses, corners: int = 44) -> list[list[np.ndarray]]:
    """The smallest regions that hold these shares of the mass: their borders, as closed curves."""
    cells = np.sort(density.ravel())[::-1]
    held = cells.cumsum() / cells.sum()
    lines = contour_generator(x, y, density)
    found = []
    for mass in masses:
        loops = [c[:-1] for c in lines.lines(float(cells[np.searchsorted(held, mass)])) if len(c) > 20]
        found.append([_rounded(c[np.linspace(0, len(c), corners, endpoint=False).astype(int)]) for c in loops])
    return found


def _double(points) -> Tensor:
    return torch.as_tensor(np.asarray(points, dtype=float))


# ---------------------------------------------------------------- the controls


def _range(key: str, label: str, low: float, high: float, step: float, value: float, text: str, log=False) -> str:
    at = math.log10(value) if log else value
    return (
        f'<label class="wide"><span>{label}</span><input type="range" data-key="{key}" min="{low:g}" max="{high:g}" '
        f'step="{step:g}" value="{at:g}"{" data-log" * log} autocomplete="off" aria-valuetext="{text}" '
        f'data-lm-suppress-shortcuts="true"><output data-out="{key}" aria-live="off">{text}</output></label>'
    )


def _radio(key: str, legend: str, choices: dict, value) -> str:
    items = "".join(
        f'<label><input type="radio" data-key="{key}" value="{v}"{" checked" * (v == str(value))} autocomplete="off" '
        f'data-lm-suppress-shortcuts="true"><span>{html.escape(text)}</span></label>'
        for v, text in choices.items()
    )
    return f"<fieldset><legend>{html.escape(legend)}</legend>{items}</fieldset>"


def _button(action: str, text: str) -> str:
    return f'<button type="button" data-do="{action}">{text}</button>'


_RESET = _button("reset", "Reset")


# ---------------------------------------------------------------- parameters


def _fail(name: str, key: str, expected: str, got) -> None:
    raise ValueError(f"live({name!r}): {key} expects {expected}, got {got!r}.")


def _real(value) -> float:
    """Return a number, also one of numpy or torch; not a number for anything else."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not abs(value) < 1e9:
        return math.nan
    return float(value)


def _number(low: float, high: float) -> Callable:
    def read(name, key, value):
        number = _real(value)
        if not low <= number <= high:
            _fail(name, key, f"a number in [{low:g}, {high:g}]", value)
        return number

    return read


def _point(*sides) -> Callable:
    def read(name, key, value):
        expected = "a point (a, b) with " + " and ".join(
            f"{v} in [{a:g}, {b:g}]" for v, (a, b) in zip("ab", sides, strict=True)
        )
        try:
            p = [_real(v) for v in value]
        except TypeError:
            _fail(name, key, expected, value)
        if len(p) != 2 or not all(a <= v <= b for v, (a, b) in zip(p, sides, strict=True)):
            _fail(name, key, expected, value)
        return p

    return read


def _choice(*choices) -> Callable:
    def read(name, key, value):
        one = plain(value)
        if isinstance(one, bool) is not isinstance(choices[0], bool) or not isinstance(one, str | numbers.Real):
            _fail(name, key, f"one of {choices}", value)
        if one not in choices:
            _fail(name, key, f"one of {choices}", value)
        return choices[choices.index(one)]  # 1 for 1.0

    return read


def _knots(name, key, value):
    expected = "two knots (x, z) that increase in both, at least 0.1 apart and from the ends of [-3, 3]"
    try:
        k = np.array([[_real(v) for v in knot] for knot in value]).reshape(2, 2)
    except (TypeError, ValueError):
        _fail(name, key, expected, value)
    if not (np.diff(np.concatenate([[[-3, -3]], k, [[3, 3]]]), axis=0) >= 0.1 - 1e-9).all():
        _fail(name, key, expected, value)
    return k.tolist()


def _disc(radius: float) -> Callable:
    def read(name, key, value):
        p = _point((-radius, radius), (-radius, radius))(name, key, value)
        if math.hypot(*p) > radius + 1e-9:  # the page's own rounding
            _fail(name, key, f"a point at most {radius:g} from the origin", value)
        return p

    return read


# ---------------------------------------------------------------- the star and its maps


def _inflate(u: Tensor, rate: float) -> Tensor:
    """Stretch the radius from r to sinh(rate r) / rate."""
    r = (rate * torch.linalg.vector_norm(u, dim=-1, keepdim=True)).clamp_min(1e-9)
    return u * r.sinh() / r


def _jacobian(f: Callable, z) -> np.ndarray:
    return torch.func.jacrev(f)(_double(z)).numpy()


@functools.cache
def _star() -> tuple[Pinwheel, list[np.ndarray], list[list[np.ndarray]]]:
    """The star, points of each of its arms, and the regions that hold 90 and 50 % of its mass."""
    star, full = Pinwheel(twist=0.0), Pinwheel()
    x, k = full.sample(600, seed=3, labels=True)
    w = full.untwist(x.double()).numpy()
    t = np.linspace(-4.2, 4.2, 421)
    density = star.log_prob(_double(np.stack(np.meshgrid(t, t), -1))).exp().numpy()
    arms = [_rounded(w[k.numpy() == arm]) for arm in range(full.k)]
    return star, arms, _regions(density, t, t, (0.9, 0.5))


_COLORS = ("base", "data", "model", "wrong", "accent")
_RIM, _GROWTH, _EVERY = 3.5, 0.3, 4


def _hero(p: dict) -> tuple:
    star, arms, regions = _star()

    def torch_map(w, t):
        x = Pinwheel(twist=t).twist_map(w)
        return _inflate(x, _GROWTH * t) if p["inflate"] and t else x

    def map_(w):
        return torch_map(_double(w), p["strength"]).numpy()

    def log_det(t):
        return float(np.log(np.linalg.det(_jacobian(lambda w: torch_map(w, t), p["w"]))))

    stage = _Plane("stage", "|Drag the end of the ray, or the ring", ((-4.35, 4.35), (-4.35, 4.35)), (440, 440))
    stage.classes, stage.frame = "wide", False
    for k, loops in enumerate(regions):
        stage.path(f"region{k}", "region edge", stage.lines([map_(c) for c in loops], True))
    s = np.linspace(0, _RIM, 25)[:, None]

    def ray(angle):
        return map_(s * [math.cos(angle), math.sin(angle)])

    turn = np.arange(72) * math.pi / 36
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    rays = stage.lines([ray(math.tau * k / 10) for k in range(1, 10)])
    stage.path("grid", "grid", rays + stage.lines([map_(r * circle) for r in (1, 2, 3, _RIM)], True))
    pixels = (stage.ends[1] - stage.ends[0]) / 8.7
    for k, w in enumerate(arms):
        x, d = map_(w), ""
        for a, b in zip(w[::_EVERY], x[::_EVERY], strict=True):
            r = _short((np.hypot(*a) + np.hypot(*b)) / 2 * pixels)
            large = int(p["strength"] * np.hypot(*a) > math.pi)
            d += f"M{stage.at(a)}A{r} {r} 0 {large} 0 {stage.at(b)}"
        stage.path(f"trail{k}", f"trail {_COLORS[k]}", d if p["strength"] else "")
    for k, w in enumerate(arms):
        stage.path(f"arm{k}", f"dots {_COLORS[k]}", stage.dots(map_(w)))
    stage.path("spoke", "guide ink", stage.line(ray(0)))
    stage.handle("rim", "Twist: the end of the ray", map_([_RIM, 0.0]))
    x = map_(p["w"])
    stage.handle("probe", "The ringed point", x, "handle ring", "ink")

    log_star = float(star.log_prob(_double(p["w"])))
    det = log_det(p["strength"])
    value = log_star - det
    chart = _Plane("chart", "Log-density at the ring, in nats", ((0, 1), (-0.75, 0.25)), (300, 130), (10, 10, 28, 10))
    chart.classes, chart.frame = "wide", False
    left, right, bottom, top = chart.ends
    chart.path("axis", "rule", f"M{left} {bottom}H{right}")
    chart.path("naive", "guide wrong dashed", chart.line([(0, 0), (1, 0)]))
    along = np.linspace(0, 1, 41)
    chart.path("law", "curve base", chart.line([(t, -log_det(t)) for t in along]))
    chart.text("start", left, chart.px((0, 0))[0, 1] - 9, _num(log_star))
    off = "" if p["inflate"] else " off"
    chart.text(
        "without", right, chart.px((0, 0))[0, 1] - 9, "without log |det J|", f'class="{off.strip()}" text-anchor="end"'
    )
    chart.circle("now", "mark base", (p["strength"], -det), 5.5)
    now_x, now_y = chart.px((p["strength"], -det))[0]
    chart.text("value", min(right - 16, max(left + 20, now_x)), now_y + 22, _num(value), 'text-anchor="middle"')
    chart.text("", left, bottom + 18, "star, 0", 'class="small"')
    chart.text("", (left + right) / 2, bottom + 18, "strength of the twist", 'class="small" text-anchor="middle"')
    chart.text("", right, bottom + 18, "1, pinwheel", 'class="small" text-anchor="end"')

    how = (
        f"|det J| = {_num(math.exp(det), 3)} here: the density is divided by it"
        if p["inflate"]
        else "|det J| = 1 everywhere: the density has travelled unchanged"
    )
    text = (
        f"Twist {_num(p['strength'])}. The ringed point is at {_pair(x)}.\n"
        f"Its log-density: {_num(log_star)} in the star, {_num(value)} here. {how}."
    )
    inflate = (
        f'<label><input type="checkbox" data-key="inflate"{" checked" * p["inflate"]} autocomplete="off">'
        "<span>inflate too</span></label>"
    )
    controls = (
        _range("strength", "Twist", 0, 1, 0.01, p["strength"], _num(p["strength"]))
        + _button("play", "Play")
        + inflate
        + _RESET
    )
    data = {
        "arms": [_flat(w) for w in arms], "regions": [[_flat(c) for c in loops] for loops in regions], "rim": _RIM,
        "rate": _GROWTH, "radius": star.radius, "radial": star.radial, "tangential": star.tangential, "every": _EVERY,
    }  # fmt: skip
    return [stage, chart], controls, text, data


# ---------------------------------------------------------------- a cell and its image


def _edge(n: int) -> np.ndarray:
    """The edge of the unit square around the origin, counter-clockwise, n points a side."""
    t = np.arange(n)[:, None] / n - 0.5
    sides = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    return np.concatenate([np.concatenate([x * t + y / 2, y * t - x / 2], 1) for x, y in sides])


def _weave(n: int) -> list[np.ndarray]:
    b = np.linspace(-0.5, 0.5, n + 1)
    lines = []
    for a in (-0.25, 0.0, 0.25):
        a = np.full_like(b, a)
        lines += [np.stack([a, b], 1), np.stack([b, a], 1)]
    return lines


def _area(p: np.ndarray) -> float:
    q = np.roll(p, -1, axis=0)
    return float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum() / 2)


def _twist(p: dict) -> tuple:
    star, _, regions = _star()
    wheel, rate = Pinwheel(), 0.5

    def torch_map(z):
        x = wheel.twist_map(z)
        return _inflate(x, rate) if p["map"] == "inflate" else x

    def map_(z):
        return torch_map(_double(z)).numpy()

    z, side = np.array(p["cell"]), p["side"]
    x, J = map_(z), _jacobian(torch_map, z)
    det = abs(float(np.linalg.det(J)))

    def near(u):
        return (map_(z + side * u) - x) / side

    ratio = (4 * _area(near(_edge(800))) - _area(near(_edge(400)))) / 3
    corners = _edge(1) @ J.T
    reach = 1.7 * abs(corners).max()

    base = _Plane("base", "A cell at z|drag it", ((-4, 4), (-4, 4)))
    image = _Plane("image", "Its image at x = f(z)", ((-5, 5), (-5, 5)))
    lens = _Plane("lens", "The same, enlarged", ((-1, 1), (-1, 1)), classes="wide small")
    for k, loops in enumerate(regions):
        base.path(f"region{k}", "region edge", base.lines(loops, True))
        image.path(f"region{k}", "region edge", image.lines([map_(c) for c in loops], True))
    base.axes("z₁", "z₂")
    image.axes("x₁", "x₂", (-3, 3))
    base.path("cell", "area data", base.line(z + side * _edge(1), True))
    base.path("weave", "grid", base.lines([z + side * u for u in _weave(1)]))
    base.handle("cell", "The cell", z, "handle small", "data")
    image.path("cell", "area data", image.line(map_(z + side * _edge(24)), True))
    image.path("weave", "grid", image.lines([map_(z + side * u) for u in _weave(24)]))
    image.path("tangent", "guide ink dashed", image.line(x + side * corners, True))
    lens.path("cell", "area data", lens.line(near(_edge(24)) / reach, True))
    lens.path("weave", "grid", lens.lines([near(u) / reach for u in _weave(24)]))
    lens.path("tangent", "guide ink dashed", lens.line(corners / reach, True))

    log_z = float(star.log_prob(_double(z)))
    gap = abs(ratio / det - 1) * 100
    text = (
        f"Cell of side {_num(side, 3)} at z = {_pair(z)}, image at x = {_pair(x)}.\n"
        f"Its area grows by the factor {_num(ratio, 4)}; |det J| = {_num(det, 4)}; they differ by "
        f"{_num(gap, 4 if gap < 0.1 else 2)} %.\n"
        f"Log-density: {_num(log_z)} at z, {_num(log_z - math.log(det))} at x."
    )
    controls = (
        _range("side", "Side of the cell", -3, 0.3, 0.01, side, _num(side, 3), log=True)
        + _radio("map", "f:", {"twist": "twist", "inflate": "twist, then inflate"}, p["map"])
        + _RESET
    )
    data = {
        "regions": [[_flat(c) for c in loops] for loops in regions], "rate": rate, "angle": wheel.twist, "arms": star.k,
        "radius": star.radius, "radial": star.radial, "tangential": star.tangential,
    }  # fmt: skip
    return [base, image, lens], controls, text, data


# ---------------------------------------------------------------- a coupling with the reader's spline

_SPLINE = RQSTransformer(bins=3, bound=3.0)


def _raw(knots, slopes) -> Tensor:
    """The parameters of :class:`~nfcourse.bijections.transformers.RQSTransformer` that give these knots and slopes."""
    t, b = _SPLINE, _SPLINE.bound
    parts = np.diff(np.concatenate([[[-b, -b]], knots, [[b, b]]]), axis=0).T / (2 * b)
    logits = np.log((parts - t.min_bin) / (1 - t.min_bin * t.bins)).ravel()
    raw = np.log(np.expm1(np.asarray(slopes) - t.min_derivative)) - t.offset
    return _double(np.concatenate([logits, raw]))


def _coupling(p: dict) -> tuple:
    theta, passes = _raw(p["knots"], p["slopes"]), p["passes"]
    i, m = passes - 1, 2 - passes

    def split(a, b):
        a, b = np.broadcast_arrays(np.asarray(a, dtype=float), np.asarray(b, dtype=float))
        return np.stack([a, b] if passes == 1 else [b, a], -1)

    def run(direction, a, value):
        """The spline for each passed a: forward or inverse."""
        a, value = torch.broadcast_tensors(_double(a), _double(value))
        y, log_slope = getattr(_SPLINE, direction)(value, theta.reshape(-1, *[1] * a.dim()) * torch.sigmoid(2 * a))
        return y.numpy(), log_slope.numpy()

    a, b = p["x"][i], p["x"][m]
    zb, log_dz = (float(v) for v in run("inverse", a, b))
    again, log_dx = (float(v) for v in run("forward", a, zb))
    z = split(a, zb)
    ends = 3.4
    base = _Plane("base", "Base: z|drag", ((-ends, ends), (-ends, ends)))
    spline = _Plane(
        "spline", "The spline|drag knots, slopes", ((-ends, ends), (-5.4, ends)), (260, 336), classes="wide small"
    )
    plane = _Plane("plane", "Data: x|drag", ((-ends, ends), (-ends, ends)))
    levels, steps, cloud = np.arange(-6, 7) / 2, np.linspace(-ends, ends, 33), _cloud(260)
    square = [c for v in levels for c in ([(v, -ends), (v, ends)], [(-ends, v), (ends, v)])]
    base.path("grid", "grid", base.lines(square))
    warped = [c for v in levels for c in (split(steps, run("forward", steps, v)[0]), split(v, np.array([-ends, ends])))]
    plane.path("grid", "grid", plane.lines(warped))
    turn = np.arange(60) * math.tau / 60
    for k, mass in enumerate((0.9, 0.5)):
        ring = math.sqrt(-2 * math.log(1 - mass)) * np.stack([np.cos(turn), np.sin(turn)], 1)
        base.path(f"region{k}", "region edge", base.line(ring, True))
        image = split(ring[:, i], run("forward", ring[:, i], ring[:, m])[0])
        plane.path(f"region{k}", "region edge", plane.line(image, True))
    base.path("cloud", "dots fine base", base.dots(cloud))
    moved = split(cloud[:, i], run("forward", cloud[:, i], cloud[:, m])[0])
    plane.path("cloud", "dots fine data", plane.dots(moved))
    column = split(a, np.array([-ends, ends]))
    for panel, names in ((base, "zz"), (plane, "xx")):
        panel.path("column", "guide accent", panel.line(column))
        panel.text("", 254, 254, names[0] + "₁", 'class="halo" text-anchor="end"')
        panel.text("", 6, 16, names[1] + "₂", 'class="halo"')
    base.handle("z", "The point z", z)
    plane.handle("x", "The point x", p["x"])

    fine = np.linspace(-ends, ends, 121)
    here, slope = run("inverse", a, fine)
    full = _SPLINE.inverse(_double(fine), theta[:, None].expand(-1, len(fine)))[0].numpy()
    spline.path("axes", "grid", spline.lines([[(-ends, 0), (ends, 0)], [(0, -3.4), (0, ends)], [(-3, -3), (3, 3)]]))
    floor = -5.2
    strip = [(-ends, floor), *zip(fine, floor + 0.45 * np.exp(slope).clip(max=3.4), strict=True), (ends, floor)]
    spline.path("slope", "area model", spline.line(strip, True))
    spline.path("full", "curve ink dashed", spline.line(np.stack([fine, full], 1)))
    spline.path("here", "curve model", spline.line(np.stack([fine, here], 1)))
    spline.path("probe", "guide accent", spline.line([(b, floor), (b, zb), (-ends, zb)]))
    spline.circle("dot", "mark accent", (b, zb), 5)
    spline.text("across", 254, spline.px((0, -3.4))[0, 1] - 5, f"x{'₁₂'[m]}", 'class="halo" text-anchor="end"')
    spline.text("up", 6, 16, f"z{'₁₂'[m]}", 'class="halo"')
    spline.text("", 6, spline.px((0, -3.9))[0, 1], "its derivative", 'class="small halo"')
    tips = []
    for k, d in zip(p["knots"], p["slopes"], strict=True):
        r = 0.85 / math.hypot(1, d)
        tips.append((k[0] + r, k[1] + d * r))
    spline.path("whiskers", "guide ink", spline.lines([[k, t] for k, t in zip(p["knots"], tips, strict=True)]))
    for j, t in enumerate(tips):
        spline.handle(f"slope{j}", f"Slope at knot {j + 1}", t, "handle small", "model")
    for j, k in enumerate(p["knots"]):
        spline.handle(f"knot{j}", f"Knot {j + 1}", k, "handle", "data")

    normal = torch.distributions.Normal(0.0, 1.0)
    log_base = float(normal.log_prob(_double(z)).sum())
    one, two = "₁₂"[i], "₁₂"[m]
    text = (
        f"x{one} = {_num(a)} passes and opens the gate to {_num(1 / (1 + math.exp(-2 * a)))}.\n"
        f"Data to base: x{two} = {_num(b)} → z{two} = {_num(zb)}, log-derivative {_num(log_dz, 3)}. "
        f"Base to data: z{two} = {_num(zb)} → x{two} = {_num(again)}, log-derivative {_num(log_dx, 3)}.\n"
        f"log p(x) = {_num(log_base, 3)} {'−' if log_dz < 0 else '+'} {_num(abs(log_dz), 3)} = "
        f"{_num(log_base + log_dz, 3)}."
    )
    controls = _radio("passes", "Which half passes?", {"1": "the first", "2": "the second"}, passes) + _RESET
    data = {
        "cloud": _flat(cloud), "bound": _SPLINE.bound, "min_bin": _SPLINE.min_bin,
        "min_derivative": _SPLINE.min_derivative,
    }  # fmt: skip
    return [base, spline, plane], controls, text, data


# ---------------------------------------------------------------- two orders


def _log_normal(x, mean=0.0, std=1.0):
    return -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * math.log(math.tau)


def _log_banana(x1, x2):
    """The law of chapter 10: x2 is N(0, 4), and x1 given x2 is N(x2² / 4, 1)."""
    return _log_normal(x2, 0.0, 2.0) + _log_normal(x1, x2**2 / 4)


def _first(x1) -> tuple[np.ndarray, np.ndarray]:
    """The log-density of x1, and the variance of x2 given x1 (its mean is 0), by a sum over x2."""
    x1, grid = np.asarray(x1, dtype=float), np.arange(-340, 341) * 0.05
    logs = _log_banana(x1[..., None], grid)
    top = logs.max(-1)
    w = np.exp(logs - top[..., None])
    return top + np.log(0.05 * w.sum(-1)), (w * grid**2).sum(-1) / w.sum(-1)


@functools.cache
def _orders() -> tuple[tuple[float, float], tuple]:
    """What normal conditionals lose in the orders (x2, x1) and (x1, x2), in nats; regions of the two models."""
    x1, x2 = np.linspace(-6, 60, 2641), np.linspace(-9, 9, 361)
    log_p1, variance = _first(x1)
    p1, d = np.exp(log_p1), x1[1] - x1[0]
    # H(p1) + H(x2 | x1) is the entropy of the law, 1 + log 2π + log 2
    model = 0.5 * math.log(math.tau * math.e * 3) + (p1 * 0.5 * np.log(math.tau * math.e * variance)).sum() * d
    loss = model - (1 + math.log(math.tau) + math.log(2))
    near = x1[(x1 < 14) & (np.arange(len(x1)) % 3 == 0)]
    a, b = np.meshgrid(near, x2)
    spread = np.sqrt(_first(near)[1])
    truth = np.exp(_log_banana(a, b))
    poor = np.exp(_log_normal(a, 1.0, math.sqrt(3)) + _log_normal(b, 0.0, spread))
    return (0.0, float(loss)), tuple(_regions(q, near, x2, (0.9, 0.5), 90) for q in (truth, poor))


def _heads(order: str, x) -> tuple:
    """Mean and deviation of each coordinate in the model that reads in this order."""
    if order == "21":
        return (x[1] ** 2 / 4, 1.0), (0.0, 2.0)
    return (1.0, math.sqrt(3)), (0.0, np.sqrt(_first(x[0])[1]))


def _autoregressive(p: dict) -> tuple:
    loss, (truth, poor) = _orders()
    x, order = p["x"], p["order"]
    one = order == "12"
    i, j = (0, 1) if one else (1, 0)
    z = [float((x[k] - m) / s) for k, (m, s) in enumerate(_heads(order, x))]
    cloud = _cloud(240)
    drawn = [None, None]
    for k in (i, j):
        drawn = [np.zeros(len(cloud)) if v is None else v for v in drawn]
        m, s = _heads(order, drawn)[k]
        drawn[k] = m + s * cloud[:, k]

    base = _Plane("base", "Base: z|drag", ((-3.4, 3.4), (-3.4, 3.4)))
    plane = _Plane("plane", "Data: x|drag", ((-4, 9), (-6.5, 6.5)), classes="small")
    slice_ = _Plane(
        "slice", "The conditional on the line", ((0, 1), (0, 1)), (260, 260), (10, 10, 24, 12), classes="wide small"
    )
    plane.axes("x₁", "x₂", (4,))
    for k, loops in enumerate(truth):
        plane.path(f"truth{k}", "region edge", plane.lines(loops, True))
    for name, loops, off in (("q21", truth, one), ("q12", poor, not one)):
        d = "".join(plane.lines(c, True) for c in loops)
        plane.path(name, "guide model dashed" + " off" * off, d)
    plane.path("cloud", "dots fine model", plane.dots(np.stack(drawn, 1)))
    low, high = (-6.5, 6.5) if one else (-4.0, 9.0)

    def at(t):
        return (x[0], t) if one else (t, x[1])

    plane.path("slice", "guide accent", plane.line([at(low), at(high)]))
    plane.circle("first", "mark accent", (x[0], -6.5) if one else (-4, x[1]), 6)
    base.axes("z₁", "z₂")
    base.path("cloud", "dots fine base", base.dots(cloud))
    base.path("steps", "guide accent", base.line([(z[0], -3.4), z] if one else [(-3.4, z[1]), z]))
    base.handle("z", "The point z", z)
    plane.handle("x", "The point x", x)

    log_p, log_p1 = float(_log_banana(*x)), float(_first(x[0])[0])
    chain = {"21": float(_log_normal(x[1], 0.0, 2.0)), "12": log_p1}
    q = {o: float(sum(_log_normal(x[k], m, s) for k, (m, s) in enumerate(_heads(o, x)))) for o in ("21", "12")}
    grid = np.linspace(low, high, 161)
    curve = np.exp(_log_banana(*(np.broadcast_to(v, grid.shape) for v in at(grid))) - chain[order])
    model = np.exp(_log_normal(grid, *_heads(order, x)[j]))
    tall, place = 1.12 * max(0.42, curve.max(), model.max()), (grid - low) / (high - low)
    left, right, bottom, _ = slice_.ends
    shape = [(0, 0), *zip(place, curve / tall, strict=True), (1, 0)]
    slice_.path("axis", "rule", f"M{left} {bottom}H{right}")
    slice_.path("truth", "region edge", slice_.line(shape, True))
    slice_.path("model", "curve model", slice_.line(np.stack([place, model / tall], 1)))
    where = (x[j] - low) / (high - low)
    slice_.path("probe", "guide accent", slice_.line([(where, 0), (where, 1)]))
    slice_.text("low", left, bottom + 18, _num(low, 1), 'class="small"')
    slice_.text("high", right, bottom + 18, _num(high, 1), 'class="small" text-anchor="end"')
    name = "x₂ given x₁" if one else "x₁ given x₂"
    slice_.text("name", (left + right) / 2, bottom + 18, name, 'text-anchor="middle"')

    a, b = "₁₂"[i], "₁₂"[j]

    def add(first):
        rest = log_p - first
        return f"{_num(first)} {'−' if rest < 0 else '+'} {_num(abs(rest))}"

    text = (
        f"Sampling in this order: z{a} = {_num(z[i])} → x{a} = {_num(x[i])}, then z{b} = {_num(z[j])} → "
        f"x{b} = {_num(x[j])}.\n"
        f"The law, in either order: log p = {add(chain['21'])} = {add(chain['12'])} = {_num(log_p)}.\n"
        f"The models with normal conditionals: log q = {_num(q['21'])} reading x₂ first, {_num(q['12'])} reading x₁ "
        f"first. On average they lose {_num(loss[0])} and {_num(loss[1])} nats."
    )
    choices = {"21": "x₂, then x₁", "12": "x₁, then x₂"}
    controls = _radio("order", "The model reads", choices, order) + _RESET
    return [base, plane, slice_], controls, text, {"cloud": _flat(cloud), "loss": list(loss)}


# ---------------------------------------------------------------- the element

#: Each figure: how it is drawn, its parameters with their defaults and what they may be, its columns.
_FIGURES: dict[str, tuple[Callable, dict[str, tuple], str]] = {
    "hero": (
        _hero,
        {
            "strength": (1.0, _number(0, 1)),
            "inflate": (False, _choice(False, True)),
            "w": ([0.8, 1.7], _disc(3.5)),
        },
        "hero",
    ),
    "twist": (
        _twist,
        {
            "cell": ([1.2, -0.7], _disc(3)),
            "side": (0.8, _number(0.001, 2)),
            "map": ("inflate", _choice("twist", "inflate")),
        },
        "3",
    ),
    "coupling": (
        _coupling,
        {
            "passes": (1, _choice(1, 2)),
            "knots": ([[-1.5, -0.25], [1.5, 0.25]], _knots),
            "slopes": ([0.4, 0.4], lambda *a: _point((0.05, 20), (0.05, 20))(*a)),
            "x": ([1.0, 1.4], _point((-3.3, 3.3), (-3.3, 3.3))),
        },
        "3",
    ),
    "autoregressive": (
        _autoregressive,
        {
            "order": ("12", _choice("21", "12")),
            "x": ([3.0, 2.6], _point((-3.8, 8.8), (-6.3, 6.3))),
        },
        "3",
    ),
}

#: The figures that :func:`live` knows.
NAMES = tuple(_FIGURES)


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
            (``"autoregressive"``).

    Raises:
        ValueError: If the name or a parameter is unknown, a parameter is out of its range, or ``alt`` is empty.
    """
    if name not in _FIGURES:
        raise ValueError(f"live expects one of {NAMES}, got {name!r}.")
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"live({name!r}): alt expects a text that says what the figure shows, got {alt!r}.")
    play = _choice(False, True)(name, "play", play)
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
