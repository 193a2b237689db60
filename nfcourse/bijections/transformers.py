"""What a conditioner drives: monotone maps of single coordinates, given their parameters."""

import torch
from torch import Tensor, nn

__all__ = ["AffineTransformer"]


class AffineTransformer(nn.Module):
    r"""Shift and scale, with a softly clamped log-scale.

    .. math::
        x_i = z_i\, e^{s_i} + t_i, \qquad s_i = \frac{r_i}{1 + \lvert r_i\rvert / c}, \qquad
        \log\lvert\partial x_i/\partial z_i\rvert = s_i .

    The clamp keeps every scale between :math:`e^{-c}` and :math:`e^{c}`; near 0 it is the identity. Without it deep
    stacks overflow. Its gradient falls off like :math:`r^{-2}`, where that of a tanh would vanish exponentially.

    Args:
        clamp: The bound :math:`c > 0`.

    Shapes:
        ``z``, ``x``: ``(*, n)``; ``params``: ``(*, 2 n)``, first all :math:`t`, then all :math:`r`; the log-derivative
        comes back per coordinate, ``(*, n)``.

    Source: Dinh et al. (2017), equations 4-8 (there the scale passes through a tanh).
    """

    #: parameters per coordinate
    n_params: int = 2

    def __init__(self, clamp: float = 5.0):
        super().__init__()
        if not clamp > 0:
            raise ValueError(f"AffineTransformer expects clamp > 0, got {clamp}.")
        self.clamp = clamp

    def _log_scale(self, raw: Tensor, sign: float) -> Tensor:
        return (sign * self.clamp) * raw / (raw.abs() + self.clamp)

    def forward(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return :math:`x` and :math:`s`."""
        shift, raw = params.chunk(2, -1)
        log_scale = self._log_scale(raw, 1)
        return torch.addcmul(shift, z, log_scale.exp()), log_scale

    def inverse(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return :math:`z = (x - t) e^{-s}` and :math:`-s`."""
        shift, raw = params.chunk(2, -1)
        log_scale = self._log_scale(raw, -1)
        return (x - shift) * log_scale.exp(), log_scale
