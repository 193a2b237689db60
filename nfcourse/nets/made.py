"""MADE: one network whose outputs for a coordinate see the coordinates before it alone."""

import copy
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..events import check_context, check_dtype, check_event
from ..module import Module
from .mlp import zeroed

__all__ = ["MADE", "MaskedLinear"]


class MaskedLinear(nn.Linear):
    r"""A linear layer with some weights held at zero, :math:`u \mapsto (W \odot M) u + b`.

    The mask is saved with the weights: which weights act is part of the state.

    Args:
        mask: The mask :math:`M`, boolean, ``(n_out, n_in)``, True where a weight acts.
        trainable: Whether the weight is trained; False where the mask has no True and the bias alone acts.

    Shapes:
        Input ``(*, n_in)``, output ``(*, n_out)``.
    """

    def __init__(self, mask: Tensor, trainable: bool = True):
        super().__init__(mask.shape[1], mask.shape[0])
        # floating point, because multiplying by booleans is several times slower
        self.register_buffer("mask", mask.to(self.weight.dtype))
        self.weight.requires_grad_(trainable)

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
    order = order.tolist() if isinstance(order, Tensor) else list(order)
    if sorted(order) != list(range(dim)):
        raise ValueError(f"MADE expects an order that holds each of 0, ..., {dim - 1} once, got {order}.")
    return torch.tensor(order)


def _check_unitwise(activation: nn.Module) -> None:
    """Raise a ValueError if one unit's value changes another's: the masks could not keep them apart."""
    u = torch.linspace(-1.5, 2.0, 8, device="cpu")
    moved = u + torch.eye(8, device="cpu")[3]
    with torch.no_grad():
        alone = copy.deepcopy(activation).eval()
        if any(p.device.type == "meta" for p in alone.parameters()):
            return
        alone = alone.cpu()
        one, other = alone(u), alone(moved)
    if one.shape != u.shape or bool(((one != other) & (torch.arange(8, device="cpu") != 3)).any()):
        raise ValueError(
            f"MADE expects an activation that acts on each unit alone, got {type(activation).__name__}, which mixes "
            "them: outputs would depend on coordinates that come later."
        )


class MADE(Module):
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
        ValueError: If a size is smaller than one, the order is not a permutation, the activation mixes units, a
            context is missing, or an input has another last dimension or is not floating point.

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
        # whether a mask has any True is known without looking at it: ranks are 0, ..., D - 1 in some order
        reach = zip([1, *(d[0] for d in self.degrees)], [*(d[-1] for d in self.degrees), dim - 1], strict=True)
        some = [highest >= lowest for lowest, highest in reach]
        self.layers = nn.ModuleList(map(MaskedLinear, self._masks(), some))
        self.activation = activation()
        _check_unitwise(self.activation)
        self.widths = [*hidden, n_params * dim]
        self.context = nn.Linear(context_features, sum(self.widths), bias=False) if context_features else None
        if zero_init:
            zeroed(self.layers[-1])
            if self.context is not None:
                nn.init.zeros_(self.context.weight[-n_params * dim :])

    def _masks(self) -> list[Tensor]:
        rank = self.order.argsort()
        degrees = [torch.tensor(d) for d in self.degrees]
        # an input of rank r acts on degrees above r, as would a unit of degree r + 1
        sources, targets = [rank + 1, *degrees], [*degrees, rank.repeat(self.n_params)]
        return [target[:, None] >= source for source, target in zip(sources, targets, strict=True)]

    def _context_terms(self, context: Tensor | None, batch: Sequence[int]) -> list[Tensor]:
        """What the context adds to each layer, ``(*batch, width)``."""
        if self.context is None:
            return []
        check_context(context, (self.context_features,), torch.Size(batch), "MADE")
        check_dtype(context, self.context.weight, "MADE")
        return list(self.context(context).split(self.widths, -1))

    def forward(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the outputs, ``(*, P D)``."""
        check_event(u, (self.dim,), "MADE", self.layers[0].weight)
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
