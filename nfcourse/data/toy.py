"""Densities in the plane, made from a seed, with their true log-density where it exists."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["TOYS", "Energy", "Pinwheel", "Toy", "energy", "pinwheel", "toy"]


class Toy:
    r"""A law on the plane: draws by seed and, where it is known, the log-density with respect to :math:`\lambda_2`.

    Attributes:
        name: The name by which :func:`toy` finds it.
        box: Lower and upper end of a square that holds more than 99.9 % of the mass.
    """

    name: str
    box: tuple[float, float] = (-4.0, 4.0)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Return ``n`` points, float32, of shape ``(n, 2)``; the same for the same seed.

        Raises:
            ValueError: If ``n`` is negative.
        """
        return torch.from_numpy(self._draw(_count(n), np.random.default_rng(seed))).float()

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density in nats, of shape ``(*batch)``, in the dtype of ``x``; NaN where ``x`` is not finite.

        Raises:
            ValueError: If ``x`` is not a floating-point tensor ``(*batch, 2)``.
            NotImplementedError: If this law has no density in closed form.
        """
        x = _points(x)
        return torch.where(torch.isfinite(x).all(-1), self._log_prob(x), math.nan)

    def _draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def _log_prob(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{self.name} has no log-density in closed form; compare samples instead.")

    def __repr__(self) -> str:
        return f"<{self.name}, a law on the plane>"


def _count(n: int) -> int:
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 0:
        raise ValueError(f"sample expects a number of points n >= 0, got {n!r}.")
    return int(n)


def _points(x: Tensor, name: str = "x") -> Tensor:
    if not isinstance(x, Tensor) or not x.dtype.is_floating_point or x.dim() < 1 or x.shape[-1] != 2:
        got = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name}: expected a floating-point tensor of shape (*batch, 2), got {got}.")
    return x


def _rotate(x: Tensor, angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x[..., 0] - sin * x[..., 1], sin * x[..., 0] + cos * x[..., 1]], -1)


def _over(function, third: float, fifth: float, v: Tensor) -> Tensor:
    """``function(r) / r`` for r = |v|, shape ``(*batch, 1)``; near 0 by its series in r², as smooth as it is."""
    square = v.square().sum(-1, keepdim=True)
    small = square < 1e-5
    r = torch.where(small, 1.0, square).sqrt()
    return torch.where(small, 1 + square * (third + fifth * square), function(r) / r)


def _log_normal(x: Tensor, std: float) -> Tensor:
    return -0.5 * (x / std).square() - math.log(std) - 0.5 * math.log(math.tau)


class Pinwheel(Toy):
    r"""The running data set of the course: a star of five Gaussian blobs, twisted.

    The label :math:`k` is uniform on :math:`\{0, \dots, K-1\}`. Given :math:`k`, a point :math:`w` of the star is
    Gaussian around radius :math:`\rho` in direction :math:`2\pi k/K`, with standard deviations :math:`\sigma_r` along
    the ray and :math:`\sigma_t` across it. The data are :math:`x = f(w)`: the plane is twisted, a rotation whose angle
    grows with the radius, and then, if asked, inflated:

    .. math::
        u = R\bigl(\tau \lVert w \rVert\bigr)\, w , \qquad
        x = \frac{\sinh(a \lVert u \rVert)}{a \lVert u \rVert}\, u , \qquad
        \det J_f(w) = \cosh(a r)\, \frac{\sinh(a r)}{a r} , \quad r = \lVert w \rVert .

    The twist keeps radius and area, and turning back by the same angle undoes it; with :math:`a = 0` nothing is
    inflated and :math:`\det J_f = 1` everywhere. The density is therefore known exactly:

    .. math::
        p(x, k) = \tfrac1K\, \mathcal N\bigl(w;\, \mu_k, \Sigma_k\bigr) \, / \det J_f(w), \quad w = f^{-1}(x),
        \qquad p(x) = \sum_k p(x, k) .

    :math:`p(x, k)` is a density with respect to :math:`\lambda_2 \otimes \#`, :math:`p(x)` with respect to
    :math:`\lambda_2`.

    Args:
        k: Number of arms :math:`K`.
        radius: :math:`\rho`.
        radial: :math:`\sigma_r`.
        tangential: :math:`\sigma_t`.
        twist: :math:`\tau`, in radians per unit of radius.
        inflate: :math:`a`, one over a unit of radius.

    Raises:
        ValueError: If ``inflate`` is no number in [0, 10].

    Attributes:
        means: The :math:`\mu_k`, float64, shape ``(K, 2)``.
        covariances: The :math:`\Sigma_k`, float64, shape ``(K, 2, 2)``.
    """

    name = "pinwheel"

    def __init__(
        self,
        k: int = 5,
        radius: float = 2.0,
        radial: float = 0.5,
        tangential: float = 0.2,
        twist: float = 1.0,
        inflate: float = 0.0,
    ):
        if isinstance(inflate, bool) or not isinstance(inflate, int | float) or not 0 <= inflate <= 10:
            raise ValueError(f"inflate expects a rate, a number in [0, 10], got {inflate!r}.")
        self.k, self.radius, self.radial, self.tangential = k, radius, radial, tangential
        self.twist, self.inflate = twist, inflate
        if inflate:
            self.box = tuple(math.sinh(inflate * end) / inflate for end in self.box)
        self.angles = math.tau * torch.arange(k, dtype=torch.float64) / k
        along = torch.stack([self.angles.cos(), self.angles.sin()], -1)
        across = torch.stack([-self.angles.sin(), self.angles.cos()], -1)
        self.means = radius * along
        self.covariances = radial**2 * along.unsqueeze(-1) * along.unsqueeze(-2) + tangential**2 * across.unsqueeze(
            -1
        ) * across.unsqueeze(-2)

    @property
    def blobs(self) -> tuple[Tensor, Tensor]:
        """Means ``(K, 2)`` and covariances ``(K, 2, 2)`` of the star before the twist."""
        return self.means, self.covariances

    def warp(self, w: Tensor) -> Tensor:
        r"""Return :math:`f(w)`, twisted and inflated, shape ``(*batch, 2)``.

        Raises:
            ValueError: If ``w`` is not a floating-point tensor ``(*batch, 2)``.
        """
        return self._grow(self.twist_map(_points(w, "w")))

    def unwarp(self, x: Tensor) -> Tensor:
        r"""Return :math:`f^{-1}(x)`, shape ``(*batch, 2)``.

        Raises:
            ValueError: If ``x`` is not a floating-point tensor ``(*batch, 2)``.
        """
        x = _points(x)
        if self.inflate:
            x = x * _over(torch.asinh, -1 / 6, 3 / 40, self.inflate * x)
        return self.untwist(x)

    def twist_map(self, w: Tensor) -> Tensor:
        r"""Return :math:`R(\tau\lVert w\rVert) w`, shape ``(*batch, 2)``."""
        return _rotate(w, self.twist * torch.linalg.vector_norm(w, dim=-1))

    def untwist(self, u: Tensor) -> Tensor:
        r"""Return :math:`R(-\tau\lVert u\rVert) u`, shape ``(*batch, 2)``."""
        return _rotate(u, -self.twist * torch.linalg.vector_norm(u, dim=-1))

    def _grow(self, u: Tensor) -> Tensor:
        if not self.inflate:
            return u
        return u * _over(torch.sinh, 1 / 6, 1 / 120, self.inflate * u)

    def _log_stretch(self, w: Tensor) -> Tensor | float:
        if not self.inflate:
            return 0.0
        w = self.inflate * w  # cosh² = 1 + sinh²
        grown = _over(torch.sinh, 1 / 6, 1 / 120, w)
        return 0.5 * (w * grown).square().sum(-1).log1p() + grown.squeeze(-1).log()

    def sample(self, n: int, seed: int = 0, labels: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Return ``n`` points ``(n, 2)``, float32; with ``labels`` also the arms ``(n,)``, int64.

        Raises:
            ValueError: If ``n`` is negative.
        """
        rng = np.random.default_rng(seed)
        arm = torch.from_numpy(rng.integers(self.k, size=_count(n)))
        star = torch.from_numpy(rng.normal(size=(n, 2))) * torch.tensor([self.radial, self.tangential])
        w = _rotate(star + torch.tensor([self.radius, 0.0]), self.angles[arm])
        x = self.warp(w).float()
        return (x, arm) if labels else x

    def log_prob_given(self, x: Tensor, k: int | Tensor) -> Tensor:
        r"""Return :math:`\log p(x \mid k)` in nats; ``k`` broadcasts against the batch.

        Raises:
            ValueError: If ``x`` is not a floating-point tensor ``(*batch, 2)``, or a label is not in 0..K-1.
        """
        arm = torch.as_tensor(k)
        if arm.dtype.is_floating_point or arm.dtype == torch.bool or not bool(((arm >= 0) & (arm < self.k)).all()):
            raise ValueError(f"k: expected labels in 0..{self.k - 1}, got {arm}.")
        return self._log_prob_at(_points(x), self.angles.to(x)[arm.to(x.device)])

    def _log_prob_at(self, x: Tensor, angle: Tensor) -> Tensor:
        w = self.unwarp(x)
        along, across = _rotate(w, -angle).unbind(-1)
        star = _log_normal(along - self.radius, self.radial) + _log_normal(across, self.tangential)
        return star - self._log_stretch(w)

    def _log_prob(self, x):
        return torch.stack([self._log_prob_at(x, angle) for angle in self.angles.to(x)]).logsumexp(0) - math.log(self.k)


