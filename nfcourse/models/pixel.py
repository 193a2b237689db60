"""Images pixel by pixel, in raster order: PixelRNN and PixelCNN, and what a pixel sees."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F

from .autoregressive import Autoregressive, Recurrent

__all__ = ["PixelCNN", "PixelRNN", "receptive_field"]


class PixelRNN(Recurrent):
    r"""Images of K levels: an LSTM reads the pixels in raster order and foretells the next one.

    .. math::
        s_{d+1} = \mathrm{LSTM}\bigl(s_d;\, x_d,\, x_{d+1-W},\, e_{d+1},\, y\bigr), \qquad
        P(x_d = k \mid x_{<d}, y) = \operatorname{softmax}_k(A\, s_d + b).

    The state is fed the last pixel, the one above the next, and the place of the next, a learned vector
    :math:`e_{d+1}`. Every step needs the state before it: D = HW steps,
    one after the other, for the likelihood as for a draw, where a :class:`PixelCNN` scores all pixels at once. In
    return a state of fixed size may remember any earlier pixel.

    Args:
        shape: Size ``(H, W)`` of the images.
        levels: Number K of grey levels.
        hidden: Size of the state.
        context_features: Size of the context vector :math:`y`, 0 for none.

    Shapes:
        ``x``: ``(*batch, H, W)``, whole numbers 0 to K - 1 of any dtype (not checked); ``context``:
        ``(*batch, context_features)``. The result is a log-probability in nats.

    Raises:
        ValueError: As :class:`PixelCNN`.

    Source: van den Oord et al. (2016a), sections 2 and 3; one LSTM in raster order in place of its Row and Diagonal
    LSTMs, which run over a whole row or diagonal at a time.
    """

    place_features = 16

    def __init__(self, shape: tuple[int, int], levels: int, hidden: int = 64, context_features: int = 0):
        super().__init__(shape, context_features, levels=levels, hidden=hidden)
        _check_image(self, levels)
        self.levels = levels
        self.place = nn.Parameter(0.3 * torch.randn(math.prod(self.event_shape), self.place_features))
        self.cell = nn.LSTMCell(4 + self.place_features + context_features, hidden)
        self.head = nn.Linear(hidden, levels)

    def _inputs(self, past: list[Tensor], context: Tensor) -> Tensor:
        """What a step is fed: two pixels and whether they exist, (0, 0) for one outside the image, place, context."""
        zero, one = context.new_zeros(len(context)), context.new_ones(len(context))
        pixels = []
        for back in (1, self.event_shape[1]):
            there = len(past) >= back
            pixels += (
                [past[-back].reshape(-1).to(zero.dtype) * (2 / (self.levels - 1)) - 1, one] if there else [zero] * 2
            )
        return torch.cat([torch.stack(pixels, -1), self.place[len(past)].expand(len(context), -1), context], -1)

    def _begin(self, batch, context):
        n = math.prod(batch)
        zero = self.place.new_zeros(n, self.cell.hidden_size)
        context = zero[:, :0] if context is None else context.reshape(n, self.context_features)
        return batch, context, self.cell(self._inputs([], context), (zero, zero))

    def _step(self, state, past):
        if len(past) == len(self.place):
            return None
        batch, context, state = state
        return batch, context, self.cell(self._inputs(past, context), state)

    def _conditional(self, d: int, state) -> Categorical:
        batch, _, (h, _) = state
        # under autocast the network answers in a shorter format; log-probabilities are summed in that of its weights
        logits = self.head(h).to(self.place.dtype)
        return Categorical(logits=logits.reshape(*batch, self.levels), validate_args=False)

    def logits(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the unnormalized log-probabilities of all pixels' levels, ``(*batch, H, W, levels)``."""
        x, context = self._points(x, context)
        batch = x.shape[:-2]
        state, past, logits = self._begin(batch, context), [], []
        for value in x.flatten(-2).unbind(-1):
            logits.append(self._conditional(len(past), state).logits)
            past.append(value)
            state = self._step(state, past)
        return torch.stack(logits, -2).unflatten(-2, self.event_shape)


def _check_image(model: Autoregressive, levels: int) -> None:
    if len(model.event_shape) != 2 or levels < 2:
        raise ValueError(
            f"{type(model).__name__} expects a shape (H, W) and at least two levels, got {model.event_shape}, {levels}."
        )


