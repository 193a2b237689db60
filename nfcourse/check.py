"""Numerical proofs: each function measures, prints one line, and raises with the worst offender."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor
from torch.distributions import Distribution, constraints

from .bijections.base import Bijection

__all__ = [
    "BijectionReport",
    "CheckFailed",
    "answer",
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

#: largest admissible errors: round trip (over max(1, |z|) times the condition number) and log-determinant
TOLERANCES = {torch.float32: (1e-5, 1e-4), torch.float64: (1e-10, 1e-9)}


class CheckFailed(AssertionError):
    """A claim that the numbers do not support."""


def _array(value) -> np.ndarray:
    return np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value, dtype=float)


def _format(value: np.ndarray, digits: int) -> str:
    if value.ndim == 0:
        text = f"{float(value):.{digits}g}"
        return "0" if text == "-0" else text
    return f"{value.size} numbers"


def _worst(error: np.ndarray) -> tuple[tuple[int, ...], float]:
    flat = np.where(np.isnan(error), np.inf, error)
    index = np.unravel_index(int(flat.argmax()), flat.shape) if flat.ndim else ()
    return tuple(int(i) for i in index), float(flat[index])


def close(name: str, measured, expected, tol: float, digits: int = 4):
    r"""Check :math:`\lvert\text{measured} - \text{expected}\rvert \le \text{tol}`, entry by entry.

    Args:
        name: What is measured.
        measured: Number, array or tensor.
        expected: Number, array or tensor that broadcasts against it.
        tol: Absolute tolerance.
        digits: Significant digits printed.

    Returns:
        ``measured``, unchanged.

    Raises:
        CheckFailed: If an entry is farther off, or not a number; names the worst one.
    """
    got, want = _array(measured), _array(expected)
    same = got == want  # infinities of one sign agree, although their difference is not a number
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(got - want))
    index, worst = _worst(error) if error.size else ((), 0.0)
    if not worst <= tol:
        at = f" at index {index}" if index else ""
        got_at, want_at = np.broadcast_to(got, error.shape)[index], np.broadcast_to(want, error.shape)[index]
        raise CheckFailed(f"{name}: measured {got_at:.6g}, expected {want_at:.6g}{at}; off by {worst:.3g} > {tol:.3g}.")
    if got.ndim:
        print(f"{name}: {got.size} numbers agree within {tol:g}: ok")
    else:
        print(f"{name}: {_format(got, digits)}, expected {_format(want, digits)}, tolerance {tol:g}: ok")
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
        CheckFailed: If all entries are closer than ``by``.
    """
    got, want = _array(measured), _array(expected)
    with np.errstate(invalid="ignore"):
        gap = np.where(got == want, 0.0, np.abs(got - want))
    worst = float(np.max(np.where(np.isnan(gap), np.inf, gap), initial=0.0))
    if not worst >= by:
        raise CheckFailed(f"{name}: measured {_format(got, digits)} is within {by:.3g} of {_format(want, digits)}.")
    if gap.ndim:
        print(f"{name}: among {gap.size} numbers one differs by at least {by:g}: ok")
    else:
        print(f"{name}: {_format(got, digits)}, not {_format(want, digits)} (differs by at least {by:g}): ok")
    return measured


def holds(name: str, condition) -> None:
    """Check a statement: print it with its truth value.

    Args:
        name: The statement.
        condition: Boolean, or array or tensor of booleans that must all be true.

    Raises:
        CheckFailed: If it is false, or false anywhere.
    """
    truth = np.asarray(condition.detach().cpu() if isinstance(condition, Tensor) else condition)
    if not truth.all():
        first = tuple(int(i[0]) for i in np.nonzero(~truth.astype(bool))) if truth.ndim else ()
        raise CheckFailed(f"{name}: False" + (f", first at index {first}." if first else "."))
    print(f"{name}: True")


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

    Args:
        log_prob: Maps points ``(m, D)`` to log-densities ``(m,)``; a module is moved to ``dtype`` in a copy.
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
    if isinstance(log_prob, torch.nn.Module):
        log_prob = copy.deepcopy(log_prob).to(dtype)
    with torch.no_grad():
        total = sum(float(log_prob(p.to(dtype)).double().exp().sum()) for p in points.split(250_000)) * cell
    return close(name, total, expected, tol)


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
        tol: Absolute tolerance; must be at least three standard errors, else the check could not fail honestly.
        seed: Seed of the draws.
        name: What the printed line calls it.

    Returns:
        The estimate.

    Raises:
        CheckFailed: If it is farther off than ``tol``, or ``tol`` is below three standard errors.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        x = proposal.sample((n,))
        ratio = (log_prob(x) - proposal.log_prob(x)).double().exp()
    error = float(ratio.std() / n**0.5)
    if not 3 * error <= tol:
        raise CheckFailed(f"{name}: tolerance {tol:g} is below three standard errors ({3 * error:.3g}); draw more.")
    return close(name, float(ratio.mean()), expected, tol)


