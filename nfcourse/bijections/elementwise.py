"""Maps that act on each coordinate by itself: their Jacobians are diagonal."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..events import as_event_shape, check_context, check_event, sum_event
from ..spaces import unit_interval
from .base import Bijection, Inverse
from .transformers import AffineTransformer

__all__ = ["Affine", "ConditionalAffine", "Logit", "PReLU", "Sigmoid"]


class Affine(Bijection):
    r"""Location and scale, one pair per coordinate.

    .. math::
        x_i = \mu_i + e^{s_i} z_i, \qquad \log\lvert\det J_f(z)\rvert = \sum_i s_i .

    Args:
        shape: Event shape, an integer or a tuple.
        loc: Initial :math:`\mu`, a number or a tensor that broadcasts to the parameters.
        scale: Initial :math:`e^{s} > 0`, likewise.
        share: Number of trailing dimensions that share one pair: with ``share=2`` an image ``(C, H, W)`` has one
            location and one scale per channel, parameters of shape ``(C, 1, 1)``.

    Shapes:
        ``z``, ``x``: ``(*batch, *shape)``.

    Raises:
        ValueError: If ``scale`` is not positive, ``share`` is not between 0 and the number of dimensions, or an input
            has another shape or is not floating point.

    Source: location-scale family; Papamakarios et al. (2021), section 3.1.1.
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        loc: float | Tensor = 0.0,
        scale: float | Tensor = 1.0,
        share: int = 0,
    ):
        super().__init__()
        self.event_shape = as_event_shape(shape, type(self).__name__)
        self.event_dim = len(self.event_shape)
        if not 0 <= share <= self.event_dim:
            raise ValueError(f"Affine expects 0 <= share <= {self.event_dim}, got {share}.")
        kept = self.event_dim - share
        self.shared = math.prod(self.event_shape[kept:])  # coordinates per parameter
        scale = torch.as_tensor(scale, dtype=torch.get_default_dtype())
        if not bool((scale > 0).all()):
            raise ValueError(f"Affine expects a positive scale, got {scale}.")
        loc = torch.as_tensor(loc, dtype=torch.get_default_dtype())
        size = (*self.event_shape[:kept], *[1] * share)
        self.loc = nn.Parameter(loc.expand(size).clone())
        self.log_scale = nn.Parameter(scale.log().expand(size).clone())

    def _log_det(self, value: Tensor) -> Tensor:
        return (self.shared * self.log_scale.sum()).expand(value.shape[: -self.event_dim])

    def forward(self, z, context=None):
        r"""Return :math:`\mu + e^s z` and :math:`\sum_i s_i`."""
        check_event(z, self.event_shape, type(self).__name__, self.loc)
        return self.loc + self.log_scale.exp() * z, self._log_det(z)

    def inverse(self, x, context=None):
        r"""Return :math:`e^{-s}(x - \mu)` and :math:`-\sum_i s_i`."""
        check_event(x, self.event_shape, type(self).__name__, self.loc)
        return (x - self.loc) * (-self.log_scale).exp(), -self._log_det(x)