class _EightGaussians(Toy):
    """Eight round Gaussians on a circle."""

    name, radius, std = "eight_gaussians", 2.5, 0.25
    angles = math.tau * np.arange(8) / 8

    def _draw(self, n, rng):
        angle = self.angles[rng.integers(8, size=n)]
        return self.radius * np.stack([np.cos(angle), np.sin(angle)], -1) + self.std * rng.normal(size=(n, 2))

    def _log_prob(self, x):
        angle = torch.from_numpy(self.angles).to(x)
        means = self.radius * torch.stack([angle.cos(), angle.sin()], -1)
        return _log_normal(x.unsqueeze(-2) - means, self.std).sum(-1).logsumexp(-1) - math.log(8)


class _Checkerboard(Toy):
    """Uniform on the eight dark unit-two squares of a 4 x 4 board on [-4, 4)^2; no mass elsewhere."""

    name, box = "checkerboard", (-4.0, 4.0)

    def _draw(self, n, rng):
        column, half = rng.integers(4, size=n), rng.integers(2, size=n)
        row = 2 * half + column % 2
        return np.stack([2 * column - 4 + 2 * rng.random(n), 2 * row - 4 + 2 * rng.random(n)], -1)

    def _log_prob(self, x):
        cell = (x / 2).floor()
        dark = ((cell.sum(-1) % 2) == 0) & (x >= -4).all(-1) & (x < 4).all(-1)
        return torch.where(dark, -math.log(32.0), -math.inf).to(x)


