"""Autoregressive layers: each coordinate moves by what the coordinates before it decide."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..events import check_event
from ..nets import MADE
from .base import Bijection, Compose
from .transformers import AffineTransformer

__all__ = ["MAF", "SlowMAF", "masked_autoregressive"]


class MAF(Bijection):
    r"""Masked autoregressive flow.

    A masked network :math:`h` gives each coordinate parameters that depend on the coordinates before it in an order,
    here the natural one, and on the context :math:`c`:

    .. math::
        x_i = \tau\bigl(z_i;\, h_i(x_{<i}, c)\bigr), \qquad
        \log\lvert\det J_f(z)\rvert = \sum_{i=1}^{D} \log\Bigl\lvert\frac{\partial \tau}{\partial z_i}\Bigr\rvert ,

    for the Jacobian is triangular. From data to base all :math:`x_{<i}` are known: one pass. From base to data they
    come one after the other; :meth:`~nfcourse.nets.made.MADE.generate` computes each hidden unit once, as soon as it
    can, so that the work, too, is about that of one pass, in :math:`D` steps. IAF is ``Inverse(MAF(...))``.

    Under autocast the two directions round the network's sums in different orders, so that they agree only to the
    digits of the shorter format; a coupling's agree as in full precision.

    Args:
        dim: Dimension :math:`D \ge 1`; with :math:`D = 1` the parameters are free, or depend on the context alone.
        hidden: Widths of the hidden layers of the network.
        transformer: The monotone map :math:`\tau`, with ``n_params`` parameters per coordinate; affine by default.
        order: ``None``, ``"reverse"``, ``"random"`` or a permutation, see :class:`~nfcourse.nets.made.MADE`.
        context_features: Size of the context vector, 0 for none.
        activation: The nonlinearity of the network, a module class; it must act on each unit alone.

    Shapes:
        ``z``, ``x``: ``(*batch, D)``; ``context``: ``(*batch, context_features)``.

    Raises:
        ValueError: If a size is smaller than one, the order is not a permutation, a context is missing or not
            expected, or an input has another last dimension or is not floating point.

    Source: Papamakarios et al. (2017), section 3.1; Kingma et al. (2016), algorithm 1, for IAF.
    """

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int] = (128, 128),
        transformer: nn.Module | None = None,
        order: str | Sequence[int] | Tensor | None = None,
        context_features: int = 0,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__()
        self.dim, self.event_shape = dim, (dim,)
        self.context_dim = 1 if context_features else None
        self.transformer = AffineTransformer() if transformer is None else transformer
        self.domain = self.codomain = self.transformer.space
        self.made = MADE(dim, self.transformer.n_params, hidden, order, context_features, activation)

    def params(self, x: Tensor, context: Tensor | None = None) -> Tensor | Sequence[Tensor]:
        r"""Return the parameters :math:`h(x, c)` of all coordinates, ``(P, *batch, D)``."""
        check_event(x, (self.dim,), "MAF", self.made.layers[0].weight)
        # under autocast the network answers in a shorter format than that of the points
        return self.transformer.arrange(self.made(x, context).to(x.dtype), -1)

    def inverse(self, x, context=None):
        r"""Return :math:`z_i = \tau^{-1}(x_i; h_i(x_{<i}, c))`: one pass for all coordinates."""
        z, log_derivative = self.transformer.inverse(x, self.params(x, context))
        return z, log_derivative.sum(-1)

    def forward(self, z, context=None):
        r"""Return :math:`x`, found coordinate by coordinate, and the log-determinant."""
        check_event(z, (self.dim,), "MAF", self.made.layers[0].weight)
        batch = z.shape[:-1]
        rows = z.reshape(batch.numel(), self.dim).T.index_select(0, self.made.order).unbind(0)
        log_derivatives = []

        def draw(k, params):
            value, log_derivative = self.transformer(rows[k], params.to(z.dtype))
            log_derivatives.append(log_derivative)
            return value

        x = self.made.generate(draw, batch, context)
        return x.contiguous(), torch.stack(log_derivatives).sum(0).reshape(batch)


class SlowMAF(Bijection):
    r"""The definition of a :class:`MAF`, word for word: a loop over the coordinates, in both directions.

    For the k-th coordinate in the order the network is shown the coordinates before it, and zeros in place of the
    others. So nothing rests on the masks here: where this class and the MAF agree, they are right.

    Args:
        maf: The fast layer; the weights are shared.

    Shapes:
        As those of the MAF; :math:`D` passes through the network, :math:`D^2` transformations.

    Raises:
        ValueError: If ``maf`` is not a MAF; for inputs as the MAF does.
    """

    def __init__(self, maf: MAF):
        super().__init__()
        if not isinstance(maf, MAF):
            raise ValueError(f"SlowMAF expects a MAF, got {type(maf).__name__}.")
        self.dim, self.event_shape, self.context_dim, self.maf = maf.dim, maf.event_shape, maf.context_dim, maf
        self.domain = self.codomain = maf.domain

    def _loop(
        self, value: Tensor, context: Tensor | None, forward: bool
    ) -> tuple[Tensor, Tensor]:
        check_event(value, (self.dim,), "SlowMAF")
        tau = self.maf.transformer.forward if forward else self.maf.transformer.inverse
        rank = self.maf.made.order.argsort()
        out, log_derivative = torch.zeros_like(value), torch.zeros_like(value)
        for k in range(self.dim):
            x = out if forward else value
            moved, step = tau(value, self.maf.params(torch.where(rank < k, x, 0.0), context))
            out = torch.where(rank == k, moved, out)
            log_derivative = torch.where(rank == k, step, log_derivative)
        return out, log_derivative.sum(-1)

    def forward(self, z, context=None):
        r"""Return :math:`x_i = \tau(z_i; h_i(x_{<i}, c))`, for one :math:`i` after the other."""
        return self._loop(z, context, True)

    def inverse(self, x, context=None):
        r"""Return :math:`z_i = \tau^{-1}(x_i; h_i(x_{<i}, c))`, for one :math:`i` after the other."""
        return self._loop(x, context, False)


def masked_autoregressive(
    dim: int,
    layers: int = 5,
    hidden: Sequence[int] = (128, 128),
    transformer: Callable[[], nn.Module] = AffineTransformer,
    order: str | None = "reverse",
    context_features: int = 0,
    activation: Callable[[], nn.Module] = nn.ReLU,
):
    """Return MAFs that read the coordinates in changing orders.

    Args:
        dim: Dimension.
        layers: Number of layers.
        hidden: As in :class:`MAF`.
        transformer: Called for each layer, returns its transformer.
        order: ``"reverse"``: every second layer reads backwards; ``"random"``: each layer has its own random order;
            ``None``: all read in the natural order.
        context_features: As in :class:`MAF`.
        activation: As in :class:`MAF`.

    Raises:
        ValueError: If the order is none of these, or an argument is not one for :class:`MAF`.

    Source: Papamakarios et al. (2017), section 3.1.
    """
    if order not in (None, "reverse", "random"):
        raise ValueError(f'masked_autoregressive expects the order "reverse", "random" or None, got {order!r}.')
    orders = [None if order == "reverse" and k % 2 == 0 else order for k in range(layers)]
    return Compose(*(MAF(dim, hidden, transformer(), o, context_features, activation) for o in orders))
