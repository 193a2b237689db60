"""A flow is a base distribution and a bijection; every model returns its log-likelihood when called."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, constraints

from .bijections.base import Bijection, Compose, event_shape, sum_event

__all__ = [
    "ConditionalNormal",
    "Dequantized",
    "DiagonalNormal",
    "FactorOut",
    "Flow",
    "FlowDistribution",
    "StandardNormal",
    "bits_per_dim",
]


class _IndependentNormal(Independent):
    """Independent normals; torch's own sum over the coordinates fails on an empty batch."""

    def log_prob(self, value):
        return sum_event(self.base_dist.log_prob(value), len(self.event_shape))

    def expand(self, batch_shape, _instance=None):
        return super().expand(batch_shape, self._get_checked_instance(type(self), _instance))


class DiagonalNormal(nn.Module):
    r"""A base :math:`\mathcal N(\mu, \operatorname{diag} e^{2s})` with learned :math:`\mu` and :math:`s`.

    Calling a base with a context returns a ``torch.distributions`` distribution; this one ignores the context.

    Args:
        shape: Event shape, an integer or a tuple.
    """

    def __init__(self, shape: int | tuple[int, ...]):
        super().__init__()
        self.shape = event_shape(shape, type(self).__name__)
        self.loc = nn.Parameter(torch.zeros(self.shape))
        self.log_scale = nn.Parameter(torch.zeros(self.shape))

    def forward(self, context: Tensor | None = None) -> Distribution:
        """Return the distribution, of event shape ``shape``."""
        normal = Normal(self.loc, self.log_scale.exp(), validate_args=False)
        return _IndependentNormal(normal, len(self.shape), validate_args=False)


class _StandardNormal(_IndependentNormal):
    r"""Independent standard normals whose log-density is one sum: :math:`-\tfrac12\sum_i(z_i^2 + \log 2\pi)`."""

    def log_prob(self, value):
        return -0.5 * (sum_event(value.square(), len(self.event_shape)) + self.event_shape.numel() * math.log(math.tau))


class StandardNormal(nn.Module):
    r"""The base :math:`\mathcal N(0, I)`: no parameters, only buffers that carry device and dtype.

    Args:
        shape: Event shape, an integer or a tuple.
    """

    def __init__(self, shape: int | tuple[int, ...]):
        super().__init__()
        self.shape = event_shape(shape, "StandardNormal")
        self.register_buffer("loc", torch.zeros(self.shape))
        self.register_buffer("scale", torch.ones(self.shape))

    def forward(self, context: Tensor | None = None) -> Distribution:
        """Return the distribution, of event shape ``shape``; the context is ignored."""
        return _StandardNormal(Normal(self.loc, self.scale, validate_args=False), len(self.shape), validate_args=False)


