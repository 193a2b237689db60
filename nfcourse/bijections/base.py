"""The one protocol of the course: a map and its log-determinant, returned together."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import constraints

__all__ = ["Bijection", "Compose", "Inverse"]


class Bijection(nn.Module):
    r"""A bijection :math:`x = f(z \mid c)` from base to data.

    Both methods return ``(value, log_det)``, where ``log_det`` is
    :math:`\log\lvert\det J\rvert` of the map **just evaluated**, at the point where it was evaluated:

    .. math::
        \texttt{forward}(z) = \bigl(f(z),\; \log\lvert\det J_f(z)\rvert\bigr), \qquad
        \texttt{inverse}(x) = \bigl(f^{-1}(x),\; \log\lvert\det J_{f^{-1}}(x)\rvert\bigr).

    The density-change is understood with respect to a reference measure: Lebesgue measure unless a
    subclass says otherwise.

    Attributes:
        event_dim: Number of trailing dimensions that form one point; equal on both sides.
        context_dim: Number of trailing dimensions of one context.
        domain: Constraint that every entry of :math:`z` satisfies.
        codomain: Constraint that every entry of :math:`x` satisfies.

    Shapes:
        ``z``, ``x``: ``(*batch, *event)``; ``context``: ``(*batch, *context)`` or ``None``;
        ``log_det``: ``(*batch)``.
    """

    event_dim: int = 1
    context_dim: int = 1
    domain: constraints.Constraint = constraints.real
    codomain: constraints.Constraint = constraints.real

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""Return :math:`x = f(z)` and :math:`\log\lvert\det J_f(z)\rvert`."""
        raise NotImplementedError(f"{type(self).__name__} has no forward map (base -> data); use `inverse`.")

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""Return :math:`z = f^{-1}(x)` and :math:`\log\lvert\det J_{f^{-1}}(x)\rvert`."""
        raise NotImplementedError(
            f"{type(self).__name__} has no closed-form inverse (data -> base); use `forward`, "
            "for instance through `Flow.sample_and_log_prob`."
        )

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Set parameters from a batch of data, where the layer does so, and return its pre-image.

        The default sets nothing. Containers chain the calls from the data side to the base.
        """
        return self.inverse(x, context)[0]

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the event shape of :math:`x` for that of :math:`z`: the same, unless a layer moves entries about."""
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
        ValueError: If there is none, one is not a :class:`Bijection`, or their ``event_dim`` differ.

    Source: Rezende and Mohamed (2015), equations 6-7.
    """

    def __init__(self, *bijections: Bijection):
        super().__init__()
        if not bijections:
            raise ValueError("Compose expects at least one bijection, got none.")
        for f in bijections:
            if not isinstance(f, Bijection):
                raise ValueError(f"Compose expects bijections, got {type(f).__name__}.")
        dims = {f.event_dim for f in bijections}
        if len(dims) > 1:
            raise ValueError(f"Compose expects one event_dim for all, got {[f.event_dim for f in bijections]}.")
        self.bijections = nn.ModuleList(bijections)
        self.event_dim = dims.pop()
        self.context_dim = max(f.context_dim for f in bijections)
        self.domain, self.codomain = bijections[0].domain, bijections[-1].codomain

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

    def initialize(self, x, context=None):
        """Initialise from the data side: each layer sees what the later ones leave."""
        for f in reversed(self.bijections):
            x = f.initialize(x, context)
        return x

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

    IAF is ``Inverse(MAF)``; a paper that writes its flow from data to base is used through this class.

    Args:
        bijection: The map to reverse.
    """

    def __init__(self, bijection: Bijection):
        super().__init__()
        self.bijection = bijection
        self.event_dim, self.context_dim = bijection.event_dim, bijection.context_dim
        self.domain, self.codomain = bijection.codomain, bijection.domain

    def forward(self, z, context=None):
        """Return ``bijection.inverse(z)``."""
        return self.bijection.inverse(z, context)

    def inverse(self, x, context=None):
        """Return ``bijection.forward(x)``."""
        return self.bijection(x, context)

    def forward_shape(self, shape):
        """Return ``bijection.inverse_shape(shape)``."""
        return self.bijection.inverse_shape(shape)

    def inverse_shape(self, shape):
        """Return ``bijection.forward_shape(shape)``."""
        return self.bijection.forward_shape(shape)


def check_event(value: Tensor, shape: tuple[int | None, ...], layer: str) -> None:
    """Raise a ValueError unless ``value`` is floating point and ends in ``shape``; ``None`` there is any length >= 1.

    Shape and dtype only: layers never branch on the data, so that they compile and vectorise.
    """
    if not value.dtype.is_floating_point:
        raise ValueError(f"{layer} expects a floating-point tensor, got {value.dtype}.")
    event = value.shape[value.dim() - len(shape) :]
    if value.dim() < len(shape) or any(m != (n or max(m, 1)) for n, m in zip(shape, event, strict=True)):
        expected = ", ".join(["*batch", *("any" if n is None else str(n) for n in shape)])
        raise ValueError(f"{layer} expects inputs of shape ({expected}), got {tuple(value.shape)}.")


def event_shape(shape: int | tuple[int, ...], layer: str) -> tuple[int, ...]:
    """Return ``shape`` as a tuple of positive integers, or raise a ValueError naming ``layer``."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if not shape or any(not isinstance(n, int) or n < 1 for n in shape):
        raise ValueError(f"{layer} expects a shape of positive integers, got {shape}.")
    return shape


def sum_event(value: Float[Tensor, "..."], event_dim: int) -> Float[Tensor, "..."]:
    """Sum over the last ``event_dim`` dimensions (none: the value itself)."""
    return value.flatten(value.dim() - event_dim).sum(-1) if event_dim > 1 else value.sum(-1)
