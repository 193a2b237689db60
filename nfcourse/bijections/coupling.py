"""Coupling layers: one part of the vector decides how the other part moves."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..events import as_event_shape, check_context, check_event, sum_event
from ..nets import MLP
from .base import Bijection, Compose
from .elementwise import Affine
from .transformers import AdditiveTransformer, AffineTransformer, LogisticMixtureTransformer, RQSTransformer

__all__ = [
    "NICE",
    "Coupling",
    "FlowPP",
    "MaskedCoupling",
    "RealNVP",
    "SplineCoupling",
    "alternate_mask",
    "checkerboard_mask",
    "half_mask",
]


def half_mask(dim: int, flip: bool = False) -> Tensor:
    """Return a mask of shape ``(dim,)``: True on the first half (on the second with ``flip``)."""
    mask = torch.arange(dim) < (dim + 1) // 2
    return ~mask if flip else mask


def alternate_mask(dim: int, flip: bool = False) -> Tensor:
    """Return a mask of shape ``(dim,)``: True at even indices (at odd ones with ``flip``)."""
    mask = torch.arange(dim) % 2 == 0
    return ~mask if flip else mask


def checkerboard_mask(shape: tuple[int, ...], flip: bool = False) -> Tensor:
    """Return a mask of shape ``(*, H, W)``: True where row plus column is even (odd with ``flip``)."""
    shape = as_event_shape(shape, "checkerboard_mask")
    if len(shape) < 2:
        raise ValueError(f"checkerboard_mask expects a shape (*, H, W), got {shape}.")
    height, width = shape[-2:]
    mask = (torch.arange(height).unsqueeze(1) + torch.arange(width)) % 2 == 0
    return (~mask if flip else mask).expand(shape).clone()


class _Conditioned(Bijection):
    """What couplings share: their transformer's space, and the call of the conditioner, with or without a context."""

    def _condition(self, transformer: nn.Module | None, context_features: int, context_dim: int) -> None:
        """Set the transformer, affine by default, and what kind of context the conditioner sees."""
        self.transformer = AffineTransformer() if transformer is None else transformer
        self.domain = self.codomain = self.transformer.space
        self.context_features, self.context_dim = context_features, context_dim if context_features else None

    def _params(self, a: Tensor, moved: Tensor, context: Tensor | None) -> Tensor:
        """The parameters ``(P, *batch, *event)`` of what moves, computed by the network from ``a`` and the context."""
        axis = -self.event_dim
        dtype = a.dtype
        if self.context_features:
            size = a.shape[a.dim() + axis + 1 :]
            features = (self.context_features, *size[: self.context_dim - 1])
            check_context(context, features, a.shape[:axis], type(self).__name__)
            if self.context_dim < self.event_dim:
                context = context[(..., *[None] * (self.event_dim - 1))]
            a = torch.cat([a, context.expand(*a.shape[:axis], -1, *size)], axis)
        # under autocast the network answers in a shorter format; the map itself keeps that of its points
        params = self.conditioner(a).to(dtype)
        n, size = self.transformer.n_params, moved.shape[axis]
        if params.shape[axis] != n * size:
            raise ValueError(
                f"{type(self).__name__} expects {n} x {size} outputs of its conditioner, got {params.shape[axis]}."
            )
        return self.transformer.arrange(params, axis)


