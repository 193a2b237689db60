"""What a flow starts from: modules that return a distribution, and what such a distribution answers."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from .events import as_event_shape, as_sample_shape, sum_event
from .module import Module
from .spaces import Space, real

__all__ = ["BaseDistribution", "ConditionalNormal", "DiagonalNormal", "StandardNormal", "draw"]


class BaseDistribution(Distribution):
    """A distribution that answers all that a flow may ask of its base.

    Any distribution of torch can be a base; to be drawn at a temperature, or to have latents, it must be one of these.

    Subclasses define ``log_prob``, :meth:`draw`, and where they have them :meth:`latents` and :meth:`build`.

    Attributes:
        space: The space of every entry, with its reference measure; None where it is not known.
    """

    arg_constraints = {}
    space: Space | None = None

    #: the number of standardised noises of which a point is made
    n_latents: int = 1

    def batch_of(self, value: Tensor) -> torch.Size:
        """Return the batch shape of points, or raise a ValueError if they do not have this event shape."""
        k = value.dim() - len(self.event_shape)
        if k < 0 or value.shape[k:] != self.event_shape:
            event = ", ".join(map(str, self.event_shape))
            raise ValueError(
                f"{type(self).__name__} expects points of shape (*batch, {event}), got {tuple(value.shape)}."
            )
        return value.shape[:k]

    def draw(self, shape: torch.Size, temperature: float = 1.0) -> Tensor:
        """Draw, with gradients where there are any; standardised noise is multiplied by the temperature."""
        raise NotImplementedError(f"{type(self).__name__} has no draws.")

    def draw_with_log_prob(self, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Draw, and score the draws."""
        z = self.draw(shape)
        return z, self.log_prob(z)

    def rsample(self, sample_shape=torch.Size(), temperature: float = 1.0) -> Tensor:
        """Draw with gradients; shape ``(*sample_shape, *batch_shape, *event_shape)``.

        Raises:
            NotImplementedError: If the draws have none.
        """
        require_gradients(self)
        return self.draw(as_sample_shape(sample_shape), temperature)

    def sample(self, sample_shape=torch.Size(), temperature: float = 1.0) -> Tensor:
        """Draw without gradients; shape ``(*sample_shape, *batch_shape, *event_shape)``."""
        with torch.no_grad():
            return self.draw(as_sample_shape(sample_shape), temperature)

    def latents(self, value: Tensor) -> list[Tensor]:
        """Return the standardised noises of which ``value`` is made."""
        raise NotImplementedError(f"{type(self).__name__} has no latents: it is not made of standardised noise.")

    def build(self, stack: list[Tensor]) -> Tensor:
        """Undo :meth:`latents`, taking the noises from the end of the stack."""
        raise NotImplementedError(f"{type(self).__name__} has no latents: it is not made of standardised noise.")


def require_gradients(base: Distribution) -> None:
    """Raise a NotImplementedError if the draws of a distribution carry no gradients."""
    if not base.has_rsample:
        raise NotImplementedError(
            f"The base of this flow, {type(base).__name__}, has no rsample: gradients of its draws would be lost in "
            "silence. Use `sample` and then `log_prob`, or call this under `torch.no_grad()`."
        )


def as_base(base: Distribution, what: str) -> BaseDistribution:
    """Return ``base`` if it answers what a flow asks, else raise a NotImplementedError that says what is missing."""
    if not isinstance(base, BaseDistribution):
        raise NotImplementedError(
            f"The base of this flow, {type(base).__name__}, has no {what}: a base that has them returns a "
            "`nfcourse.bases.BaseDistribution`, as StandardNormal, DiagonalNormal and ConditionalNormal do."
        )
    return base


def draw(base: Distribution, shape: torch.Size, temperature: float = 1.0) -> Tensor:
    """Draw from any base, with gradients where there are any."""
    if temperature != 1 or isinstance(base, BaseDistribution):
        return as_base(base, "temperature").draw(shape, temperature)
    z = base.rsample(shape) if base.has_rsample else base.sample(shape)
    return z if z.dtype.is_floating_point else z.to(torch.get_default_dtype())  # whole numbers travel as floats


