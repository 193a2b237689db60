"""Linear maps whose determinant is read off, not computed."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..events import check_event, full_precision
from .base import Bijection

__all__ = ["PLU", "Conv1x1", "Permutation"]


class PLU(Bijection):
    r"""An invertible matrix in the factors of Gaussian elimination, and a shift.

    .. math::
        x = P\,L\,\bigl(U + \operatorname{diag}(s)\bigr)\,z + b, \qquad
        \log\lvert\det J_f(z)\rvert = \sum_i \log\lvert s_i\rvert ,

    with a fixed permutation matrix :math:`P`, :math:`L` unit lower and :math:`U` strictly
    upper triangular. The sign of :math:`\det P` falls out under the absolute value. The signs
    of :math:`s` are fixed at the start and :math:`\log\lvert s\rvert` is learned: no gradient
    step makes the matrix singular.

    Args:
        dim: Dimension :math:`D \ge 1`.
        matrix: Invertible :math:`D \times D` matrix to start from; ``None`` draws an
            orthogonal one.

    Shapes:
        ``z``, ``x``: ``(*batch, D)``.

    Raises:
        ValueError: If ``matrix`` is not an invertible square matrix of that size, or an input
            has another last dimension or is not floating point.

    Source: Kingma and Dhariwal (2018), section 3.2, equations 10-11.
    """

    def __init__(self, dim: int, matrix: Tensor | None = None):
        super().__init__()
        if dim < 1:
            raise ValueError(f"PLU expects a dimension >= 1, got {dim}.")
        if matrix is None:
            matrix = torch.linalg.qr(torch.randn(dim, dim)).Q
        matrix = torch.as_tensor(matrix)
        if matrix.shape != (dim, dim) or not matrix.dtype.is_floating_point:
            raise ValueError(
                f"PLU expects a floating-point {dim} x {dim} matrix, "
                f"got {matrix.dtype} of shape {tuple(matrix.shape)}."
            )
        finite = bool(torch.isfinite(matrix).all())
        if not finite or int(torch.linalg.matrix_rank(matrix)) < dim:
            raise ValueError(
                "PLU expects an invertible matrix of finite numbers, "
                "got a singular or non-finite one."
            )
        p, lower, upper = torch.linalg.lu(matrix)
        s = upper.diagonal()
        self.dim, self.event_shape = dim, (dim,)
        # row i of P x is x[permutation[i]]
        self.register_buffer("permutation", p.argmax(dim=1))
        self.register_buffer("inverse_permutation", self.permutation.argsort())
        self.register_buffer("sign", s.sign())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_abs_s = nn.Parameter(s.abs().log())
        self.bias = nn.Parameter(torch.zeros(dim, dtype=matrix.dtype))

    def _factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(self.dim, dtype=self.lower.dtype, device=self.lower.device)
        s = self.sign * self.log_abs_s.exp()
        return self.lower.tril(-1) + identity, self.upper.triu(1) + torch.diag(s)

    @property
    def matrix(self) -> Tensor:
        r"""The matrix :math:`P L (U + \operatorname{diag} s)`, of shape ``(D, D)``."""
        lower, upper = self._factors()
        return (lower @ upper)[self.permutation]

    @property
    def inverse_matrix(self) -> Tensor:
        r"""The matrix :math:`(U + \operatorname{diag} s)^{-1} L^{-1} P^\top`."""
        lower, upper = self._factors()
        identity = torch.eye(self.dim, dtype=self.lower.dtype, device=self.lower.device)
        inverse = torch.linalg.solve_triangular(
            lower, identity, upper=False, unitriangular=True
        )
        return torch.linalg.solve_triangular(upper, inverse, upper=True)[:, self.permutation]

    @full_precision
    def forward(self, z, context=None):
        r"""Return :math:`PL(U + \operatorname{diag} s)z + b` and the log-determinant."""
        check_event(z, (self.dim,), "PLU", self.lower)
        lower, upper = self._factors()
        x = (z @ upper.mT @ lower.mT)[..., self.permutation] + self.bias
        return x, self.log_abs_s.sum().expand(z.shape[:-1])

    @full_precision
    def inverse(self, x, context=None):
        r"""Solve two triangular systems; the log-determinant has the other sign."""
        check_event(x, (self.dim,), "PLU", self.lower)
        lower, upper = self._factors()
        z = (x - self.bias)[..., self.inverse_permutation].reshape(-1, self.dim)
        # points are rows: Z (U + diag s)^T L^T = X; `left=False` solves Y A = B for Y
        z = torch.linalg.solve_triangular(
            lower.mT, z, upper=True, left=False, unitriangular=True
        )
        z = torch.linalg.solve_triangular(upper.mT, z, upper=False, left=False)
        return z.reshape(x.shape), -self.log_abs_s.sum().expand(x.shape[:-1])


class Conv1x1(Bijection):
    r"""One invertible matrix for the channels of every position of an image: a 1x1 convolution.

    .. math::
        x_{:,h,w} = W z_{:,h,w} + b, \qquad W = P\,L\,\bigl(U + \operatorname{diag}(s)\bigr), \qquad
        \log\lvert\det J_f(z)\rvert = H\,W \sum_i \log\lvert s_i\rvert .

    The matrix is that of a :class:`PLU`. Its inverse costs :math:`O(C^3)` once for the whole batch, which is little
    beside the convolution itself.

    Args:
        channels: Number of channels.
        matrix: Invertible matrix to start from; ``None`` draws a random orthogonal one.

    Shapes:
        ``z``, ``x``: ``(*batch, channels, H, W)``, any H and W.

    Raises:
        ValueError: As :class:`PLU`, or if an input has another number of channels or is not floating point.

    Source: Kingma and Dhariwal (2018), section 3.2, equations 9-11.
    """

    event_dim = 3

    def __init__(self, channels: int, matrix: Tensor | None = None):
        super().__init__()
        self.plu, self.dim = PLU(channels, matrix), channels

    def _convolve(
        self, value: Tensor, matrix: Tensor, bias: Tensor, sign: int
    ) -> tuple[Tensor, Tensor]:
        check_event(value, (self.dim, None, None), "Conv1x1", matrix)
        *batch, _, height, width = value.shape
        # with the channels last a product is several times faster here than a convolution
        out = F.linear(value.movedim(-3, -1), matrix, bias).movedim(-1, -3)
        log_det = sign * height * width * self.plu.log_abs_s.sum()
        return out, log_det.expand(batch)

    @full_precision
    def forward(self, z, context=None):
        r"""Return :math:`W z + b` everywhere and :math:`HW\sum_i\log\lvert s_i\rvert`."""
        return self._convolve(z, self.plu.matrix, self.plu.bias, 1)

    @full_precision
    def inverse(self, x, context=None):
        r"""Return :math:`W^{-1}(x - b)` everywhere, :math:`-HW\sum_i\log\lvert s_i\rvert`."""
        matrix = self.plu.inverse_matrix
        return self._convolve(x, matrix, -matrix @ self.plu.bias, -1)


class Permutation(Bijection):
    r"""A fixed reordering of the coordinates.

    .. math::
        x_i = z_{\pi(i)}, \qquad \log\lvert\det J_f(z)\rvert = 0 .

    The order is a buffer: it is saved and loaded with the weights. Entries keep the space that they come from: a
    permutation of integers is one for counting measure.

    Args:
        order: The indices :math:`\pi(0), \dots, \pi(D-1)`, or an integer :math:`D` for a random order.

    Shapes:
        ``z``, ``x``: ``(*batch, D)``.

    Raises:
        ValueError: If ``order`` is not a permutation, or an input has another last dimension.
    """

    #: entries keep the space that they come from
    domain = codomain = None

    def __init__(self, order: int | list[int] | Tensor):
        super().__init__()
        order = torch.randperm(order) if isinstance(order, int) and order > 0 else torch.as_tensor(order)
        if (
            order.dim() != 1
            or order.numel() == 0
            or order.dtype.is_floating_point
            or (order.sort().values.tolist() != list(range(order.numel())))
        ):
            raise ValueError(f"Permutation expects each of 0..D-1 once, got {order.tolist()}.")
        self.event_shape = tuple(order.shape)
        self.register_buffer("order", order.long())
        self.register_buffer("inverse_order", self.order.argsort())

    def forward(self, z, context=None):
        """Return the reordered coordinates and zeros."""
        check_event(z, self.event_shape, "Permutation")
        return z[..., self.order], z.new_zeros(z.shape[:-1])

    def inverse(self, x, context=None):
        """Undo the order; the log-determinant is zero again."""
        check_event(x, self.event_shape, "Permutation")
        return x[..., self.inverse_order], x.new_zeros(x.shape[:-1])