class Coupling(_Conditioned):
    r"""Mask, conditioner and transformer.

    The mask splits :math:`z` into :math:`z_A` (True), which passes through, and :math:`z_B`, which is transformed
    coordinate by coordinate with parameters that depend on :math:`z_A` and the context :math:`c`:

    .. math::
        x_A = z_A, \qquad x_B = \tau\bigl(z_B;\, h(z_A, c)\bigr), \qquad
        \log\lvert\det J_f(z)\rvert = \sum_{i \in B} \log\Bigl\lvert\frac{\partial \tau}{\partial z_i}\Bigr\rvert .

    The sum runs over :math:`B` only: the Jacobian is triangular with ones on the diagonal of :math:`A`.

    Args:
        mask: Boolean tensor ``(D,)``, True where a coordinate passes through and conditions. With ``event_dim=3``
            it is a mask of channels.
        conditioner: Called as ``conditioner(n_in, n_out)``, returns the network :math:`h`; with ``event_dim=3`` a
            convolutional one. It computes ``n_params`` values for each coordinate (channel) of :math:`B`, all first
            parameters, then all second ones, and so on.
        transformer: The monotone map :math:`\tau`, see :mod:`nfcourse.bijections.transformers`; default affine.
        context_features: Size of the context vector (or number of its channels), 0 for none.
        event_dim: 1 for vectors, 3 for images ``(C, H, W)``, which are split along C.
        context_dim: 1 for a context vector, which is spread over the positions of an image; 3 for an image.

    Shapes:
        ``z``, ``x``: ``(*batch, D)`` or ``(*batch, D, H, W)``; ``context``: ``(*batch, context_features)`` or
        ``(*batch, context_features, H, W)``; ignored where ``context_features`` is 0.

    Raises:
        ValueError: If ``D < 2``, the mask is constant or not boolean, a context is missing, or an
            input has another number of coordinates or is not floating point.

    Source: Dinh et al. (2017), equations 4-8; Dinh et al. (2015), section 3.2.
    """

    def __init__(
        self,
        mask: Tensor,
        conditioner: Callable[[int, int], nn.Module] = MLP,
        transformer: nn.Module | None = None,
        context_features: int = 0,
        event_dim: int = 1,
        context_dim: int = 1,
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
        if event_dim not in (1, 3) or context_dim not in (1, event_dim):
            raise ValueError(
                f"Coupling expects event_dim 1 or 3 and context_dim 1 or the same, got {event_dim}, {context_dim}."
            )
        self._condition(transformer, context_features, context_dim)
        self.dim, self.n_a, self.event_dim = mask.numel(), int(mask.sum()), event_dim
        self.event_shape = (self.dim,) if event_dim == 1 else None
        n_b = self.dim - self.n_a
        self.conditioner = conditioner(self.n_a + context_features, n_b * self.transformer.n_params)
        order = torch.cat([mask.nonzero().squeeze(1), (~mask).nonzero().squeeze(1)])
        self.register_buffer("order", order)
        self.register_buffer("inverse_order", order.argsort())
        # contiguous halves are split and joined without a gather
        self.a_first = bool(mask[: self.n_a].all())
        self.b_first = bool(mask[n_b:].all())

    def _load_from_state_dict(self, state_dict, prefix, *args):
        # the mask is part of the layer's form, which shortcuts rest on; weights of another form are refused
        stored = state_dict.get(f"{prefix}order")
        if stored is not None and stored.shape == self.order.shape and self.order.device.type != "meta":
            if not torch.equal(stored.to(self.order), self.order):
                args[-1].append(f"{prefix[:-1] or 'coupling'}: the weights belong to a coupling with another mask.")
                return
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _split(self, value: Tensor) -> tuple[Tensor, Tensor]:
        check_event(value, self.event_shape or (self.dim, None, None), "Coupling")
        axis, n_b = -self.event_dim, self.dim - self.n_a
        if self.b_first:
            b, a = value.split([n_b, self.n_a], axis)
            return a, b
        if not self.a_first:
            value = value.index_select(axis, self.order)
        a, b = value.split([self.n_a, n_b], axis)
        return a, b

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        if self.b_first:
            return torch.cat([b, a], -self.event_dim)
        value = torch.cat([a, b], -self.event_dim)
        return value if self.a_first else value.index_select(-self.event_dim, self.inverse_order)

    def forward(self, z, context=None):
        r"""Return :math:`(z_A, \tau(z_B; h(z_A, c)))` and the sum of the log-derivatives over :math:`B`."""
        a, b = self._split(z)
        b, log_derivative = self.transformer(b, self._params(a, b, context))
        return self._join(a, b), sum_event(log_derivative, self.event_dim)

    def inverse(self, x, context=None):
        r"""Return :math:`(x_A, \tau^{-1}(x_B; h(x_A, c)))`; the conditioner itself is never inverted."""
        a, b = self._split(x)
        b, log_derivative = self.transformer.inverse(b, self._params(a, b, context))
        return self._join(a, b), sum_event(log_derivative, self.event_dim)


class MaskedCoupling(_Conditioned):
    r"""A coupling whose mask may be any pattern, such as a checkerboard.

    With the mask :math:`m \in \{0, 1\}^{C \times H \times W}` the conditioner sees :math:`m \odot z` and proposes
    parameters everywhere; they are used where :math:`m = 0`:

    .. math::
        x = m \odot z + (1 - m) \odot \tau\bigl(z;\, h(m \odot z, c)\bigr), \qquad
        \log\lvert\det J_f(z)\rvert = \sum_{i:\, m_i = 0} \log\Bigl\lvert\frac{\partial\tau}{\partial z_i}\Bigr\rvert .

    Args:
        mask: Boolean tensor ``(C, H, W)`` (or ``(D,)``), True where an entry passes through and conditions.
        conditioner: Called as ``conditioner(n_in, n_out)`` with channels; see :class:`Coupling`.
        transformer: The monotone map :math:`\tau`; default affine.
        context_features: As in :class:`Coupling`.
        context_dim: As in :class:`Coupling`.

    Shapes:
        ``z``, ``x``: ``(*batch, C, H, W)``.

    Raises:
        ValueError: As :class:`Coupling`.

    Source: Dinh et al. (2017), section 3.4, equation 9 and figure 3.
    """

    def __init__(
        self,
        mask: Tensor,
        conditioner: Callable[[int, int], nn.Module],
        transformer: nn.Module | None = None,
        context_features: int = 0,
        context_dim: int = 1,
    ):
        super().__init__()
        mask = torch.as_tensor(mask)
        if mask.dtype != torch.bool or mask.dim() not in (1, 3):
            raise ValueError(
                f"MaskedCoupling expects a boolean mask (C, H, W) or (D,), got {mask.dtype} of {tuple(mask.shape)}."
            )
        if bool(mask.all()) or not bool(mask.any()):
            raise ValueError("MaskedCoupling expects a mask with both True and False, got a constant one.")
        self._condition(transformer, context_features, context_dim)
        self.event_shape, self.event_dim = tuple(mask.shape), mask.dim()
        channels = self.event_shape[0]
        self.conditioner = conditioner(channels + context_features, channels * self.transformer.n_params)
        self.register_buffer("mask", mask)

    def _couple(self, value: Tensor, context: Tensor | None, tau: Callable) -> tuple[Tensor, Tensor]:
        check_event(value, self.event_shape, "MaskedCoupling")
        moved, log_derivative = tau(value, self._params(value * self.mask, value, context))
        log_det = torch.where(self.mask, 0.0, log_derivative)
        return torch.where(self.mask, value, moved), sum_event(log_det, self.event_dim)

    def forward(self, z, context=None):
        r"""Return :math:`x` and the sum of the log-derivatives where the mask is 0."""
        return self._couple(z, context, self.transformer)

    def inverse(self, x, context=None):
        r"""Return :math:`z`, with :math:`\tau^{-1}` in place of :math:`\tau`; the mask is the same."""
        return self._couple(x, context, self.transformer.inverse)


def _stack(dim: int, layers: int, conditioner, transformer: Callable[[], nn.Module], context_features: int):
    """Couplings in which the halves take turns."""
    return [
        Coupling(half_mask(dim, flip=k % 2 == 1), conditioner, transformer(), context_features) for k in range(layers)
    ]


def NICE(dim: int, layers: int = 4, conditioner: Callable[[int, int], nn.Module] = MLP, context_features: int = 0):
    r"""Return additive couplings, which keep volumes, and a final diagonal scale, which does not.

    Args:
        dim: Dimension :math:`D \ge 2`.
        layers: Number of couplings.
        conditioner: As in :class:`Coupling`.
        context_features: As in :class:`Coupling`.

    Source: Dinh et al. (2015), sections 3.2-3.3 and 5.
    """
    return Compose(*_stack(dim, layers, conditioner, AdditiveTransformer, context_features), Affine(dim))


def RealNVP(
    dim: int,
    layers: int = 8,
    conditioner: Callable[[int, int], nn.Module] = MLP,
    context_features: int = 0,
    clamp: float = 5.0,
):
    r"""Return affine couplings in which the halves take turns.

    Args:
        dim: Dimension :math:`D \ge 2`.
        layers: Number of couplings.
        conditioner: As in :class:`Coupling`.
        context_features: As in :class:`Coupling`.
        clamp: Bound of the log-scales, see :class:`~nfcourse.bijections.transformers.AffineTransformer`.

    Source: Dinh et al. (2017), section 3.
    """
    return Compose(*_stack(dim, layers, conditioner, partial(AffineTransformer, clamp), context_features))


def SplineCoupling(
    dim: int,
    layers: int = 8,
    conditioner: Callable[[int, int], nn.Module] = MLP,
    context_features: int = 0,
    bins: int = 8,
    bound: float = 5.0,
):
    r"""Return rational-quadratic spline couplings in which the halves take turns.

    Args:
        dim: Dimension :math:`D \ge 2`.
        layers: Number of couplings.
        conditioner: As in :class:`Coupling`.
        context_features: As in :class:`Coupling`.
        bins: Bins of each spline, see :class:`~nfcourse.bijections.transformers.RQSTransformer`.
        bound: Half-width of the splines' interval; outside, each layer is the identity.

    Source: Durkan et al. (2019), section 3.
    """
    return Compose(*_stack(dim, layers, conditioner, partial(RQSTransformer, bins, bound), context_features))


def FlowPP(
    dim: int,
    layers: int = 4,
    conditioner: Callable[[int, int], nn.Module] = MLP,
    context_features: int = 0,
    components: int = 8,
):
    r"""Return logistic-mixture couplings in which the halves take turns; sampling solves for roots.

    Args:
        dim: Dimension :math:`D \ge 2`.
        layers: Number of couplings.
        conditioner: As in :class:`Coupling`.
        context_features: As in :class:`Coupling`.
        components: Components of each mixture, see
            :class:`~nfcourse.bijections.transformers.LogisticMixtureTransformer`.

    Source: Ho et al. (2019), section 3.2.1.
    """
    mixture = partial(LogisticMixtureTransformer, components)
    return Compose(*_stack(dim, layers, conditioner, mixture, context_features))