class _Rings(Toy):
    r"""Rings with Gaussian radius and uniform angle: :math:`p(x) = p_R(\lVert x\rVert) / (2\pi\lVert x\rVert)`.

    The radius is a mixture of normals truncated to the positive half-line.
    """

    def __init__(self, name: str, radii: tuple[float, ...], std: float):
        self.name, self.radii, self.std = name, radii, std
        # the mass of each normal on the positive half-line
        self.log_mass = [math.log(0.5 * math.erfc(-m / std / math.sqrt(2))) for m in radii]

    def _draw(self, n, rng):
        means = np.asarray(self.radii)[rng.integers(len(self.radii), size=n)]
        radius = means + self.std * rng.normal(size=n)
        while (bad := radius <= 0).any():
            radius[bad] = means[bad] + self.std * rng.normal(size=bad.sum())
        angle = math.tau * rng.random(n)
        return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)

    def _log_prob(self, x):
        radius = torch.linalg.vector_norm(x, dim=-1)
        rings = zip(self.radii, self.log_mass, strict=True)
        log_radial = torch.stack([_log_normal(radius - m, self.std) - c for m, c in rings])
        return log_radial.logsumexp(0) - math.log(len(self.radii)) - radius.log() - math.log(math.tau)


class _NoisyCurve(Toy):
    r"""A curve :math:`\gamma(t)`, :math:`t` uniform, plus round Gaussian noise.

    .. math::
        p(x) = \int_0^1 \mathcal N\bigl(x;\, \gamma(t), \sigma^2 I\bigr)\, \mathrm dt ,

    by Gauss-Legendre quadrature whose nodes lie closer than :math:`\sigma` along the curve. With :math:`t = s^m` the
    integrand is smooth in :math:`s` although :math:`\gamma` may not be in :math:`t`.
    """

    def __init__(
        self, name: str, curves: list[Callable[[np.ndarray], np.ndarray]], std: float, nodes: int, power: int = 1
    ):
        self.name, self.curves, self.std, self.power = name, curves, std, power
        # panels of 16 nodes: exact for polynomials of degree 31 on each
        node, weight = np.polynomial.legendre.leggauss(16)
        panels = nodes // 16
        s = ((np.arange(panels)[:, None] + (node + 1) / 2) / panels).ravel()
        self.t = s**power
        self.log_weight = np.log(np.tile(weight / 2 / panels, panels) * power * s ** (power - 1))

    def _draw(self, n, rng):
        which, t = rng.integers(len(self.curves), size=n), rng.random(n)
        centre = np.zeros((n, 2))
        for k, curve in enumerate(self.curves):
            centre[which == k] = curve(t[which == k])
        return centre + self.std * rng.normal(size=(n, 2))

    def _log_prob(self, x):
        nodes = torch.from_numpy(np.concatenate([curve(self.t) for curve in self.curves])).to(x)
        log_weight = torch.from_numpy(np.tile(self.log_weight, len(self.curves))).to(x) - math.log(len(self.curves))
        flat = x.reshape(-1, 2)
        parts = [
            (_log_normal(p.unsqueeze(-2) - nodes, self.std).sum(-1) + log_weight).logsumexp(-1)
            for p in flat.split(4096)
        ]
        return torch.cat(parts).reshape(x.shape[:-1]) if parts else flat.new_zeros(x.shape[:-1])


