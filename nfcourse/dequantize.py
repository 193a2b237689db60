"""Models of integers: a density seen through noise, and its unit, bits per dimension."""

import math

import torch
from torch import Tensor, nn

from .flow import Flow
from .module import Module
from .spaces import unit_interval

__all__ = ["Dequantized", "bits_per_dim"]


class Dequantized(Module):
    r"""A model of integers: a density on :math:`[0, 1)^D` seen through noise.

    For :math:`x \in \{0, \dots, K-1\}^D`, a model :math:`p` of :math:`y = (x+u)/K` and noise
    :math:`u \sim q(\cdot \mid x)` on :math:`[0,1)^D`,

    .. math::
        \log P(x) = \log \int_{[0,1)^D} p\Bigl(\frac{x+u}{K}\Bigr) K^{-D}\, \mathrm d u
        \;\ge\; \mathbb E_u \Bigl[\log p\Bigl(\frac{x+u}{K}\Bigr) - \log q(u \mid x)\Bigr] - D \log K .

    The gap is the divergence of :math:`q(u \mid x)` from :math:`p(u \mid x)`. Uniform noise has :math:`\log q = 0`; a
    learned :math:`q`, variational dequantisation, can close the gap. A call draws one :math:`u` per point and returns
    what stands in the last expectation: an unbiased estimate of a **lower bound** on :math:`\log P(x)`, in nats with
    respect to counting measure.

    Args:
        model: Model of points in :math:`[0,1)^D`, called as ``model(y, context)``.
        levels: The number :math:`K \ge 2` of integer levels.
        event_dim: Number of trailing dimensions that form one point: that of the model, which need not be repeated;
            given for a model that does not say.
        noise: Flow :math:`q` of points in :math:`(0,1)^D` with :math:`x/K` as its context; ``None`` for uniform noise.

    Shapes:
        ``x``: ``(*batch, *event)``, of any integer dtype or of floats that hold integers.

    Raises:
        ValueError: If ``levels < 2``; if the noise does not end in the unit interval; if the model does not say its
            ``event_dim``, or says another one; if ``x`` is boolean or complex. (Values outside 0..K-1 are not looked
            for here; :func:`nfcourse.values.validate` finds them where data enters.)

    Source: Theis et al. (2016), section 3.1; Uria et al. (2013), for image patches; Ho et al. (2019), section 3.1.
    """

    def __init__(self, model: nn.Module, levels: int, event_dim: int | None = None, noise: Flow | None = None):
        super().__init__()
        if levels < 2:
            raise ValueError(f"Dequantized expects at least 2 levels, got {levels}.")
        said = {d for d in (event_dim, *(getattr(part, "event_dim", None) for part in (model, noise))) if d is not None}
        if noise is not None and noise.bijection.codomain != unit_interval:
            raise ValueError(
                f"Dequantized expects a noise that ends in the unit interval, got one in {noise.bijection.codomain}: "
                "noise beyond it would turn the lower bound into none. Put a Sigmoid at its end."
            )
        if len(said) != 1:
            raise ValueError(
                f"Dequantized expects one event_dim, got {sorted(said) or 'none'} from its argument, its model and its "
                f"noise: {type(model).__name__} must say it, or you must."
            )
        self.model, self.levels, self.event_dim, self.noise = model, levels, said.pop(), noise

    def _floats(self, x: Tensor) -> Tensor:
        if x.dtype == torch.bool or x.dtype.is_complex:
            raise ValueError(f"Dequantized expects integers or floats that hold integers, got {x.dtype}.")
        return x if x.dtype.is_floating_point else x.to(torch.get_default_dtype())

    def _draw_noise(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        r"""One :math:`u` and :math:`\log q(u \mid x)`, which is zero for uniform noise."""
        if self.noise is None:
            return torch.rand_like(x), 0.0
        batch = x.shape[: x.dim() - self.event_dim]
        return self.noise.draw_given(x / self.levels, batch)

    def _place(self, x: Tensor, u: Tensor) -> Tensor:
        # K - 1 + u rounds up to K when u is within rounding of 1
        return ((x + u) / self.levels).clamp(max=1 - torch.finfo(x.dtype).eps / 2)

    def dequantize(self, x: Tensor) -> Tensor:
        """Return one draw of :math:`(x + u)/K`, in the dtype of ``x`` if that is floating, else the default."""
        x = self._floats(x)
        return self._place(x, self._draw_noise(x)[0])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Return a draw of the bound on :math:`\log P(x)`, of shape ``(*batch)``."""
        x = self._floats(x)
        u, log_q = self._draw_noise(x)
        dims = math.prod(x.shape[x.dim() - self.event_dim :])
        return self.model(self._place(x, u), context) - log_q - dims * math.log(self.levels)

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Return a draw of the bound on :math:`\log P(x)`; the same as calling the model."""
        return self(x, context)

    def sample(self, shape: tuple[int, ...] = (), context: Tensor | None = None, **how) -> Tensor:
        r"""Return integers :math:`\lfloor K y \rfloor`, kept inside 0..K-1, for draws :math:`y` of the model.

        Keywords, such as ``temperature``, go to the model's own ``sample``.
        """
        y = self.model.sample(shape, context, **how)
        return (y * self.levels).floor().clamp(0, self.levels - 1).long()

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Pass the batch under uniform noise on to the model's own initialisation, and the noise to that of q."""
        x = self._floats(x)
        u = torch.rand_like(x)
        if hasattr(self.model, "initialize"):
            self.model.initialize(self._place(x, u), context)
        if self.noise is not None:
            self.noise.initialize(u, self.noise.taken(x / self.levels))


def bits_per_dim(log_prob: Tensor, dims: int) -> Tensor:
    r"""Convert a log-likelihood in nats to bits per dimension, :math:`-\log_2 p(x) / D`.

    The reference measure stays what it was: for integers modelled by :class:`Dequantized` it is counting measure, and
    the number is comparable with a compressor's; for a density it changes with the units of the data.

    Args:
        log_prob: Log-likelihood per point, in nats.
        dims: The number :math:`D` of dimensions of one point.

    Raises:
        ValueError: If ``dims < 1``.
    """
    if dims < 1:
        raise ValueError(f"bits_per_dim expects dims >= 1, got {dims}.")
    return -log_prob / (dims * math.log(2.0))
