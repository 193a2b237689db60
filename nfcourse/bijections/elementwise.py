"""Maps that act on each coordinate by itself: their Jacobians are diagonal."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn import functional as F

from .base import Bijection, Inverse, check_event, event_shape, sum_event

__all__ = ["Affine", "Logit", "PReLU", "Sigmoid"]


class Affine(Bijection):
    r"""Location and scale, one pair per coordinate.

    .. math::
        x_i = \mu_i + e^{s_i} z_i, \qquad \log\lvert\det J_f(z)\rvert = \sum_i s_i .

    Args:
        shape: Event shape, an integer or a tuple.
        loc: Initial :math:`\mu`, a number or a tensor of that shape.
        scale: Initial :math:`e^{s} > 0`, likewise.

    Shapes:
        ``z``, ``x``: ``(*batch, *shape)``.

    Raises:
        ValueError: If ``scale`` is not positive, or an input has another shape or is not floating point.

    Source: location-scale family; Magda's notes, equation 1.36.
    """

    def __init__(self, shape: int | tuple[int, ...], loc: float | Tensor = 0.0, scale: float | Tensor = 1.0):
        super().__init__()
        self.shape = event_shape(shape, "Affine")
        self.event_dim = len(self.shape)
        scale = torch.as_tensor(scale, dtype=torch.get_default_dtype())
        if not bool((scale > 0).all()):
            raise ValueError(f"Affine expects a positive scale, got {scale}.")
        loc = torch.as_tensor(loc, dtype=torch.get_default_dtype())
        self.loc = nn.Parameter(loc.expand(self.shape).clone())
        self.log_scale = nn.Parameter(scale.log().expand(self.shape).clone())

    def forward(self, z, context=None):
        r"""Return :math:`\mu + e^s z` and :math:`\sum_i s_i`."""
        check_event(z, self.shape, type(self).__name__)
        return self.loc + self.log_scale.exp() * z, self.log_scale.sum().expand(z.shape[: -self.event_dim])

    def inverse(self, x, context=None):
        r"""Return :math:`e^{-s}(x - \mu)` and :math:`-\sum_i s_i`."""
        check_event(x, self.shape, type(self).__name__)
        return (x - self.loc) * (-self.log_scale).exp(), -self.log_scale.sum().expand(x.shape[: -self.event_dim])


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

    Source: the thesis, equations 3.14-3.17 (d indices); He et al. (2015) for the activation.
    """

    def __init__(self, shape: int | tuple[int, ...], slope: float = 0.5):
        super().__init__()
        self.shape = event_shape(shape, "PReLU")
        self.event_dim = len(self.shape)
        if not slope > 0:
            raise ValueError(f"PReLU expects a slope > 0 (at 0 the left half-line collapses), got {slope}.")
        self.log_slope = nn.Parameter(torch.full(self.shape, math.log(slope)))

    def _scale(self, value: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        check_event(value, self.shape, "PReLU")
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
        \log\lvert\det J_f(z)\rvert = \sum_i \log \sigma(z_i) + \log \sigma(-z_i) .

    Numbers so close to 0 or 1 that the dtype cannot tell them apart are moved to the nearest
    number inside the interval, in both directions: the inverse is finite everywhere.

    Args:
        event_dim: Number of trailing dimensions that form one point.

    Shapes:
        ``z``, ``x``: ``(*batch, *event)`` with ``event_dim`` event dimensions.

    Raises:
        ValueError: If an input is not floating point or has too few dimensions.

    Source: Dinh et al. (2017), section 4.1 (the logit as a data transform).
    """

    codomain = constraints.unit_interval

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
        r"""Return :math:`\sigma(z)` and :math:`\sum_i \log\sigma(z_i) + \log\sigma(-z_i)`."""
        self._check(z)
        return self._inside(torch.sigmoid(z)), sum_event(F.logsigmoid(z) + F.logsigmoid(-z), self.event_dim)

    def inverse(self, x, context=None):
        r"""Return :math:`\log x - \log(1 - x)` and :math:`-\sum_i \log x_i + \log(1 - x_i)`."""
        self._check(x)
        x = self._inside(x)
        log_x, log_rest = x.log(), torch.log1p(-x)
        return log_x - log_rest, -sum_event(log_x + log_rest, self.event_dim)


class Logit(Inverse):
    r"""The logit, from the open unit interval to the line: :class:`Sigmoid` read backwards.

    .. math::
        x_i = \log \frac{z_i}{1 - z_i}, \qquad
        \log\lvert\det J_f(z)\rvert = -\sum_i \log z_i + \log(1 - z_i) .

    A flow for data in :math:`(0, 1)` ends in :class:`Sigmoid`; ``Logit`` is for bases on the interval.

    Args:
        event_dim: Number of trailing dimensions that form one point.
    """

    def __init__(self, event_dim: int = 1):
        super().__init__(Sigmoid(event_dim))
