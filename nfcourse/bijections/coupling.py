"""Coupling layers: one part of the vector decides how the other part moves."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..nets import MLP
from .base import Bijection, check_event
from .transformers import AffineTransformer

__all__ = ["Coupling", "alternate_mask", "half_mask"]


def half_mask(dim: int, flip: bool = False) -> Tensor:
    """Return a mask of shape ``(dim,)``: True on the first half (on the second with ``flip``)."""
    mask = torch.arange(dim) < (dim + 1) // 2
    return ~mask if flip else mask


def alternate_mask(dim: int, flip: bool = False) -> Tensor:
    """Return a mask of shape ``(dim,)``: True at even indices (at odd ones with ``flip``)."""
    mask = torch.arange(dim) % 2 == 0
    return ~mask if flip else mask


class Coupling(Bijection):
    r"""Mask, conditioner and transformer.

    The mask splits :math:`z` into :math:`z_A` (True), which passes through, and :math:`z_B`, which is transformed
    coordinate by coordinate with parameters that depend on :math:`z_A` and the context :math:`c`:

    .. math::
        x_A = z_A, \qquad x_B = \tau\bigl(z_B;\, h(z_A, c)\bigr), \qquad
        \log\lvert\det J_f(z)\rvert = \sum_{i \in B} \log\Bigl\lvert\frac{\partial \tau}{\partial z_i}\Bigr\rvert .

    The sum runs over :math:`B` only: the Jacobian is triangular with ones on the diagonal of :math:`A`.

    Args:
        mask: Boolean tensor ``(D,)``, True where a coordinate passes through and conditions.
        conditioner: Called as ``conditioner(n_in, n_out)``, returns the network :math:`h`.
        transformer: The monotone map :math:`\tau`, with ``n_params`` parameters per coordinate.
        context_features: Size of the context vector, 0 for none.

    Shapes:
        ``z``, ``x``: ``(*batch, D)``; ``context``: ``(*batch, context_features)``, broadcast over the batch.

    Raises:
        ValueError: If ``D < 2``, the mask is constant or not boolean, a context is missing or not expected, or an
            input has another last dimension or is not floating point.

    Source: Dinh et al. (2017), equations 4-8; Dinh et al. (2015), section 3.2.
    """

    def __init__(
        self,
        mask: Tensor,
        conditioner: Callable[[int, int], nn.Module] = MLP,
        transformer: nn.Module | None = None,
        context_features: int = 0,
    ):
        super().__init__()
        mask = torch.as_tensor(mask)
        if mask.dtype != torch.bool or mask.dim() != 1:
            raise ValueError(f"Coupling expects a boolean mask (D,), got {mask.dtype} of shape {tuple(mask.shape)}.")
        if mask.numel() < 2:
            raise ValueError(
                f"Coupling expects D >= 2, got D = {mask.numel()}: with one coordinate there is nothing to condition "
                "on. Use an elementwise bijection."
            )
        if bool(mask.all()) or not bool(mask.any()):
            raise ValueError("Coupling expects a mask with both True and False, got a constant one.")
        self.dim, self.n_a = mask.numel(), int(mask.sum())
        self.context_features = context_features
        self.transformer = AffineTransformer() if transformer is None else transformer
        n_b = self.dim - self.n_a
        self.conditioner = conditioner(self.n_a + context_features, n_b * self.transformer.n_params)
        order = torch.cat([mask.nonzero().squeeze(1), (~mask).nonzero().squeeze(1)])
        self.register_buffer("order", order)
        self.register_buffer("inverse_order", order.argsort())
        # contiguous halves are split and joined without a gather
        self.a_first = bool(mask[: self.n_a].all())
        self.b_first = bool(mask[n_b:].all())

    def _split(self, value: Tensor) -> tuple[Tensor, Tensor]:
        n_b = self.dim - self.n_a
        if self.b_first:
            b, a = value.split([n_b, self.n_a], -1)
            return a, b
        if not self.a_first:
            value = value[..., self.order]
        a, b = value.split([self.n_a, n_b], -1)
        return a, b

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        if self.b_first:
            return torch.cat([b, a], -1)
        value = torch.cat([a, b], -1)
        return value if self.a_first else value[..., self.inverse_order]

    def _params(self, a: Tensor, context: Tensor | None) -> Tensor:
        if (context is None) != (self.context_features == 0):
            got = "none" if context is None else f"one of shape {tuple(context.shape)}"
            raise ValueError(f"Coupling expects a context with {self.context_features} features, got {got}.")
        if context is not None:
            check_event(context, (self.context_features,), "Coupling (context)")
            a = torch.cat([a, context.expand(*a.shape[:-1], -1)], -1)
        return self.conditioner(a)

    def forward(self, z, context=None):
        r"""Return :math:`(z_A, \tau(z_B; h(z_A, c)))` and the sum of the log-derivatives over :math:`B`."""
        check_event(z, (self.dim,), "Coupling")
        a, b = self._split(z)
        b, log_derivative = self.transformer(b, self._params(a, context))
        return self._join(a, b), log_derivative.sum(-1)

    def inverse(self, x, context=None):
        r"""Return :math:`(x_A, \tau^{-1}(x_B; h(x_A, c)))`; the conditioner itself is never inverted."""
        check_event(x, (self.dim,), "Coupling")
        a, b = self._split(x)
        b, log_derivative = self.transformer.inverse(b, self._params(a, context))
        return self._join(a, b), log_derivative.sum(-1)
