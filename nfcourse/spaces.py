r"""Where points live. A space knows its reference measure, so a density on it needs no other word.

``real``, ``positive`` and ``unit_interval`` carry Lebesgue measure, ``integers`` and ``cyclic(K)`` counting measure,
``circle`` (one angle) and ``sphere`` (one unit vector) the length or area of the surface. All but the sphere constrain
entry by entry. A space is also a constraint of ``torch.distributions``.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

__all__ = [
    "Space", "circle", "cyclic", "integers", "interval", "positive", "real", "space_of", "sphere", "unit_interval"
]  # fmt: skip


@dataclass(frozen=True, repr=False)
class Space(constraints.Constraint):
    r"""Numbers between two ends, with a measure. Two spaces are equal if kind, ends and measure are.

    Attributes:
        name: What messages call it.
        measure: ``"Lebesgue"``, ``"counting"`` or ``"surface"``: what densities are taken against.
        low: Lower end.
        high: Upper end.
    """

    name: str = field(compare=False)
    measure: str = "Lebesgue"
    low: float = -math.inf
    high: float = math.inf

    @property
    def is_discrete(self) -> bool:
        """Whether the measure counts points."""
        return self.measure == "counting"

    def check(self, value: Tensor) -> Tensor:
        """Return which entries are finite and lie in the space; its ends count, because rounding reaches them."""
        inside = torch.isfinite(value) & (value >= self.low) & (value <= self.high)
        return inside & (value == value.floor()) if self.is_discrete else inside

    def draw(self, shape: tuple[int, ...], scale: float = 5.0, seed: int = 0) -> Tensor:
        r"""Draw float64 points of that shape for a check.

        On the line :math:`\mathcal N(0, \text{scale}^2)`, on a half-line the exponential of
        :math:`\mathcal N(0, 1)`, on an interval the logistic function of :math:`\mathcal N(0, \text{scale}^2/4)`, on
        the sphere the uniform law; whole numbers rounded alike.
        """
        z = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        rounded = torch.Tensor.floor if self.is_discrete else torch.Tensor.clone
        if math.isfinite(self.low) and math.isfinite(self.high):
            n = self.high - self.low + self.is_discrete
            u = torch.special.ndtr(z) if self.is_discrete else torch.sigmoid(scale / 2 * z)
            return rounded(self.low + n * u).clamp(max=self.high)
        if math.isfinite(self.low):
            return self.low + rounded(z.exp())
        return self.high - rounded(z.exp()) if math.isfinite(self.high) else rounded(scale * z)

    def difference(self, a: Tensor, b: Tensor) -> Tensor:
        """Return how far apart two points are, entry by entry."""
        return a - b

    def again(self, value: Tensor) -> Tensor:
        """Return the same points, written in another way where there is one."""
        return value

    def frame(self, value: Tensor) -> Tensor | None:
        """Return an orthonormal basis of the tangent space at points ``(n, D)``, ``(n, D, d)``; None: all of it."""
        return None

    def __repr__(self) -> str:
        return self.name


class _Circle(Space):
    """An angle; those that differ by a full turn are one point."""

    def check(self, value):
        return torch.isfinite(value)

    def again(self, value):
        return value + math.tau

    def difference(self, a, b):
        return torch.remainder(a - b + math.pi, math.tau) - math.pi


class _Sphere(Space):
    """A unit vector along the last axis."""

    event_dim = 1

    def check(self, value):
        return (value.norm(dim=-1) - 1).abs() < 64 * torch.finfo(value.dtype).eps * value.shape[-1]

    def draw(self, shape, scale=5.0, seed=0):
        return torch.nn.functional.normalize(real.draw(shape, scale, seed), dim=-1)

    def frame(self, value):
        # x and an orthonormal basis of what is orthogonal to it: the other columns of a complete QR decomposition
        return torch.linalg.qr(value.unsqueeze(-1), mode="complete").Q[..., 1:]


def interval(low: float, high: float) -> Space:
    """Return the interval from ``low`` to ``high``, with Lebesgue measure."""
    if not low < high:
        raise ValueError(f"interval expects low < high, got {low} and {high}.")
    return Space(f"the interval ({low:g}, {high:g})", "Lebesgue", float(low), float(high))


def cyclic(levels: int) -> Space:
    """Return the whole numbers 0, ..., ``levels`` - 1, with counting measure; they travel as floats."""
    if not isinstance(levels, int) or levels < 1:
        raise ValueError(f"cyclic expects a whole number of levels >= 1, got {levels}.")
    return Space(f"the integers 0 to {levels - 1}", "counting", 0.0, float(levels - 1))


#: the line, with Lebesgue measure
real = Space("the real numbers")
#: the positive half-line, with Lebesgue measure
positive = Space("the positive numbers", "Lebesgue", 0.0)
#: the interval from 0 to 1, with Lebesgue measure
unit_interval = Space("the unit interval", "Lebesgue", 0.0, 1.0)
#: all whole numbers, with counting measure; they travel as floats
integers = Space("the integers", "counting")
#: the circle as one angle, with arc length
circle = _Circle("the circle (an angle)", "surface", -math.pi, math.pi)
#: the sphere as one unit vector, with its area
sphere = _Sphere("the sphere (a unit vector)", "surface", -1.0, 1.0)


def space_of(law: Distribution | constraints.Constraint) -> Space | None:
    """Return the space of a distribution or of a constraint of torch; None if neither says."""
    if isinstance(law, Distribution):
        if (space := getattr(law, "space", None)) is not None:
            return space
        try:
            law = law.support
        except NotImplementedError:
            return None
    while hasattr(law, "base_constraint"):
        law = law.base_constraint
    if isinstance(law, Space):
        return law
    if law is constraints.real:
        return real
    if law is constraints.boolean:
        return cyclic(2)
    low, high = (
        _number(getattr(law, name, end)) for name, end in (("lower_bound", -math.inf), ("upper_bound", math.inf))
    )
    if None in (low, high):
        return None
    if math.isnan(low) or low == -high == -math.inf:  # known to torch, and none of those here: equal to none of them
        if constraints.is_dependent(law):
            return None
        measure = "counting" if law.is_discrete else "Lebesgue"
        return Space(f"the space {law}", measure, math.nan, math.nan)
    ends = f"from {low:g}" + (f" to {high:g}" if high < math.inf else "")
    return Space(f"the {'integers' if law.is_discrete else 'numbers'} {ends}",
                 "counting" if law.is_discrete else "Lebesgue", low, high)  # fmt: skip


def _number(end) -> float | None:
    """The end of an interval: a number, NaN if it differs within the batch, None if a graph would be asked for data."""
    if isinstance(end, Tensor):
        if torch.compiler.is_compiling():
            return None
        try:
            end = end.detach().unique().tolist()
        except RuntimeError:  # under vmap
            return None
        return float(end[0]) if len(end) == 1 else math.nan
    return float(end)
