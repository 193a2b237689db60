"""The drawings of the course, each a few lines in the vocabulary of :class:`Schematic`."""

import math
from collections.abc import Callable

from .drawing import Point, Schematic

__all__ = ["coupling", "made", "masks", "mass_in_a_cell", "mixture_plate", "multiscale", "push_forward"]


def coupling() -> Schematic:
    """Draw a coupling layer: one half passes unchanged and tells the conditioner how to move the other half."""
    s = Schematic(
        13,
        6.5,
        alt="A coupling layer. The vector z is split in two halves. The half A passes unchanged. It also "
        "feeds a conditioner, whose output, the parameters theta, drives a transformer; the transformer "
        "maps the half B, entry by entry. The log-determinant is the sum of the log-slopes of the "
        "transformer over B.",
    )
    for half, y, role in (("A", 1.0, "base"), ("B", 4.2, "data")):
        s.mask(f"z{half}", (1.7, y), [[1]] * 3, role="base").text((0.8, y), f"$z_{half}$")
        s.mask(f"x{half}", (11.3, y), [[1]] * 3, role=role).text((12.2, y), f"$x_{half}$")
    s.box("net", (6.5, 2.4), "conditioner", size=(3.2, 0.9), role="model")
    s.box("map", (6.5, 4.2), "transformer $τ$", size=(3.4, 0.9), role="accent")
    s.arrow("zA", "xA", "unchanged").arrow((6.5, 1.0), "net").arrow("net", "map", "$θ$")
    s.arrow("zB", "map").arrow("map", "xB").arrow("map", (6.5, 5.55), style="dashed")
    return s.text((6.5, 5.95), "$\\log |\\det J| = Σ_{i ∈ B} \\log τ'(z_i; θ)$")


def made() -> Schematic:
    """Draw a MADE for three coordinates: degrees, the open connections, and the masks as matrices."""
    before, hidden, after = (1, 2, 3), (1, 1, 2, 2), (1, 2, 3)
    first = [[m >= d for d in before] for m in hidden]
    second = [[d > m for m in hidden] for d in after]
    paths = [[any(row[k] and first[k][j] for k in range(4)) for j in range(3)] for row in second]
    s = Schematic(
        13,
        6.6,
        alt="A network with three inputs, four hidden units of degrees 1, 1, 2, 2, and three outputs. Output "
        "1 hears no input, output 2 hears input 1, output 3 hears inputs 1 and 2. On the right the two "
        "masks as grids, and their product, which is filled strictly below the diagonal only.",
    )
    for k in range(3):
        s.node(f"x{k}", (0.9, 1.3 + 1.9 * k), f"$x_{k + 1}$", role="data", radius=0.5)
        s.node(f"y{k}", (6.5, 1.3 + 1.9 * k), f"$θ_{k + 1}$", role="model", radius=0.5)
    for k, degree in enumerate(hidden):
        s.node(f"h{k}", (3.7, 0.95 + 1.5 * k), str(degree), radius=0.42)
    for r, c in ((r, c) for r in range(4) for c in range(3)):
        if first[r][c]:
            s.arrow(f"x{c}", f"h{r}", role="data", head=False)
        if second[c][r]:
            s.arrow(f"h{r}", f"y{c}", role="model", head=False)
    s.mask(None, (9.3, 1.6), first, role="data").text((9.3, 2.95), "mask $M_1$", small=True)
    s.mask(None, (11.7, 1.85), second, role="model").text((11.7, 2.95), "mask $M_2$", small=True)
    s.mask(None, (10.5, 4.75), paths, role="ink")
    return s.text((10.5, 5.95), "$M_2 M_1$: who hears whom", small=True)


def masks() -> Schematic:
    """Draw who may listen to whom: checkerboard, half, and the triangle of an autoregressive order."""
    s = Schematic(
        12.5,
        4.7,
        alt="Three grids. A checkerboard of filled and empty cells; a grid with its upper half filled; a "
        "triangle filled strictly below the diagonal.",
    )
    n, names = range(6), ("checkerboard", "half", "autoregressive")
    rules: list[Callable] = [lambda r, c: (r + c) % 2 == 0, lambda r, c: r < 3, lambda r, c: c < r]
    for k, (name, rule) in enumerate(zip(names, rules, strict=True)):
        grid = [[rule(r, c) for c in n] for r in n]
        s.mask(None, (2.0 + 4.25 * k, 1.9), grid, role=("base", "base", "model")[k]).text((2.0 + 4.25 * k, 4.0), name)
    return s


def multiscale() -> Schematic:
    """Draw a multi-scale flow from data to base: after each scale one half leaves and meets its prior."""
    s = Schematic(
        13.6,
        4.7,
        alt="A chain from the data x through three flows. After the first and the second flow the vector is "
        "split: one half leaves downwards as a latent z1, then z2, and meets its prior given the rest; "
        "the other half goes on. After the third flow all that is left is z3. The boxes become smaller, "
        "for each has half as many coordinates.",
    )
    s.box("x", (0.8, 1.7), "$x$", size=(1.1, 2.6), role="data")
    for k, (x, h) in enumerate(((3.4, 2.6), (7.3, 1.9), (10.9, 1.3)), start=1):
        s.box(f"f{k}", (x, 1.7), f"flow $f_{k}$", size=(1.9, h), role="model", stack=2)
    s.box("z3", (13.0, 1.7), "$z_3$", size=(1.0, 0.9), role="base")
    for k, x in ((1, 5.3), (2, 9.05)):
        s.box(f"z{k}", (x, 4.15), f"$z_{k}$ | $y_{k}$", size=(1.8, 0.9), role="base")
        s.arrow((x, 1.7), f"z{k}", "half")
        s.arrow(f"f{k}", f"f{k + 1}", f"$y_{k}$")
    return s.arrow("x", "f1").arrow("f3", "z3")


