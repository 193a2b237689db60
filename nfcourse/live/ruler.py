"""A law on the line, a window on it, and the window's mass over its size by three rulers."""

import math
from itertools import groupby
from typing import NamedTuple

from .frame import RESET, Figure, Plane, num, one_of, radio, sig, slider, within


class _Law(NamedTuple):
    name: str
    shown: str  # what the picture shows of it
    ends: tuple[float, float]  # the part of the line in the picture
    top: float
    per: int  # steps of the window's centre in a unit
    atoms: tuple[float, ...] = ()


_LAWS = {
    "gaussian": _Law("Gaussian", "density", (-4.0, 4.0), 0.45, 20),
    "relu": _Law("ReLU of a Gaussian", "density, and an atom of mass 1/2", (-1.0, 3.0), 0.6, 20, (0.0,)),
    "cantor": _Law("Cantor", "distribution function", (-0.5, 1.5), 1.15, 100),
    "die": _Law("die", "six atoms of mass 1/6", (-1.0, 7.0), 0.25, 20, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)),
}
_NARROW, _WIDE = 0.001, 2.0
#: The widths of the curves, and what they show: logarithms to base 10.
_WIDTHS, _LEVELS = [10 ** (k / 40) for k in range(12, -121, -1)], (-4.0, 3.0)


