"""A flow is a base distribution and a bijection; every model returns its log-likelihood when called."""

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from . import bases
from .bases import BaseDistribution, as_base, require_gradients
from .bijections.base import Bijection, Compose
from .events import as_sample_shape, broadcast, name_of, one_of
from .module import Module
from .spaces import Space, space_of

__all__ = ["FactorOut", "Flow", "FlowDistribution"]


class Flow(Module):
    r"""The law of :math:`x = f(z)` for :math:`z` from the base: the push-forward :math:`f_\# P_Z`.

    .. math::
        \log p_X(x) = \log p_Z\bigl(f^{-1}(x)\bigr) + \log\bigl\lvert\det J_{f^{-1}}(x)\bigr\rvert .

    Calling the flow is :meth:`log_prob`, in nats with respect to the reference measure of the data's space: Lebesgue
    measure for real numbers. Points and contexts are broadcast here, once: layers see equal batches.

    Args:
        base: Module whose call with a context returns a distribution.
        bijection: The map from base to data.

    Shapes:
        ``x``: ``(*batch, *event)``; ``context``: ``(*batch, *context)`` or ``None``; their batches broadcast.

    Raises:
        ValueError: If ``bijection`` is not a :class:`~nfcourse.bijections.base.Bijection`; if event shape or space of
            the base are not those from which the bijection starts; if a shape does not fit; if a context comes to a
            flow that takes none.
        NotImplementedError: From :meth:`log_prob`, if the bijection has no closed-form inverse; from :meth:`rsample`
            and :meth:`sample_and_log_prob`, if the base's draws carry no gradients.

    Source: Rezende and Mohamed (2015), equations 5-7; Papamakarios et al. (2021), section 2.1.
    """

    def __init__(self, base: nn.Module, bijection: Bijection):
        super().__init__()
        if not isinstance(bijection, Bijection):
            raise ValueError(f"Flow expects a Bijection, got {name_of(bijection)}.")
        if not isinstance(base, nn.Module):
            raise ValueError(
                f"Flow expects a module whose call returns a distribution as base, got {type(base).__name__}."
            )
        if isinstance(base, Flow):
            raise ValueError("Flow expects a base, got a Flow: `flow.then(bijection)` puts one more map on top of it.")
        self.base, self.bijection = base, bijection
        self.event_dim = bijection.event_dim
        self.context_dim = one_of("Flow", "context_dim", [base, bijection])
        if (shape := getattr(base, "event_shape", None)) is not None:
            self._compare(tuple(shape))

    def _compare(self, shape: tuple[int, ...], space: Space | None = None) -> None:
        """The one place where base and bijection are held against each other: shapes and spaces, no data."""
        f = self.bijection
        for what, has, wants in (("event shape", shape, f.event_shape), ("space", space, f.domain)):
            if None not in (has, wants) and has != wants:
                raise ValueError(
                    f"Flow: the base's {what} is {has}, but {type(f).__name__} starts from {wants}; give it a base "
                    "of that kind."
                )
        if len(shape) != f.event_dim:
            raise ValueError(
                f"Flow: the base's event shape is {shape}, but {type(f).__name__} has event_dim {f.event_dim}."
            )

    def _given(self, context: Tensor | None, batch: torch.Size = torch.Size()):
        """The base given the context, the context expanded to the common batch, and that batch."""
        if context is not None:
            if not isinstance(context, Tensor) or not context.dtype.is_floating_point:
                raise ValueError(
                    f"this Flow expects contexts as a floating-point tensor, got {name_of(context)}; labels are "
                    "embedded first, for instance as one-hot vectors."
                )
            if self.context_dim is None:
                raise ValueError(
                    f"this Flow takes no context, got one of shape {tuple(context.shape)}: neither its base nor its "
                    "bijection declares a context_dim."
                )
            own = context.shape[: context.dim() - self.context_dim]
            batch = broadcast("Flow", batch, own)
            context = context.expand(*batch, *context.shape[len(own) :])
        base = self.base(context)
        self._compare(tuple(base.event_shape), space_of(base))
        return base, context, broadcast("Flow", batch, base.batch_shape) if base.batch_shape else batch

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Return :math:`\log p_X(x \mid c)`, of shape ``(*batch)``."""
        x, context, base = self._points(x, context)
        z, log_det = self.bijection.inverse(x, context)
        return base.log_prob(z) + self._one_each(log_det, x)

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Return :math:`\log p_X(x \mid c)`, of shape ``(*batch)``; the same as calling the flow."""
        return self(x, context)

    def _points(self, x: Tensor, context: Tensor | None):
        """Points and contexts of one batch, and the base."""
        if not isinstance(x, Tensor):
            raise ValueError(f"this Flow expects points as a tensor, got {name_of(x)}: see torch.as_tensor.")
        own = x.shape[: max(x.dim() - self.event_dim, 0)]
        base, context, batch = self._given(context, own)
        event = self.bijection.forward_shape(tuple(base.event_shape))
        if tuple(x.shape[len(own) :]) != event:
            expected = ", ".join(map(str, event))
            raise ValueError(f"this Flow expects x of shape (*batch, {expected}), got {tuple(x.shape)}.")
        return x if batch == own else x.expand(*batch, *event), context, base

    def _start(self, shape: torch.Size, context: Tensor | None, batch: torch.Size = torch.Size()):
        """The base with the batch of the context, and the context expanded to a draw of that shape."""
        base, context, batch = self._given(context, batch)
        if base.batch_shape != batch:
            base = base.expand(batch)
        return base, None if context is None else context.expand(*shape, *context.shape)

    def draw(
        self, shape: torch.Size, context=None, temperature: float = 1.0, batch=torch.Size()
    ) -> Tensor:
        """Return draws, with gradients where the base has any; ``batch`` is broadcast with that of the context."""
        base, context = self._start(shape, context, batch)
        z = bases.draw(base, shape, temperature)
        x, _ = self.bijection(z, context)
        return x

    def sample(
        self,
        shape: int | tuple[int, ...] = (),
        context: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        r"""Return draws of shape ``(*shape, *context_batch, *event)``, without gradients.

        At temperature :math:`T` every standardised noise (see :meth:`latents`) is multiplied by :math:`T`: below 1 the
        draws keep to what is typical and vary less; at 0 there is one, the image of the mean.
        """
        with torch.no_grad():
            return self.draw(as_sample_shape(shape), context, temperature)

    def rsample(
        self, shape: int | tuple[int, ...] = (), context: Tensor | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Return draws as :meth:`sample` does, with gradients with respect to parameters and context."""
        require_gradients(self._given(context)[0])
        return self.draw(as_sample_shape(shape), context, temperature)

    def sample_and_log_prob(
        self, shape: int | tuple[int, ...] = (), context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Return draws and their log-densities in one pass, without the inverse, with gradients.

        .. math::
            x = f(z), \qquad \log p_X(x) = \log p_Z(z) - \log\lvert\det J_f(z)\rvert .
        """
        return self.draw_with_log_prob(as_sample_shape(shape), context)

    def draw_with_log_prob(self, shape: torch.Size, context=None, batch=torch.Size()) -> tuple[Tensor, Tensor]:
        """Return draws and their log-densities, as :meth:`sample_and_log_prob` does; ``batch`` as in :meth:`draw`."""
        base, context = self._start(shape, context, batch)
        if torch.is_grad_enabled():
            require_gradients(base)
        z, log_prob = bases.draw_with_log_prob(base, shape)
        x, log_det = self.bijection(z, context)
        return x, log_prob - self._one_each(log_det, x)

    def _one_each(self, log_det: Tensor, points: Tensor) -> Tensor:
        """The log-determinant, one number for each point: any other shape would broadcast to a wrong sum."""
        if log_det.shape != points.shape[: points.dim() - self.event_dim]:
            raise ValueError(
                f"{type(self.bijection).__name__} must return one log-determinant for each point, got shape "
                f"{tuple(log_det.shape)} for points of shape {tuple(points.shape)}."
            )
        return log_det

    def taken(self, context: Tensor | None) -> Tensor | None:
        """Return the context if this flow takes one: what containers hand on to a part that may be unconditional."""
        return None if self.context_dim is None else context

    def draw_given(self, context: Tensor, batch: torch.Size) -> tuple[Tensor, Tensor]:
        """Return one draw for each point of a batch and its log-density, given the context if the flow takes one."""
        return self.draw_with_log_prob(torch.Size(), self.taken(context), batch)

    def latents(self, x: Tensor, context: Tensor | None = None) -> list[Tensor]:
        r"""Return the standardised noises that make ``x``, those of the shallowest level first.

        For a base with mean :math:`\mu` and standard deviation :math:`\sigma` there is one,
        :math:`\varepsilon = (f^{-1}(x) - \mu) / \sigma`; for :class:`FactorOut` those of its prior, then those below.
        """
        x, context, base = self._points(x, context)
        return as_base(base, "latents").latents(self.bijection.inverse(x, context)[0])

    def from_latents(self, latents: list[Tensor], context: Tensor | None = None) -> Tensor:
        """Return the ``x`` whose :meth:`latents` these are.

        Raises:
            ValueError: If there are too few or too many, or one has another event shape.
        """
        expected = as_base(self._given(context)[0], "latents").n_latents
        if len(latents) != expected:
            raise ValueError(f"from_latents expects {expected} latents, got {len(latents)}.")
        return self._build(list(latents), context)

    def _build(self, stack: list[Tensor], context: Tensor | None) -> Tensor:
        """Take what this flow needs from the end of the stack: the deepest noise is used first."""
        base, context, _ = self._given(context)
        z = as_base(base, "latents").build(stack)
        if context is not None:
            k = context.dim() - self.context_dim
            batch = broadcast("Flow", z.shape[: z.dim() - self.event_dim], context.shape[:k])
            z, context = (
                z.expand(*batch, *z.shape[z.dim() - self.event_dim :]),
                context.expand(*batch, *context.shape[k:]),
            )
        return self.bijection(z, context)[0]

    def then(self, bijection: Bijection) -> "Flow":
        """Return this flow, the weights shared, with one more map at its data end."""
        return Flow(self.base, Compose(self.bijection, bijection))

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Let the layers that start from data do so, then those inside the base; called once, before training.

        A bijection without an inverse cannot be followed from the data; it is left as it is.
        """
        if "inverse" not in self.bijection.directions:
            return
        x, context, _ = self._points(x, context)
        z = self.bijection.initialize(x, context)
        if hasattr(self.base, "initialize"):
            self.base.initialize(z, context)

    def distribution(self, context: Tensor | None = None) -> "FlowDistribution":
        """Return the flow, given the context, as a ``torch.distributions`` distribution."""
        return FlowDistribution(self, context)


class FlowDistribution(BaseDistribution):
    """A flow with its context filled in, as a ``torch.distributions.Distribution``.

    Args:
        flow: The flow.
        context: The context.
        batch_shape: Shape with which the context's batch is broadcast; the result is the distribution's batch shape.
    """

    def __init__(self, flow: Flow, context: Tensor | None = None, batch_shape: torch.Size = torch.Size()):
        base, self.context, batch = flow._given(context, torch.Size(batch_shape))
        self.flow, self.has_rsample, self.n_latents = flow, base.has_rsample, getattr(base, "n_latents", 1)
        self.space = flow.bijection.codomain or space_of(base)
        event = torch.Size(flow.bijection.forward_shape(tuple(base.event_shape)))
        super().__init__(batch, event, validate_args=False)

    @property
    def support(self):
        """The space of the data, over one event."""
        if self.space is None:
            raise NotImplementedError("The space of this flow's base is not known.")
        return constraints.independent(self.space, len(self.event_shape) - self.space.event_dim)

    def expand(self, batch_shape, _instance=None):
        """Return the distribution with a larger batch shape."""
        if broadcast("Flow", self.batch_shape, torch.Size(batch_shape)) != torch.Size(batch_shape):
            raise ValueError(f"a batch of shape {tuple(self.batch_shape)} does not expand to {tuple(batch_shape)}.")
        return FlowDistribution(self.flow, self.context, torch.Size(batch_shape))

    def log_prob(self, value):
        """Log-density of ``value``, in nats."""
        batch = broadcast("Flow", self.batch_of(value), self.batch_shape)
        return self.flow(value.expand(*batch, *self.event_shape), self.context)

    def draw(self, shape, temperature=1.0):
        """Draw from the flow."""
        return self.flow.draw(shape, self.context, temperature, self.batch_shape)

    def draw_with_log_prob(self, shape):
        """Draw and score in one pass, without the inverse."""
        return self.flow.draw_with_log_prob(shape, self.context, self.batch_shape)

    def latents(self, value):
        """Return the flow's latents."""
        return self.flow.latents(value, self.context)

    def build(self, stack):
        """Undo :meth:`latents`."""
        return self.flow._build(stack, self.context)


class FactorOut(Module):
    r"""A base that is itself made of models: half of the channels stop here, the other half go deeper.

    With :math:`z = (z_1, y)` split along the channels,

    .. math::
        \log p(z) = \log p_{\text{prior}}(z_1 \mid y) + \log p_{\text{deeper}}(y) .

    Multi-scale flows are nested: ``Flow(FactorOut(prior, Flow(FactorOut(...), g)), f)``.

    Args:
        prior: Flow of :math:`z_1`, conditional with :math:`y` as its context, for instance
            ``Flow(StandardNormal(shape), ConditionalAffine(net, event_dim=3))``, or unconditional.
        deeper: Flow of :math:`y`; a context of the whole model goes to it, if it takes one.

    Shapes:
        ``z``: ``(*batch, 2 C, H, W)``; both halves ``(*batch, C, H, W)``.

    Raises:
        ValueError: If ``prior`` or ``deeper`` is not a :class:`Flow`, or their points are not images of one shape and
            space.

    Source: Dinh et al. (2017), section 3.6, equations 13-16; Kingma and Dhariwal (2018), figure 2b.
    """

    def __init__(self, prior: Flow, deeper: Flow):
        super().__init__()
        for name, part in (("prior", prior), ("deeper", deeper)):
            if not isinstance(part, Flow):
                got = type(part).__name__
                raise ValueError(f"FactorOut expects a Flow as {name}, got {got}.")
        self.prior, self.deeper, self.context_dim = prior, deeper, deeper.context_dim

    def forward(self, context: Tensor | None = None) -> "FactoredDistribution":
        """Return the distribution, of event shape ``(2 C, H, W)``."""
        deeper = self.deeper.distribution(self.deeper.taken(context))
        return FactoredDistribution(self.prior, deeper)

    def initialize(self, z: Tensor, context: Tensor | None = None) -> None:
        """Initialise both parts from their half of the batch."""
        z1, y = z.chunk(2, -3)
        self.prior.initialize(z1, self.prior.taken(y))
        self.deeper.initialize(y, self.deeper.taken(context))


class FactoredDistribution(BaseDistribution):
    """What :class:`FactorOut` returns: draw the deeper half first, then the other half given it.

    Args:
        prior: Flow of the first half, given the second.
        deeper: Distribution of the second half.
    """

    def __init__(self, prior: Flow, deeper: FlowDistribution):
        self.prior, self.deeper, self.has_rsample, self.space = prior, deeper, deeper.has_rsample, deeper.space
        shape, half = tuple(deeper.event_shape), getattr(prior.base, "event_shape", None)
        half = shape if half is None else tuple(prior.bijection.forward_shape(tuple(half)))
        if (
            len(shape) != 3
            or half != shape
            or None not in (of := (prior.bijection.codomain, self.space))
            and of[0] != of[1]
        ):
            raise ValueError(
                f"FactorOut expects two halves of one shape (C, H, W) and one space, got {half} in "
                f"{prior.bijection.codomain} from the prior, {shape} in {self.space} from the deeper flow."
            )
        self.n_latents = getattr(prior.base, "n_latents", 1) + deeper.n_latents
        channels, *size = shape
        super().__init__(deeper.batch_shape, torch.Size([2 * channels, *size]), validate_args=False)

    def _split(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        z1, y = value.chunk(2, -3)
        return z1, y, self.prior.taken(y)

    def expand(self, batch_shape, _instance=None):
        """Return the distribution with a larger batch shape."""
        return FactoredDistribution(self.prior, self.deeper.expand(batch_shape))

    def log_prob(self, value):
        r"""Return :math:`\log p_{\text{prior}}(z_1 \mid y) + \log p_{\text{deeper}}(y)`."""
        z1, y, given = self._split(value)
        return self.prior(z1, given) + self.deeper.log_prob(y)

    def draw(self, shape, temperature=1.0):
        """Draw both halves; shape ``(*shape, *batch_shape, *event_shape)``."""
        y = self.deeper.draw(shape, temperature)
        z1 = self.prior.draw(torch.Size(), self.prior.taken(y), temperature, y.shape[:-3])
        return torch.cat([z1, y], -3)

    def draw_with_log_prob(self, shape):
        """Draw both halves with their log-densities, without any inverse."""
        y, log_y = self.deeper.draw_with_log_prob(shape)
        z1, log_z1 = self.prior.draw_given(y, y.shape[:-3])
        return torch.cat([z1, y], -3), log_z1 + log_y

    def latents(self, value):
        """The noises of the first half, then those of the deeper one."""
        z1, y, given = self._split(value)
        return self.prior.latents(z1, given) + self.deeper.latents(y)

    def build(self, stack):
        """Undo :meth:`latents`, taking the noises from the end of the stack."""
        y = self.deeper.build(stack)
        return torch.cat([self.prior._build(stack, self.prior.taken(y)), y], -3)