class ConditionalAffine(Bijection):
    r"""Location and scale that a network reads off the context.

    .. math::
        x = \mu(c) + e^{s(c)} \odot z, \qquad \log\lvert\det J_f(z)\rvert = \sum_i s_i(c) .

    The log-scales are softly clamped, see :class:`~nfcourse.bijections.transformers.AffineTransformer`.
    ``Flow(StandardNormal(shape), ConditionalAffine(net))`` is a Gaussian that depends on the context.

    Args:
        net: Maps the context to :math:`\mu` and :math:`s`, stacked along the last axis of a vector or the channels of
            an image: ``(*batch, 2 D)`` or ``(*batch, 2 C, H, W)``.
        event_dim: 1 for vectors, 3 for images ``(C, H, W)``.
        context_dim: Number of trailing dimensions of one context; default ``event_dim``.
        clamp: Bound of the log-scales.

    Shapes:
        ``z``, ``x``: ``(*batch, D)`` or ``(*batch, C, H, W)``; ``context``: what ``net`` takes, with the same batch.

    Raises:
        ValueError: If there is no context, or an input does not have the shape that the network's output asks for.

    Source: the factored-out half of Dinh et al. (2017), section 3.6, here with a learned location and scale.
    """

    def __init__(self, net: nn.Module, event_dim: int = 1, context_dim: int | None = None, clamp: float = 5.0):
        super().__init__()
        if event_dim not in (1, 3):
            raise ValueError(f"ConditionalAffine expects event_dim 1 or 3, got {event_dim}.")
        self.net, self.transformer = net, AffineTransformer(clamp)
        self.event_dim, self.context_dim = event_dim, event_dim if context_dim is None else context_dim

    def _params(self, value: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        axis = -self.event_dim
        check_event(value, (None,) * self.event_dim, "ConditionalAffine")
        check_context(context, (None,) * self.context_dim, value.shape[:axis], "ConditionalAffine")
        # under autocast the network answers in a shorter format; the map itself keeps that of its points
        params = self.transformer.arrange(self.net(context).to(value.dtype), axis)
        check_event(value, tuple(params[0].shape[axis:]), "ConditionalAffine")
        return params

    def forward(self, z, context=None):
        r"""Return :math:`\mu(c) + e^{s(c)} \odot z` and :math:`\sum_i s_i(c)`."""
        x, log_derivative = self.transformer(z, self._params(z, context))
        return x, sum_event(log_derivative, self.event_dim)

    def inverse(self, x, context=None):
        r"""Return :math:`e^{-s(c)} \odot (x - \mu(c))` and :math:`-\sum_i s_i(c)`."""
        z, log_derivative = self.transformer.inverse(x, self._params(x, context))
        return z, sum_event(log_derivative, self.event_dim)


class PReLU(Bijection):
    r"""Parametric rectifier: the identity on the right, slope :math:`\alpha_i > 0` on the left.

    .. math::
        x_i = \begin{cases} z_i & z_i \ge 0 \\ \alpha_i z_i & z_i < 0 \end{cases}, \qquad
        \log\lvert\det J_f(z)\rvert = \sum_i \mathbf 1[z_i < 0] \log \alpha_i .

    The map has a kink at 0; the formula holds off the null set where some :math:`z_i = 0`.
    :math:`\alpha_i = e^{a_i}` with the parameter :math:`a_i`, so it stays positive under any gradient step.

    Args:
        shape: Event shape, an integer or a tuple.
        slope: Initial :math:`\alpha > 0`.

    Shapes:
        ``z``, ``x``: ``(*batch, *shape)``.

    Raises:
        ValueError: If ``slope`` is not positive, or an input has another shape or is not floating point.

    Source: He et al. (2015), equation 1, for the activation.
    """

    def __init__(self, shape: int | tuple[int, ...], slope: float = 0.5):
        super().__init__()
        self.event_shape = as_event_shape(shape, "PReLU")
        self.event_dim = len(self.event_shape)
        if not slope > 0:
            raise ValueError(
                f"PReLU expects a slope > 0 (at 0 the left half-line collapses), got {slope}."
            )
        self.log_slope = nn.Parameter(torch.full(self.event_shape, math.log(slope)))

    def _scale(self, value: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        check_event(value, self.event_shape, "PReLU", log_slope)
        log_j = torch.where(value < 0, log_slope, torch.zeros_like(log_slope))
        return value * log_j.exp(), sum_event(log_j, self.event_dim)

    def forward(self, z, context=None):
        r"""Return :math:`f(z)` and :math:`\sum_i \mathbf 1[z_i < 0] \log\alpha_i`."""
        return self._scale(z, self.log_slope)

    def inverse(self, x, context=None):
        r"""Return :math:`f^{-1}(x)`: the same rectifier with slope :math:`1/\alpha_i`."""
        return self._scale(x, -self.log_slope)


class Sigmoid(Bijection):
    r"""The logistic function, from the line to the open unit interval.

    .. math::
        x_i = \frac{1}{1 + e^{-z_i}}, \qquad
        \log\lvert\det J_f(z)\rvert = \sum_i \bigl[\log \sigma(z_i) + \log \sigma(-z_i)\bigr] .

    Numbers so close to 0 or 1 that the dtype cannot tell them apart are moved to the nearest
    number inside the interval, in both directions: the inverse is finite on all of [0, 1]. Outside of it the
    log-determinant of the inverse is :math:`-\infty`, and so is the log-density of a flow that ends here.

    Args:
        event_dim: Number of trailing dimensions that form one point.

    Shapes:
        ``z``, ``x``: ``(*batch, *event)`` with ``event_dim`` event dimensions.

    Raises:
        ValueError: If an input is not floating point or has too few dimensions.

    Source: Dinh et al. (2017), section 4.1 (the logit as a data transform).
    """

    codomain = unit_interval

    def __init__(self, event_dim: int = 1):
        super().__init__()
        if event_dim < 1:
            raise ValueError(f"Sigmoid expects event_dim >= 1, got {event_dim}.")
        self.event_dim = event_dim

    def _check(self, value: Tensor) -> None:
        if not value.dtype.is_floating_point or value.dim() < self.event_dim:
            raise ValueError(
                f"Sigmoid expects a floating-point tensor with at least {self.event_dim} dimensions, "
                f"got {value.dtype} of shape {tuple(value.shape)}."
            )

    @staticmethod
    def _inside(x: Tensor) -> Tensor:
        info = torch.finfo(x.dtype)
        return x.clamp(info.tiny, 1 - info.eps / 2)

    def forward(self, z, context=None):
        r"""Return :math:`\sigma(z)` and :math:`\sum_i [\log\sigma(z_i) + \log\sigma(-z_i)]`."""
        self._check(z)
        return self._inside(torch.sigmoid(z)), sum_event(F.logsigmoid(z) + F.logsigmoid(-z), self.event_dim)

    def inverse(self, x, context=None):
        r"""Return :math:`\log x - \log(1 - x)` and :math:`-\sum_i [\log x_i + \log(1 - x_i)]`."""
        self._check(x)
        # for a point outside, no mass: the value stays finite, the density does not
        outside = torch.where((x < 0) | (x > 1), -torch.inf, 0.0).to(x.dtype)
        x = self._inside(x)
        log_x, log_rest = x.log(), torch.log1p(-x)
        return log_x - log_rest, sum_event(outside - log_x - log_rest, self.event_dim)


class Logit(Inverse):
    r"""The logit, from the open unit interval to the line: :class:`Sigmoid` read backwards.

    .. math::
        x_i = \log \frac{z_i}{1 - z_i}, \qquad
        \log\lvert\det J_f(z)\rvert = -\sum_i \bigl[\log z_i + \log(1 - z_i)\bigr] .

    A flow for data in :math:`(0, 1)` ends in :class:`Sigmoid`; ``Logit`` is for bases on the interval.

    Args:
        event_dim: Number of trailing dimensions that form one point.
    """

    def __init__(self, event_dim: int = 1):
        super().__init__(Sigmoid(event_dim))
