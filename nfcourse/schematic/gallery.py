"""The drawings of the course, each a few lines in the vocabulary of :class:`Schematic`."""

import math
from collections.abc import Callable

from .drawing import Point, Schematic

__all__ = [
    "coupling",
    "fold",
    "image_road_map",
    "made",
    "masks",
    "mass_in_a_cell",
    "mixture_plate",
    "multiscale",
    "push_forward",
    "ruler_change",
]


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


def fold() -> Schematic:
    """Draw a map that folds the line: the cell B comes from three cells, and their masses lie on one another in B."""
    s = Schematic(
        12,
        9.9,
        alt="The graph of y = x³ − 3x, which rises, falls and rises. A cell B of the vertical axis is led across to "
        "the three branches of the graph and down to three cells of the horizontal axis, A1, A2 and A3, of different "
        "widths. Below that axis hangs the density of x; what it has over A1, A2 and A3 is shaded in three colours. "
        "The same three areas lie on one another beside B: the masses add.",
    )
    left, foot, across, up, tall = 3.4, 6.3, 1.8, 1.1, 6.0  # the axes; cells of the drawing per unit of x, y, density
    middle, level = left + 4.3, 3.4
    mean, std = 0.3, 1.3  # of x
    bottom, top = 0.3, 1.5  # the cell B

    def g(x: float) -> float:
        return x**3 - 3 * x

    def place(x: float, y: float) -> Point:
        return (middle + across * x, level - up * y)

    def density(x: float) -> float:
        return _bell((x - mean) / std) / std

    def branch(k: int, y: float) -> float:  # the three roots of g(x) = y
        return 2 * math.cos(math.acos(y / 2) / 3 - 2 * math.pi * k / 3)

    def steps(a: float, b: float) -> list[float]:
        return [a + (b - a) * k / 60 for k in range(61)]

    s.line([place(x, g(x)) for x in steps(-2.08, 2.08)], role="line")
    branches, roles = (2, 1, 0), ("base", "accent", "model")
    stack = [0.0] * 61
    for j, (k, role) in enumerate(zip(branches, roles, strict=True)):
        a, b = sorted((branch(k, bottom), branch(k, top)))
        for y in (bottom, top):
            x = branch(k, y)
            s.line([place(x, y), (place(x, y)[0], foot)], role="line", thin=True)
        s.line([place(x, g(x)) for x in steps(a, b)], role=role)
        under = [(middle + across * x, foot + tall * density(x)) for x in steps(a, b)]
        s.line([(under[0][0], foot), *under, (under[-1][0], foot)], role=role, fill=True)
        heights = [density(branch(k, y)) / abs(3 * branch(k, y) ** 2 - 3) for y in steps(bottom, top)]
        lower, stack = stack, [h + more for h, more in zip(stack, heights, strict=True)]
        scale = tall * across / up  # so that areas are masses on both axes
        edges = [[(left - scale * h, level - up * y) for h, y in zip(hs, steps(bottom, top), strict=True)]
                 for hs in (lower, stack)]  # fmt: skip
        s.line([*edges[0], *edges[1][::-1]], role=role, fill=True)
        s.text(((under[0][0] + under[-1][0]) / 2, foot + tall * max(density(a), density(b)) + 0.5), f"$A_{j + 1}$")
    for y in (bottom, top):
        s.line([(left, level - up * y), place(branch(0, y), y)], role="line", thin=True)
    s.line([(middle + across * x, foot + tall * density(x)) for x in steps(-2.3, 2.3)], role="line")
    s.arrow((left, foot), (11.8, foot), role="line").arrow((left, foot), (left, 0.2), role="line")
    s.text((11.6, foot - 0.4), "$x$").text((left + 0.4, 0.4), "$y$").text((9.2, 1.0), "$y = g(x)$")
    s.text((left - 2.6, level - up * (bottom + top) / 2), "$B$").text((9.7, 8.3), "$p_X(x)$")
    return s.text((6.5, 9.4), "$P_Y(B) = P_X(A_1) + P_X(A_2) + P_X(A_3)$")


