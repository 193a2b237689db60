"""Networks that compute parameters: conditioners, encoders, decoders."""

from collections.abc import Callable, Sequence

from torch import nn

__all__ = ["MLP"]


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
            nn.init.zeros_(self[-1].weight)
            nn.init.zeros_(self[-1].bias)