class ConditionalNormal(nn.Module):
    r"""A base :math:`\mathcal N(\mu(c), \operatorname{diag} e^{2 s(c)})` with parameters read off the context.

    Args:
        net: Maps ``(*batch, context)`` to ``(*batch, 2 D)``: first :math:`\mu`, then :math:`s`.

    Raises:
        ValueError: If it is called without a context.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, context: Tensor | None = None) -> Distribution:
        """Return the distribution, of batch shape ``batch`` and event shape ``(D,)``."""
        if context is None:
            raise ValueError("ConditionalNormal expects a context, got none.")
        loc, log_scale = self.net(context).chunk(2, -1)
        return _IndependentNormal(Normal(loc, log_scale.exp(), validate_args=False), 1, validate_args=False)


class Flow(nn.Module):
    r"""The law of :math:`x = f(z)` for :math:`z` from the base: the push-forward :math:`f_\# P_Z`.

    .. math::
        \log p_X(x) = \log p_Z\bigl(f^{-1}(x)\bigr) + \log\bigl\lvert\det J_{f^{-1}}(x)\bigr\rvert .

    Calling the flow is :meth:`log_prob`, in nats with respect to Lebesgue measure.

    Args:
        base: Module whose call with a context returns a distribution.
        bijection: The map from base to data.

    Shapes:
        ``x``: ``(*batch, *event)``; ``context``: ``(*batch, *context)`` or ``None``.

    Raises:
        ValueError: If ``bijection`` is not a :class:`~nfcourse.bijections.base.Bijection`, or a shape does not fit.
        NotImplementedError: From :meth:`log_prob`, if the bijection has no closed-form inverse.

    Source: Rezende and Mohamed (2015), equations 5-7; Papamakarios et al. (2021), equation 1.
    """

    def __init__(self, base: nn.Module, bijection: Bijection):
        super().__init__()
        if not isinstance(bijection, Bijection):
            raise ValueError(f"Flow expects a Bijection, got {type(bijection).__name__}.")
        self.base, self.bijection = base, bijection

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Return :math:`\log p_X(x \mid c)`, of shape ``(*batch)``."""
        z, log_det = self.bijection.inverse(x, context)
        return self.base(context).log_prob(z) + log_det

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Return :math:`\log p_X(x \mid c)`, of shape ``(*batch)``; the same as calling the flow."""
        return self(x, context)

    def _base(self, context: Tensor | None, shape: tuple[int, ...] = ()):
        """Return the base, with the batch of the context, and the context expanded to a draw of that shape."""
        base = self.base(context)
        if context is not None:
            batch = context.shape[: context.dim() - self.bijection.context_dim]
            if base.batch_shape != batch:
                base = base.expand(batch)
            context = context.expand(*shape, *context.shape)
        return base if isinstance(base, FactoredDistribution) else _OneNoise(base), context

    def sample(self, shape: tuple[int, ...] = (), context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        r"""Return draws of shape ``(*shape, *context_batch, *event)``, with gradients where the base allows them.

        At temperature :math:`T` every standardised noise (see :meth:`latents`) is multiplied by :math:`T`: below 1 the
        draws keep to what is typical and vary less; at 0 there is one, the image of the mean.
        """
        base, context = self._base(context, tuple(shape))
        return self.bijection(base.rsample(shape, temperature), context)[0]

    def sample_and_log_prob(self, shape: tuple[int, ...] = (), context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""Return draws and their log-densities in one pass, without any inverse.

        .. math::
            x = f(z), \qquad \log p_X(x) = \log p_Z(z) - \log\lvert\det J_f(z)\rvert .
        """
        base, context = self._base(context, tuple(shape))
        z, log_prob = base.sample_and_log_prob(shape)
        x, log_det = self.bijection(z, context)
        return x, log_prob - log_det

    def latents(self, x: Tensor, context: Tensor | None = None) -> list[Tensor]:
        r"""Return the standardised noises that make ``x``, those of the shallowest level first.

        For a base with mean :math:`\mu` and standard deviation :math:`\sigma` there is one,
        :math:`\varepsilon = (f^{-1}(x) - \mu) / \sigma`; for :class:`FactorOut` those of its prior, then those below.
        """
        z, _ = self.bijection.inverse(x, context)
        base, _ = self._base(context)
        return base.latents(z)

    def from_latents(self, latents: list[Tensor], context: Tensor | None = None) -> Tensor:
        """Return the ``x`` whose :meth:`latents` these are.

        Raises:
            ValueError: If there are too few or too many.
        """
        stack = list(latents)
        x = self._build(stack, context)
        if stack:
            raise ValueError(f"from_latents expects {len(latents) - len(stack)} latents, got {len(latents)}.")
        return x

    def _build(self, stack: list[Tensor], context: Tensor | None) -> Tensor:
        """Take what this flow needs from the end of the stack: the deepest noise is used first."""
        base, _ = self._base(context)
        return self.bijection(base.build(stack), context)[0]

    def then(self, bijection: Bijection) -> "Flow":
        """Return this flow, the weights shared, with one more map at its data end."""
        return Flow(self.base, Compose(self.bijection, bijection))

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Let the layers that start from data do so, then those inside the base; called once, before training."""
        z = self.bijection.initialize(x, context)
        if hasattr(self.base, "initialize"):
            self.base.initialize(z, context)

    def distribution(self, context: Tensor | None = None) -> "FlowDistribution":
        """Return the flow, given the context, as a ``torch.distributions`` distribution."""
        return FlowDistribution(self, context)


class _OneNoise:
    """A base with a single noise, seen as :class:`FactoredDistribution` shows its several."""

    def __init__(self, base: Distribution):
        self.base = base

    def rsample(self, shape, temperature=1.0):
        """Draw, with gradients if the base can; the distance to its mean is multiplied by the temperature."""
        base, shape = self.base, torch.Size(shape)
        z = base.rsample(shape) if base.has_rsample else base.sample(shape)
        return z if temperature == 1 else base.mean + temperature * (z - base.mean)

    def sample_and_log_prob(self, shape):
        z = self.rsample(shape)
        return z, self.base.log_prob(z)

    def latents(self, z):
        return [(z - self.base.mean) / self.base.stddev]

    def build(self, stack):
        if not stack:
            raise ValueError("from_latents expects more latents than it got.")
        return self.base.mean + self.base.stddev * stack.pop()


class FlowDistribution(Distribution):
    """A flow with its context filled in, as a ``torch.distributions.Distribution``.

    Args:
        flow: The flow.
        context: The context, whose batch shape becomes the distribution's batch shape.
    """

    arg_constraints = {}

    def __init__(self, flow: Flow, context: Tensor | None = None):
        base = flow.base(context)
        batch = base.batch_shape if context is None else context.shape[: context.dim() - flow.bijection.context_dim]
        self.flow, self.context = flow, context
        self.has_rsample = base.has_rsample
        event = torch.Size(flow.bijection.forward_shape(base.event_shape))
        super().__init__(torch.Size(batch), event, validate_args=False)

    @property
    def support(self):
        """The codomain of the bijection, over one event."""
        return constraints.independent(self.flow.bijection.codomain, len(self.event_shape))

    def rsample(self, sample_shape=torch.Size()):
        """Draw with gradients; shape ``(*sample_shape, *batch_shape, *event_shape)``."""
        if not self.has_rsample:
            raise NotImplementedError("The base of this flow has no rsample; use `sample`.")
        return self.flow.sample(tuple(sample_shape), self.context)

    def sample(self, sample_shape=torch.Size()):
        """Draw without gradients; shape ``(*sample_shape, *batch_shape, *event_shape)``."""
        with torch.no_grad():
            return self.flow.sample(tuple(sample_shape), self.context)

    def log_prob(self, value):
        """Log-density of ``value``, in nats."""
        context = self.context
        if context is not None:
            batch = value.shape[: value.dim() - len(self.event_shape)]
            context = context.expand(*batch, *context.shape[len(self.batch_shape) :])
        return self.flow(value, context)


class FactorOut(nn.Module):
    r"""A base that is itself made of models: half of the channels stop here, the other half go deeper.

    With :math:`z = (z_1, y)` split along the channels,

    .. math::
        \log p(z) = \log p_{\text{prior}}(z_1 \mid y) + \log p_{\text{deeper}}(y) .

    Multi-scale flows are nested: ``Flow(FactorOut(prior, Flow(FactorOut(...), g)), f)``.

    Args:
        prior: Conditional flow of :math:`z_1` with :math:`y` as its context, for instance
            ``Flow(StandardNormal(shape), ConditionalAffine(net, event_dim=3))``.
        deeper: Flow of :math:`y`; a context of the whole model goes to it.

    Shapes:
        ``z``: ``(*batch, 2 C, H, W)``; both halves ``(*batch, C, H, W)``.

    Raises:
        ValueError: If ``prior`` or ``deeper`` is not a :class:`Flow`.

    Source: Dinh et al. (2017), section 3.6, equations 13-16; Kingma and Dhariwal (2018), figure 2b.
    """

    def __init__(self, prior: Flow, deeper: Flow):
        super().__init__()
        for name, part in (("prior", prior), ("deeper", deeper)):
            if not isinstance(part, Flow):
                raise ValueError(f"FactorOut expects a Flow as {name}, got {type(part).__name__}.")
        self.prior, self.deeper = prior, deeper

    def forward(self, context: Tensor | None = None) -> "FactoredDistribution":
        """Return the distribution, of event shape ``(2 C, H, W)``."""
        return FactoredDistribution(self.prior, self.deeper.distribution(context))

    def initialize(self, z: Tensor, context: Tensor | None = None) -> None:
        """Initialise both parts from their half of the batch."""
        z1, y = z.chunk(2, -3)
        self.prior.initialize(z1, y)
        self.deeper.initialize(y, context)


class FactoredDistribution(Distribution):
    """What :class:`FactorOut` returns: draw the deeper half first, then the other half given it.

    Args:
        prior: Conditional flow of the first half.
        deeper: Distribution of the second half.
    """

    arg_constraints = {}

    def __init__(self, prior: Flow, deeper: FlowDistribution):
        self.prior, self.deeper, self.has_rsample = prior, deeper, deeper.has_rsample
        channels, *size = deeper.event_shape
        super().__init__(deeper.batch_shape, torch.Size([2 * channels, *size]), validate_args=False)

    def log_prob(self, value):
        r"""Return :math:`\log p_{\text{prior}}(z_1 \mid y) + \log p_{\text{deeper}}(y)`."""
        z1, y = value.chunk(2, -3)
        return self.prior(z1, y) + self.deeper.log_prob(y)

    def rsample(self, sample_shape=(), temperature=1.0):
        """Draw with gradients; shape ``(*sample_shape, *batch_shape, *event_shape)``."""
        y = self.deeper.flow.sample(tuple(sample_shape), self.deeper.context, temperature)
        return torch.cat([self.prior.sample((), y, temperature), y], -3)

    def sample(self, sample_shape=()):
        """Draw without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def sample_and_log_prob(self, sample_shape=()):
        """Draw both halves with their log-densities, without any inverse."""
        y, log_y = self.deeper.flow.sample_and_log_prob(tuple(sample_shape), self.deeper.context)
        z1, log_z1 = self.prior.sample_and_log_prob((), y)
        return torch.cat([z1, y], -3), log_z1 + log_y

    def latents(self, value):
        """The noises of the first half, then those of the deeper one."""
        z1, y = value.chunk(2, -3)
        return self.prior.latents(z1, y) + self.deeper.flow.latents(y, self.deeper.context)

    def build(self, stack):
        """Undo :meth:`latents`, taking the noises from the end of the stack."""
        y = self.deeper.flow._build(stack, self.deeper.context)
        return torch.cat([self.prior._build(stack, y), y], -3)


