"""What layers and data must keep: the contract of a bijection, checked by numbers, and the values of a batch."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor
from torch.distributions import constraints

from .bijections.base import Bijection, Inverse
from .spaces import Space, real, space_of

__all__ = ["BijectionReport", "CheckFailed", "check_bijection", "draw_inputs", "randomize", "validate"]

#: largest admissible errors: round trip (over max(1, |z|) times the condition number) and log-determinant
TOLERANCES = {torch.float32: (1e-5, 1e-4), torch.float64: (1e-10, 1e-9)}
#: points of a counting measure that are enumerated, at most
ENUMERATED = 10_000


class CheckFailed(AssertionError):
    """A claim that the numbers do not support.

    Attributes:
        miss: By how many tolerances it was missed; infinite for a claim that has none.
    """

    def __init__(self, message: str, miss: float = math.inf):
        super().__init__(message)
        self.miss = miss


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
    if space is None:
        raise ValueError(f"No inputs are known for the domain {domain}; pass z.")
    return space.draw(tuple(shape), scale, seed)


@dataclass(frozen=True)
class BijectionReport:
    """What :func:`check_bijection` measured, the largest over all points; keys are dtypes.

    Attributes:
        name: The bijection's name.
        measure: The reference measure of its domain.
        directions: The directions that it has.
        round_trip: Error of ``inverse(forward(z))`` over ``max(1, |z|)`` times the condition number; empty for a map
            with one direction.
        log_det: Error of the log-determinants against autograd, over ``max(1, |log_det|)``.
    """

    name: str
    measure: str
    directions: tuple[str, ...]
    round_trip: dict[torch.dtype, float]
    log_det: dict[torch.dtype, float]


def _jacobian(f: Callable, points: Tensor, context: Tensor | None) -> Tensor:
    """Jacobian matrices at each of ``n`` points, by autograd; ``(n, D_out, D_in)``."""
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
    r"""Check everything that a bijection promises, in the directions that it has.

    In float32 and float64, on copies with randomly moved weights, in eval mode:

    - values lie in the spaces that are declared, and have the shapes that are declared, with two batch dimensions, one
      point and an empty batch; dtypes are those of the input;
    - round trips: :math:`f^{-1}(f(z)) = z`, relative to :math:`\max(1, \lvert z\rvert)` times the condition of the
      inverse, and :math:`f(f^{-1}(x)) = x`, relative to :math:`\max(1, \lvert x\rvert)` times both conditions;
    - of a map with one direction, that its determinant has one sign at all points, since a fold would change it (which
      does not prove it one to one);
    - the log-determinants against the Jacobian :math:`J` that autograd finds in float64. For Lebesgue measure that is
      :math:`\log\lvert\det J\rvert`; for surfaces, or where the event changes its size,
      :math:`\tfrac12\log\det (JT)^\top JT` with an orthonormal basis :math:`T` of the tangent space; for counting
      measure it is zero, and no two of the enumerated points may share an image;
    - a gradient for each parameter, finite and not all zero;
    - the same output after saving and loading the weights.

    Args:
        bijection: The bijection; it is not changed.
        z: Points ``(n, *event)`` of the domain (of the codomain, if the map has an inverse only); drawn from it when
            the bijection says its ``event_shape``.
        context: Contexts ``(n, *context)``, if the bijection needs one.
        name: What the printed line calls it; default the class name.
        n: Number of points drawn.
        seed: Seed of points and weights.

    Returns:
        A :class:`BijectionReport`.

    Raises:
        CheckFailed: At the first broken promise; names it, the worst point and the error.
        ValueError: If ``z`` is not given and cannot be drawn, or has another shape than is declared.
    """
    if not isinstance(bijection, Bijection):
        raise ValueError(f"check_bijection expects a Bijection, got {type(bijection).__name__}.")
    name, directions = name or type(bijection).__name__, bijection.directions
    if not directions:
        raise CheckFailed(f"{name}: overrides neither `forward` nor `inverse`.")
    if "forward" not in directions:  # read backwards it is a map that has a forward direction only
        bijection = Inverse(bijection)
    z = _points(bijection, z, n, seed, name).double()
    moved = randomize(copy.deepcopy(bijection), seed=seed).eval()
    reference = copy.deepcopy(moved).double()
    both = len(directions) == 2
    counting = bijection.domain is not None and bijection.domain.is_discrete
    trip, log_dets = {}, {}
    for dtype, (tol_trip, tol_log_det) in TOLERANCES.items():
        f = copy.deepcopy(moved).to(dtype)
        zs, c = z.to(dtype), None if context is None else context.to(dtype)
        exact = reference if dtype == torch.float64 else copy.deepcopy(f).double()
        label = f"{name}, {str(dtype)[6:]}"
        _check_shapes(f, zs, c, both, label)
        _check_spaces(f, zs, c, both, label)
        if counting:
            log_dets[dtype] = _check_counting(f, zs, c, both, label)
            trip |= {dtype: 0.0} if both else {}
            continue
        if both:
            trip[dtype] = _check_round_trip(f, exact, zs, c, tol_trip, label)
        else:
            _check_folds(exact, zs, c, label)
        log_dets[dtype] = _check_log_det(f, exact, zs, c, both, tol_log_det, label)
    _check_gradients(reference, z, None if context is None else context.double(), both, name)
    _check_save_load(moved, bijection, z.float(), None if context is None else context.float(), both, name)
    (trip32, log32), (trip64, log64) = TOLERANCES.values()
    way = "" if both else f" ({next(iter(directions))} only)"
    if counting:
        print(f"✓ {name}{way}: one to one on the enumerated points, log-det 0")
    elif both:
        print(f"✓ {name}: inverse within {trip32:.0e}, log-det {log32:.0e} (float64: {trip64:.0e}, {log64:.0e})")
    else:
        print(f"✓ {name}{way}: log-det within {log32:.0e} (float64: {log64:.0e})")
    measure = "Lebesgue" if bijection.domain is None else bijection.domain.measure
    return BijectionReport(name, measure, tuple(sorted(directions)), trip, log_dets)


def _points(f: Bijection, z: Tensor | None, n: int, seed: int, name: str) -> Tensor:
    shape = f.event_shape
    if z is None:
        if shape is None:
            raise ValueError(
                f"{name} does not say its event_shape: pass points of its domain, z of shape (n, *event), or set "
                "`self.event_shape = (D,)` in the layer."
            )
        return draw_inputs(f.domain, (n, *shape), seed=seed)
    if z.dim() != 1 + f.event_dim or shape is not None and tuple(z.shape[1:]) != tuple(shape):
        expected = ", ".join(map(str, shape)) if shape else f"{f.event_dim} dimensions"
        raise ValueError(f"{name} expects z of shape (n, {expected}), got {tuple(z.shape)}.")
    return z


def _require(condition: bool, message: str, miss: float = math.inf) -> None:
    if not condition:
        raise CheckFailed(message, miss)


def _both(f: Bijection, both: bool) -> list[tuple[str, Callable]]:
    return [("forward", f), ("inverse", f.inverse)] if both else [("forward", f)]


def _singular_values(f: Bijection, inverse: bool, points: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    """Singular values of JT and their log-product, at each point; float64."""
    space = f.codomain if inverse else f.domain
    jac = _jacobian(f.inverse if inverse else f, points, context)
    frame = None if space is None else space.frame(points)
    square = frame is None and jac.shape[-1] == jac.shape[-2]
    values = torch.linalg.svdvals(jac if frame is None else jac @ frame)
    return values, torch.linalg.slogdet(jac).logabsdet if square else values.log().sum(-1)


def _check_round_trip(f, exact, z, context, tol, label) -> float:
    """Both orders of the round trip; the error may grow with the condition of the map that amplifies it."""
    with torch.no_grad():
        x = f(z, context)[0]
        back = f.inverse(x, context)[0]
        again = f(back, context)[0]
    singular, _ = _singular_values(exact, False, z.double(), None if context is None else context.double())
    size_z = z.double().flatten(1).norm(dim=1).clamp_min(1)
    size_x = x.double().flatten(1).norm(dim=1).clamp_min(1)
    # rounding x by eps |x| moves z by |J^-1| eps |x|; relative to |z| that is the condition number of the inverse
    condition = (size_x / size_z / singular[:, -1]).clamp_min(1)
    error = _difference(f.domain, back, z).double().flatten(1).norm(dim=1) / (size_z * condition)
    condition_forward = (size_z / size_x * singular[:, 0]).clamp_min(1)
    error_x = _difference(f.codomain, again, x).double().flatten(1).norm(dim=1)
    error_x = error_x / (size_x * condition_forward * condition)
    for text, err in (("inverse(forward(z))", error), ("forward(inverse(x))", error_x)):
        (i,), off = worst(err.numpy())
        at = f"at point {i}, z = {z[i].flatten()[:8].tolist()}"
        _require(off <= tol, f"{label}: {text} is off by {off:.3g} > {tol:g} {at}.", off / tol)
    return float(error.max())


def _difference(space: Space | None, a: Tensor, b: Tensor) -> Tensor:
    return a - b if space is None else space.difference(a, b)


def _check_folds(exact, z, context, label) -> None:
    """A map of a connected space that is one to one keeps the sign of its determinant; points near 0 are tried too."""
    c64 = None if context is None else context.double()
    points = torch.cat([z, z / 5]).double() if exact.domain in (None, real) else z.double()
    jac = _jacobian(exact, points, None if c64 is None else torch.cat([c64, c64])[: len(points)])
    if jac.shape[-1] == jac.shape[-2]:
        signs = torch.linalg.slogdet(jac).sign
        up, down = int((signs > 0).sum()), int((signs < 0).sum())
        _require(
            up == 0 or down == 0, f"{label}: the determinant is positive at {up} points, negative at {down}: a fold."
        )


def _check_log_det(f, exact, z, context, both, tol, label) -> float:
    c64 = None if context is None else context.double()
    at, worst_of_all = z, 0.0
    for text, method in _both(f, both):
        with torch.no_grad():
            value, got = method(at, context)
        _, want = _singular_values(exact, text == "inverse", at.double(), c64)
        (i,), off = worst(((got.double() - want).abs() / want.abs().clamp_min(1)).numpy())
        _require(
            off <= tol,
            f"{label}: log_det of {text} is {got[i].item():.6g}, autograd says {want[i].item():.6g} "
            f"at point {i} (error {off:.3g} > {tol:g}).",
            off / tol,
        )
        at, worst_of_all = value, max(worst_of_all, off)
    return worst_of_all


def _check_counting(f, z, context, both, label) -> float:
    """Whole numbers: exact, one to one on an enumerated set, and no change of density."""
    space, dims = f.domain, math.prod(z.shape[1:])
    low, high = (space.low, space.high) if math.isfinite(space.low) and math.isfinite(space.high) else (-2, 2)
    if (high - low + 1) ** dims <= ENUMERATED:
        values = torch.arange(low, high + 1, dtype=z.dtype)
        z = torch.cartesian_prod(*[values] * dims).reshape(-1, *z.shape[1:])
        context = None if context is None else context[:1].expand(len(z), *context.shape[1:])
    z = z.unique(dim=0)
    with torch.no_grad():
        x, log_det = f(z, None if context is None else context[: len(z)])
        images = len(x.unique(dim=0))
        _require(images == len(z), f"{label}: {len(z)} points have only {images} images.")
        _require(bool((log_det == 0).all()), f"{label}: log_det of forward is not 0, as counting measure asks.")
        if both:
            back, log_det = f.inverse(x, None if context is None else context[: len(z)])
            wrong = int((back != z).flatten(1).any(1).sum())
            _require(wrong == 0, f"{label}: inverse(forward(z)) is another point for {wrong} of {len(z)} points.")
            _require(bool((log_det == 0).all()), f"{label}: log_det of inverse is not 0, as counting measure asks.")
    return 0.0


def _check_spaces(f, z, context, both, label) -> None:
    with torch.no_grad():
        x = f(z, context)[0]
        sides = [("forward", f.codomain, x)] + ([("inverse", f.domain, f.inverse(x, context)[0])] if both else [])
    for text, space, value in sides:
        if space is not None and not bool(space.check(value).all()):
            i = int((~space.check(value)).flatten(1).any(1).nonzero()[0])
            raise CheckFailed(f"{label}: {text} returns {value[i].tolist()} at point {i}, outside {space}.")


def _check_shapes(f, z, context, both, label) -> None:
    for batch in ((), (0,), (2, 3)):
        count = math.prod(batch)
        point = z[:1].expand(count, *z.shape[1:]).reshape(*batch, *z.shape[1:])
        c = context
        if context is not None:
            c = context[:1].expand(count, *context.shape[1:]).reshape(*batch, *context.shape[1:])
        for text, method in _both(f, both):
            with torch.no_grad():
                out = method(point, c)
            if not (isinstance(out, tuple) and len(out) == 2 and all(isinstance(o, Tensor) for o in out)):
                raise CheckFailed(f"{label}: {text} must return (value, log_det), got {type(out).__name__}.")
            value, log_det = out
            event = tuple(f.forward_shape(tuple(z.shape[1:]))) if text == "forward" else tuple(z.shape[1:])
            _require(
                value.shape == (*batch, *event),
                f"{label}: {text} maps {tuple(point.shape)} to {tuple(value.shape)}, expected {(*batch, *event)}.",
            )
            _require(
                log_det.shape == torch.Size(batch),
                f"{label}: log_det of {text} has shape {tuple(log_det.shape)}, expected {batch}.",
            )
            _require(
                value.dtype == log_det.dtype == z.dtype,
                f"{label}: {text} returns {value.dtype} and {log_det.dtype} for {z.dtype}.",
            )
            point = value


def _check_gradients(f, z, context, both, name) -> None:
    """Each parameter reaches value or log_det in some direction."""
    loss, point = 0.0, z
    for k, (_, method) in enumerate(_both(f, both)):
        value, log_det = method(point.detach(), context)
        weights = torch.linspace(0.5, 1.5, value[0].numel(), dtype=value.dtype)
        loss = loss + (weights * value.flatten(1)).pow(k + 1).sum() + (0.7 - 0.4 * k) * log_det.sum()
        point = value
    named = [(k, p) for k, p in f.named_parameters() if p.requires_grad]
    if not named:
        return
    _require(loss.requires_grad, f"{name}: no gradient reaches any parameter.")
    grads = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    for (key, _), grad in zip(named, grads, strict=True):
        _require(grad is not None, f"{name}: no gradient reaches {key}.")
        _require(bool(torch.isfinite(grad).all()), f"{name}: the gradient of {key} is not finite.")
        _require(bool((grad != 0).any()), f"{name}: the gradient of {key} is zero everywhere.")


def _check_save_load(moved, fresh, z, context, both, name) -> None:
    """Weights and buffers survive saving, and loaded weights are not initialised again."""
    f = copy.deepcopy(moved).float()
    with torch.no_grad():
        if both:
            f.initialize(f(z, context)[0], context)
        want = f(z, context)[0]
        stored = save_bytes({k: v.contiguous() for k, v in f.state_dict().items()})
        g = copy.deepcopy(fresh).float().eval()
        g.load_state_dict(load_bytes(stored))
        if both:
            other = g(z, context)[0]
            g.initialize(other + 1 if fresh.codomain is real else other, context)
        got = g(z, context)[0]
    _require(torch.equal(want, got), f"{name}: the output changes after saving, loading and initialising again.")