class _GatedLayer(nn.Module):
    r"""One layer of both stacks, :math:`(v, h) \mapsto (v', h')` with gates :math:`\tanh a \odot \sigma(b)`.

    The padding is the mask: shifted so that position (i, j) of v sees rows above i and any column within reach, that
    of h the columns of row i to the left of j, and from v all rows above. With ``first`` the own row of v and the own
    column of h are left out (mask A); their features know nothing of pixel (i, j), so later layers take them (mask B).
    """

    def __init__(self, n_in: int, width: int, kernel: int, context_features: int, first: bool):
        super().__init__()
        self.reach, self.first = kernel // 2, first
        length = self.reach + (not first)
        self.vertical = nn.Conv2d(n_in, 2 * width, (length, kernel))
        self.horizontal = nn.Conv2d(n_in, 2 * width, (1, length))
        self.across, self.out = nn.Conv2d(2 * width, 2 * width, 1), nn.Conv2d(width, width, 1)
        self.context = nn.Linear(context_features, 4 * width, bias=False) if context_features else None

    def _bias(self, context: Tensor | None, part: int) -> Tensor | float:
        return 0.0 if context is None else self.context(context).chunk(2, -1)[part][..., None, None]

    def down(self, v: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The next v, and what the horizontal stack gets from it."""
        n = self.reach
        v = self.vertical(F.pad(v, (n, n, n, -1 if self.first else 0)))
        return _gate(v + self._bias(context, 0)), self.across(v)

    def along(self, h: Tensor, from_above: Tensor, context: Tensor | None) -> Tensor:
        """The next h."""
        out = self.horizontal(F.pad(h, (self.reach, -1 if self.first else 0, 0, 0)))
        out = self.out(_gate(out + from_above + self._bias(context, 1)))
        return out if self.first else h + out  # the first h is the image itself: adding it would show each pixel


def _gate(u: Tensor) -> Tensor:
    a, b = u.chunk(2, 1)
    return a.tanh() * b.sigmoid()


class _GatedStacks(nn.ModuleList):
    """Vertical and horizontal stack."""

    def __init__(self, n_in: int, width: int, layers: int, kernel: int, context_features: int):
        super().__init__(
            _GatedLayer(width if k else n_in, width, kernel, context_features, k == 0) for k in range(layers)
        )

    def above(self, x: Tensor, context: Tensor | None) -> list[Tensor]:
        """What each layer's horizontal stack gets from the rows above; depends on nothing else."""
        parts = []
        for layer in self:
            x, part = layer.down(x, context)
            parts.append(part)
        return parts

    def along(self, x: Tensor, above: list[Tensor], context: Tensor | None) -> Tensor:
        """The features of rows whose parts from above are known; each row by itself."""
        for layer, part in zip(self, above, strict=True):
            x = layer.along(x, part, context)
        return x

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        return self.along(x, self.above(x, context), context)


class _MaskedConv(nn.Conv2d):
    """A convolution that sees what comes before a pixel in raster order, and with ``center`` the pixel itself."""

    def __init__(self, n_in: int, n_out: int, kernel: int, center: bool):
        super().__init__(n_in, n_out, kernel, padding=kernel // 2)
        mask = torch.arange(kernel * kernel) < kernel * kernel // 2 + center
        self.register_buffer("mask", mask.view(kernel, kernel).to(self.weight.dtype), persistent=False)

    def forward(self, u: Tensor) -> Tensor:
        return F.conv2d(u, self.weight * self.mask, self.bias, padding=self.padding)


class _MaskedStack(nn.Module):
    """One stack of masked convolutions, with the blind spot."""

    def __init__(self, n_in: int, width: int, layers: int, kernel: int, context_features: int):
        super().__init__()
        self.layers = nn.ModuleList(_MaskedConv(width if k else n_in, width, kernel, k > 0) for k in range(layers))
        self.context = nn.Linear(context_features, layers * width, bias=False) if context_features else None

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        terms = [0.0] * len(self.layers)
        if context is not None:
            terms = self.context(context)[..., None, None].chunk(len(terms), 1)
        for k, (layer, term) in enumerate(zip(self.layers, terms, strict=True)):
            x = x + layer(F.elu(x)) + term if k else layer(x) + term
        return x


class PixelCNN(Autoregressive):
    r"""Images of K levels: masked convolutions score all pixels in one pass.

    .. math::
        & \log P(x \mid y) = \sum_{i,j} \log \operatorname{softmax}\bigl(g_{ij}(x, y)\bigr)_{x_{ij}}, \\
        & g_{ij} \text{ a function of the pixels before } (i, j) \text{ in raster order.}

    The gated network has two stacks: a vertical one over all rows above, and a horizontal one over the present row to
    the left, which is residual and gets the vertical features at every layer. Together they see every earlier pixel
    within reach, a square of ``layers * (kernel // 2)`` rows and columns. A single stack of masked convolutions
    (``blind_spot=True``, residual) does not: with n = kernel // 2 it moves at most n columns to the
    right for each row upwards, so pixel :math:`(i - r, j + s)` with :math:`s > r n` never reaches (i, j), however deep
    it is; see :func:`receptive_field`.

    A draw needs H W steps. Here the vertical stack runs once for each row, over the rows so far, and the horizontal
    stack once for each pixel, over its row so far: about H / 2 passes of the one and W / 2 of the other instead of H W
    of both. With the blind spot there is no such split, and a draw costs about H W / 2 passes.

    Args:
        shape: Size ``(H, W)`` of the images.
        levels: Number K of grey levels.
        width: Channels of the hidden layers.
        layers: Number of layers; the first hides the pixel itself (mask A), the others do not (mask B).
        kernel: Side of the convolutions, odd and at least 3.
        context_features: Size of the context vector :math:`y`, 0 for none; it adds a bias inside the gates of every
            layer. Labels go in as one-hot vectors, of which this is an embedding.
        blind_spot: Whether to build the single stack.

    Shapes:
        ``x``: ``(*batch, H, W)``, whole numbers 0 to K - 1 of any dtype (not checked); ``context``:
        ``(*batch, context_features)``. The result is a log-probability in nats.

    Raises:
        ValueError: If a size is smaller than one, there are fewer than two levels, the kernel is even or smaller than
            3, a context is missing or not expected, or a shape does not fit.

    Source: van den Oord et al. (2016b), sections 2.1-2.3, equations 2 and 4 and figure 2; with the blind spot van den
    Oord et al. (2016a), sections 3.4 and 3.5. Where they have rectifiers, here are exponential linear units, which
    no bad start shuts for good.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        levels: int,
        width: int = 32,
        layers: int = 7,
        kernel: int = 3,
        context_features: int = 0,
        blind_spot: bool = False,
    ):
        super().__init__(shape, context_features, levels=levels, width=width, layers=layers, kernel=kernel)
        _check_image(self, levels)
        if kernel % 2 == 0 or kernel < 3:
            raise ValueError(f"PixelCNN expects an odd kernel of at least 3, got {kernel}.")
        self.levels, self.blind_spot = levels, blind_spot
        stack = _MaskedStack if blind_spot else _GatedStacks
        self.stack = stack(2, width, layers, kernel, context_features)
        self.head = nn.Sequential(nn.ELU(), nn.Conv2d(width, width, 1), nn.ELU(), nn.Conv2d(width, levels, 1))

    def _scaled(self, x: Tensor) -> Tensor:
        """Images ``(n, 2, H, W)`` with values in [-1, 1], and ones, which tell pixels from the padding."""
        x = x.unsqueeze(1)
        return torch.cat([x * (2 / (self.levels - 1)) - 1, torch.ones_like(x)], 1)

    def logits(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the unnormalized log-probabilities of all pixels' levels, ``(*batch, H, W, levels)``."""
        x, context = self._points(x, context)
        batch = x.shape[:-2]
        if context is not None:
            context = context.reshape(math.prod(batch), self.context_features)
        features = self.stack(self._scaled(x.reshape(-1, *self.event_shape)), context)
        return self.head(features).to(x.dtype).movedim(1, -1).reshape(*batch, *self.event_shape, self.levels)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Return :math:`\log P(x \mid y)` in nats, of shape ``(*batch)``; exact, in one pass."""
        log_probs = self.logits(x, context).log_softmax(-1)
        x = x.expand(log_probs.shape[:-1])
        return log_probs.gather(-1, x.long().unsqueeze(-1)).squeeze(-1).sum((-2, -1))

    @torch.no_grad()
    def sample(self, shape: tuple[int, ...] = (), context: Tensor | None = None) -> Tensor:
        """Return draws of shape ``(*shape, *context_batch, H, W)``, whole numbers, pixel by pixel."""
        batch, context = self._draw_batch(shape, context)
        (height, width), n = self.event_shape, math.prod(batch)
        if context is not None:
            context = context.reshape(n, self.context_features)
        x = next(self.parameters()).new_zeros(n, height, width)
        for i in range(height):
            rows = x[:, : i + 1]
            above = None if self.blind_spot else [a[:, :, i:] for a in self.stack.above(self._scaled(rows), context)]
            for j in range(width):
                if self.blind_spot:
                    features = self.stack(self._scaled(rows), context)
                else:
                    row = self._scaled(x[:, i : i + 1, : j + 1])
                    features = self.stack.along(row, [a[..., : j + 1] for a in above], context)
                logits = self.head(features[:, :, -1:, j : j + 1]).flatten(1)
                x[:, i, j] = Categorical(logits=logits, validate_args=False).sample().to(x.dtype)
        return x.long().reshape(*batch, height, width)


def receptive_field(model: PixelCNN | PixelRNN, row: int, col: int, seed: int = 0) -> Tensor:
    r"""Return which pixels the conditional distribution of pixel (row, col) depends on, by automatic differentiation.

    A pixel counts if :math:`\partial g_{\text{row}, \text{col}} / \partial x_{ij} \ne 0` at one of 8 random images,
    for a random combination of the K outputs.

    Args:
        model: A model of images with ``logits``.
        row: Row of the pixel that is drawn.
        col: Its column.
        seed: Seed of the random images.

    Returns:
        A boolean map ``(H, W)``. In a correct model all of it lies before (row, col) in raster order.

    Raises:
        ValueError: If there is no such pixel.
    """
    height, width = model.event_shape
    if not (0 <= row < height and 0 <= col < width):
        raise ValueError(f"receptive_field expects a pixel of a {height} x {width} image, got ({row}, {col}).")
    like = next(model.parameters())
    generator = torch.Generator().manual_seed(seed)
    x = (model.levels - 1) * torch.rand(8, height, width, generator=generator).to(like)
    weights = torch.randn(8, model.levels, generator=generator).to(like)
    context = like.new_zeros(8, model.context_features) if model.context_features else None
    x.requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad((model.logits(x, context)[:, row, col] * weights).sum(), x)
    return (gradient != 0).any(0)