def image_road_map() -> Schematic:
    """Draw the four stations of the proof that the size of an image is the integral of the determinant."""
    s = Schematic(
        12,
        10.6,
        alt="Four stations. First, a small square and its image, which a parallelogram fits up to a factor 1 + ε. "
        "Second, a set filled with small squares: the size of f(A) is at most the integral of |det J| over A. Third, "
        "an arrow back from f(A) to A by the inverse: it is at least the integral. Fourth, a disc of critical points "
        "is pressed to a line: its image has no size. Together: the size of f(A) is the integral of |det J| over A.",
    )
    words = [
        "1. Small cubes: $f$ is linear\nup to a factor $1 + ε$",
        "2. Cubes fill every Borel set:\n$λ(f(A)) ≤ ∫_A |\\det J_f | \\mathrm{d}λ$",
        "3. Back with the inverse:\n$λ(f(A)) ≥ ∫_A |\\det J_f | \\mathrm{d}λ$",
        "4. Where $\\det J_f = 0$\nthe image is a null set",
    ]
    for k, text in enumerate(words):
        x, y = 2.95 + 6.1 * (k % 2), 2.4 + 4.9 * (k // 2)
        s.box(f"s{k + 1}", (x, y), size=(5.5, 4.2), role="line").text((x, y + 1.35), text, small=True)
    s.arrow("s1", "s2").arrow("s3", "s4")
    s.arrow("s2.bottom", "s3.top", via=[(9.05, 4.95 - 0.1), (2.95, 4.95 - 0.1)])

    def bent(u: float, v: float) -> Point:  # a square, a little more than linearly
        return (4.1 + 0.62 * u + 0.3 * v + 0.07 * u * v, 1.75 - 0.16 * u + 0.55 * v + 0.08 * u * u)

    corners = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
    edge = [
        (a[0] + (b[0] - a[0]) * i / 12, a[1] + (b[1] - a[1]) * i / 12)
        for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)
        for i in range(12)
    ]
    s.box("cube", (1.35, 1.75), size=(1.0, 1.0), role="base").line([bent(*p) for p in edge], role="data", fill=True)
    flat = [(4.1 + 0.62 * u + 0.3 * v, 1.75 - 0.16 * u + 0.55 * v) for u, v in corners]
    s.line([*flat, flat[0]], style="dashed").arrow("cube", (3.05, 1.75), "$f$")
    rows = [[((c - 7.5) / 7.4) ** 2 + ((r - 4.5) / 4.4) ** 2 < 1 for c in range(16)] for r in range(10)]
    s.mask("cubes", (9.05, 1.7), rows, cell=0.2, role="base").region(None, (9.05, 1.7), (3.2, 1.95), role="base")
    s.region("A", (1.35, 6.6), (1.6, 1.3), role="base").region("fA", (4.55, 6.6), (1.7, 1.6), role="data")
    s.text((1.35, 6.6), "$A$").text((4.55, 6.6), "$f(A)$").arrow("fA", "A", "$f^{-1}$", side="right")
    s.region("C", (7.8, 6.6), (1.7, 1.5), role="base").arrow("C", (9.9, 6.6), "$f$")
    s.line([(10.05, 7.1), (10.5, 6.75), (10.9, 6.35), (11.25, 6.1)], role="data")
    return s.text((6, 10.1), "$λ(f(A)) = ∫_A |\\det J_f | \\mathrm{d}λ$")


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
        alt="Two spaces. In the right one a set B; in the left one its preimage under f, in two pieces. "
        "Arrows lead from both pieces to B. The mass of B under the push-forward is the mass of both "
        "pieces together.",
    )
    s.region(None, (2.9, 2.3), (5.2, 4.2), role="base").region(None, (9.2, 2.3), (5.0, 4.2), role="data")
    for name, at, size in (("p", (2.6, 1.3), (2.0, 1.0)), ("q", (3.0, 3.4), (2.2, 0.9))):
        s.region(name, at, size, role="base", full=True)
    s.region("B", (9.2, 2.3), (1.9, 1.6), role="data", full=True)
    s.arrow("p", "B", "$f$").arrow("q", "B").text((2.2, 2.35), "$f^{-1}(B)$").text((9.2, 3.5), "$B$")
    return s.text((6, 5.3), "$(f_#μ)(B) = μ(f^{-1}(B))$")


def ruler_change() -> Schematic:
    """Draw one mass under two rulers: length, and length over x; each cell keeps its mass, and the heights change."""
    s = Schematic(
        12,
        8.75,
        alt="One law of a positive number x, drawn twice. Above, the axis is laid out by length, and the height is "
        "p(x). Below, hanging from an axis on which equal steps double x, the height is x p(x). Lines join equal "
        "numbers, one half, 1, 2 and 4. Two cells are shaded, from a half to 1 and from 2 to 4: their widths and "
        "heights differ above and below, their areas do not.",
    )
    high, low, wide, tall, spread = 3.6, 6.1, 2.1, 4.6, 0.8  # the axes; cells per unit of x and of p; of log x
    step = 2.3  # cells for each unit of log x

    def place(x: float) -> float:
        return 0.4 + wide * x

    def image(x: float) -> float:
        return 6 + step * math.log(x)

    def above(x: float) -> float:
        return high - tall * _bell(math.log(x) / spread) / (spread * x)

    def below(x: float) -> float:  # areas are masses on both axes
        return low + tall * wide / step * _bell(math.log(x) / spread) / spread

    def curve(a: float, b: float, where: Callable, top: Callable) -> list[Point]:
        return [(where(x), top(x)) for x in (a * (b / a) ** (k / 60) for k in range(61))]

    for (a, b), role in {(0.5, 1.0): "accent", (2.0, 4.0): "model"}.items():
        s.line([(place(a), high), *curve(a, b, place, above), (place(b), high)], role=role, fill=True)
        s.line([(image(a), low), *curve(a, b, image, below), (image(b), low)], role=role, fill=True)
    for x, number in ((0.5, "½"), (1.0, "1"), (2.0, "2"), (4.0, "4")):
        way = [(place(x), high), (place(x), high + 0.75), (image(x), low - 0.75), (image(x), low)]
        s.line(way, role="line", thin=True)
        s.text((place(x) + 0.3, high + 0.42), number).text((image(x) + 0.3, low - 0.42), number)
    s.line(curve(0.08, 5.3, place, above), role="base").line(curve(0.1, 10, image, below), role="data")
    s.arrow((0.3, high), (11.8, high), role="line").arrow((0.3, low), (11.8, low), role="line")
    s.text((7.6, 1.0), "ruler: length", anchor="start").text((7.6, 1.75), "height: $p(x)$", anchor="start")
    s.text((0.4, 7.55), "ruler: length ÷ $x$", anchor="start")
    return s.text((0.4, 8.3), "height: $x p(x)$", anchor="start")
