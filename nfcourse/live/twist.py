"""A square cell, its image under the twist, and the parallelogram that the Jacobian makes of it."""

import math

import numpy as np

from ..data import Pinwheel
from .frame import RESET, Figure, Plane, double, hundredths, in_disc, num, one_of, pair, radio, slider, within
from .star import jacobian, the_star


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


def draw(p: dict) -> tuple:
    """Draw a cell, its image, and both enlarged with the parallelogram."""
    star, _, regions = the_star()
    rate = 0.5
    wheel = Pinwheel(inflate=rate if p["map"] == "inflate" else 0.0)

    def map_(z):
        return wheel.warp(double(z)).numpy()

    z, side = np.array(p["cell"]), p["side"]
    x, J = map_(z), jacobian(wheel.warp, z)
    det = abs(float(np.linalg.det(J)))

    def near(u):
        return (map_(z + side * u) - x) / side

    ratio = (4 * _area(near(_edge(800))) - _area(near(_edge(400)))) / 3
    corners = _edge(1) @ J.T
    reach = 1.7 * abs(corners).max()

    base = Plane("base", "A cell at z|drag it", ((-4, 4), (-4, 4)))
    image = Plane("image", "Its image at x = f(z)", ((-5, 5), (-5, 5)))
    lens = Plane("lens", "The same, enlarged", ((-1, 1), (-1, 1)), classes="wide small")
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

    log_z = float(star.log_prob(double(z)))
    gap = abs(ratio / det - 1) * 100
    text = (
        f"Cell of side {num(side, 3)} at z = {pair(z)}, image at x = {pair(x)}.\n"
        f"Its area grows by the factor {num(ratio, 4)}; |det J| = {num(det, 4)}; they differ by "
        f"{num(gap, 4 if gap < 0.1 else 2)} %.\n"
        f"Log-density: {num(log_z)} at z, {num(log_z - math.log(det))} at x."
    )
    controls = (
        slider("side", "Side of the cell", -3, 0.3, 0.01, side, num(side, 3), log=True)
        + radio("map", "f:", {"twist": "twist", "inflate": "twist, then inflate"}, p["map"])
        + RESET
    )
    data = {
        "regions": [[hundredths(c) for c in loops] for loops in regions], "rate": rate, "angle": wheel.twist,
        "arms": star.k, "radius": star.radius, "radial": star.radial, "tangential": star.tangential,
    }  # fmt: skip
    return [base, image, lens], controls, text, data


FIGURE = Figure(
    draw,
    {
        "cell": ([1.2, -0.7], in_disc(3)),
        "side": (0.8, within(0.001, 2)),
        "map": ("inflate", one_of("twist", "inflate")),
    },
    "3",
)