def mass(log_pmf: Callable[[Tensor], Tensor], support: Tensor, tol: float = 1e-6, name: str = "total mass") -> float:
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


def validate(x: Tensor, support: constraints.Constraint | None = None, name: str = "x") -> Tensor:
    """Check data where they enter: numbers, finite, inside the support.

    Layers look at shapes and dtypes only; values are looked at here.

    Args:
        x: The data.
        support: A constraint from ``torch.distributions.constraints``, or ``None`` for any finite number.
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


def answer(name: str, yours, true, tol: float = 1e-3) -> bool:
    """Compare an answer to an exercise with the right one; print both, never raise.

    Args:
        name: What was asked.
        yours: The answer; ``None`` while there is none.
        true: The right answer.
        tol: Absolute tolerance.

    Returns:
        Whether the answer is right.
    """
    if yours is None:
        print(f"{name}: not answered yet")
        return False
    try:
        got, want = _array(yours), _array(true)
        right = got.shape == want.shape and bool(np.all(np.abs(got - want) <= tol))
        print(f"{name}: yours {_format(got, 4)}, true {_format(want, 4)}: {'correct' if right else 'not yet'}")
    except (TypeError, ValueError):
        right = False
        print(f"{name}: expected a number or an array of numbers, got {type(yours).__name__}: not yet")
    return right


@dataclass(frozen=True)
class BijectionReport:
    """What :func:`check_bijection` measured, the largest over all points; keys are dtypes.

    Attributes:
        name: The bijection's name.
        round_trip: Error of ``inverse(forward(z))`` over ``max(1, |z|)`` times the condition number.
        log_det: Error of both log-determinants against autograd, over ``max(1, |log_det|)``.
    """

    name: str
    round_trip: dict[torch.dtype, float]
    log_det: dict[torch.dtype, float]


def randomize(module: torch.nn.Module, scale: float = 0.3, seed: int = 0) -> torch.nn.Module:
    """Move every parameter by Gaussian noise, in place, so that no check passes because a weight is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            fan_in = p.shape[-1] if p.dim() > 1 else 1
            p.add_((scale / fan_in**0.5 * noise).to(p))
    return module


def draw_inputs(domain: constraints.Constraint, shape: tuple[int, ...], scale: float = 5.0, seed: int = 0) -> Tensor:
    r"""Draw float64 points from a layer's domain: :math:`\mathcal N(0, \text{scale}^2)`, or its image in (0, 1)."""
    z = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if domain is constraints.unit_interval:
        return torch.sigmoid(z)
    if domain is constraints.real:
        return scale * z
    raise ValueError(f"No inputs are known for the domain {domain}; pass z.")


def _jacobian(f: Callable, points: Tensor, context: Tensor | None, event_dim: int) -> Tensor:
    """Jacobian matrices at each of ``n`` points, by autograd; ``(n, D, D)``."""
    shape = points.shape[1:]

    def flat(point, c):
        value = f(point.reshape(1, *shape), None if c is None else c.unsqueeze(0))[0]
        return value.reshape(-1)

    rows = points.reshape(len(points), -1)
    contexts = [None] * len(points) if context is None else list(context)
    return torch.stack([torch.func.jacrev(flat)(p, c).detach() for p, c in zip(rows, contexts, strict=True)])


