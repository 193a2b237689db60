"""What a conditioner drives: monotone maps of single coordinates, given their parameters.

All of them share one form. ``forward(z, params)`` and ``inverse(x, params)`` return the value and the log-derivative of
each coordinate, both of the shape of the input; ``params`` has one leading axis more, of length ``n_params``, so that
``params[j]`` is the j-th parameter of every coordinate (a tensor, or a sequence of tensors). ``space`` is where
coordinates live, on both sides.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..module import Module
from ..spaces import Space, real

__all__ = ["AdditiveTransformer", "AffineTransformer", "LogisticMixtureTransformer", "RQSTransformer"]


class Transformer(Module):
    """What all transformers share: a space, the real line unless a subclass says otherwise."""

    n_params: int
    space: Space = real

    def arrange(self, out: Tensor, axis: int) -> Tensor | Sequence[Tensor]:
        """Return the parameters ``(P, *)`` from a network's outputs, parameter after parameter along an axis.

        One or two come as chunks of the outputs: their gradient is joined at once, and not stacked and then copied.
        """
        if out.shape[axis] % self.n_params:
            raise ValueError(
                f"{type(self).__name__} expects outputs in {self.n_params} equal parts, got {out.shape[axis]} of them."
            )
        if self.n_params <= 2:
            return out.chunk(self.n_params, axis)
        return out.unflatten(axis, (self.n_params, -1)).movedim(axis - 1, 0)


class AdditiveTransformer(Transformer):
    r"""A shift, :math:`x_i = z_i + t_i`, with derivative one: the map keeps volumes.

    Shapes:
        ``z``, ``x``: ``(*)``; ``params``: ``(1, *)``; the log-derivative is zero, ``(*)``.

    Source: Dinh et al. (2015), section 3.2, "additive coupling".
    """

    #: parameters per coordinate
    n_params: int = 1

    def forward(self, z: Tensor, params: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        r"""Return :math:`z + t` and zeros."""
        return z + params[0], torch.zeros_like(z)

    def inverse(self, x: Tensor, params: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        r"""Return :math:`x - t` and zeros."""
        return x - params[0], torch.zeros_like(x)


class AffineTransformer(Transformer):
    r"""Shift and scale, with a softly clamped log-scale.

    .. math::
        x_i = z_i\, e^{s_i} + t_i, \qquad s_i = \frac{r_i}{1 + \lvert r_i\rvert / c}, \qquad
        \log\lvert\partial x_i/\partial z_i\rvert = s_i .

    The clamp keeps every scale between :math:`e^{-c}` and :math:`e^{c}`; near 0 it is the identity. Without it deep
    stacks overflow. Its gradient falls off like :math:`r^{-2}`, where that of a tanh would vanish exponentially.

    Args:
        clamp: The bound :math:`c > 0`.

    Shapes:
        ``z``, ``x``: ``(*)``; ``params``: ``(2, *)``, first :math:`t`, then :math:`r`; the log-derivative is ``(*)``.

    Source: Dinh et al. (2017), equations 4-8 (there the scale passes through a tanh).
    """

    #: parameters per coordinate
    n_params: int = 2

    def __init__(self, clamp: float = 5.0):
        super().__init__()
        if not clamp > 0:
            raise ValueError(f"AffineTransformer expects clamp > 0, got {clamp}.")
        self.clamp = clamp

    def _log_scale(self, raw: Tensor, sign: float) -> Tensor:
        return (sign * self.clamp) * raw / (raw.abs() + self.clamp)

    def forward(self, z: Tensor, params: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        r"""Return :math:`x` and :math:`s`."""
        shift, raw = params
        log_scale = self._log_scale(raw, 1)
        return torch.addcmul(shift, z, log_scale.exp()), log_scale

    def inverse(self, x: Tensor, params: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        r"""Return :math:`z = (x - t) e^{-s}` and :math:`-s`."""
        shift, raw = params
        log_scale = self._log_scale(raw, -1)
        return (x - shift) * log_scale.exp(), log_scale


class RQSTransformer(Transformer):
    r"""A monotone rational-quadratic spline on :math:`[-b, b]`, the identity outside.

    The spline is built from data to base, the direction that a likelihood needs. In the bin between the knots
    :math:`(x_0, z_0)` and :math:`(x_1, z_1)`, with derivatives :math:`d_0, d_1 > 0` there, let :math:`w = x_1 - x_0`,
    :math:`h = z_1 - z_0`, :math:`\bar d = h / w`, and for a point :math:`x` of the bin :math:`u = x - x_0`,
    :math:`v = x_1 - x`. Then

    .. math::
        & z = z_0 + h\,\frac{N}{N + M}, \qquad N = u\,(\bar d u + d_0 v), \qquad M = v\,(\bar d v + d_1 u), \\
        & \frac{\partial z}{\partial x} = h^2\,\frac{d_1 u^2 + 2 \bar d u v + d_0 v^2}{(N + M)^2} .

    Every term is positive, so nothing cancels. The way back, base to data, is written in the same spirit: with
    :math:`p = z - z_0`, :math:`q = z_1 - z`, :math:`\beta = d_1 p - d_0 q` and
    :math:`R = \sqrt{\beta^2 + 4 \bar d^2 p q}`, whose radicand is a sum of squares and never negative,
    :math:`x = x_0 + w u / (u + v)` with

    .. math::
        u : v \;=\; (\beta + R) : 2 \bar d q \quad (\beta \ge 0), \qquad
        u : v \;=\; 2 \bar d p : (R - \beta) \quad (\beta < 0).

    Parameters of zero give the identity.

    Args:
        bins: Number :math:`K \ge 2` of bins.
        bound: Half-width :math:`b > 0` of the interval.
        min_bin: Smallest width and height of a bin, as a fraction of :math:`2b`, below :math:`1/K`.
        min_derivative: Smallest derivative at a knot, in (0, 1).

    Shapes:
        ``z``, ``x``: ``(*)``; ``params``: ``(3 K - 1, *)``: logits of K widths and of K heights, raw derivatives at the
        K - 1 inner knots; the log-derivative is ``(*)``.

    Source: Durkan et al. (2019), equations 4-8 and appendix A; the homogeneous form of the root is this package's.
    """

    def __init__(self, bins: int = 8, bound: float = 5.0, min_bin: float = 1e-3, min_derivative: float = 1e-3):
        super().__init__()
        if bins < 2 or not bound > 0 or not 0 < min_bin * bins < 1 or not 0 < min_derivative < 1:
            raise ValueError(
                "RQSTransformer expects bins >= 2, bound > 0, 0 < min_bin < 1 / bins and 0 < min_derivative < 1, got "
                f"{bins}, {bound}, {min_bin}, {min_derivative}."
            )
        self.bins, self.bound, self.min_bin, self.min_derivative = bins, bound, min_bin, min_derivative
        self.n_params = 3 * bins - 1
        # softplus(raw + offset) + min_derivative is 1 at raw = 0
        self.offset = math.log(math.expm1(1 - min_derivative))

    def _knots(self, logits: Tensor) -> Tensor:
        """Knots ``(2, K + 1, *)`` from logits ``(2 K, *)``: first those in x, then those in z."""
        bins = self.min_bin + (1 - self.min_bin * self.bins) * logits.unflatten(0, (2, self.bins)).softmax(1)
        knots = 2 * self.bound * bins[:, :-1].cumsum(1) - self.bound
        end = torch.full_like(knots[:, :1], self.bound)
        return torch.cat([-end, knots, end], 1)

    def _bin(self, value: Tensor, params: Tensor, side: int) -> tuple[Tensor, ...]:
        """The bin of each value on side 0 (x) or 1 (z): its knots and its derivatives."""
        knots = self._knots(params[: 2 * self.bins])
        k = (value.detach() >= knots[side, 1:-1].detach()).sum(0)
        ends = torch.stack([k, k + 1])
        (x0, x1), (z0, z1) = knots.gather(1, ends.expand(2, *ends.shape))
        raw = params[2 * self.bins :].gather(0, (ends - 1).clamp(0, self.bins - 2))
        inner = (ends > 0) & (ends < self.bins)
        d0, d1 = torch.where(inner, F.softplus(raw + self.offset) + self.min_derivative, 1.0)
        return x0, x1, z0, z1, d0, d1

    def inverse(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the spline at :math:`x` and the log of its derivative."""
        inside = x.abs() < self.bound
        # clip before `where`: both branches are differentiated
        clipped = x.clamp(-self.bound, self.bound)
        x0, x1, z0, z1, d0, d1 = self._bin(clipped, params, 0)
        u, v, h = clipped - x0, x1 - clipped, z1 - z0
        fraction, log_derivative = self._spline(u, v, h, h / (x1 - x0), d0, d1)
        return torch.where(inside, z0 + h * fraction, x), torch.where(inside, log_derivative, 0.0)

    def forward(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the point that the spline maps to :math:`z` and the log-derivative of this inverse."""
        inside = z.abs() < self.bound
        clipped = z.clamp(-self.bound, self.bound)
        x0, x1, z0, z1, d0, d1 = self._bin(clipped, params, 1)
        p, q, w, h = clipped - z0, z1 - clipped, x1 - x0, z1 - z0
        d = h / w
        beta = d1 * p - d0 * q
        root = (beta.square() + 4 * d.square() * p * q).sqrt()
        u = torch.where(beta >= 0, beta + root, 2 * d * p)
        v = torch.where(beta >= 0, 2 * d * q, root - beta)
        u, v = w * u / (u + v), w * v / (u + v)
        _, log_derivative = self._spline(u, v, h, d, d0, d1)
        return torch.where(inside, x0 + u, z), torch.where(inside, -log_derivative, 0.0)

    @staticmethod
    def _spline(u, v, h, d, d0, d1) -> tuple[Tensor, Tensor]:
        """N / (N + M) and the log-derivative."""
        n = u * (d * u + d0 * v)
        total = n + v * (d * v + d1 * u)
        slope = (d1 * u.square() + 2 * d * u * v + d0 * v.square()) * (h / total).square()
        return n / total, slope.log()


class LogisticMixtureTransformer(Transformer):
    r"""The logit of a mixture of logistic distribution functions, with an outer shift and scale.

    It is built from data to base, the direction that a likelihood needs:

    .. math::
        & z = e^{a}\,\operatorname{logit} F(x) + b, \qquad
        F(x) = \sum_{k=1}^{K} \pi_k\, \sigma\!\Bigl(\frac{x - \mu_k}{e^{s_k}}\Bigr), \\
        & \log\frac{\partial z}{\partial x} = a + \log F'(x) - \log F(x) - \log\bigl(1 - F(x)\bigr) .

    The other direction has no closed form. With :math:`t = (z - b) e^{-a}` the solution of
    :math:`\operatorname{logit} F(x) = t` lies between the smallest and the largest of the components' own quantiles
    :math:`\mu_k + e^{s_k} t`, because :math:`F` is an average of the components. In this bracket Newton's method,
    guarded by bisection, runs a fixed number of steps, unseen by autograd. Two more steps of Newton, seen by autograd,
    carry the derivatives of the implicit function: each step doubles the orders of the Taylor expansion in
    :math:`(t, \theta)` that are right, from one (the value) to two to four. So derivatives up to the third are as good
    as the root.

    Parameters of zero give equal weights and means spread over [-2, 2], so that the components can learn apart.

    Args:
        components: Number :math:`K \ge 1` of logistic components.
        clamp: Bound of all log-scales (softly, as in :class:`AffineTransformer`).
        steps: Number of steps of the root finder.

    Shapes:
        ``z``, ``x``: ``(*)``; ``params``: ``(3 K + 2, *)``: logits of :math:`\pi`, means less their start, raw
        :math:`s`, raw :math:`a`, :math:`b`; the log-derivative is ``(*)``.

    Source: Ho et al. (2019), section 3.2.1.
    """

    def __init__(self, components: int = 8, clamp: float = 5.0, steps: int = 40):
        super().__init__()
        if components < 1 or not clamp > 0 or steps < 1:
            raise ValueError(
                "LogisticMixtureTransformer expects components >= 1, clamp > 0 and steps >= 1, got "
                f"{components}, {clamp}, {steps}."
            )
        self.components, self.clamp, self.steps = components, clamp, steps
        self.n_params = 3 * components + 2
        start = torch.linspace(-2.0, 2.0, components) if components > 1 else torch.zeros(1)
        self.register_buffer("start", start)

    def _unpack(self, params: Tensor) -> tuple[Tensor, ...]:
        k = self.components
        logits, mean, scales, shift = params.split([k, k, k + 1, 1])
        mean = mean + self.start.reshape(k, *[1] * (params.dim() - 1))
        log_scale = scales / (1 + scales.abs() / self.clamp)
        return logits.log_softmax(0), mean, log_scale[:k], log_scale[k], shift[0]

    @staticmethod
    def _logit_cdf(x, log_pi, mean, log_scale) -> tuple[Tensor, Tensor]:
        """The logit of F at x and the log of its derivative."""
        t = (x - mean) * (-log_scale).exp()
        below, above = log_pi + F.logsigmoid(t), log_pi + F.logsigmoid(-t)
        log_cdf, log_rest = below.logsumexp(0), above.logsumexp(0)
        log_pdf = (below + above - log_pi - log_scale).logsumexp(0)
        return log_cdf - log_rest, log_pdf - log_cdf - log_rest

    def inverse(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return :math:`z = e^{a}\operatorname{logit} F(x) + b` and its log-derivative."""
        *mixture, log_scale, shift = self._unpack(params)
        logit, log_slope = self._logit_cdf(x, *mixture)
        return logit * log_scale.exp() + shift, log_slope + log_scale

    def forward(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        r"""Solve for :math:`x`; return it and the log-derivative of the inverse map there."""
        *mixture, log_scale, shift = self._unpack(params)
        target = (z - shift) * (-log_scale).exp()
        x = self._solve(target.detach(), *[part.detach() for part in mixture])
        for _ in range(2):
            logit, log_slope = self._logit_cdf(x, *mixture)
            x = x - (logit - target) * (-log_slope).exp()
        return x, -self._logit_cdf(x, *mixture)[1] - log_scale

    def _solve(self, target, log_pi, mean, log_scale) -> Tensor:
        """Newton's method inside a shrinking bracket; a step that does not halve the last one is a bisection."""
        quantiles = mean + log_scale.exp() * target
        low, high = quantiles.amin(0), quantiles.amax(0)
        x, step = (low + high) / 2, high - low
        # without a tolerance the last rounding errors would count as a failure to converge
        tolerance = 8 * torch.finfo(x.dtype).eps * (1 + low.abs() + high.abs())
        for _ in range(self.steps):
            logit, log_slope = self._logit_cdf(x, log_pi, mean, log_scale)
            low, high = torch.where(logit < target, x, low), torch.where(logit < target, high, x)
            newton = x - (logit - target) * (-log_slope).exp()
            fast = (newton >= low) & (newton <= high) & ((newton - x).abs() <= step / 2 + tolerance)
            new = torch.where(fast, newton, (low + high) / 2)
            x, step = new, (new - x).abs()
        return x
