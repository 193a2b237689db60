"""What a page asserts: each function measures, prints its verdict first, and raises with the worst offender.

The checks of layers and of data, :func:`~nfcourse.contracts.check_bijection` and
:func:`~nfcourse.values.validate`, are found here too.
"""

import contextlib
import copy
import difflib
import json
import math
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from .contracts import BijectionReport, check_bijection
from .values import CheckFailed, draw_inputs, plain, randomize, say, validate, worst

__all__ = [
    "BijectionReport",
    "CheckFailed",
    "answer",
    "average",
    "check_bijection",
    "close",
    "differs",
    "draw_inputs",
    "holds",
    "integral",
    "integral_mc",
    "mass",
    "randomize",
    "validate",
]


def _array(value) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.double() if value.dtype.is_floating_point else value
    elif isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
        value = [_array(v) for v in value]  # numpy takes no tensors that carry gradients
    array = np.asarray(value)
    if np.iscomplexobj(array):
        raise ValueError(f"expected real numbers, got {array.dtype}; compare real and imaginary parts.")
    return array.astype(float)


def _pair(name: str, measured, expected) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays. One may be broadcast to the other; a table made of two lists would compare what nobody meant."""
    got, want = _array(measured), _array(expected)
    if np.broadcast_shapes(got.shape, want.shape) not in (got.shape, want.shape):
        raise ValueError(f"{name}: expected numbers of one shape, got {got.shape} and {want.shape}.")
    if got.size == 0 or want.size == 0:
        raise ValueError(f"{name}: expected at least one number to compare, got none.")
    return got, want


def _tolerance(key: str, value) -> float:
    try:
        number = math.nan if isinstance(value, str) else float(plain(value))
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{key} expects a finite number >= 0, got {value!r}.")
    return number


def _format(value: np.ndarray, digits: int) -> str:
    """A number with so many significant digits, all of them before the point kept; of several how many they are."""
    if value.ndim:
        return f"{value.size} numbers" if value.size > 4 else str([float(f"{v:.{digits}g}") for v in value.ravel()])
    value = float(value)
    if 1e3 <= abs(value) < 1e7:
        return f"{value:.{max(0, digits - 1 - int(math.log10(abs(value))))}f}"
    text = f"{value:.{digits}g}"
    return "0" if text == "-0" else text


def _marked(name: str) -> str:
    """A claim with the mark that says it holds; spaces that indent it stay in front."""
    claim = name.lstrip()
    return f"{name[: len(name) - len(claim)]}✓ {claim}"


def _within(tol: float, rtol: float) -> str:
    parts = [f"{tol:g}"] if tol or not rtol else []
    return " + ".join([*parts, f"{rtol:g} of it"] if rtol else parts)


def close(name: str, measured, expected, tol: float = 0.0, digits: int = 4, rtol: float = 0.0):
    r"""Check ``|measured - expected| <= tol + rtol * |expected|``, entry by entry.

    Args:
        name: What is measured.
        measured: Number, array or tensor.
        expected: Number, array or tensor that broadcasts against it.
        tol: Absolute tolerance.
        digits: Significant digits printed.
        rtol: Relative tolerance.

    Returns:
        ``measured``, unchanged.

    Raises:
        CheckFailed: If an entry is farther off, or not a number; names the worst one.
        ValueError: If there is nothing to compare, the shapes do not fit, numbers are complex, or a tolerance is
            negative or not finite.
    """
    tol, rtol = _tolerance("tol", tol), _tolerance("rtol", rtol)
    got, want = _pair(name, measured, expected)
    same = got == want  # infinities of one sign agree, although their difference is not a number
    allowed = np.broadcast_to(
        tol + rtol * np.where(np.isfinite(want), np.abs(want), 0.0), np.broadcast_shapes(got.shape, want.shape)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(same, 0.0, np.abs(got - want))
        misses = np.where(same | (error <= allowed), 0.0, error / allowed)
    index, miss = worst(misses) if error.size else ((), 0.0)
    if miss > 0:
        at = f" at index {index}" if index else ""
        got_at, want_at = (np.broadcast_to(v, error.shape)[index] for v in (got, want))
        raise CheckFailed(
            f"{name}: measured {got_at:.6g}, expected {want_at:.6g}{at}; off by {error[index]:.3g}, "
            f"allowed {allowed[index]:.3g}.",
            miss,
        )
    if error.ndim:
        say(f"{_marked(name)}: {error.size} numbers agree within {_within(tol, rtol)}")
    else:
        say(f"{_marked(name)}: {_format(got, digits)}, expected {_format(want, digits)} ± {_within(tol, rtol)}")
    return measured


def differs(name: str, measured, expected, by: float, digits: int = 4):
    r"""Check that a broken hypothesis shows: the largest difference is at least ``by``.

    Args:
        name: What is measured.
        measured: Number, array or tensor.
        expected: What the theorem would say, were its hypotheses met.
        by: Least difference.
        digits: Significant digits printed.

    Returns:
        ``measured``, unchanged.

    Raises:
        CheckFailed: If all entries are closer than ``by``, or one is not a number.
        ValueError: If ``by`` is not positive or not finite.
    """
    by = _tolerance("by", by)
    if by == 0:
        raise ValueError(f"{name}: expected by > 0, got 0: every pair of numbers differs by at least nothing.")
    got, want = _pair(name, measured, expected)
    with np.errstate(invalid="ignore"):
        gap = np.where(got == want, 0.0, np.abs(got - want))
    largest = float(np.max(gap, initial=0.0))  # not a number, if one is not: that confirms nothing
    if not largest >= by:
        raise CheckFailed(
            f"{name}: measured {_format(got, digits)} is within {by:.3g} of {_format(want, digits)}.",
            by / largest if largest > 0 else math.inf,
        )
    if gap.ndim:
        say(f"{_marked(name)}: among {gap.size} numbers one is at least {by:g} away")
    else:
        say(f"{_marked(name)}: {_format(got, digits)}, not {_format(want, digits)} (at least {by:g} apart)")
    return measured


def holds(name: str, condition) -> None:
    """Check a statement, and print it with a mark that says it holds.

    Args:
        name: The statement.
        condition: Boolean, or array or tensor of booleans that must all be true.

    Raises:
        CheckFailed: If it is false, or false anywhere.
        ValueError: If it is anything but booleans, or there are none.
    """
    truth = np.asarray(condition.detach().cpu() if isinstance(condition, Tensor) else condition)
    if truth.dtype != bool or truth.size == 0:
        raise ValueError(f"{name}: expected a boolean, or several, got {condition!r:.80}.")
    if not truth.all():
        first = tuple(int(i[0]) for i in np.nonzero(~truth.astype(bool))) if truth.ndim else ()
        raise CheckFailed(name + (f" (first broken at index {first})." if first else "."))
    say(_marked(name))


def average(name: str, draws, expected: float, errors: float = 5.0, digits: int = 4) -> float:
    r"""Check that the mean of independent draws lies within some standard errors of a number.

    .. math::
        \Bigl|\frac1n \sum_{i=1}^n v_i - \text{expected}\Bigr| \le \text{errors} \cdot \frac{s}{\sqrt n}, \qquad
        s^2 = \frac1{n-1} \sum_{i=1}^n (v_i - \bar v)^2 .

    Args:
        name: What is estimated.
        draws: Independent values :math:`v_i`, of shape ``(n,)``; for a probability, booleans.
        expected: The value to find.
        errors: How many standard errors are allowed. Five fail by chance less than once in a million times, where the
            mean of the draws is nearly normal.
        digits: Significant digits printed.

    Returns:
        The mean of the draws.

    Raises:
        CheckFailed: If the mean is farther off, or a draw is not a finite number.
        ValueError: If the shapes are others, there are fewer than two draws, they are all equal (a standard error of
            zero says nothing) or too large or small for float64, or ``errors`` is not positive and finite.
    """
    errors = _tolerance("errors", errors)
    values, want = _array(draws), _array(expected)
    if values.ndim != 1 or want.size != 1:
        raise ValueError(
            f"{name}: expected draws of shape (n,) and one number to find, got {values.shape} and {want.shape}."
        )
    if errors == 0 or values.size < 2:
        raise ValueError(f"{name}: expected errors > 0 and at least two draws, got {errors:g} and {values.size}.")
    if not np.isfinite(values).all():
        raise CheckFailed(f"{name}: {int((~np.isfinite(values)).sum())} of {values.size} draws are not finite.")
    if (values == values[0]).all():
        raise ValueError(f"{name}: all {values.size} draws are {values[0]:g}; a mean of them has no standard error.")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        mean, error = float(values.mean()), float(values.std(ddof=1) / math.sqrt(values.size))
    if not (math.isfinite(mean) and 1e-15 * abs(mean) < error < math.inf):
        near = f"{name}: the standard error of draws around {values[0]:g}"
        raise ValueError(f"{near} is {error:g} in float64; rescale them.")
    want = float(want.reshape(()))
    off = abs(mean - want) / error
    if not off <= errors:
        raise CheckFailed(
            f"{name}: measured {mean:.6g}, expected {want:.6g}; off by {off:.3g} standard errors, allowed {errors:g}.",
            off / errors,
        )
    shown = f"{_format(np.asarray(mean), digits)} ± {error:.1g}"
    say(f"{_marked(name)}: {shown}, expected {_format(np.asarray(want), digits)} (within {errors:g} standard errors)")
    return mean


def _grid(low, high, n) -> tuple[Tensor, float]:
    low, high = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (low, high))
    if low.shape != high.shape or low.ndim != 1 or not np.all(low < high) or not np.isfinite([low, high]).all():
        raise ValueError(f"A box expects finite corners low < high of one length, got {low} and {high}.")
    if len(low) > 3:
        raise ValueError(f"The midpoint rule expects at most 3 dimensions, got {len(low)}; use integral_mc.")
    if n < 1:
        raise ValueError(f"The midpoint rule expects n >= 1 cells a side, got {n}.")
    axes = [torch.from_numpy(a + (b - a) * (np.arange(n) + 0.5) / n) for a, b in zip(low, high, strict=True)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(low))
    return points, float(np.prod((high - low) / n))


def integral(
    log_prob: Callable[[Tensor], Tensor],
    low: float | Sequence[float],
    high: float | Sequence[float],
    n: int | None = None,
    expected: float = 1.0,
    tol: float = 1e-3,
    name: str = "integral",
    dtype: torch.dtype = torch.float64,
) -> float:
    r"""Check :math:`\int_{[low, high]} e^{\log p}\,\mathrm d\lambda_D` by the midpoint rule, for :math:`D \le 3`.

    Where it fails, the message says how much of the mass lies in the outermost cells: if that is much, the box may be
    too small.

    Args:
        log_prob: Maps points ``(m, D)`` to log-densities ``(m,)``; a module, or the method of one, is moved to
            ``dtype`` in a copy.
        low: Lower corner: a number for :math:`D = 1`, else a sequence.
        high: Upper corner.
        n: Cells a side; default 20,000, 400 or 100 for one, two or three dimensions.
        expected: The value to find.
        tol: Absolute tolerance.
        name: What the printed line calls it.
        dtype: Precision of the points.

    Returns:
        The integral.

    Raises:
        CheckFailed: If it is farther off than ``tol``.
        ValueError: If the box is empty, not finite, or of more than three dimensions.
    """
    dims = len(np.atleast_1d(low))
    points, cell = _grid(low, high, n or {1: 20_000, 2: 400}.get(dims, 100))
    log_prob = _in_dtype(log_prob, dtype)
    with torch.no_grad():
        parts = [log_prob(p.to(dtype)).double().exp() for p in points.split(250_000)]
        masses = torch.cat(parts) * cell
    with _hint_at_the_border(points, masses, tol):
        return close(name, float(masses.sum()), expected, tol)


def _in_dtype(function: Callable, dtype: torch.dtype) -> Callable:
    """The same function with its module, if it is one or the method of one, copied to a dtype."""
    owner = getattr(function, "__self__", function)
    if not isinstance(owner, torch.nn.Module):
        return function
    copied = copy.deepcopy(owner).to(dtype)
    return copied if owner is function else getattr(copied, function.__name__)


@contextlib.contextmanager
def _hint_at_the_border(points: Tensor, masses: Tensor, tol: float):
    try:
        yield
    except CheckFailed as failed:
        outermost = ((points == points.amin(0)) | (points == points.amax(0))).any(1)
        border = float(masses[outermost].sum())
        if abs(border) <= tol / 10:
            raise
        hint = f"{str(failed)[2:]} The outermost cells hold {border:.2g}: the box may be too small."
        raise CheckFailed(hint, failed.miss) from None


def integral_mc(
    log_prob: Callable[[Tensor], Tensor],
    proposal: Distribution,
    n: int = 100_000,
    expected: float = 1.0,
    tol: float = 0.02,
    seed: int = 0,
    name: str = "integral",
) -> float:
    r"""Check :math:`\int p\,\mathrm d\lambda_D` by importance sampling, for any dimension.

    .. math::
        \int p \,\mathrm d\lambda_D = \mathbb E_{x \sim q}\Bigl[\frac{p(x)}{q(x)}\Bigr] \approx
        \frac1n \sum_{i=1}^n e^{\log p(x_i) - \log q(x_i)} .

    Args:
        log_prob: Maps points ``(m, D)`` to log-densities ``(m,)``.
        proposal: Distribution :math:`q` with tails at least as heavy as those of :math:`p`.
        n: Number of draws.
        expected: The value to find.
        tol: Absolute tolerance; must be at least three standard errors, else chance alone could fail the check.
        seed: Seed of the draws.
        name: What the printed line calls it.

    Returns:
        The estimate.

    Raises:
        CheckFailed: If it is farther off than ``tol``, or ``tol`` is below three standard errors.
        ValueError: If ``tol`` is negative or not finite.
    """
    tol = _tolerance("tol", tol)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        x = proposal.sample((n,))
        ratio = (log_prob(x) - proposal.log_prob(x)).double().exp()
    error = float(ratio.std() / n**0.5)
    if not 3 * error <= tol:
        message = f"{name}: tolerance {tol:g} is below three standard errors ({3 * error:.3g}); draw more."
        raise CheckFailed(message, miss=0.0)  # the claim itself was not measured
    return close(name, float(ratio.mean()), expected, tol)


def mass(
    log_pmf: Callable[[Tensor], Tensor],
    support: Tensor,
    tol: float = 1e-6,
    name: str = "total mass",
) -> float:
    r"""Check :math:`\sum_{x \in S} P(x) = 1` over an enumerated support.

    Args:
        log_pmf: Maps points ``(m, ...)`` to log-probabilities ``(m,)``.
        support: All points of :math:`S`, along the first dimension.
        tol: Absolute tolerance.
        name: What the printed line calls it.

    Returns:
        The sum.

    Raises:
        CheckFailed: If it is farther from 1 than ``tol``.
    """
    with torch.no_grad():
        return close(name, float(log_pmf(support).double().exp().sum()), 1.0, tol)


@cache
def _answers() -> dict[str, dict]:
    return json.loads((files("nfcourse") / "assets" / "answers.json").read_text("utf8"))


def answer(label: str, yours) -> bool:
    """Look up the answer to an exercise, and say whether yours is right; never raise for a wrong one.

    The tolerance is stated; after a wrong try there is a hint, not the truth.

    Args:
        label: The exercise, with the part after a dot if it has several, as on the page.
        yours: A number or an array of numbers; ``None`` while there is none.

    Returns:
        Whether the answer is right.

    Raises:
        ValueError: If there is no exercise of that label.
    """
    if not isinstance(label, str) or label not in _answers():
        near = difflib.get_close_matches(str(label), _answers(), 1, 0.0)
        raise ValueError(f"there is no exercise {label!r}; did you mean {near[0]!r}?")
    entry = _answers()[label]
    want, tol = np.asarray(entry["answer"], dtype=float), entry["tol"]
    asked = f"{want.size} numbers, each" if want.ndim else "a number"
    if yours is None:
        say(f"· {label}: not answered yet ({asked} within {tol:g} of the truth)")
        return False
    try:
        got = _array(yours)
    except Exception:  # whatever it is, it is no number
        got = None
    if got is not None and got.size == want.size:
        got = got.reshape(want.shape)
    if got is None or got.shape != want.shape:
        came = type(yours).__name__ if got is None or not got.ndim else f"{got.size} numbers"
        say(f"✗ {label}: expected {asked} within {tol:g} of the truth, got {came}")
        return False
    right = bool(np.all(np.abs(got - want) <= tol))
    if right:
        say(f"✓ {label}: {_format(got, 4)} (within {tol:g} of the truth)")
    else:
        say(f"✗ {label}: not yet; {_format(got, 8)} is not within {tol:g} of the truth. Hint: {entry['hint']}")
    return right
