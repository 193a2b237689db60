"""Normalizing layers: from running statistics, and from the first batch."""

import torch

from ..events import as_event_shape, check_event
from .base import Bijection
from .elementwise import Affine

__all__ = ["ActNorm", "BatchNorm"]


class BatchNorm(Bijection):
    r"""Normalize the data towards the base; statistics come from data, not from gradients.

    For **fixed** statistics :math:`\tilde\mu, \tilde\sigma^2` the inverse (data to base) and its log-determinant are

    .. math::
        z_i = \frac{x_i - \tilde\mu_i}{\sqrt{\tilde\sigma_i^2 + \epsilon}}, \qquad
        \log\lvert\det J_{f^{-1}}(x)\rvert = -\tfrac12 \sum_i \log(\tilde\sigma_i^2 + \epsilon) .

    In eval mode the running statistics are used: a bijection. In train mode ``inverse`` uses those of the batch and
    moves the running ones towards them; the points of a batch then depend on each other, the map of the whole
    batch is singular, and the value returned as ``log_det`` is the formula above, not the determinant of that map.
    ``forward`` always uses the running statistics.

    Args:
        shape: Event shape, an integer or a tuple; statistics are taken over all batch dimensions.
        eps: :math:`\epsilon > 0` added to the variance.
        momentum: Weight of the new batch in the running statistics, in (0, 1].

    Shapes:
        ``z``, ``x``: ``(*batch, *shape)``.

    Raises:
        ValueError: If a batch in train mode has fewer than two points, if ``eps`` or ``momentum`` is out of range, or
            if an input has another shape or is not floating point.

    Source: Dinh et al. (2017), appendix E.
    """

    def __init__(self, shape: int | tuple[int, ...], eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.event_shape = as_event_shape(shape, "BatchNorm")
        self.event_dim = len(self.event_shape)
        if not eps > 0 or not 0 < momentum <= 1:
            raise ValueError(
                "BatchNorm expects eps > 0 and 0 < momentum <= 1, "
                f"got eps={eps}, momentum={momentum}."
            )
        self.eps, self.momentum = eps, momentum
        self.register_buffer("mean", torch.zeros(self.event_shape))
        self.register_buffer("var", torch.ones(self.event_shape))

    def forward(self, z, context=None):
        r"""Return :math:`z\sqrt{\tilde\sigma^2 + \epsilon} + \tilde\mu`."""
        check_event(z, self.event_shape, "BatchNorm", self.mean)
        std = (self.var + self.eps).sqrt()
        return z * std + self.mean, std.log().sum().expand(z.shape[: -self.event_dim])

    def inverse(self, x, context=None):
        r"""Return :math:`(x - \tilde\mu)/\sqrt{\tilde\sigma^2 + \epsilon}`."""
        check_event(x, self.event_shape, "BatchNorm", self.mean)
        mean, var = self._update(x) if self.training else (self.mean, self.var)
        std = (var + self.eps).sqrt()
        return (x - mean) / std, -std.log().sum().expand(x.shape[: -self.event_dim])

    def initialize(self, value, context=None, direction="inverse"):
        """Normalize a batch; nothing is set that training would not set."""
        if direction == "forward":
            raise NotImplementedError(
                "BatchNorm learns its statistics from data to base; inside Inverse it would "
                "never see the data. Use ActNorm, or put the BatchNorm outside of Inverse."
            )
        return self.inverse(value, context)[0]

    def _update(self, x):
        batch = x.reshape(-1, *self.event_shape)
        if len(batch) < 2:
            raise ValueError(
                f"BatchNorm in train mode expects at least two points, got {len(batch)}."
            )
        mean, var = batch.mean(0), batch.var(0, unbiased=False)
        with torch.no_grad():
            self.mean.lerp_(mean.to(self.mean.dtype), self.momentum)
            self.var.lerp_(var.to(self.var.dtype), self.momentum)
        return mean, var


class ActNorm(Affine):
    r"""Location and scale that start from the first batch, then learn.

    :meth:`initialize` sets :math:`\mu` and :math:`e^{s}` to the mean and standard deviation of a batch of data, so
    that its pre-image has mean 0 and variance 1 per coordinate; with ``direction="forward"`` to :math:`-m/v` and
    :math:`1/v` for mean :math:`m` and standard deviation :math:`v`, so that its image has. Afterwards the layer is
    :class:`Affine`. Whether it has been initialised is a buffer: weights that are loaded are not initialised again.

    Args:
        shape: Event shape, an integer or a tuple.
        eps: Smallest standard deviation: constant coordinates keep a finite scale.
        share: As in :class:`Affine`; what shares a parameter shares the statistics (``share=2``: one per channel).

    Raises:
        ValueError: As :class:`Affine`; also if :meth:`initialize` gets fewer than two points.

    Source: Kingma and Dhariwal (2018), section 3.1.
    """

    def __init__(self, shape: int | tuple[int, ...], eps: float = 1e-3, share: int = 0):
        super().__init__(shape, share=share)
        self.eps = eps
        self.register_buffer("initialized", torch.tensor(False))

    @torch.no_grad()
    def initialize(self, value, context=None, direction="inverse"):
        """Set location and scale from a batch, once; return what it becomes."""
        check_event(value, self.event_shape, "ActNorm", self.loc)
        if not bool(self.initialized):
            batch = value.reshape(-1, *self.event_shape)
            if len(batch) < 2:
                got = len(batch)
                raise ValueError(f"ActNorm.initialize expects at least two points, got {got}.")
            sizes = zip(self.loc.shape, self.event_shape, strict=False)
            pooled = [0, *(d for d, (own, all_) in enumerate(sizes, 1) if own < all_)]
            mean = batch.mean(pooled, keepdim=True)[0]
            std = batch.std(pooled, unbiased=False, keepdim=True)[0].clamp_min(self.eps)
            self.loc.copy_(-mean / std if direction == "forward" else mean)
            self.log_scale.copy_(-std.log() if direction == "forward" else std.log())
            self.initialized.fill_(True)
        return getattr(self, direction)(value, context)[0]
