"""The one protocol of the course: a map and its log-determinant, returned together."""

from torch import Tensor, nn

from ..events import name_of, one_of
from ..module import Module
from ..spaces import Space, real

__all__ = ["Bijection", "Compose", "Inverse"]


class Bijection(Module):
    r"""A bijection :math:`x = f(z \mid c)` from base to data.

    Both methods return ``(value, log_det)``, where ``log_det`` is
    :math:`\log\lvert\det J\rvert` of the map **just evaluated**, where it was evaluated:

    .. math::
        \texttt{forward}(z) = \bigl(f(z),\; \log\lvert\det J_f(z)\rvert\bigr), \qquad
        \texttt{inverse}(x) = \bigl(f^{-1}(x),\; \log\lvert\det J_{f^{-1}}(x)\rvert\bigr).

    It is the log of the change of volume, by the reference measures of ``domain`` and
    ``codomain``; densities are divided by it. Lebesgue measure: the Jacobian. Counting: 0.
    Surfaces: :math:`\tfrac12\log\det ((JE)^\top (JE))`, :math:`E` an orthonormal tangent basis.
    A map that has one direction only overrides that one.

    Attributes:
        event_dim: Number of trailing dimensions that form one point; equal on both sides.
        event_shape: Shape of one point on the base side, ``None`` where several fit.
        context_dim: The same of one context, ``None`` for a map that takes none and ignores it.
        domain: Space of :math:`z`; ``None`` for a map that moves entries about.
        codomain: Space of :math:`x`; ``None`` likewise.

    Shapes:
        ``z``, ``x``: ``(*batch, *event)``; ``context``: ``(*batch, *context)`` or ``None``;
        ``log_det``: ``(*batch)``.
    """

    event_dim: int = 1
    event_shape: tuple[int, ...] | None = None
    context_dim: int | None = None
    domain: Space | None = real
    codomain: Space | None = real

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""Return :math:`x = f(z)` and :math:`\log\lvert\det J_f(z)\rvert`."""
        raise NotImplementedError(
            f"{type(self).__name__} has no forward map (base -> data); use `inverse`."
        )

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""Return :math:`z = f^{-1}(x)` and :math:`\log\lvert\det J_{f^{-1}}(x)\rvert`."""
        raise NotImplementedError(
            f"{type(self).__name__} has no closed-form inverse (data -> base); use `forward`, "
            "for instance through `Flow.sample_and_log_prob`."
        )

    @property
    def directions(self) -> frozenset[str]:
        """Those of ``"forward"`` and ``"inverse"`` that the class of this map overrides."""
        both, own = ("forward", "inverse"), type(self)
        return frozenset(d for d in both if getattr(own, d) is not getattr(Bijection, d))

    def initialize(self, value: Tensor, context=None, direction: str = "inverse") -> Tensor:
        """Set parameters from a batch of data, where a layer does so; return what it becomes.

        The default sets nothing. Containers chain the calls: from data to base, or, under
        :class:`Inverse`, with ``direction="forward"``, the other way.
        """
        return getattr(self, direction)(value, context)[0]

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the event shape of :math:`x` for that of :math:`z`; by default the same."""
        return tuple(shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the event shape of :math:`z` for that of :math:`x`."""
        return tuple(shape)


