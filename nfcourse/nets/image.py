"""Networks of images: they keep the size, and change the number of channels."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from ..events import check_dtype
from ..module import Module
from .mlp import zeroed

__all__ = ["ConvNet", "GatedAttentionNet", "GlowNet"]


class _ImageNet(Module):
    """A network of one batch of images; calls with any number of batch dimensions are folded into one."""

    def forward(self, u: Tensor) -> Tensor:
        """Return the outputs, ``(*, n_out, H, W)``."""
        check_dtype(u, self.net[0].weight, type(self).__name__)
        batch = u.shape[:-3]
        u = u.reshape(math.prod(batch), *u.shape[-3:])
        # convolutions are up to twice as fast with the channels last in memory
        out = self.net(u.movedim(1, -1).contiguous().movedim(-1, 1))
        return out.reshape(*batch, *out.shape[-3:])


class _ConvBlock(nn.Module):
    r"""A residual block, :math:`h + \mathrm{conv}_{3\times 3}\,\phi\,\mathrm{conv}_{1\times 1}\,\phi(h)`."""

    def __init__(self, width: int):
        super().__init__()
        self.inner, self.outer = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.outer(F.relu(self.inner(F.relu(h))))


class ConvNet(_ImageNet):
    r"""A residual network of convolutions that keeps the size of the image.

    A 3x3 convolution, ``blocks`` residual blocks (1x1, then 3x3), and a 3x3 convolution to the outputs.

    Args:
        n_in: Number of input channels.
        n_out: Number of output channels.
        width: Number of hidden channels.
        blocks: Number of residual blocks.
        zero_init: Whether the last convolution starts at zero.

    Shapes:
        Input ``(*, n_in, H, W)``, output ``(*, n_out, H, W)``.

    Raises:
        ValueError: If a size is smaller than one.

    Source: Dinh et al. (2017), section 4.1; Kingma and Dhariwal (2018), section 3.3 (zero start).
    """

    def __init__(self, n_in: int, n_out: int, width: int = 64, blocks: int = 1, zero_init: bool = True):
        super().__init__()
        if min(n_in, n_out, width) < 1 or blocks < 0:
            raise ValueError(f"ConvNet expects sizes >= 1, got {n_in}, {n_out}, {width}, {blocks}.")
        last = nn.Conv2d(width, n_out, 3, padding=1)
        self.net = nn.Sequential(
            nn.Conv2d(n_in, width, 3, padding=1),
            *[_ConvBlock(width) for _ in range(blocks)],
            nn.ReLU(),
            zeroed(last) if zero_init else last,
        )


class GlowNet(_ImageNet):
    r"""The conditioner of Glow: convolutions of 3x3, 1x1 and 3x3 pixels with a rectifier after each but the last.

    Args:
        n_in: Number of input channels.
        n_out: Number of output channels.
        width: Number of hidden channels.
        zero_init: Whether the last convolution starts at zero.

    Shapes:
        Input ``(*, n_in, H, W)``, output ``(*, n_out, H, W)``.

    Raises:
        ValueError: If a size is smaller than one.

    Source: Kingma and Dhariwal (2018), section 3.3 (zero start).
    """

    def __init__(self, n_in: int, n_out: int, width: int = 64, zero_init: bool = True):
        super().__init__()
        if min(n_in, n_out, width) < 1:
            raise ValueError(f"GlowNet expects sizes >= 1, got {n_in}, {n_out}, {width}.")
        last = nn.Conv2d(width, n_out, 3, padding=1)
        self.net = nn.Sequential(
            nn.Conv2d(n_in, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.ReLU(),
            zeroed(last) if zero_init else last,
        )


class _GatedAttentionBlock(nn.Module):
    r"""Gated convolution, then gated self-attention over all positions, each a normalized residual.

    With queries, keys and values :math:`q, k, v` at the :math:`n = HW` positions, a head attends by
    :math:`\operatorname{softmax}(q k^\top / \sqrt{d})\, v`. A gate is :math:`(a, b) \mapsto a \odot \sigma(b)`.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.inner, self.outer = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, 2 * width, 1)
        self.qkv, self.mix = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, 2 * width, 1)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def _normed(self, h: Tensor, k: int) -> Tensor:
        return self.norms[k](h.movedim(1, -1)).movedim(-1, 1)

    def forward(self, h: Tensor) -> Tensor:
        value, gate = self.outer(F.elu(self.inner(F.elu(h)))).chunk(2, 1)
        h = self._normed(h + value * gate.sigmoid(), 0)
        # (batch, heads, positions, channels of a head)
        q, k, v = (part.unflatten(1, (self.heads, -1)).flatten(3).mT for part in self.qkv(h).chunk(3, 1))
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        value, gate = self.mix((weights @ v).mT.reshape(h.shape)).chunk(2, 1)
        return self._normed(h + value * gate.sigmoid(), 1)


class GatedAttentionNet(_ImageNet):
    r"""The conditioner of Flow++: gated convolutions and self-attention over positions.

    Positions are not encoded explicitly; the zero padding of the convolutions tells them.

    Args:
        n_in: Number of input channels.
        n_out: Number of output channels.
        width: Number of hidden channels, a multiple of ``heads``.
        blocks: Number of blocks.
        heads: Number of attention heads.
        zero_init: Whether the last convolution starts at zero.

    Shapes:
        Input ``(*, n_in, H, W)``, output ``(*, n_out, H, W)``; memory grows with :math:`(HW)^2`.

    Raises:
        ValueError: If a size is smaller than one or ``heads`` does not divide ``width``.

    Source: Ho et al. (2019), section 3.2.2.
    """

    def __init__(self, n_in: int, n_out: int, width: int = 32, blocks: int = 1, heads: int = 4, zero_init: bool = True):
        super().__init__()
        if min(n_in, n_out, width, blocks, heads) < 1 or width % heads:
            raise ValueError(
                "GatedAttentionNet expects sizes >= 1 and a width that heads divides, got "
                f"{n_in}, {n_out}, {width}, {blocks}, {heads}."
            )
        last = nn.Conv2d(width, n_out, 3, padding=1)
        self.net = nn.Sequential(
            nn.Conv2d(n_in, width, 3, padding=1),
            *[_GatedAttentionBlock(width, heads) for _ in range(blocks)],
            nn.ELU(),
            zeroed(last) if zero_init else last,
        )