class Dequantized(nn.Module):
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
        event_dim: Number of trailing dimensions that form one point.
        noise: Flow :math:`q` of points in :math:`(0,1)^D` with :math:`x/K` as its context; ``None`` for uniform noise.

    Shapes:
        ``x``: ``(*batch, *event)``, of any integer dtype or of floats that hold integers.

    Raises:
        ValueError: If ``levels < 2``, or ``x`` is boolean or complex. (Values outside 0..K-1 are not looked for here;
            :func:`nfcourse.check.validate` finds them where data enters.)

    Source: Theis et al. (2016), section 3.1; Uria et al. (2013), section 3; Ho et al. (2019), section 3.1, equation 9.
    """

    def __init__(self, model: nn.Module, levels: int, event_dim: int = 1, noise: Flow | None = None):
        super().__init__()
        if levels < 2:
            raise ValueError(f"Dequantized expects at least 2 levels, got {levels}.")
        self.model, self.levels, self.event_dim, self.noise = model, levels, event_dim, noise

    def _floats(self, x: Tensor) -> Tensor:
        if x.dtype == torch.bool or x.dtype.is_complex:
            raise ValueError(f"Dequantized expects integers or floats that hold integers, got {x.dtype}.")
        return x if x.dtype.is_floating_point else x.to(torch.get_default_dtype())

    def _draw_noise(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        r"""One :math:`u` and :math:`\log q(u \mid x)`, which is zero for uniform noise."""
        return (torch.rand_like(x), 0.0) if self.noise is None else self.noise.sample_and_log_prob((), x / self.levels)

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
        y = self.model.sample(shape, context, **how).detach()
        return (y * self.levels).floor().clamp(0, self.levels - 1).long()

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Pass the batch under uniform noise on to the model's own initialisation, and the noise to that of q."""
        x = self._floats(x)
        u = torch.rand_like(x)
        if hasattr(self.model, "initialize"):
            self.model.initialize(self._place(x, u), context)
        if self.noise is not None:
            self.noise.initialize(u, x / self.levels)


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
