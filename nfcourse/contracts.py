"""What a layer must keep: the contract of a bijection, checked by numbers. For values of data see values.py."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor

from .bijections.base import Bijection, Inverse
from .spaces import Space, real
from .values import CheckFailed, draw_inputs, randomize, say, validate, worst

__all__ = ["BijectionReport", "CheckFailed", "check_bijection", "draw_inputs", "randomize", "validate"]

#: largest admissible errors: round trip (over max(1, |z|) times the condition number) and log-determinant
TOLERANCES = {torch.float32: (1e-5, 1e-4), torch.float64: (1e-10, 1e-9)}
#: points of a counting measure that are enumerated, at most
ENUMERATED = 10_000
#: error allowed, in float64, where conditions are not measured: from the far end, and of gradients
FAR = 1e-6
_FLOAT32 = " Does the layer keep a float32 tensor that is neither a parameter nor a buffer?"


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
    return torch.stack([torch.func.jacrev(flat)(p, c) for p, c in zip(rows, contexts, strict=True)])


def check_bijection(
    bijection: Bijection,
    z: Tensor | None = None,
    context: Tensor | None = None,
    name: str | None = None,
    n: int = 32,
    seed: int = 0,
) -> BijectionReport:
    r"""Check what a bijection promises, in the directions that it has, at the points drawn.

    In float32 and float64, on copies with randomly moved weights, in eval mode:

    - values lie in the spaces that are declared, from both ends, and have the shapes that are declared, with two batch
      dimensions, one point and an empty batch; each point is mapped by itself, whatever batch it comes in; an angle and
      its next turn are one point; dtypes are those of the input;
    - round trips: :math:`f^{-1}(f(z)) = z`, relative to :math:`\max(1, \lvert z\rvert)` times the condition of the
      inverse, and :math:`f(f^{-1}(x)) = x`, relative to :math:`\max(1, \lvert x\rvert)` times both conditions;
    - of a map with one direction, that its determinant has one sign at all points, as that of a continuous map of a
      connected space does that does not fold (which does not prove it one to one);
    - the log-determinants against the Jacobian :math:`J` that autograd finds in float64. For Lebesgue measure that is
      :math:`\log\lvert\det J\rvert`; for surfaces, or where the event changes its size,
      :math:`\tfrac12\log\det((JE)^\top (JE))` with an orthonormal basis :math:`E` of the tangent space; for counting
      measure it is zero, and no two of the enumerated points may share an image;
    - the gradient of the log-determinant, with respect to points and parameters, against that of autograd's (not on
      the sphere);
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
        ValueError: If ``z`` is not given and cannot be drawn, or has another shape than is declared; if contexts are
            not declared, or not as many as points.
    """
    if not isinstance(bijection, Bijection):
        raise ValueError(f"check_bijection expects a Bijection, got {type(bijection).__name__}.")
    name, directions = name or type(bijection).__name__, bijection.directions
    if not directions:
        raise CheckFailed(f"{name}: overrides neither `forward` nor `inverse`.")
    if "forward" not in directions:  # read backwards it is a map that has a forward direction only
        bijection = Inverse(bijection)
    z = _points(bijection, z, n, seed, name).double()
    _check_contexts(bijection, z, context, name)
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
    if both:  # from the other end: is every point of the codomain an image?
        _check_far_end(reference, z, None if context is None else context.double(), seed, name)
    if not counting:
        few, given = z[:4], None if context is None else context[:4].double()
        for text, method in _both(reference, both):
            few = _check_log_det_gradient(reference, text, method, few, given, name)
    _check_gradients(reference, z, None if context is None else context.double(), both, name)
    _check_save_load(moved, bijection, z.float(), None if context is None else context.float(), both, name)
    (trip32, log32), (trip64, log64) = TOLERANCES.values()
    way = "" if both else f" ({next(iter(directions))} only)"
    if counting:
        say(f"✓ {name}{way}: one to one on the enumerated points, log-det 0")
    elif both:
        say(f"✓ {name}: inverse within {trip32:.0e}, log-det {log32:.0e} (float64 {trip64:.0e}, {log64:.0e})")
    else:
        say(f"✓ {name}{way}: log-det within {log32:.0e} (float64 {log64:.0e})")
    measure = "Lebesgue" if bijection.domain is None else bijection.domain.measure
    return BijectionReport(name, measure, tuple(sorted(directions)), trip, log_dets)


def _points(f: Bijection, z: Tensor | None, n: int, seed: int, name: str) -> Tensor:
    shape = f.event_shape
    if shape is not None and not isinstance(shape, tuple) or f.event_dim < 1:
        raise ValueError(f"{name}: expected event_shape to be a tuple and event_dim >= 1, got {shape}, {f.event_dim}.")
    for side in (f.domain, f.codomain):
        if side is not None and not isinstance(side, Space):
            raise ValueError(f"{name}: expected a domain and codomain from nfcourse.spaces, got {side!r}.")
    if z is None:
        if shape is None:
            raise ValueError(
                f"{name} does not say its event_shape: pass points of its domain, z of shape (n, *event), or set "
                "`self.event_shape = (D,)` in the layer."
            )
        far, near = (draw_inputs(f.domain, (n, *shape), scale, seed) for scale in (5.0, 1.0))
        return torch.cat([far[: n // 2], near[n // 2 :]])
    if z.dim() != 1 + f.event_dim or shape is not None and tuple(z.shape[1:]) != tuple(shape):
        expected = ", ".join(map(str, shape)) if shape else f"{f.event_dim} dimensions"
        raise ValueError(f"{name} expects z of shape (n, {expected}), got {tuple(z.shape)}.")
    return z


def _check_contexts(f: Bijection, z: Tensor, context: Tensor | None, name: str) -> None:
    if context is None:
        return
    if f.context_dim is None:
        raise ValueError(f"{name} declares no context_dim, so a Flow would never hand it a context; set one.")
    if context.dim() != 1 + f.context_dim or len(context) != len(z):
        raise ValueError(
            f"{name} expects {len(z)} contexts of {f.context_dim} dimensions, one for each point, got shape "
            f"{tuple(context.shape)}."
        )


def _require(condition: bool, message: str, miss: float = math.inf) -> None:
    if not condition:
        raise CheckFailed(message, miss)


def _both(f: Bijection, both: bool) -> list[tuple[str, Callable]]:
    return [("forward", f), ("inverse", f.inverse)] if both else [("forward", f)]


def _singular_values(f: Bijection, inverse: bool, points: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    """Singular values of JE and their log-product, at each point; float64."""
    space = f.codomain if inverse else f.domain
    jac = _jacobian(f.inverse if inverse else f, points, context)
    frame = None if space is None else space.frame(points)
    stretch = jac if frame is None else jac @ frame
    return torch.linalg.svdvals(stretch.detach()), _log_volume(stretch.detach())


def _log_volume(stretch: Tensor) -> Tensor:
    """The log of the volume of the image of a unit cube."""
    if stretch.shape[-1] == stretch.shape[-2]:
        return torch.linalg.slogdet(stretch).logabsdet
    return 0.5 * torch.linalg.slogdet(stretch.mT @ stretch).logabsdet


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
    """A continuous map of a connected space that is one to one keeps the sign of its determinant."""
    points = torch.cat([z, z / 5]).double() if exact.domain in (None, real) else z.double()
    # given one context: for another the map may turn the other way
    c64 = None if context is None else context[:1].double().expand(len(points), *context.shape[1:])
    jac = _jacobian(exact, points, c64)
    flat = exact.domain is None or exact.domain.frame(points) is None
    if flat and jac.shape[-1] == jac.shape[-2]:
        signs = torch.linalg.slogdet(jac.detach()).sign
        up, down = int((signs > 0).sum()), int((signs < 0).sum())
        _require(
            up == 0 or down == 0,
            f"{label}: the determinant is positive at {up} points, negative at {down}: a fold, or a jump.",
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
            f"{label}: log_det of {text} is {got[i].item():.10g}, autograd says {want[i].item():.10g} "
            f"at point {i} (relative error {off:.3g} > {tol:g})."
            + (_FLOAT32 if at.dtype == torch.float64 and off < 1e-5 else ""),
            off / tol,
        )
        at, worst_of_all = value, max(worst_of_all, off)
    return worst_of_all


def _check_counting(f, z, context, both, label) -> float:
    """Whole numbers: exact, one to one on an enumerated set, and no change of density; for some of the contexts."""
    if context is not None and len(context) > 1:
        return max(_check_counting(f, z, context[k : k + 1], both, label) for k in range(min(4, len(context))))
    space, dims = f.domain, math.prod(z.shape[1:])
    low, high = (space.low, space.high) if math.isfinite(space.low) and math.isfinite(space.high) else (-2, 2)
    if (high - low + 1) ** dims <= ENUMERATED:
        values = torch.arange(low, high + 1, dtype=z.dtype)
        z = torch.cartesian_prod(*[values] * dims).reshape(-1, *z.shape[1:])
    z = z.unique(dim=0)
    context = None if context is None else context.expand(len(z), *context.shape[1:])
    with torch.no_grad():
        x, log_det = f(z, context)
        images = len(x.unique(dim=0))
        _require(images == len(z), f"{label}: {len(z)} points have only {images} images.")
        _require(bool((log_det == 0).all()), f"{label}: log_det of forward is not 0, as counting measure asks.")
        if both:
            back, log_det = f.inverse(x, context)
            wrong = int((back != z).flatten(1).any(1).sum())
            _require(wrong == 0, f"{label}: inverse(forward(z)) is another point for {wrong} of {len(z)} points.")
            _require(bool((log_det == 0).all()), f"{label}: log_det of inverse is not 0, as counting measure asks.")
    return 0.0


def _check_spaces(f, z, context, both, label) -> None:
    with torch.no_grad():
        x = f(z, context)[0]
        sides = [("forward", f.codomain, x)] + ([("inverse", f.domain, f.inverse(x, context)[0])] if both else [])
    for text, space, value in sides:
        _require_inside(space, value, f"{label}: {text}")
    for text, method in _both(f, both):
        space, other = (f.domain, f.codomain) if text == "forward" else (f.codomain, f.domain)
        at = z if text == "forward" else x
        if space is not None:
            with torch.no_grad():
                turned = _difference(other, method(space.again(at), context)[0], method(at, context)[0])
            _require(bool((turned.abs() < 1e-3).all()), f"{label}: {text} takes one point of {space} to two.")


def _require_inside(space: Space | None, value: Tensor, label: str) -> None:
    good = torch.isfinite(value) if space is None else space.check(value)
    if not bool(good.all()):
        i = int((~good).flatten(1).any(1).nonzero()[0]) if good.dim() > 1 else int((~good).nonzero()[0])
        raise CheckFailed(f"{label} returns {value[i].tolist()} at point {i}, outside {space or real}.")


def _check_far_end(f, z, context, seed, name) -> None:
    """Points of the codomain have pre-images in the domain, and return to where they were."""
    x = draw_inputs(f.codomain, (len(z), *f.forward_shape(tuple(z.shape[1:]))), seed=seed + 1)
    with torch.no_grad():
        back = f.inverse(x, context)[0]
        again = f(back, context)[0]
    _require_inside(f.domain, back, f"{name}: the inverse, of points drawn from {f.codomain or 'any space'},")
    size = x.flatten(1).norm(dim=1).clamp_min(1)
    error = _difference(f.codomain, again, x).flatten(1).norm(dim=1) / size
    (i,), off = worst(error.numpy())
    _require(off <= FAR, f"{name}: {x[i].tolist()} of the codomain is no image: it returns as {again[i].tolist()}.")


def _check_log_det_gradient(f, text, method, z, context, name) -> Tensor:
    """The log-determinant changes as that of autograd does, with the point and with each parameter; returns values."""
    parameters = {k: p for k, p in f.named_parameters() if p.requires_grad}
    wanted = {"the point": z.clone().requires_grad_(), **parameters}
    point, space = wanted["the point"], f.domain if text == "forward" else f.codomain
    value, log_det = method(point, context)
    if space is not None and space.frame(z) is not None:
        return value.detach()  # the frame turns with the point, and no derivative of it is known
    sums = log_det.sum(), _log_volume(_jacobian(method, point, context)).sum()
    got, want = (
        torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
        if total.requires_grad
        else [None] * len(wanted)
        for total in sums
    )
    for key, a, b in zip(wanted, got, want, strict=True):
        a, b = (torch.zeros(()) if g is None else g for g in (a, b))
        off = float((a - b).abs().max() / b.abs().max().clamp_min(1))
        _require(
            off <= FAR,
            f"{name}, {text}: the gradient of log_det with respect to {key} is not autograd's (error {off:.3g}).",
        )
    return value.detach()


def _check_shapes(f, z, context, both, label) -> None:
    for batch in ((), (0,), (2, 3)):
        rows = torch.arange(math.prod(batch)) % len(z)
        point, alone = z[rows].reshape(*batch, *z.shape[1:]), z[rows]
        c = given = None if context is None else context[rows]
        if context is not None:
            c = given.reshape(*batch, *context.shape[1:])
        for text, method in _both(f, both):
            with torch.no_grad():
                out = method(point, c)
            if not (isinstance(out, tuple) and len(out) == 2 and all(isinstance(o, Tensor) for o in out)):
                came = [type(o).__name__ for o in out] if isinstance(out, tuple) else type(out).__name__
                raise CheckFailed(f"{label}: {text} must return two tensors (value, log_det), got {came}.")
            value, log_det = out
            event = tuple(f.forward_shape(tuple(z.shape[1:]))) if text == "forward" else tuple(z.shape[1:])
            _require(
                value.shape == (*batch, *event),
                f"{label}: {text} maps {tuple(point.shape)} to {tuple(value.shape)}, expected {(*batch, *event)}.",
            )
            _require(
                log_det.shape == torch.Size(batch),
                f"{label}: log_det of {text} has shape {tuple(log_det.shape)}, expected {batch}: one number for each "
                "point.",
            )
            _require(
                value.dtype == log_det.dtype == z.dtype,
                f"{label}: {text} returns {value.dtype} and {log_det.dtype} for {z.dtype}.",
            )
            # point by point; a conditioner rounds differently in another batch
            each = [method(p, None if given is None else given[i : i + 1]) for i, p in enumerate(alone.split(1))]
            for k, whole in enumerate((value, log_det)):
                if each:
                    parts = torch.cat([e[k].detach() for e in each]).reshape(whole.shape)
                    near = torch.allclose(whole, parts, atol=1e-3, rtol=1e-3)
                    _require(near, f"{label}: {text} gives a point another image in a batch than by itself.")
            point, alone = value, torch.cat([e[0].detach() for e in each]) if each else value.reshape(0, *event)


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
        stored = save_bytes({k: v.contiguous().clone() for k, v in f.state_dict().items()})
        g = copy.deepcopy(fresh).float().eval()
        g.load_state_dict(load_bytes(stored))
        if both:
            other = g(z, context)[0]
            g.initialize(other + 1 if fresh.codomain is real else other, context)
        got = g(z, context)[0]
    _require(torch.equal(want, got), f"{name}: the output changes after saving, loading and initialising again.")