def check_bijection(
    bijection: Bijection,
    z: Tensor | None = None,
    context: Tensor | None = None,
    name: str | None = None,
    n: int = 32,
    seed: int = 0,
) -> BijectionReport:
    r"""Check everything that a bijection promises.

    In float32 and float64, on copies with randomly moved weights, in eval mode:

    - round trip :math:`f^{-1}(f(z)) = z`, relative to :math:`\max(1, \lvert z\rvert)` times the condition number;
    - both log-determinants against ``slogdet`` of the Jacobian that autograd finds in float64;
    - shapes, with two batch dimensions, one point and an empty batch; dtype;
    - a gradient for each parameter that the map depends on, finite and not all zero;
    - the same output after saving and loading the weights.

    Args:
        bijection: The bijection; it is not changed.
        z: Points ``(n, *event)`` of the domain; drawn from it when the layer knows its shape (``shape`` or ``dim``).
        context: Contexts ``(n, *context)``, if the bijection needs one.
        name: What the printed line calls it; default the class name.
        n: Number of points drawn.
        seed: Seed of points and weights.

    Returns:
        A :class:`BijectionReport`.

    Raises:
        CheckFailed: At the first broken promise; names it, the worst point and the error.
        ValueError: If ``z`` is not given and cannot be drawn.
    """
    name = name or type(bijection).__name__
    if z is None:
        z = draw_inputs(bijection.domain, (n, *_event_shape(bijection)), seed=seed)
    z = z.double()
    moved = randomize(copy.deepcopy(bijection), seed=seed).eval()
    reference = copy.deepcopy(moved).double()
    trip, log_dets = {}, {}
    for dtype, (tol_trip, tol_log_det) in TOLERANCES.items():
        f = copy.deepcopy(moved).to(dtype)
        zs, c = z.to(dtype), None if context is None else context.to(dtype)
        exact = reference if dtype == torch.float64 else copy.deepcopy(f).double()
        label = f"{name}, {str(dtype)[6:]}"
        _check_shapes(f, zs, c, label)
        trip[dtype] = _check_round_trip(f, exact, zs, c, tol_trip, label)
        log_dets[dtype] = _check_log_det(f, exact, zs, c, tol_log_det, label)
    _check_gradients(reference, z, None if context is None else context.double(), name)
    _check_save_load(moved, bijection, z.float(), None if context is None else context.float(), name)
    print(
        f"{name}: round trip within {TOLERANCES[torch.float32][0]:.0e} (float32), "
        f"{TOLERANCES[torch.float64][0]:.0e} (float64); log-det within "
        f"{TOLERANCES[torch.float32][1]:.0e}, {TOLERANCES[torch.float64][1]:.0e} of autograd: ok"
    )
    return BijectionReport(name, trip, log_dets)


def _event_shape(f: Bijection) -> tuple[int, ...]:
    """An event shape that the layer takes on the base side; of images 4x4 where any size will do."""
    parts = [part for part in f.modules() if isinstance(part, Bijection) and part.event_dim == f.event_dim]
    size = (4, 4) if f.event_dim == 3 else ()
    for part in parts:
        if hasattr(part, "shape"):
            return tuple(part.shape)
    for part in parts:
        if hasattr(part, "dim"):
            return (part.dim, *size)
        if hasattr(part, "order"):
            return tuple(part.order.shape)
    return (4, *size) if f.event_dim == 3 else (3,) * f.event_dim


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise CheckFailed(message)


def _check_round_trip(f, exact, z, context, tol, label) -> float:
    """Both orders of the round trip; the error may grow with the condition of the map that amplifies it."""
    with torch.no_grad():
        x = f(z, context)[0]
        back = f.inverse(x, context)[0]
        again = f(back, context)[0]
    c64 = None if context is None else context.double()
    jac = _jacobian(exact, z.double(), c64, f.event_dim)
    singular = torch.linalg.svdvals(jac)
    size_z = z.double().flatten(1).norm(dim=1).clamp_min(1)
    size_x = x.double().flatten(1).norm(dim=1).clamp_min(1)
    # rounding x by eps |x| moves z by |J^-1| eps |x|; relative to |z| that is the condition number of the inverse
    condition = (size_x / size_z / singular[:, -1]).clamp_min(1)
    error = (back - z).double().flatten(1).norm(dim=1) / (size_z * condition)
    condition_forward = (size_z / size_x * singular[:, 0]).clamp_min(1)
    error_x = (again - x).double().flatten(1).norm(dim=1) / (size_x * condition_forward * condition)
    for text, err in (("inverse(forward(z))", error), ("forward(inverse(x))", error_x)):
        (i,), worst = _worst(err.numpy())
        at = f"at point {i}, z = {z[i].flatten()[:8].tolist()}"
        _require(worst <= tol, f"{label}: {text} is off by {worst:.3g} > {tol:g} {at}.")
    return float(error.max())


