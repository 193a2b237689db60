"""Darts at an arm of the inflated pinwheel: each asks whether it comes from the ellipse whose image the arm is."""

import functools
import math

import numpy as np

from ..data import Pinwheel
from .frame import RESET, Figure, Plane, count, double, fail, num, one_of, point_within, steps

_WHEEL = Pinwheel(inflate=0.5)
#: What is counted, and what is drawn of it.
_COUNTS, _DRAWN = (100, 300, 1000, 3000, 10_000, 20_000), 2000
_VIEW, _BASE, _SMALLEST = ((-5.0, 1.5), (-0.5, 3.4)), ((0.4, 3.6), (-1.2, 1.2)), 0.25
_MIDDLE, _HALF = _WHEEL.radius, (2 * _WHEEL.radial, 2 * _WHEEL.tangential)


def _uniform(seed: int, n: int) -> np.ndarray:
    """Return n numbers in [0, 1): those of mulberry32, the same bits as in the page."""
    a = np.arange(1, n + 1, dtype=np.uint32) * np.uint32(0x6D2B79F5) + np.uint32(1000 * seed)
    t = (a ^ (a >> np.uint32(15))) * (a | np.uint32(1))
    t ^= t + (t ^ (t >> np.uint32(7))) * (t | np.uint32(61))
    return (t ^ (t >> np.uint32(14))) / 2.0**32


def _ellipse(n: int) -> np.ndarray:
    t = np.arange(n) * math.tau / n
    return np.stack([_MIDDLE + _HALF[0] * np.cos(t), _HALF[1] * np.sin(t)], 1)


@functools.cache
def _area() -> float:
    """Integrate |det J| over the ellipse, in its polar coordinates; the error is below 1e-12."""
    s, weight = np.polynomial.legendre.leggauss(40)
    s, weight = (s[:, None] + 1) / 2, weight[:, None] / 2
    t = np.arange(128) * math.tau / 128
    r = _WHEEL.inflate * np.hypot(_MIDDLE + _HALF[0] * s * np.cos(t), _HALF[1] * s * np.sin(t))
    det = np.cosh(r) * np.sinh(r) / r
    return float((weight * s * det).sum() * math.tau / 128 * _HALF[0] * _HALF[1])


def _board(name, key, value):
    expected = (
        f"two corners (left, bottom), (right, top) in {_VIEW[0]} by {_VIEW[1]}, at least {_SMALLEST} apart in both"
    )
    try:
        low, high = value
        corners = [point_within(*_VIEW)(name, key, corner) for corner in (low, high)]
    except (TypeError, ValueError):
        fail(name, key, expected, value)
    if not all(b - a >= _SMALLEST - 1e-9 for a, b in zip(*corners, strict=True)):
        fail(name, key, expected, value)
    return corners


def draw(p: dict) -> tuple:
    """Draw the arm with its darts, and where they come from."""
    (x0, y0), (x1, y1) = low, high = p["board"]
    n = p["n"]
    u = _uniform(p["seed"], 2 * n).reshape(n, 2)
    x = np.stack([x0 + u[:, 0] * (x1 - x0), y0 + u[:, 1] * (y1 - y0)], 1)
    w = _WHEEL.unwarp(double(x)).numpy()
    hit = ((w[:, 0] - _MIDDLE) / _HALF[0]) ** 2 + (w[:, 1] / _HALF[1]) ** 2 <= 1
    hits, board = int(hit.sum()), (x1 - x0) * (y1 - y0)
    share = hits / n
    estimate, error, area = board * share, board * math.sqrt(share * (1 - share) / n), _area()
    outline = _WHEEL.warp(double(_ellipse(240))).numpy()
    cut = bool(((outline < low) | (outline > high)).any())

    plane = Plane("plane", "Darts at the arm f(A)|drag the board's corners", _VIEW, (400, 240), classes="wide small")
    base = Plane("base", "Where they come from: A", _BASE, (240, 180), classes="wide small")
    for panel, names, ticks in ((plane, "xx", ((-4, -2), (1, 2))), (base, "zz", ((1, 2, 3), (1,)))):
        (a, b), (c, d) = panel.box
        panel.path("axes", "grid", panel.lines([[(a, 0), (b, 0)], [(0, c), (0, d)]]))
        left, right, bottom, top = panel.ends
        for t in ticks[0]:
            panel.text("", panel.px((t, 0))[0, 0], bottom - 5, num(t, 0), 'class="small halo" text-anchor="middle"')
        for t in ticks[1]:
            panel.text("", left + 5, panel.px((0, t))[0, 1] + 4, num(t, 0), 'class="small halo"')
        panel.text("", right - 6, bottom - 6, names[0] + "₁", 'class="halo" text-anchor="end"')
        panel.text("", left + 6, top + 16, names[1] + "₂", 'class="halo"')
    shown = np.arange(n) < _DRAWN
    (a, b), (c, d) = _BASE
    near = (w[:, 0] > a) & (w[:, 0] < b) & (w[:, 1] > c) & (w[:, 1] < d)
    plane.path("arm", "region edge", plane.line(outline, True))
    base.path("arm", "region edge", base.line(_ellipse(240), True))
    for name, look, which in (("misses", "dots fine", ~hit), ("hits", "dots fine data", hit)):
        plane.path(name, look, plane.dots(x[which & shown]))
        base.path(name, look, base.dots(w[which & shown & near]))
    side = np.arange(48) / 48
    corners = np.array([low, (x1, y0), high, (x0, y1)])
    edge = np.concatenate([a + side[:, None] * (b - a) for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)])
    plane.path("board", "guide ink", plane.line(corners, True))
    base.path("board", "guide ink", base.line(_WHEEL.unwarp(double(edge)).numpy(), True))
    plane.handle("low", "The board's lower left corner", low)
    plane.handle("high", "The board's upper right corner", high)

    away = "with this share the formula gives a standard error of 0."
    if error:
        apart = (estimate - area) / error
        away = f"the estimate lies {num(abs(apart), 1)} standard errors {'below' if apart < 0 else 'above'} it."
    text = (
        f"{count(hits)} of {count(n)} darts hit: a share of {num(share, 4)}. The board's area is {num(board, 3)}."
        + f" The first {count(_DRAWN)} darts are drawn." * (n > _DRAWN)
        + "\n"
        f"Estimate {num(board, 3)} · {num(share, 4)} = {num(estimate, 3)}, standard error {num(error, 3)}.\n"
        f"The arm's true area is {num(area, 3)}; {away}" + "\nThe board cuts the arm off." * cut
    )
    controls = (
        steps("n", "Darts", _COUNTS, n, count(n))
        + steps("seed", "Seed", tuple(range(10)), p["seed"], str(p["seed"]))
        + RESET
    )
    data = {
        "rate": _WHEEL.inflate, "angle": _WHEEL.twist, "middle": _MIDDLE, "half": list(_HALF), "area": area,
        "drawn": _DRAWN, "smallest": _SMALLEST,
    }  # fmt: skip
    return [plane, base], controls, text, data


FIGURE = Figure(
    draw,
    {
        "board": ([[-4.5, 0.3], [1.0, 2.7]], _board),
        "n": (1000, one_of(*_COUNTS)),
        "seed": (5, one_of(*range(10))),
    },
    "darts",
)
