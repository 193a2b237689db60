"""One law read in two orders, of which one has normal conditionals."""

import functools
import math

import numpy as np

from .frame import RESET, Figure, Plane, draws, hundredths, level_sets, num, one_of, point_within, radio


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
    return (0.0, float(loss)), tuple(level_sets(q, near, x2, (0.9, 0.5), 90) for q in (truth, poor))


def _heads(order: str, x) -> tuple:
    """Mean and deviation of each coordinate in the model that reads in this order."""
    if order == "21":
        return (x[1] ** 2 / 4, 1.0), (0.0, 2.0)
    return (1.0, math.sqrt(3)), (0.0, np.sqrt(_first(x[0])[1]))


def draw(p: dict) -> tuple:
    """Draw the point in both spaces, and the conditional on its line."""
    loss, (truth, poor) = _orders()
    x, order = p["x"], p["order"]
    one = order == "12"
    i, j = (0, 1) if one else (1, 0)
    z = [float((x[k] - m) / s) for k, (m, s) in enumerate(_heads(order, x))]
    cloud = draws(240)
    drawn = [None, None]
    for k in (i, j):
        drawn = [np.zeros(len(cloud)) if v is None else v for v in drawn]
        m, s = _heads(order, drawn)[k]
        drawn[k] = m + s * cloud[:, k]

    base = Plane("base", "Base: z|drag", ((-3.4, 3.4), (-3.4, 3.4)))
    plane = Plane("plane", "Data: x|drag", ((-4, 9), (-6.5, 6.5)), classes="small")
    slice_ = Plane(
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
    slice_.text("low", left, bottom + 18, num(low, 1), 'class="small"')
    slice_.text("high", right, bottom + 18, num(high, 1), 'class="small" text-anchor="end"')
    name = "x₂ given x₁" if one else "x₁ given x₂"
    slice_.text("name", (left + right) / 2, bottom + 18, name, 'text-anchor="middle"')

    a, b = "₁₂"[i], "₁₂"[j]

    def add(first):
        rest = log_p - first
        return f"{num(first)} {'−' if rest < 0 else '+'} {num(abs(rest))}"

    text = (
        f"Sampling in this order: z{a} = {num(z[i])} → x{a} = {num(x[i])}, then z{b} = {num(z[j])} → "
        f"x{b} = {num(x[j])}.\n"
        f"The law, in either order: log p = {add(chain['21'])} = {add(chain['12'])} = {num(log_p)}.\n"
        f"The models with normal conditionals: log q = {num(q['21'])} reading x₂ first, {num(q['12'])} reading x₁ "
        f"first. On average they lose {num(loss[0])} and {num(loss[1])} nats."
    )
    choices = {"21": "x₂, then x₁", "12": "x₁, then x₂"}
    controls = radio("order", "The model reads", choices, order) + RESET
    return [base, plane, slice_], controls, text, {"cloud": hundredths(cloud), "loss": list(loss)}


FIGURE = Figure(
    draw,
    {"order": ("12", one_of("21", "12")), "x": ([3.0, 2.6], point_within((-3.8, 8.8), (-6.3, 6.3)))},
    "3",
)
