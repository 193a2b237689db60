"""Networks that compute parameters: conditioners, encoders, decoders."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MADE", "MLP", "ConvNet", "GatedAttentionNet", "GlowNet", "MaskedLinear", "ResidualMLP"]


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


class MaskedLinear(nn.Linear):
    r"""A linear layer with some weights held at zero, :math:`u \mapsto (W \odot M) u + b`.

    A mask without any True leaves the bias alone: the weight is then frozen.

    Args:
        mask: The mask :math:`M`, boolean, ``(n_out, n_in)``, True where a weight acts.

    Shapes:
        Input ``(*, n_in)``, output ``(*, n_out)``.
    """

    def __init__(self, mask: Tensor):
        super().__init__(mask.shape[1], mask.shape[0])
        # floating point, because multiplying by booleans is several times slower
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)
        self.weight.requires_grad_(bool(mask.any()))

    def forward(self, u: Tensor) -> Tensor:
        """Return the outputs, ``(*, n_out)``."""
        return F.linear(u, self.weight * self.mask, self.bias)


def _order(order, dim: int) -> Tensor:
    """The order of the coordinates, as a permutation ``(dim,)``."""
    if order is None:
        return torch.arange(dim)
    if isinstance(order, str):
        if order not in ("reverse", "random"):
            raise ValueError(f'MADE expects the order None, "reverse", "random" or a permutation, got "{order}".')
        return torch.arange(dim).flip(0) if order == "reverse" else torch.randperm(dim)
    order = torch.as_tensor(order)
    if order.shape != (dim,) or sorted(order.tolist()) != list(range(dim)):
        raise ValueError(f"MADE expects an order that holds each of 0, ..., {dim - 1} once, got {order.tolist()}.")
    return order.long()


class MADE(nn.Module):
    r"""A masked network: the parameters of each coordinate depend on the coordinates before it, and on a context.

    Let :math:`r_i \in \{0, \dots, D - 1\}` be the rank of coordinate :math:`i` in the order. Every hidden unit has a
    degree :math:`m`, and sees inputs of rank below :math:`m` and units of degree at most :math:`m`; the outputs of
    coordinate :math:`i` see units of degree at most :math:`r_i`. Along any path ranks rise, so that

    .. math::
        \frac{\partial\, \mathrm{out}_i}{\partial u_j} = 0 \quad\text{unless}\quad r_j < r_i .

    The degrees are spread evenly and sorted within each layer, so that all units up to a degree are one slice; a hidden
    layer narrower than :math:`D - 1` lacks some degrees, and with them some of the allowed dependences. The context
    enters every layer linearly and unmasked, the outputs as well; units of degree 0, in layers of width :math:`D` or
    more, see the context alone.

    Args:
        dim: Number :math:`D` of inputs.
        n_params: Number :math:`P` of outputs per coordinate.
        hidden: Widths of the hidden layers.
        order: The coordinates in their order: ``None`` for the natural one, ``"reverse"``, ``"random"`` (drawn from
            torch's global generator), or a permutation of :math:`0, \dots, D - 1`. Saved with the weights.
        context_features: Size of the context vector, 0 for none.
        activation: The nonlinearity, a module class; it must act on each unit alone.
        zero_init: Whether the last layer starts at zero.

    Shapes:
        Input ``(*, D)``, context ``(*, context_features)``, output ``(*, P D)``, parameter after parameter: entry
        :math:`p D + i` is parameter :math:`p` of coordinate :math:`i`.

    Raises:
        ValueError: If a size is smaller than one, the order is not a permutation, a context is missing or not
            expected, or an input has another last dimension or is not floating point.

    Source: Germain et al. (2015), sections 3-4; evenly spread degrees instead of random ones.
    """

    #: coordinates that :meth:`generate` treats together
    block: int = 8

    def __init__(
        self,
        dim: int,
        n_params: int,
        hidden: Sequence[int] = (128, 128),
        order: str | Sequence[int] | Tensor | None = None,
        context_features: int = 0,
        activation: Callable[[], nn.Module] = nn.ReLU,
        zero_init: bool = True,
    ):
        super().__init__()
        if min(dim, n_params, *hidden) < 1 or context_features < 0:
            raise ValueError(
                f"MADE expects sizes >= 1, got dim {dim}, n_params {n_params}, hidden {tuple(hidden)}, "
                f"context_features {context_features}."
            )
        self.dim, self.n_params, self.context_features = dim, n_params, context_features
        # in one dimension and without a context nothing could reach a hidden unit
        hidden = () if dim == 1 and not context_features else tuple(hidden)
        lowest = [0 if context_features and width >= dim else 1 for width in hidden]
        self.degrees = [
            [m + k * (dim - m) // width for k in range(width)] for m, width in zip(lowest, hidden, strict=True)
        ]
        # starts[l][k]: how many inputs of layer l (at the end: outputs) belong to the first k coordinates of the order
        self.starts = [
            list(range(dim + 1)),
            *[[bisect_left(degrees, k) for k in range(dim + 1)] for degrees in self.degrees],
            [n_params * k for k in range(dim + 1)],
        ]
        self.register_buffer("order", _order(order, dim))
        self.layers = nn.ModuleList(MaskedLinear(mask) for mask in self._masks())
        self.activation = activation()
        self.widths = [*hidden, n_params * dim]
        self.context = nn.Linear(context_features, sum(self.widths), bias=False) if context_features else None
        if zero_init:
            _zero(self.layers[-1])
            if self.context is not None:
                nn.init.zeros_(self.context.weight[-n_params * dim :])
        # the masks follow from the order; they are not saved but made again
        self.register_load_state_dict_post_hook(MADE._renew)

    def _masks(self) -> list[Tensor]:
        device = self.order.device
        rank = self.order.argsort()
        degrees = [torch.tensor(d, device=device) for d in self.degrees]
        # an input of rank r acts on degrees above r, as would a unit of degree r + 1
        sources, targets = [rank + 1, *degrees], [*degrees, rank.repeat(self.n_params)]
        return [target[:, None] >= source for source, target in zip(sources, targets, strict=True)]

    def _renew(self, keys) -> None:
        for layer, mask in zip(self.layers, self._masks(), strict=True):
            layer.mask.copy_(mask)

    def _context_terms(self, context: Tensor | None, batch: Sequence[int]) -> list[Tensor]:
        """What the context adds to each layer, ``(*batch, width)``."""
        if (context is None) != (self.context is None):
            got = "none" if context is None else f"one of shape {tuple(context.shape)}"
            raise ValueError(f"MADE expects a context with {self.context_features} features, got {got}.")
        if context is None:
            return []
        if context.dim() < 1 or context.shape[-1] != self.context_features or not context.dtype.is_floating_point:
            raise ValueError(
                f"MADE expects floating-point contexts of shape (*, {self.context_features}), got {context.dtype} of "
                f"shape {tuple(context.shape)}."
            )
        return list(self.context(context).expand(*batch, -1).split(self.widths, -1))

    def forward(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the outputs, ``(*, P D)``."""
        if u.dim() < 1 or u.shape[-1] != self.dim or not u.dtype.is_floating_point:
            raise ValueError(
                f"MADE expects floating-point inputs of shape (*, {self.dim}), got {u.dtype} of shape {tuple(u.shape)}."
            )
        terms = self._context_terms(context, u.shape[:-1])
        for k, layer in enumerate(self.layers):
            u = layer(u if k == 0 else self.activation(u))
            if terms:
                u = u + terms[k]
        return u

    def generate(
        self, draw: Callable[[int, Tensor], Tensor], batch: Sequence[int] = (), context: Tensor | None = None
    ) -> Tensor:
        r"""Build points coordinate by coordinate, with about the work of one pass.

        A hidden unit of degree :math:`m` is computed once, when the first :math:`m` coordinates are known, and its
        share in what comes later is added at once: first to the rest of its block of coordinates alone; when the block
        is complete, one product of matrices adds the shares of all its units to everything after it.

        Args:
            draw: Called as ``draw(k, params)`` for :math:`k = 0, \dots, D - 1`; gets the parameters ``(P, n)`` of the
                k-th coordinate in the order, for all n points of the batch, and returns its values ``(n,)``.
            batch: Shape of the batch.
            context: Contexts ``(*batch, context_features)``, if the network has any.

        Returns:
            The points, ``(*batch, D)``.

        Raises:
            ValueError: If a context is missing or not expected, or of the wrong size.
        """
        dim, n = self.dim, math.prod(batch)
        # points in columns; inputs and outputs in their order, the P outputs of a coordinate together
        weights = [layer.weight * layer.mask for layer in self.layers]
        sums = [layer.bias[:, None].expand(-1, n) for layer in self.layers]
        for k, term in enumerate(self._context_terms(context, batch)):
            sums[k] = sums[k] + term.reshape(n, self.widths[k]).T
        rows = (self.order[:, None] + dim * torch.arange(self.n_params, device=self.order.device)).flatten()
        weights[0] = weights[0].index_select(1, self.order)
        weights[-1], sums[-1] = weights[-1].index_select(0, rows), sums[-1].index_select(0, rows)
        points = []
        for low in range(0, dim, self.block):
            high = min(low + self.block, dim)
            sizes = [s[high] - s[low] for s in self.starts]
            parts = list(zip(weights, sums, sizes[:-1], sizes[1:], strict=True))
            inner = [w[:n_out, :n_in] for w, _, n_in, n_out in parts]
            known = self._fill_block(draw, inner, [s[:n_out] for _, s, _, n_out in parts], low, high)
            points += known[0]
            sums = [
                torch.addmm(s[n_out:], w[n_out:, :n_in], torch.cat(units)) if units else s[n_out:]
                for (w, s, n_in, n_out), units in zip(parts, known, strict=True)
            ]
            weights = [w[n_out:, n_in:] for w, _, n_in, n_out in parts]
        return torch.cat(points).index_select(0, self.order.argsort()).T.reshape(*batch, dim)

    def _fill_block(self, draw, weights, sums, low, high) -> list[list[Tensor]]:
        """The inputs and hidden units that belong to the coordinates low, ..., high - 1.

        ``sums`` holds all that earlier blocks add to each layer, ``weights`` acts within the block.
        """
        known = [[] for _ in weights]
        columns = [
            w.split([s[k + 1] - s[k] for k in range(low, high)], 1)
            for w, s in zip(weights, self.starts[:-1], strict=True)
        ]
        for k in range(low, high):
            for layer, start in enumerate(self.starts[1:]):
                ready = sums[layer][start[k] - start[low] : start[k + 1] - start[low]]
                if layer + 1 < len(weights) and start[k + 1] > start[k]:
                    units = self.activation(ready)
                    known[layer + 1].append(units)
                    sums[layer + 1] = torch.addmm(sums[layer + 1], columns[layer + 1][k - low], units)
            value = draw(k, ready)[None]  # what is ready last are the parameters of coordinate k
            known[0].append(value)
            if k + 1 < high:
                sums[0] = torch.addmm(sums[0], columns[0][k - low], value)
        return known


class _ImageNet(nn.Module):
    """A network of one batch of images; calls with any number of batch dimensions are folded into one."""

    def forward(self, u: Tensor) -> Tensor:
        """Return the outputs, ``(*, n_out, H, W)``."""
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
            _zero(last) if zero_init else last,
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
            _zero(last) if zero_init else last,
        )
