"""Vectors by the chain rule of probability, with a network for the conditionals: NADE and RNADE."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Laplace, MixtureSameFamily, Normal
from torch.nn import functional as F

from ..events import as_event_shape, as_sample_shape, broadcast, check_context, check_dtype
from ..module import Module

__all__ = ["NADE", "RNADE"]


class Autoregressive(Module):
    r"""What all models here share: :math:`\log p(x \mid c) = \sum_d \log p(x_d \mid x_{<d}, c)`, shapes, messages."""

    #: whole numbers may come in any dtype; real ones in that of the weights
    of_whole_numbers = True

    def __init__(self, shape: int | tuple[int, ...], context_features: int, **sizes: int):
        super().__init__()
        name = type(self).__name__
        self.event_shape, self.context_features = as_event_shape(shape, name), context_features
        self.event_dim, self.context_dim = len(self.event_shape), 1 if context_features else None
        if min(*self.event_shape, *sizes.values()) < 1 or context_features < 0:
            said = ", ".join(f"{key} {value}" for key, value in {"shape": self.event_shape, **sizes}.items())
            raise ValueError(f"{name} expects sizes >= 1 and context_features >= 0, got {said}, {context_features}.")

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-likelihood, of shape ``(*batch)``; the same as calling the model."""
        return self(x, context)

    def _points(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Points, in the dtype of the parameters, and contexts, of one batch."""
        if tuple(x.shape[x.dim() - len(self.event_shape) :]) != self.event_shape or x.dim() < len(self.event_shape):
            expected = ", ".join(map(str, ("*batch", *self.event_shape)))
            raise ValueError(f"{type(self).__name__} expects x of shape ({expected}), got {tuple(x.shape)}.")
        like = next(self.parameters())
        if not self.of_whole_numbers:
            check_dtype(x, like, type(self).__name__)
        x, context = x.to(like.dtype), self._context(context)
        if context is not None:
            batch = broadcast(type(self).__name__, x.shape[: x.dim() - self.event_dim], context.shape[:-1])
            x, context = x.expand(*batch, *self.event_shape), context.expand(*batch, self.context_features)
        return x, context

    def _context(self, context: Tensor | None) -> Tensor | None:
        """The context, if one is expected."""
        if (context is None) != (self.context_features == 0):
            got = "none" if context is None else f"one of shape {tuple(context.shape)}"
            raise ValueError(
                f"{type(self).__name__} expects a context with {self.context_features} features, got {got}."
            )
        if context is None:
            return None
        check_context(context, (self.context_features,), None, type(self).__name__)
        return context

    def _draw_batch(self, shape: Sequence[int], context: Tensor | None) -> tuple[tuple[int, ...], Tensor | None]:
        """The batch shape of draws, ``(*shape, *context_batch)``, and the context expanded to it."""
        context = self._context(context)
        batch = (*as_sample_shape(shape), *(() if context is None else context.shape[:-1]))
        return batch, None if context is None else context.expand(*batch, self.context_features)


class Recurrent(Autoregressive):
    """A model that carries a state from coordinate to coordinate: one loop, for the likelihood and for sampling.

    Subclasses define the state before the first coordinate, the law of the next one, and the step.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Return :math:`\sum_d \log p(x_d \mid x_{<d}, c)` in nats, of shape ``(*batch)``."""
        x, context = self._points(x, context)
        batch = x.shape[: x.dim() - self.event_dim]
        state = self._begin(batch, context)
        past, log_prob = [], 0.0
        for value in x.flatten(len(batch)).unbind(-1):
            log_prob = log_prob + self._conditional(len(past), state).log_prob(value)
            past.append(value)
            state = self._step(state, past)
        return log_prob

    @torch.no_grad()
    def sample(self, shape: tuple[int, ...] = (), context: Tensor | None = None) -> Tensor:
        """Return draws of shape ``(*shape, *context_batch, *event)``, coordinate by coordinate, without gradients."""
        batch, context = self._draw_batch(shape, context)
        state, past = self._begin(batch, context), []
        for d in range(math.prod(self.event_shape)):
            past.append(self._conditional(d, state).sample())
            state = self._step(state, past)
        return torch.stack(past, -1).reshape(*batch, *self.event_shape)


class _AccumulatedNet(Recurrent):
    r"""The hidden layer of NADE: :math:`a_1 = c`, :math:`a_{d+1} = a_d + x_d W_{\cdot d}`, in all :math:`O(DH)`."""

    def __init__(self, dim: int, hidden: int, n_params: int, context_features: int):
        super().__init__(dim, context_features, hidden=hidden, components=n_params)
        self.weight = nn.Parameter(torch.randn(dim, hidden) / dim**0.5)  # W, a row for each coordinate
        self.start = nn.Parameter(torch.zeros(hidden))  # c
        self.out_weight = nn.Parameter(torch.randn(dim, n_params, hidden) / hidden**0.5)  # V
        self.out_bias = nn.Parameter(torch.zeros(dim, n_params))  # b
        self.from_context = nn.Linear(context_features, hidden, bias=False) if context_features else None

    def _begin(self, batch, context):
        return (
            self.start.expand(*batch, *self.start.shape) if context is None else self.start + self.from_context(context)
        )

    def _step(self, a, past):
        return a + past[-1].unsqueeze(-1) * self.weight[len(past) - 1]


class NADE(_AccumulatedNet):
    r"""Binary vectors: a Bernoulli variable for each coordinate, all from one hidden layer.

    .. math::
        h_d = \sigma\bigl(c + U y + W_{\cdot,<d}\, x_{<d}\bigr), \qquad
        P(x_d = 1 \mid x_{<d}, y) = \sigma\bigl(b_d + V_{d \cdot}\, h_d\bigr).

    The conditionals share the columns of :math:`W`, so the sum inside :math:`h_{d+1}` is that inside :math:`h_d` and
    one more column: a point costs :math:`O(DH)`, not :math:`O(D^2 H)`. The price is a loop of D steps for the
    likelihood as for a draw.

    Args:
        dim: Dimension D.
        hidden: Number H of hidden units.
        context_features: Size of the context vector :math:`y`, 0 for none.

    Shapes:
        ``x``: ``(*batch, D)``, zeros and ones of any dtype (not checked); ``context``:
        ``(*batch, context_features)``. The result is a log-probability in nats.

    Raises:
        ValueError: If a size is smaller than one, a context is missing or not expected, or a shape does not fit.

    Source: Larochelle and Murray (2011), section 3, with V and W independent.
    """

    def __init__(self, dim: int, hidden: int = 64, context_features: int = 0):
        super().__init__(dim, hidden, 1, context_features)

    def _conditional(self, d: int, a: Tensor) -> Distribution:
        logits = self.out_bias[d, 0] + a.sigmoid() @ self.out_weight[d, 0]
        return Bernoulli(logits=logits, validate_args=False)


class RNADE(_AccumulatedNet):
    r"""Real vectors: a mixture of K Gaussians (or Laplacians) for each coordinate.

    .. math::
        p(x_d \mid x_{<d}, y) = \sum_{k=1}^K \alpha_{dk}\, \mathcal N\bigl(x_d; \mu_{dk}, \sigma_{dk}^2\bigr), \qquad
        (\log\alpha_d, \mu_d, \log\sigma_d) = b_d + V_d\, \max(0, \rho_d\, a_d),

    with the accumulated :math:`a_d = c + U y + W_{\cdot,<d}\, x_{<d}` of :class:`NADE`, and a learned
    :math:`\rho_d` because the sum grows with d. The log-scale is softly clamped to :math:`\pm 5`, by
    :math:`5 \tanh(\cdot / 5)`, so that no component collapses onto a point. The data should have scales near one.

    The paper multiplies the gradient of each mean by its :math:`\sigma`, against the steep gradients of narrow
    components. That is left out here: the gradient stays that of the likelihood, and Adam sets its own step sizes.

    Args:
        dim: Dimension D.
        components: Number K of components.
        hidden: Number H of hidden units.
        family: ``"gaussian"`` or ``"laplace"``.
        context_features: Size of the context vector :math:`y`, 0 for none.

    Shapes:
        ``x``: ``(*batch, D)``; ``context``: ``(*batch, context_features)``. The result is a log-density in nats.

    Raises:
        ValueError: If a size is smaller than one, the family is unknown, a context is missing or not expected, or a
            shape does not fit.

    Source: Uria et al. (2013), section 3.
    """

    clamp = 5.0
    of_whole_numbers = False

    def __init__(
        self, dim: int, components: int = 10, hidden: int = 64, family: str = "gaussian", context_features: int = 0
    ):
        if family not in ("gaussian", "laplace"):
            raise ValueError(f'RNADE expects the family "gaussian" or "laplace", got {family!r}.')
        super().__init__(dim, hidden, 3 * components, context_features)
        self.family = Normal if family == "gaussian" else Laplace
        self.rho = nn.Parameter(torch.ones(dim))
        with torch.no_grad():  # components that start apart can learn different things
            self.out_bias[:, components : 2 * components].normal_()

    def _conditional(self, d: int, a: Tensor) -> Distribution:
        h = F.relu(a * self.rho[d])
        logits, mean, raw = (self.out_bias[d] + h @ self.out_weight[d].T).chunk(3, -1)
        scale = (self.clamp * torch.tanh(raw / self.clamp)).exp()
        weights = Categorical(logits=logits, validate_args=False)
        return MixtureSameFamily(weights, self.family(mean, scale, validate_args=False), validate_args=False)