def _check_log_det(f, exact, z, context, tol, label) -> float:
    with torch.no_grad():
        x, forward = f(z, context)
        _, inverse = f.inverse(x, context)
    c64 = None if context is None else context.double()
    worst_of_both = 0.0
    for text, got, g, at in (("forward", forward, exact, z), ("inverse", inverse, exact.inverse, x)):
        want = torch.linalg.slogdet(_jacobian(g, at.double(), c64, f.event_dim)).logabsdet
        (i,), worst = _worst(((got.double() - want).abs() / want.abs().clamp_min(1)).numpy())
        _require(
            worst <= tol,
            f"{label}: log_det of {text} is {got[i].item():.6g}, autograd says {want[i].item():.6g} "
            f"at point {i} (error {worst:.3g} > {tol:g}).",
        )
        worst_of_both = max(worst_of_both, worst)
    return worst_of_both


def _check_shapes(f, z, context, label) -> None:
    event = z.shape[1:]
    for batch in ((), (0,), (2, 3)):
        count = int(np.prod(batch, dtype=int))
        part = z[:1].expand(count, *event).reshape(*batch, *event)
        c = context
        if context is not None:
            c = context[:1].expand(count, *context.shape[1:]).reshape(*batch, *context.shape[1:])
        with torch.no_grad():
            for text, method in (("forward", f.forward), ("inverse", f.inverse)):
                point = part if text == "forward" else f(part, c)[0]
                value, log_det = method(point, c)
                shapes = f"{tuple(point.shape)} to {tuple(value.shape)}"
                event = f.forward_shape(z.shape[1:]) if text == "forward" else z.shape[1:]
                _require(value.shape == (*batch, *event), f"{label}: {text} maps {shapes}.")
                _require(
                    log_det.shape == torch.Size(batch),
                    f"{label}: log_det of {text} has shape {tuple(log_det.shape)}, expected {batch}.",
                )
                _require(
                    value.dtype == log_det.dtype == z.dtype,
                    f"{label}: {text} returns {value.dtype} and {log_det.dtype} for {z.dtype}.",
                )


def _check_gradients(f, z, context, name) -> None:
    """Each parameter reaches value or log_det in some direction."""
    x, log_det = f(z, context)
    back, log_det_back = f.inverse(x.detach(), context)
    weights = torch.linspace(0.5, 1.5, x[0].numel(), dtype=x.dtype)
    on_x, on_z = (weights * v.flatten(1) for v in (x, back))
    loss = on_x.sum() + 0.7 * log_det.sum() + on_z.square().sum() + 0.3 * log_det_back.sum()
    named = [(k, p) for k, p in f.named_parameters() if p.requires_grad]
    if not named:
        return
    grads = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    for (key, _), grad in zip(named, grads, strict=True):
        _require(grad is not None, f"{name}: no gradient reaches {key}.")
        _require(bool(torch.isfinite(grad).all()), f"{name}: the gradient of {key} is not finite.")
        _require(bool((grad != 0).any()), f"{name}: the gradient of {key} is zero everywhere.")


def _check_save_load(moved, fresh, z, context, name) -> None:
    """Weights and buffers survive saving, and loaded weights are not initialised again."""
    f = copy.deepcopy(moved).float()
    with torch.no_grad():
        f.initialize(f(z, context)[0], context)
        want = f(z, context)[0]
        stored = save_bytes({k: v.contiguous() for k, v in f.state_dict().items()})
        g = copy.deepcopy(fresh).float().eval()
        g.load_state_dict(load_bytes(stored))
        g.initialize(g(z, context)[0] + 1 if fresh.codomain is constraints.real else g(z, context)[0], context)
        got = g(z, context)[0]
    _require(torch.equal(want, got), f"{name}: the output changes after saving, loading and initialising again.")
