"""Shapes of points: what layers check about their inputs, and the sum over one point.

Only shapes and dtypes are looked at: layers never branch on the data, so that they compile and vectorise.
"""

import operator
from functools import wraps

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "as_event_shape",
    "as_sample_shape",
    "broadcast",
    "check_context",
    "check_dtype",
    "check_event",
    "full_precision",
    "name_of",
    "one_of",
    "sum_event",
]


def as_event_shape(shape: int | tuple[int, ...], name: str) -> tuple[int, ...]:
    """Return ``shape`` as a tuple of positive integers, or raise a ValueError naming the class that asks."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if not shape or any(not isinstance(n, int) or n < 1 for n in shape):
        raise ValueError(f"{name} expects a shape of positive integers, got {shape}.")
    return shape


def as_sample_shape(shape: int | tuple[int, ...]) -> torch.Size:
    """Return the shape of a draw; a number n is ``(n,)``."""
    try:
        return torch.Size((operator.index(shape),) if hasattr(shape, "__index__") else shape)
    except TypeError:
        raise ValueError(f"expected a number of draws or a shape such as (500,), got {shape!r}.") from None


def broadcast(name: str, *batches: torch.Size) -> torch.Size:
    """Return the common batch shape of points, contexts and bases, or raise a ValueError naming the class that asks."""
    try:
        return torch.broadcast_shapes(*batches)
    except RuntimeError as error:
        got = ", ".join(str(tuple(b)) for b in batches)
        raise ValueError(f"{name}: points and contexts have batch shapes {got}, which do not broadcast.") from error


def _fits(value: Tensor, shape: tuple[int | None, ...]) -> bool:
    event = value.shape[value.dim() - len(shape) :]
    if event == shape:  # the common case, at once
        return True
    return value.dim() >= len(shape) and all(m == (n or max(m, 1)) for n, m in zip(shape, event, strict=True))


def _say(shape: tuple[int | None, ...]) -> str:
    return ", ".join(["*batch", *("any" if n is None else str(n) for n in shape)])


def check_event(value: Tensor, shape: tuple[int | None, ...], name: str, like: Tensor | None = None) -> None:
    """Raise a ValueError unless ``value`` is floating point and ends in ``shape``; ``None`` there is any length >= 1.

    Args:
        value: The input.
        shape: The event shape that is expected.
        name: The class that asks.
        like: A parameter of the layer, whose dtype the input must share.
    """
    if not value.dtype.is_floating_point:
        raise ValueError(f"{name} expects a floating-point tensor, got {value.dtype}.")
    if not _fits(value, shape):
        raise ValueError(f"{name} expects inputs of shape ({_say(shape)}), got {tuple(value.shape)}.")
    if like is not None:
        check_dtype(value, like, name)


def check_dtype(value: Tensor, like: Tensor, name: str) -> None:
    """Raise a ValueError unless the dtypes agree (under autocast they may differ)."""
    if value.dtype != like.dtype and not _autocast(value):
        raise ValueError(
            f"{name} has {like.dtype} weights and expects inputs of that dtype, got {value.dtype}: "
            f"convert the input or the model, for instance with `.to({value.dtype})`."
        )


def check_context(context: Tensor | None, shape: tuple[int | None, ...], batch: torch.Size | None, name: str) -> None:
    """Raise a ValueError unless there is a context of that event shape and, where given, exactly that batch."""
    if context is None:
        raise ValueError(f"{name} expects a context of shape ({_say(shape)}), got none.")
    if not context.dtype.is_floating_point or not _fits(context, shape):
        raise ValueError(
            f"{name} expects floating-point contexts of shape ({_say(shape)}), got {context.dtype} of shape "
            f"{tuple(context.shape)}."
        )
    got = context.shape[: context.dim() - len(shape)]
    if batch is not None and got != batch:
        raise ValueError(
            f"{name} expects inputs and contexts of one batch shape, got {tuple(batch)} and {tuple(got)}. "
            "A Flow broadcasts them; a layer called by itself does not."
        )


def _autocast(value: Tensor) -> bool:
    """Whether autocast is on where a tensor lives; the meta device has none."""
    return value.device.type != "meta" and torch.is_autocast_enabled(value.device.type)


def full_precision(method):
    """Decorate a map to run outside autocast: in mixed precision only conditioners run in a shorter format."""

    @wraps(method)
    def run(self, value, context=None):
        if not _autocast(value):
            return method(self, value, context)
        with torch.autocast(value.device.type, enabled=False):
            return method(self, value, context)

    return run


def sum_event(value: Float[Tensor, "..."], event_dim: int) -> Float[Tensor, "..."]:
    """Sum over the last ``event_dim`` dimensions (none: the value itself)."""
    if event_dim == 1:
        return value.sum(-1)
    return value.flatten(value.dim() - event_dim).sum(-1) if event_dim else value


def one_of(name: str, attribute: str, parts: list) -> int | None:
    """Return the one value of an attribute that parts have, None if none has any; a ValueError if they differ."""
    named = [(getattr(part, attribute, None), name_of(part)) for part in parts]
    known = [(value, part) for value, part in named if value is not None]
    if len({value for value, _ in known}) > 1:
        said = ", ".join(f"{value} from {part}" for value, part in known)
        raise ValueError(f"{name} expects one {attribute} for all its parts, got {said}.")
    return known[0][0] if known else None


def name_of(thing) -> str:
    """Return what a message calls a thing: its class, or that it is itself a class; of a tensor its dtype and shape."""
    if isinstance(thing, Tensor):
        return f"{thing.dtype} of shape {tuple(thing.shape)}"
    return f"the class {thing.__name__}, not an instance" if isinstance(thing, type) else type(thing).__name__
