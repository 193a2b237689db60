"""Networks of vectors."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ..events import check_dtype
from ..module import Module

__all__ = ["MLP", "ResidualMLP", "zeroed"]


def zeroed(layer: nn.Module) -> nn.Module:
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
        ValueError: If a width is smaller than one, or an input has another dtype than the weights.
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
            zeroed(self[-1])

    def forward(self, u: Tensor) -> Tensor:
        """Return the outputs, ``(*, n_out)``."""
        try:
            return super().forward(u)
        except RuntimeError:  # nothing is looked at beforehand: this is called in every layer of every step
            check_dtype(u, self[0].weight, "MLP")
            raise


class ResidualMLP(Module):
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
        ValueError: If a width or the number of blocks is smaller than one, or an input has another dtype than the
            weights.

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
            zeroed(self.last)

    def forward(self, u: Tensor) -> Tensor:
        """Return the outputs, ``(*, n_out)``."""
        check_dtype(u, self.first.weight, "ResidualMLP")
        h = self.first(u)
        for inner, outer in self.blocks:
            h = h + outer(self.activation(inner(self.activation(h))))
        return self.last(self.activation(h))