class Compose(Bijection):
    r"""The composition :math:`f = f_K \circ \cdots \circ f_1`; ``Compose(f1, ..., fK)``.

    By the chain rule the log-determinants add, each taken where its map is evaluated:

    .. math::
        \log\lvert\det J_f(z_0)\rvert = \sum_{k=1}^{K} \log\lvert\det J_{f_k}(z_{k-1})\rvert,
        \qquad z_k = f_k(z_{k-1}).

    Args:
        *bijections: The maps in the order of evaluation from base to data, at least one.

    Raises:
        ValueError: If there is none, one is not a :class:`Bijection`, or one does not fit what comes before it:
            ``event_dim``, event shape, space, or ``context_dim``.

    Source: Rezende and Mohamed (2015), equations 6-7.
    """

    def __init__(self, *bijections: Bijection):
        super().__init__()
        if not bijections:
            raise ValueError("Compose expects at least one bijection, got none.")
        for f in bijections:
            if not isinstance(f, Bijection):
                raise ValueError(f"Compose expects bijections, one after the other, got {name_of(f)}.")
        self.bijections = nn.ModuleList(bijections)
        self.event_dim = one_of("Compose", "event_dim", bijections)
        self.context_dim = one_of("Compose", "context_dim", bijections)
        self.domain = next((f.domain for f in bijections if f.domain is not None), None)
        shape = space = None
        for k, f in enumerate(bijections):
            for what, comes, asked in (("space", space, f.domain), ("shape", shape, f.event_shape)):
                if None not in (comes, asked) and comes != asked:
                    raise ValueError(
                        f"Compose: the {what}s do not fit: map {k + 1}, {name_of(f)}, starts from {asked}, but what "
                        f"comes before it ends in {comes}."
                    )
            if shape is None and f.event_shape is not None:  # the first that knows tells the maps before it
                self.event_shape = f.event_shape
                for g in reversed(bijections[:k]):
                    self.event_shape = g.inverse_shape(self.event_shape)
            shape, space = f.event_shape or shape, f.codomain or space
            shape = shape and f.forward_shape(shape)
        self.codomain = space

    @property
    def directions(self) -> frozenset[str]:
        """The directions that every part has."""
        return frozenset.intersection(*(f.directions for f in self.bijections))

    def forward(self, z, context=None):
        """Evaluate :math:`f_1` first; see :class:`Compose`."""
        log_det = None
        for f in self.bijections:
            z, step = f(z, context)
            log_det = step if log_det is None else log_det + step
        return z, log_det

    def inverse(self, x, context=None):
        """Evaluate :math:`f_K^{-1}` first; see :class:`Compose`."""
        log_det = None
        for f in reversed(self.bijections):
            x, step = f.inverse(x, context)
            log_det = step if log_det is None else log_det + step
        return x, log_det

    def initialize(self, value, context=None, direction="inverse"):
        """Initialise in the order of evaluation: each layer sees what those before it leave."""
        for f in self.bijections if direction == "forward" else reversed(self.bijections):
            value = f.initialize(value, context, direction)
        return value

    def forward_shape(self, shape):
        """Pass the shape from map to map."""
        for f in self.bijections:
            shape = f.forward_shape(shape)
        return shape

    def inverse_shape(self, shape):
        """Pass the shape back."""
        for f in reversed(self.bijections):
            shape = f.inverse_shape(shape)
        return shape

    def __len__(self) -> int:
        return len(self.bijections)

    def __getitem__(self, k: int) -> Bijection:
        return self.bijections[k]


class Inverse(Bijection):
    r"""The same bijection read backwards: ``Inverse(f).forward`` is ``f.inverse``.

    IAF is ``Inverse(MAF)``; a paper's flow from data to base is used through this class.

    Args:
        bijection: The map to reverse.
    """

    def __init__(self, bijection: Bijection):
        super().__init__()
        self.bijection = bijection
        self.event_dim, self.context_dim = bijection.event_dim, bijection.context_dim
        shape = bijection.event_shape
        self.event_shape = shape and bijection.forward_shape(shape)
        self.domain, self.codomain = bijection.codomain, bijection.domain

    @property
    def directions(self) -> frozenset[str]:
        """Those of the bijection, exchanged."""
        other = {"forward": "inverse", "inverse": "forward"}
        return frozenset(other[d] for d in self.bijection.directions)

    def forward(self, z, context=None):
        """Return ``bijection.inverse(z)``."""
        return self.bijection.inverse(z, context)

    def inverse(self, x, context=None):
        """Return ``bijection.forward(x)``."""
        return self.bijection(x, context)

    def initialize(self, value, context=None, direction="inverse"):
        """Initialise the bijection from its other side."""
        other = "forward" if direction == "inverse" else "inverse"
        return self.bijection.initialize(value, context, other)

    def forward_shape(self, shape):
        """Return ``bijection.inverse_shape(shape)``."""
        return self.bijection.inverse_shape(shape)

    def inverse_shape(self, shape):
        """Return ``bijection.forward_shape(shape)``."""
        return self.bijection.forward_shape(shape)
