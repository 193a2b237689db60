"""What a conditioner drives: monotone maps of single coordinates, given their parameters."""

import torch
from torch import Tensor, nn

__all__ = ["AffineTransformer"]


class AffineTransformer(nn.Module):
    r"""Shift and scale, with a softly clamped log-scale.

    .. math::
        x_i = z_i\, e^{s_i} + t_i, \qquad s_i = c \tanh(r_i / c), \qquad \log\lvert\partial x_i/\partial z_i\rvert = s_i .

    The clamp keeps every scale between :math:`e^{-c}` and :math:`e^{c}`; near 0 it is the identity. Without it deep
    stacks overflow.

    Args:
        clamp: The bound :math:`c > 0`.

    Shapes:
        ``z``, ``x``: ``(*, n)``; ``params``: ``(*, 2 n)``, first all :math:`t`, then all :math:`r`; the log-derivative
        comes back per coordinate, ``(*, n)``.

    Source: Dinh et al. (2017), equations 4-8 (scale through tanh in their section 4.1).
    """

    #: parameters per coordinate
    n_params: int = 2

    def __init__(self, clamp: float = 5.0):
        super().__init__()
        if not clamp > 0:
            raise ValueError(f"AffineTransformer expects clamp > 0, got {clamp}.")
        self.clamp = clamp

    def _shift_and_log_scale(self, params: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = params.chunk(2, -1)
        return shift, self.clamp * torch.tanh(raw / self.clamp)

    def forward(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return :math:`x` and :math:`s`."""
        shift, log_scale = self._shift_and_log_scale(params)
        return torch.addcmul(shift, z, log_scale.exp()), log_scale

    def inverse(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return :math:`z = (x - t) e^{-s}` and :math:`-s`."""
        shift, log_scale = self._shift_and_log_scale(params)
        return (x - shift) * (-log_scale).exp(), -log_scale
