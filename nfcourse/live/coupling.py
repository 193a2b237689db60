"""A coupling layer in the plane with the reader's spline."""

import math

import numpy as np
import torch
from torch import Tensor

from ..bijections import RQSTransformer
from .frame import RESET, Figure, Plane, double, draws, fail, hundredths, num, one_of, point_within, radio, real


def _knots(name, key, value):
    expected = "two knots (x, z) that increase in both, at least 0.1 apart and from the ends of [-3, 3]"
    try:
        k = np.array([[real(v) for v in knot] for knot in value]).reshape(2, 2)
    except (TypeError, ValueError):
        fail(name, key, expected, value)
    if not (np.diff(np.concatenate([[[-3, -3]], k, [[3, 3]]]), axis=0) >= 0.1 - 1e-9).all():
        fail(name, key, expected, value)
    return k.tolist()


_SPLINE = RQSTransformer(bins=3, bound=3.0)


def _raw(knots, slopes) -> Tensor:
    """The parameters of :class:`~nfcourse.bijections.transformers.RQSTransformer` that give these knots and slopes."""
    t, b = _SPLINE, _SPLINE.bound
    parts = np.diff(np.concatenate([[[-b, -b]], knots, [[b, b]]]), axis=0).T / (2 * b)
    logits = np.log((parts - t.min_bin) / (1 - t.min_bin * t.bins)).ravel()
    raw = np.log(np.expm1(np.asarray(slopes) - t.min_derivative)) - t.offset
    return double(np.concatenate([logits, raw]))


def draw(p: dict) -> tuple:
    """Draw the spline, and what the layer makes of the plane, both ways."""
    theta, passes = _raw(p["knots"], p["slopes"]), p["passes"]
    i, m = passes - 1, 2 - passes

    def split(a, b):
        a, b = np.broadcast_arrays(np.asarray(a, dtype=float), np.asarray(b, dtype=float))
        return np.stack([a, b] if passes == 1 else [b, a], -1)

    def run(direction, a, value):
        """The spline for each passed a: forward or inverse."""
        a, value = torch.broadcast_tensors(double(a), double(value))
        y, log_slope = getattr(_SPLINE, direction)(value, theta.reshape(-1, *[1] * a.dim()) * torch.sigmoid(2 * a))
        return y.numpy(), log_slope.numpy()

    a, b = p["x"][i], p["x"][m]
    zb, log_dz = (float(v) for v in run("inverse", a, b))
    again, log_dx = (float(v) for v in run("forward", a, zb))
    z = split(a, zb)
    ends = 3.4
    base = Plane("base", "Base: z|drag", ((-ends, ends), (-ends, ends)))
    spline = Plane(
        "spline", "The spline|drag knots, slopes", ((-ends, ends), (-5.4, ends)), (260, 336), classes="wide small"
    )
    plane = Plane("plane", "Data: x|drag", ((-ends, ends), (-ends, ends)))
    levels, steps, cloud = np.arange(-6, 7) / 2, np.linspace(-ends, ends, 33), draws(260)
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
    full = _SPLINE.inverse(double(fine), theta[:, None].expand(-1, len(fine)))[0].numpy()
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
    log_base = float(normal.log_prob(double(z)).sum())
    one, two = "₁₂"[i], "₁₂"[m]
    text = (
        f"x{one} = {num(a)} passes and opens the gate to {num(1 / (1 + math.exp(-2 * a)))}.\n"
        f"Data to base: x{two} = {num(b)} → z{two} = {num(zb)}, log-derivative {num(log_dz, 3)}. "
        f"Base to data: z{two} = {num(zb)} → x{two} = {num(again)}, log-derivative {num(log_dx, 3)}.\n"
        f"log p(x) = {num(log_base, 3)} {'−' if log_dz < 0 else '+'} {num(abs(log_dz), 3)} = "
        f"{num(log_base + log_dz, 3)}."
    )
    controls = radio("passes", "Which half passes?", {"1": "the first", "2": "the second"}, passes) + RESET
    data = {
        "cloud": hundredths(cloud), "bound": _SPLINE.bound, "min_bin": _SPLINE.min_bin,
        "min_derivative": _SPLINE.min_derivative,
    }  # fmt: skip
    return [base, spline, plane], controls, text, data


FIGURE = Figure(
    draw,
    {
        "passes": (1, one_of(1, 2)),
        "knots": ([[-1.5, -0.25], [1.5, 0.25]], _knots),
        "slopes": ([0.4, 0.4], point_within((0.05, 20), (0.05, 20))),
        "x": ([1.0, 1.4], point_within((-3.3, 3.3), (-3.3, 3.3))),
    },
    "3",
)
