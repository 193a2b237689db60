"""Networks that compute parameters: conditioners, encoders, decoders."""

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MLP", "ConvNet", "GatedAttentionNet", "ResidualMLP"]


def _zero(layer: nn.Module) -> nn.Module:
    """Set the weight and bias of a layer to zero, in place."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class MLP(nn.Sequential):
    r"""A multilayer perceptron.

    .. math::
        h_0 = u, \qquad h_{l+1} = \phi(W_l h_l + b_l), \qquad \mathrm{MLP}(u) = W_L h_L + b_L .

    The last layer starts at zero by default, so that a flow whose conditioners are MLPs starts as the identity.

    Args:
        n_in: Number of inputs.
        n_out: Number of outputs.
        hidden: Widths of the hidden layers.
        activation: The nonlinearity :math:`\phi`, a module class.
        zero_init: Whether :math:`W_L` and :math:`b_L` start at zero.

    Shapes:
        Input ``(*, n_in)``, output ``(*, n_out)``.

    Raises:
        ValueError: If a width is smaller than one.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        hidden: Sequence[int] = (128, 128),
        activation: Callable[[], nn.Module] = nn.ReLU,
        zero_init: bool = True,
    ):
        widths = [n_in, *hidden, n_out]
        if min(widths) < 1:
            raise ValueError(f"MLP expects widths >= 1, got {widths}.")
        layers: list[nn.Module] = []
        for a, b in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(a, b), activation()]
        super().__init__(*layers[:-1])
        if zero_init:
            _zero(self[-1])


class ResidualMLP(nn.Module):
    r"""A multilayer perceptron with skip connections.

    .. math::
        h_0 = W_{\mathrm{in}} u + b, \qquad h_{l+1} = h_l + W'_l\,\phi(W_l\,\phi(h_l) + b_l) + b'_l, \qquad
        \mathrm{out} = W_{\mathrm{out}}\,\phi(h_L) + b_{\mathrm{out}} .

    Args:
        n_in: Number of inputs.
        n_out: Number of outputs.
        width: Width of all hidden layers.
        blocks: Number :math:`L` of residual blocks.
        activation: The nonlinearity :math:`\phi`, a function.
        zero_init: Whether the last layer starts at zero.

    Shapes:
        Input ``(*, n_in)``, output ``(*, n_out)``.

    Raises:
        ValueError: If a width or the number of blocks is smaller than one.

    Source: He et al. (2016), pre-activation form; Durkan et al. (2019), section 5, as conditioner.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        width: int = 128,
        blocks: int = 2,
        activation: Callable[[Tensor], Tensor] = F.relu,
        zero_init: bool = True,
    ):
        super().__init__()
        if min(n_in, n_out, width, blocks) < 1:
            raise ValueError(f"ResidualMLP expects sizes >= 1, got {n_in}, {n_out}, {width}, {blocks}.")
        self.activation = activation
        self.first = nn.Linear(n_in, width)
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)]) for _ in range(blocks)
        )
        self.last = nn.Linear(width, n_out)
        if zero_init:
            _zero(self.last)

    def forward(self, u: Tensor) -> Tensor:
        """Return the outputs, ``(*, n_out)``."""
        h = self.first(u)
        for inner, outer in self.blocks:
            h = h + outer(self.activation(inner(self.activation(h))))
        return self.last(self.activation(h))


class _ImageNet(nn.Module):
    """A network of one batch of images; calls with any number of batch dimensions are folded into one."""

    def forward(self, u: Tensor) -> Tensor:
        """Return the outputs, ``(*, n_out, H, W)``."""
        batch = u.shape[:-3]
        out = self.net(u.reshape(math.prod(batch), *u.shape[-3:]))
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

    Source: Dinh et al. (2017), section 3.6; Kingma and Dhariwal (2018), section 3.3 (zero start).
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
            _zero(last) if zero_init else last,
        )


class _GatedAttentionBlock(nn.Module):
    r"""Gated convolution, then gated self-attention over all positions, each a normalised residual.

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

    Source: Ho et al. (2019), section 3.3 and appendix.
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
            _zero(last) if zero_init else last,
        )
