"""What comes in: tensors or a data set, checked once and read alike.

A source has a length, gives the rows of an index, and describes itself::

    len(source)
    source.rows(index)      # x (batch, *event) and context (batch, ...) or None
    source.description()    # {"x": what it is, in words and as a digest}
"""

import itertools
import numbers

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from ..values import validate
from . import noise
from .fingerprint import digest, name_of

__all__ = ["sources"]

_OR_DATASET = " or a data set with __len__ and __getitem__ (torch.as_tensor makes a tensor of a list or an array)"


class _Tensors:
    """Rows of tensors in memory. Their values are looked at once, here."""

    def __init__(self, title: str, x: Tensor, context: Tensor | None):
        self.parts = {f"{title}x": x, f"{title}context": context}
        for name, part in self.parts.items():
            if part is None and name.endswith("context"):
                continue
            if not isinstance(part, Tensor):
                more = _OR_DATASET if name.endswith("x") else ""
                raise ValueError(f"{name}: expected a tensor of shape (n, ...){more}, got {type(part).__name__}")
            if part.ndim == 0 or part.numel() == 0:
                raise ValueError(f"{name}: expected at least one sample, shape (n, ...), got shape {tuple(part.shape)}")
            validate(part, name=name)
        if context is not None and len(context) != len(x):
            raise ValueError(f"{title}context: expected one row per sample, {len(x)}, got {len(context)}")

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        x, context = (None if part is None else part[index] for part in self.parts.values())
        return x, context

    def description(self) -> dict[str, str]:
        return {
            name: "None" if part is None else f"{tuple(part.shape)} SHA-256 {digest({'': part})[:12]}"
            for name, part in self.parts.items()
        }


class _Items:
    """Rows of a data set whose items are x or (x, context). Every batch is looked at when it is read."""

    def __init__(self, title: str, dataset: Dataset, context: None):
        if context is not None:
            raise ValueError(f"{title}context: the items of a data set bring their own, as (x, context); leave it out")
        if len(dataset) == 0:
            raise ValueError(f"{title}x: expected at least one sample, got an empty {type(dataset).__name__}")
        self.title, self.dataset = title, dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        index, title, kind = index.tolist(), self.title, type(self.dataset).__name__
        many = getattr(self.dataset, "__getitems__", None)
        items = many(index) if many else [self.dataset[i] for i in index]
        for item in itertools.islice(items, 1):  # one sample, or a pair? No shape would tell
            if isinstance(item, tuple | list) and all(isinstance(part, numbers.Number) for part in item):
                raise ValueError(
                    f"{title}x: an item of {kind} is the {type(item).__name__} of numbers {item!r:.80}, which may be x "
                    "or (x, context): return a tensor or an array"
                )
        try:
            batch = default_collate(items)
        except (TypeError, RuntimeError, ValueError) as error:
            raise ValueError(f"{title}x: items {index[:3]}… of {kind} do not stack to tensors: {error}") from error
        x, context, *more = [*batch, None] if isinstance(batch, tuple | list) else [batch, None]
        if any(part is not None for part in more):
            raise ValueError(f"{title}x: expected items x or (x, context), got {len(more) + 1} parts from {kind}")
        for name, part in (("x", x), ("context", context)):
            if part is not None:
                _check_items(f"{title}{name}", part, index)
        return x, context

    def description(self) -> dict[str, str]:
        dataset, chosen = self.dataset, []
        while type(dataset) is Subset:  # of a subclass we do not know what it does
            chosen.append(str([int(i) for i in dataset.indices]))
            dataset = dataset.dataset
        whole = type(dataset) is TensorDataset
        tensors = {str(i): part for i, part in enumerate(dataset.tensors)} if whole else self._sample()
        found = f"{'all' if whole else 'some'} with SHA-256 {digest(tensors, ' of '.join(chosen))[:12]}"
        return {f"{self.title}x": f"{name_of(type(self.dataset))} of {len(self)} items, {found}"}

    def _sample(self) -> dict[str, Tensor]:
        """Up to 64 items, the first and the last among them, read twice."""
        index = torch.tensor(sorted({i * (len(self) - 1) // 63 for i in range(64)}), device="cpu")
        read = []
        for _ in range(2):
            noise.seed_all(torch.device("cpu"), "description")  # equal draws for items that are random
            x, context = self.rows(index)
            read.append({"x": x} if context is None else {"x": x, "context": context})
        if digest(read[0]) != digest(read[1]):
            raise ValueError(
                f"{self.title}x: {type(self.dataset).__name__} gives other items when it is read again, though the "
                "global generators are as before, so that no run could go on from a checkpoint. Draw from the global "
                "generators of torch, NumPy or Python, or leave checkpoint out"
            )
        return read[0]


def _check_items(name: str, part: Tensor, index: list[int]) -> None:
    """Refuse values that cannot be used; name the item, not its place in the batch."""
    try:
        validate(part, name=name)
    except ValueError:
        for i, row in zip(index, part if isinstance(part, Tensor) else (), strict=False):
            validate(row, name=f"{name}, item {i}")
        raise
    if len(part) != len(index):
        raise ValueError(f"{name}: expected {len(index)} rows for as many items, got {len(part)}")


def _is_dataset(value) -> bool:
    """Whether rows are read by number; containers that are more likely a slip are not taken for data sets."""
    slips = str | bytes | list | tuple | dict | np.ndarray | Tensor
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, slips)


def _source(title: str, x, context) -> _Tensors | _Items:
    return (_Items if _is_dataset(x) else _Tensors)(title, x, context)


def sources(x, context: Tensor | None, validation) -> tuple[_Tensors | _Items, _Tensors | _Items | None]:
    """Return the sources of training and validation; everything is there, finite, of one length and of one shape.

    Args:
        x: A tensor, or a map-style data set.
        context: The tensor that goes with it, or None.
        validation: None, x, or (x, context).

    Raises:
        ValueError: something cannot be used; the message says what came.
    """
    data = _source("", x, context)
    if validation is None:
        return data, None
    pair = (validation, None) if isinstance(validation, Tensor) or _is_dataset(validation) else validation
    if not (isinstance(pair, tuple | list) and len(pair) == 2):
        raise ValueError(f"validation: expected x_val or (x_val, context_val), got {type(validation).__name__}")
    held_out = _source("validation ", *pair)
    first = torch.tensor([0], device="cpu")
    for name, part, like in zip(("x", "context"), held_out.rows(first), data.rows(first), strict=True):
        if (part is None) != (like is None):
            raise ValueError(f"{name}: give it for training and for validation, or for neither")
        if part is not None and part.shape[1:] != like.shape[1:]:
            raise ValueError(
                f"validation {name}: expected shape (n, {', '.join(map(str, like.shape[1:]))}) as in training, "
                f"got (n, {', '.join(map(str, part.shape[1:]))})"
            )
    return data, held_out