def draw_with_log_prob(base: Distribution, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Draw from any base, with gradients where there are any, and score the draws."""
    if isinstance(base, BaseDistribution):
        return base.draw_with_log_prob(shape)
    z = draw(base, shape)
    return z, base.log_prob(z)


class _IndependentNormal(BaseDistribution, Independent):
    """Independent normals; torch's own sum over the coordinates fails on an empty batch."""

    space = real

    def log_prob(self, value):
        self.batch_of(value)
        return sum_event(self.base_dist.log_prob(value), len(self.event_shape))

    def expand(self, batch_shape, _instance=None):
        return Independent.expand(self, batch_shape, self._get_checked_instance(type(self), _instance))

    def draw(self, shape, temperature=1.0):
        normal = self.base_dist
        noise = torch.randn(normal._extended_shape(shape), dtype=normal.loc.dtype, device=normal.loc.device)
        return normal.loc + temperature * normal.scale * noise

    def latents(self, value):
        return [(value - self.mean) / self.stddev]

    def build(self, stack):
        noise = stack.pop()
        if noise.shape[noise.dim() - len(self.event_shape) :] != self.event_shape:
            raise ValueError(f"expected latents of event shape {tuple(self.event_shape)}, got {tuple(noise.shape)}.")
        return self.mean + self.stddev * noise


class _StandardNormal(_IndependentNormal):
    r"""Independent standard normals whose log-density is one sum: :math:`-\tfrac12\sum_i(z_i^2 + \log 2\pi)`."""

    def log_prob(self, value):
        self.batch_of(value)
        return -0.5 * (sum_event(value.square(), len(self.event_shape)) + self.event_shape.numel() * math.log(math.tau))


class StandardNormal(Module):
    r"""The base :math:`\mathcal N(0, I)`: no parameters, only buffers that carry device and dtype.

    Args:
        shape: Event shape, an integer or a tuple.
    """

    def __init__(self, shape: int | tuple[int, ...]):
        super().__init__()
        self.event_shape = as_event_shape(shape, "StandardNormal")
        self.register_buffer("loc", torch.zeros(self.event_shape))
        self.register_buffer("scale", torch.ones(self.event_shape))

    def forward(self, context: Tensor | None = None) -> Distribution:
        """Return the distribution, of event shape ``shape``; the context is ignored."""
        normal = Normal(self.loc, self.scale, validate_args=False)
        return _StandardNormal(normal, len(self.event_shape), validate_args=False)


class DiagonalNormal(Module):
    r"""A base :math:`\mathcal N(\mu, \operatorname{diag} e^{2s})` with learned :math:`\mu` and :math:`s`.

    Calling a base with a context returns a ``torch.distributions`` distribution; this one ignores the context.

    Args:
        shape: Event shape, an integer or a tuple.
    """

    def __init__(self, shape: int | tuple[int, ...]):
        super().__init__()
        self.event_shape = as_event_shape(shape, "DiagonalNormal")
        self.loc = nn.Parameter(torch.zeros(self.event_shape))
        self.log_scale = nn.Parameter(torch.zeros(self.event_shape))

    def forward(self, context: Tensor | None = None) -> Distribution:
        """Return the distribution, of event shape ``shape``."""
        normal = Normal(self.loc, self.log_scale.exp(), validate_args=False)
        return _IndependentNormal(normal, len(self.event_shape), validate_args=False)


class ConditionalNormal(Module):
    r"""A base :math:`\mathcal N(\mu(c), \operatorname{diag} e^{2 s(c)})`, read off the context.

    Args:
        net: Maps the context to :math:`\mu` and :math:`s`, stacked along the last axis of a
            vector or the channels of an image: ``(*batch, 2 D)`` or ``(*batch, 2 C, H, W)``.
        event_dim: 1 for vectors, 3 for images.
        context_dim: Trailing dimensions of one context: 1 for a vector, 3 for an image.

    Raises:
        ValueError: If it is called without a context, or the net does not return pairs.
    """

    def __init__(self, net: nn.Module, event_dim: int = 1, context_dim: int = 1):
        super().__init__()
        self.net, self.event_dim, self.context_dim = net, event_dim, context_dim

    def forward(self, context: Tensor | None = None) -> Distribution:
        """Return the distribution, of shapes ``batch`` and ``(D,)`` or ``(C, H, W)``."""
        if context is None:
            raise ValueError("ConditionalNormal expects a context, got none.")
        # under autocast the network answers in a shorter format than that of the context
        out, axis = self.net(context).to(context.dtype), -self.event_dim
        if out.shape[axis] % 2:
            raise ValueError(
                "ConditionalNormal expects a net with an even number of outputs, "
                f"got {out.shape[axis]}."
            )
        loc, log_scale = out.chunk(2, axis)
        normal = Normal(loc, log_scale.exp(), validate_args=False)
        return _IndependentNormal(normal, self.event_dim, validate_args=False)