def _moon(sign: float) -> Callable[[np.ndarray], np.ndarray]:
    def curve(t):
        angle = math.pi * t
        return np.stack([sign * (2 * np.cos(angle) - 1), sign * (2 * np.sin(angle) - 0.5)], -1)

    return curve


def _arm(sign: float) -> Callable[[np.ndarray], np.ndarray]:
    def curve(t):
        # the square root spreads the points evenly along the arm
        angle = 3 * math.pi * np.sqrt(t)
        return sign * angle[:, None] / 3 * np.stack([-np.cos(angle), np.sin(angle)], -1)

    return curve


class Energy(Toy):
    r"""An unnormalized density :math:`e^{-U(z)}`: a target for samplers, without draws or a known normalizer.

    Args:
        name: ``"U1"`` to ``"U4"``.
        function: The energy :math:`U`.

    Source: Rezende and Mohamed (2015), table 1.
    """

    def __init__(self, name: str, function: Callable[[Tensor], Tensor]):
        self.name, self._energy = name, function

    def energy(self, z: Tensor) -> Tensor:
        """Return :math:`U(z)`, of shape ``(*batch)``.

        Raises:
            ValueError: If ``z`` is not a floating-point tensor ``(*batch, 2)``.
        """
        return self._energy(_points(z, "z"))

    def log_normalizer(self, n: int = 800) -> float:
        r"""Return :math:`\log \int_{box} e^{-U}\,\mathrm d\lambda_2` by the midpoint rule with ``n`` cells a side.

        U2 to U4 do not decay along the first axis: their integral over the plane is infinite, and this is the mass
        of the box only.
        """
        low, high = self.box
        t = low + (high - low) * (torch.arange(n, dtype=torch.float64) + 0.5) / n
        return float((-self._energy(torch.cartesian_prod(t, t))).logsumexp(0)) + 2 * math.log((high - low) / n)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Raise: an energy has no sampler of its own."""
        raise NotImplementedError(f"{self.name} is an unnormalized energy: it has no sampler. Train a flow on it.")

    def _log_prob(self, x):
        raise NotImplementedError(
            f"{self.name} is an unnormalized energy: its normalizer is unknown. Use `energy`, and "
            "`log_normalizer` for the mass of its box."
        )


def _w1(z):
    return torch.sin(math.tau * z[..., 0] / 4)


def _w2(z):
    return 3 * torch.exp(-0.5 * ((z[..., 0] - 1) / 0.6).square())


def _w3(z):
    return 3 * torch.sigmoid((z[..., 0] - 1) / 0.3)


def _two(a, b):
    return -torch.logaddexp(-0.5 * a.square(), -0.5 * b.square())


def _u1(z):
    ring = 0.5 * ((torch.linalg.vector_norm(z, dim=-1) - 2) / 0.4).square()
    return ring + _two((z[..., 0] - 2) / 0.6, (z[..., 0] + 2) / 0.6)


def _u2(z):
    return 0.5 * ((z[..., 1] - _w1(z)) / 0.4).square()


def _u3(z):
    return _two((z[..., 1] - _w1(z)) / 0.35, (z[..., 1] - _w1(z) + _w2(z)) / 0.35)


def _u4(z):
    return _two((z[..., 1] - _w1(z)) / 0.4, (z[..., 1] - _w1(z) + _w3(z)) / 0.35)


_MADE: dict[str, Callable[[], Toy]] = {
    "pinwheel": Pinwheel,
    "moons": lambda: _NoisyCurve("moons", [_moon(1.0), _moon(-1.0)], std=0.2, nodes=160),
    "circles": lambda: _Rings("circles", (1.2, 2.6), 0.12),
    "rings": lambda: _Rings("rings", (0.7, 1.5, 2.3, 3.1), 0.1),
    "checkerboard": _Checkerboard,
    "spirals": lambda: _NoisyCurve("spirals", [_arm(1.0), _arm(-1.0)], std=0.1, nodes=512, power=2),
    "eight_gaussians": _EightGaussians,
    "U1": lambda: Energy("U1", _u1),
    "U2": lambda: Energy("U2", _u2),
    "U3": lambda: Energy("U3", _u3),
    "U4": lambda: Energy("U4", _u4),
}

#: the names that :func:`toy` knows; the last four are energies
TOYS = tuple(_MADE)


def toy(name: str) -> Toy:
    """Return the toy law of that name.

    Args:
        name: One of :data:`TOYS`.

    Raises:
        ValueError: If there is none of that name; lists those that there are.
    """
    if name not in _MADE:
        raise ValueError(f"toy expects one of {', '.join(TOYS)}, got {name!r}.")
    return _MADE[name]()


def energy(name: str) -> Energy:
    """Return the energy ``"U1"`` to ``"U4"``.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in ("U1", "U2", "U3", "U4"):
        raise ValueError(f"energy expects U1, U2, U3 or U4, got {name!r}.")
    return toy(name)


def pinwheel(inflate: float = 0.0) -> Pinwheel:
    """Return the running data set of the course, :class:`Pinwheel` with its default numbers, inflated if asked."""
    return Pinwheel(inflate=inflate)