def mixture_plate() -> Schematic:
    """Draw the plate diagram of a mixture of Gaussians: N points, K components."""
    s = Schematic(
        9.6,
        4.2,
        alt="Plate diagram of a mixture. The weights pi lead to the latent component k of each point; "
        "component and parameters mu and Sigma lead to the observed point x. The point and its component "
        "are repeated N times, the parameters K times.",
    )
    s.plate((2.4, 0.4), (4.4, 3.5), "$n = 1…N$").plate((7.2, 0.4), (2.2, 3.5), "$k = 1…K$")
    s.node("pi", (1.0, 1.9), "$π$", kind="fixed").node("k", (3.5, 1.9), "$k_n$")
    s.node("x", (5.7, 1.9), "$x_n$", kind="observed", role="data")
    s.node("mu", (8.3, 1.3), "$μ_k$", kind="fixed").node("sigma", (8.3, 2.6), "$Σ_k$", kind="fixed")
    return s.arrow("pi", "k").arrow("k", "x").arrow("mu", "x").arrow("sigma", "x")


def _bell(t: float) -> float:
    return math.exp(-t * t / 2) / math.sqrt(2 * math.pi)


def mass_in_a_cell() -> Schematic:
    """Draw mass under a map: a cell and its image hold equal mass, so the wider image has the lower density."""
    s = Schematic(
        12,
        7.9,
        alt="Above, a normal density over an axis cut into equal cells; below, hanging from a second axis, "
        "the density of the image under a map that is steeper on the right. Lines lead the ends of each "
        "cell to their images. Two cells are shaded above and below: the left one becomes narrower and "
        "its density higher, the right one becomes wider and its density lower. Each keeps its area.",
    )
    high, low, tall, wide = 3.1, 4.7, 6.2, 1.8  # the axes; cells of the drawing per unit of density and of z

    def place(t: float) -> float:
        return 6 + wide * t

    def image(t: float) -> float:  # its slope rises from 0.4 to 1.5
        return 3.0 + wide * (0.4 * t + 1.1 / 1.5 * math.log1p(math.exp(1.5 * t)))

    def slope(t: float) -> float:
        return 0.4 + 1.1 / (1 + math.exp(-1.5 * t))

    def above(t: float) -> float:
        return high - tall * _bell(t)

    def below(t: float) -> float:
        return low + tall * _bell(t) / slope(t)

    def curve(a: float, b: float, where: Callable, top: Callable) -> list[Point]:
        return [(where(t), top(t)) for t in (a + (b - a) * k / 60 for k in range(61))]

    shaded = {(-1.0, -0.5): "accent", (0.5, 1.0): "model"}
    for k in range(13):
        t = -3 + 0.5 * k
        role = next((r for cell, r in shaded.items() if t in cell), "line")
        s.line([(place(t), high), (image(t), low)], role=role, thin=role == "line")
    for (a, b), role in shaded.items():
        s.line([(place(a), high), *curve(a, b, place, above), (place(b), high)], role=role, fill=True)
        s.line([(image(a), low), *curve(a, b, image, below), (image(b), low)], role=role, fill=True)
    s.line(curve(-3, 3, place, above), role="base").line(curve(-3, 3, image, below), role="data")
    s.arrow((0.3, high), (11.9, high), role="line").arrow((0.3, low), (11.9, low), role="line")
    s.text((11.7, high - 0.4), "$z$").text((11.7, low + 0.4), "$x$").text((0.5, (high + low) / 2), "$f$")
    return s.text((2.4, 1.5), "$p_Z(z)$").text((9.1, 6.6), "$p_X(x)$")


def push_forward() -> Schematic:
    """Draw a push-forward: a set of values gets the mass of all that lands in it."""
    s = Schematic(
        12,
        5.9,
        alt="Two spaces. In the right one a set A; in the left one its preimage under f, in two pieces. "
        "Arrows lead from both pieces to A. The mass of A under the push-forward is the mass of both "
        "pieces together.",
    )
    s.region(None, (2.9, 2.3), (5.2, 4.2), role="base").region(None, (9.2, 2.3), (5.0, 4.2), role="data")
    for name, at, size in (("p", (2.6, 1.3), (2.0, 1.0)), ("q", (3.0, 3.4), (2.2, 0.9))):
        s.region(name, at, size, role="base", full=True)
    s.region("A", (9.2, 2.3), (1.9, 1.6), role="data", full=True)
    s.arrow("p", "A", "$f$").arrow("q", "A").text((2.2, 2.35), "$f^{-1}(A)$").text((9.2, 3.5), "$A$")
    return s.text((6, 5.3), "$(f_*μ)(A) = μ(f^{-1}(A))$")
