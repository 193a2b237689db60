"""Layers of image flows: space becomes channels, and the step of Glow."""

from collections.abc import Callable

from torch import nn

from ..events import as_event_shape, check_event
from ..nets import GlowNet
from .base import Bijection, Compose
from .coupling import Coupling, half_mask
from .linear import Conv1x1
from .norm import ActNorm

__all__ = ["Squeeze", "glow_step"]


class Squeeze(Bijection):
    r"""Every 2x2 square of pixels on the data side is four channels on the base side.

    .. math::
        x_{c,\,2i+a,\,2j+b} = z_{4c+2a+b,\;i,\;j}, \qquad a, b \in \{0, 1\}, \qquad \log\lvert\det J_f(z)\rvert = 0 .

    A permutation of the entries: nothing is lost, and a convolution after it sees twice as far.

    Shapes:
        ``z``: ``(*batch, 4 C, H / 2, W / 2)``; ``x``: ``(*batch, C, H, W)``.

    Raises:
        ValueError: If the channels of ``z`` are not a multiple of four, or the sides of ``x`` are odd.

    Source: Dinh et al. (2017), section 3.6 and figure 3.
    """

    event_dim = 3
    #: entries keep the space that they come from
    domain = codomain = None

    def forward(self, z, context=None):
        """Return the larger image with fewer channels, and zeros."""
        c, h, w = self.forward_shape(z.shape)[-3:]
        check_event(z, (None, None, None), "Squeeze")
        z = z.unflatten(-3, (c, 2, 2)).movedim((-4, -3), (-3, -1))  # c a b i j -> c i a j b
        return z.reshape(*z.shape[:-5], c, h, w), z.new_zeros(z.shape[:-5])

    def inverse(self, x, context=None):
        """Return the smaller image with more channels, and zeros."""
        c, h, w = self.inverse_shape(x.shape)[-3:]
        check_event(x, (None, None, None), "Squeeze")
        x = x.unflatten(-1, (w, 2)).unflatten(-3, (h, 2)).movedim((-3, -1), (-4, -3))
        return x.reshape(*x.shape[:-5], c, h, w), x.new_zeros(x.shape[:-5])

    def forward_shape(self, shape):
        """Return ``(C, H, W)`` for ``(4 C, H / 2, W / 2)``."""
        if len(shape) < 3 or shape[-3] % 4:
            raise ValueError(
                "Squeeze expects (*batch, 4 C, H / 2, W / 2) on the base side, "
                f"got {tuple(shape)}."
            )
        *batch, c, h, w = shape
        return *batch, c // 4, 2 * h, 2 * w

    def inverse_shape(self, shape):
        """Return ``(4 C, H / 2, W / 2)`` for ``(C, H, W)``."""
        if len(shape) < 3 or shape[-1] % 2 or shape[-2] % 2:
            raise ValueError(
                "Squeeze expects (*batch, C, H, W) with even sides on the data side, "
                f"got {tuple(shape)}."
            )
        *batch, c, h, w = shape
        return *batch, 4 * c, h // 2, w // 2


def glow_step(
    shape: tuple[int, int, int],
    conditioner: Callable[[int, int], nn.Module] = GlowNet,
    transformer: nn.Module | None = None,
    context_features: int = 0,
    context_dim: int = 1,
) -> Compose:
    r"""Return one step of Glow; read from data to base: :class:`ActNorm`, :class:`Conv1x1`, :class:`Coupling`.

    The activation normalization has one location and scale per channel. The convolution mixes the channels, so that
    every coupling may split them in the same way.

    Args:
        shape: Event shape ``(C, H, W)`` with :math:`C \ge 2`.
        conditioner: Called as ``conditioner(n_in, n_out)``, returns a convolutional network.
        transformer: As in :class:`Coupling`; default affine.
        context_features: As in :class:`Coupling`.
        context_dim: As in :class:`Coupling`.

    Raises:
        ValueError: If ``shape`` does not have three entries, or as :class:`Coupling`.

    Source: Kingma and Dhariwal (2018), section 3 and figure 2a.
    """
    shape = as_event_shape(shape, "glow_step")
    if len(shape) != 3:
        raise ValueError(f"glow_step expects a shape (C, H, W), got {shape}.")
    channels = shape[0]
    coupling = Coupling(
        half_mask(channels), conditioner, transformer, context_features, 3, context_dim
    )
    return Compose(coupling, Conv1x1(channels), ActNorm(shape, share=2))