def _bell(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(math.tau)


def _normal(x: float) -> float:
    """The distribution function of N(0, 1): a series of positive terms, so that no digits cancel."""
    if abs(x) > 8.5:
        return float(x > 0)
    term = total = abs(x)
    k = 1
    while term > 1e-18 * total:
        k += 2
        term *= x * x / k
        total += term
    return 0.5 + math.copysign(total * _bell(x), x)


def _cantor(x: float) -> float:
    """The distribution function of the Cantor law: forty ternary digits, in whole numbers."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    rest, value = int(x * 2**60), 0.0
    for k in range(1, 41):
        digit, rest = divmod(3 * rest, 2**60)
        value += 0.5**k * (digit > 0)
        if digit == 1:
            break
    return value


def _cdf(law: str, x: float) -> float:
    if law == "cantor":
        return _cantor(x)
    if law == "die":
        return min(6, max(0, math.floor(x))) / 6
    return 0.0 if law == "relu" and x < 0 else _normal(x)


def _ends(centre: float, width: float) -> tuple[float, float]:
    """The window's ends, rid of rounding: 2.05 - 0.1 / 2 is 2, and (2, 2.1] holds no atom."""
    return tuple(math.floor((centre + s * width / 2) * 1e12 + 0.5) / 1e12 for s in (-1, 1))


def _weigh(law: str, centre: float, width: float) -> tuple[float, int, bool, tuple[float | None, ...]]:
    """Of the window (a, b]: mass, atoms, whether 0 is in it; mass over length, over atoms, over length and 0."""
    a, b = _ends(centre, width)
    mass, zero = _cdf(law, b) - _cdf(law, a), a < 0 <= b
    atoms = sum(a < t <= b for t in _LAWS[law].atoms)
    return mass, atoms, zero, (mass / width, mass / atoms if atoms else None, mass / (width + zero))


def _level(q: float) -> float:
    return min(_LEVELS[1], max(_LEVELS[0], math.log10(q))) if q > 0 else _LEVELS[0]


def _stairs(x: float, y: float, w: float, h: float, depth: int) -> list:
    if not depth:
        return [(x, y), (x + w, y + h)]
    return [*_stairs(x, y, w / 3, h / 2, depth - 1), *_stairs(x + 2 * w / 3, y + h / 2, w / 3, h / 2, depth - 1)]


def _picture(p: dict, centre: float) -> Plane:
    name, width = p["law"], p["width"]
    law = _LAWS[name]
    low, high = law.ends
    a, b = (min(high, max(low, centre + s * width / 2)) for s in (-1, 1))
    panel = Plane(
        "line", "A law, and a window (a, b]|drag it", ((0, 1), (0, 1)), (340, 220), (12, 12, 28, 8), False, "wide small"
    )
    left, right, bottom, _ = panel.ends

    def at(x, y):
        return ((x - low) / (high - low), y / law.top)

    panel.path("axis", "rule", f"M{left} {bottom}H{right}")
    panel.path("window", "area accent", panel.line([at(a, 0), at(a, law.top), at(b, law.top), at(b, 0)], True))
    curve, under = [], []
    if name == "cantor":
        curve = [at(low, 0), *(at(*q) for q in _stairs(0.0, 0.0, 1.0, 1.0, 7)), at(high, 1)]
        c, d = _cantor(a), _cantor(b)
        under = [at(low, c), at(a, c), at(b, d), at(low, d)]
    elif name != "die":
        start = 0.0 if name == "relu" else low
        curve = [at(v, _bell(v)) for v in (start + (high - start) * k / 120 for k in range(121))]
        if b > start:
            a = max(a, start)
            under = [at(a, 0), *(at(v, _bell(v)) for v in (a + (b - a) * k / 40 for k in range(41))), at(b, 0)]
    panel.path("under", "area base", panel.line(under, True) if under else "")
    panel.path("curve", "curve base", panel.line(curve) if curve else "")
    mass = 1 / (2 if name == "relu" else 6)
    panel.path("bars", "curve data", panel.lines([[at(t, 0), at(t, mass)] for t in law.atoms]))
    panel.path("tips", "dots data", panel.dots([at(t, mass) for t in law.atoms]) if law.atoms else "")
    panel.text("shown", left + 4, 22, law.shown, 'class="halo"')
    for k in range(5):
        anchor = ("start", "middle", "middle", "middle", "end")[k]
        tick = low + (high - low) * k / 4
        text = num(tick, 0 if tick == int(tick) else 1)
        panel.text(
            f"tick{k}", left + (right - left) * k / 4, bottom + 20, text, f'class="small" text-anchor="{anchor}"'
        )
    panel.handle("centre", "The window", at(centre, 0))
    return panel


_LOOKS = ("base", "data", "model dashed")


def _chart(law: str, centre: float, width: float, now: tuple) -> Plane:
    panel = Plane(
        "chart", "Mass ÷ size, down to this width", ((0.3, -3), _LEVELS), (340, 220), (44, 12, 28, 30), False,
        "wide small",
    )  # fmt: skip
    left, right, bottom, top = panel.ends
    panel.path("grid", "grid", panel.lines([[(0.3, y), (-3, y)] for y in (-3, 0, 3)]))
    panel.path("axis", "rule", f"M{left} {bottom}H{right}")
    for y, text in ((-3, "0.001"), (0, "1"), (3, "1,000")):
        panel.text("", left - 5, panel.px((0, y))[0, 1] + 4, text, 'class="small" text-anchor="end"')
    for x, text, anchor in ((0.3, "2", "start"), (-3, "0.001", "end")):
        panel.text("", panel.px((x, 0))[0, 0], bottom + 20, text, f'class="small" text-anchor="{anchor}"')
    panel.text("", (left + right) / 2, bottom + 20, "width of the window", 'text-anchor="middle"')
    for k, (x, text) in enumerate(((4, "÷ length"), (118, "÷ atoms"), (224, "÷ (λ + δ₀)"))):
        panel.path(f"key{k}", f"curve {_LOOKS[k]}", f"M{x} 13h22")
        panel.text("", x + 28, 17, text)
    widths = [w for w in _WIDTHS if w > width]
    points = [(math.log10(w), _weigh(law, centre, w)[3]) for w in widths] + [(math.log10(width), now)]
    for k, look in enumerate(_LOOKS):
        runs = [list(run) for there, run in groupby(points, lambda p, k=k: p[1][k] is not None) if there]
        panel.path(f"curve{k}", f"curve {look}", panel.lines([[(x, _level(q[k])) for x, q in run] for run in runs]))
    for k, look in enumerate(("base", "data", "model")):
        off, level = " off" * (now[k] is None), _level(now[k] or 0)
        panel.circle(f"now{k}", f"mark {look}{off}", (math.log10(width), level), 7 - 1.5 * k)
    return panel


def draw(p: dict) -> tuple:
    """Draw the law with its window, and the three quotients of all windows down to this one."""
    law, width = p["law"], p["width"]
    low, high = _LAWS[law].ends
    centre = min(high, max(low, p["centre"]))
    mass, atoms, zero, quotients = _weigh(law, centre, width)
    m, w = sig(mass), sig(width)
    count = "–, no atom in the window" if quotients[1] is None else f"{m} ÷ {atoms} = {sig(quotients[1])}"
    text = (
        f"Window ({num(centre - width / 2, 4)}, {num(centre + width / 2, 4)}]: mass {m}, length {w}, atoms {atoms}.\n"
        f"Against length, λ: {m} ÷ {w} = {sig(quotients[0])}.\n"
        f"Against the count of atoms: {count}.\n"
        f"Against λ + δ₀: {m} ÷ ({w} + {int(zero)}) = {sig(quotients[2])}, for 0 is {'' if zero else 'not '}in the "
        "window."
    )
    controls = (
        radio("law", "Law:", {key: v.name for key, v in _LAWS.items()}, law)
        + slider("width", "Width", math.log10(_NARROW), 0.3, 0.01, width, w, log=True)
        + RESET
    )
    data = {
        "laws": {
            key: {"shown": v.shown, "ends": v.ends, "top": v.top, "per": v.per, "atoms": v.atoms}
            for key, v in _LAWS.items()
        }
    }
    return [_picture(p, centre), _chart(law, centre, width, quotients)], controls, text, data


FIGURE = Figure(
    draw,
    {
        "law": ("gaussian", one_of(*_LAWS)),
        "centre": (0.0, within(-4, 7)),
        "width": (1.0, within(_NARROW, _WIDE)),
    },
    "2",
)
