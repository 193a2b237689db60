"""Values: looked at where data enter, drawn and moved for a check; what is said of a claim, and its error."""

import math
import textwrap

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints

from .spaces import Space, real, space_of

__all__ = ["CheckFailed", "draw_inputs", "plain", "randomize", "say", "validate", "worst"]

#: Columns of a printed line: as many as the page shows without scrolling.
COLUMNS = 76


class CheckFailed(AssertionError):
    """A claim that the numbers do not support.

    Attributes:
        miss: By how many tolerances it was missed; infinite for a claim that has none.
    """

    def __init__(self, message: str, miss: float = math.inf):
        super().__init__(f"✗ {message}")
        self.miss = miss


def say(verdict: str) -> None:
    """Print a verdict; one that is longer than a line of the page goes on below it, indented under its first word."""
    start = " " * (len(verdict) - len(verdict.lstrip()) + 2)  # the mark and the space after it
    wrapper = textwrap.TextWrapper(COLUMNS, subsequent_indent=start, break_long_words=False, break_on_hyphens=False)
    for line in verdict.splitlines():
        print("\n".join(wrapper.wrap(line)))
        wrapper.initial_indent = start


def plain(value):
    """Return a Python number for a scalar of numpy or torch, and anything else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def worst(error: np.ndarray) -> tuple[tuple[int, ...], float]:
    """Return where an error is largest, and that error; NaN counts as infinite."""
    flat = np.where(np.isnan(error), np.inf, error)
    index = np.unravel_index(int(flat.argmax()), flat.shape) if flat.ndim else ()
    return tuple(int(i) for i in index), float(flat[index])


def validate(x: Tensor, support: constraints.Constraint | None = None, name: str = "x") -> Tensor:
    """Check data where they enter: numbers, finite, inside the support.

    Layers look at shapes and dtypes only; values are looked at here.

    Args:
        x: The data.
        support: A space, any other constraint of ``torch.distributions``, or ``None`` for any finite number.
        name: What the message calls the data.

    Returns:
        ``x``, unchanged.

    Raises:
        ValueError: If ``x`` is not a tensor of real numbers, or holds NaN, infinities or values out of support.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"{name}: expected a torch tensor, got {type(x).__name__}.")
    if x.dtype == torch.bool or x.dtype.is_complex:
        raise ValueError(f"{name}: expected real numbers, got {x.dtype}.")
    if x.dtype.is_floating_point:
        bad = ~torch.isfinite(x)
        if bool(bad.any()):
            index = tuple(bad.nonzero()[0].tolist())
            raise ValueError(
                f"{name}: expected finite numbers, got {int(bad.sum())} that are NaN or infinite, "
                f"the first at index {index}: {x[index].item()}."
            )
    if support is not None:
        good = support.check(x)
        if not bool(good.all()):
            first = tuple((~good).nonzero()[0].tolist())
            raise ValueError(f"{name}: expected values in {support}, got {x[first].tolist()} at index {first}.")
    return x


def randomize(module: torch.nn.Module, scale: float = 0.3, seed: int = 0) -> torch.nn.Module:
    """Move every parameter by Gaussian noise, in place, so that no check passes because a weight is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            fan_in = p.shape[-1] if p.dim() > 1 else 1
            p.add_((scale / fan_in**0.5 * noise).to(p))
    return module


def draw_inputs(
    domain: Space | constraints.Constraint | None, shape: tuple[int, ...], scale: float = 5.0, seed: int = 0
) -> Tensor:
    r"""Draw float64 points from a layer's domain: :math:`\mathcal N(0, \text{scale}^2)`, or its image in the space.

    Raises:
        ValueError: If the domain is none of the spaces in :mod:`nfcourse.spaces`.
    """
    space = real if domain is None else space_of(domain)
    if space is None or math.isnan(space.low):
        raise ValueError(f"No inputs are known for the domain {domain}; pass z.")
    return space.draw(tuple(shape), scale, seed)
