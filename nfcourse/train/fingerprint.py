"""What tells one run from another, in words: no run goes on from the checkpoint of another.

Everything here is text that is equal in every process that runs the same script. It contains no addresses, no hashes of
objects and no state that training changes: a tensor that carries a gradient is known by its shape alone.
"""

import dataclasses
import enum
import functools
import hashlib
import logging
import types
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from pathlib import PurePath

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["HOW", "configuration", "curve", "describe", "digest", "name_of", "recipe"]

#: what every module has of its own, and what ``module.compile()`` adds
_INTERNALS = nn.Module().__dict__.keys() | {"_compiled_call_impl"}
#: what an optimiser's group of parameters says of how a step is computed, not which
HOW = ("foreach", "fused")
#: what Python's ``repr`` tells in full
_PLAIN = bool | int | float | complex | str | bytes | torch.dtype | range | slice | Decimal | torch.device | PurePath


def digest(tensors: dict[str, Tensor], text: str = "") -> str:
    """Return the SHA-256 over names, dtypes, shapes and bytes."""
    sha = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def name_of(thing: type | Callable) -> str:
    """Return where a class or function is defined."""
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", type(thing).__qualname__)
    return f"{getattr(thing, '__module__', None) or 'builtins'}.{name}"


def configuration(objective: nn.Module) -> dict[str, str]:
    """Return the class of every module inside the objective, its plain attributes, and the shapes of its state.

    Two couplings that differ in ``bound`` alone have the same weights and are still two models.
    """
    found = {}
    for path, module in objective.named_modules(prefix="objective"):
        found[path] = name_of(type(module))
        for name, value in module.__dict__.items():
            if name not in _INTERNALS and not name.startswith("_torchdynamo"):  # torch.compile keeps addresses there
                found[f"{path}.{name}"] = _short(describe(value))
        tensors = module.named_parameters(recurse=False), module.named_buffers(recurse=False)
        for name, value in (pair for pairs in tensors for pair in pairs):
            # what is not in the state_dict is made by the constructor; the step is set by fit
            fixed = name in module._non_persistent_buffers_set and name != "step"
            found[f"{path}.{name}"] = describe(value) if fixed else f"{tuple(value.shape)} {value.dtype}"
    return found


def recipe(optimizer: torch.optim.Optimizer, objective: nn.Module) -> dict[str, str]:
    """Return the optimiser's class and, of each group of parameters, who is in it and how it is treated."""
    names = {id(p): name for name, p in objective.named_parameters()}
    groups, kind = optimizer.param_groups, type(optimizer)
    found = {"optimizer": f"{kind.__qualname__} ({kind.__module__}) with {len(groups)} group(s) of parameters"}
    for number, group in enumerate(groups):
        members = [names.get(id(p), "?") for p in group["params"]]
        found[f"optimizer group {number}: parameters"] = _short(f"{len(members)}: {', '.join(members)}")
        for name, value in group.items():
            if name not in ("params", *HOW):
                found[f"optimizer group {number}: {name}"] = _short(describe(value))
    return found


def curve(schedule: str | Callable[[float], float], factor: Callable[[float], float], total: int) -> str:
    """Return a schedule as it acts: two functions of one name are told apart by their values in the steps of the run.

    Of more than 4096 steps as many are compared, evenly spaced.
    """
    n = min(total, 4096)
    values = [f"{float(factor(t)):.9g}" for t in (0.0, 0.25, 0.5, 0.75, *(i * total // n / total for i in range(n)))]
    name = schedule if isinstance(schedule, str) else "a function"
    return f"{name} with values {', '.join(values[:4])} at 0, 1/4, 1/2, 3/4 ({n} values: {_sha(' '.join(values[4:]))})"


def describe(value, inside: tuple[int, ...] = ()) -> str:
    """Return a value in words.

    Numbers, strings, containers, dataclasses and arrays by content; classes and functions by name, functions of Python
    by code and closure too; modules of torch by their class; all else by its class and attributes.

    Args:
        value: Anything.
        inside: The containers around it, so that one which contains itself comes to an end.
    """
    if value is None or isinstance(value, _PLAIN):
        return f"{name_of(type(value))}.{value.name}" if isinstance(value, enum.Enum) else repr(value)
    if id(value) in inside:
        return "itself"
    again = functools.partial(describe, inside=(*inside, id(value)))
    if isinstance(value, enum.Enum):
        return f"{name_of(type(value))}.{value.name}"
    if isinstance(value, Tensor):
        known = value.requires_grad or value.is_meta or value.layout is not torch.strided
        return f"tensor {tuple(value.shape)} {value.dtype}" + ("" if known else f" SHA-256 {digest({'': value})[:12]}")
    if isinstance(value, np.generic):
        return again(value.item())
    if isinstance(value, np.ndarray):
        content = again(value.tolist()) if value.dtype.hasobject else _sha(value.tobytes())
        return f"array {value.shape} {value.dtype} {content}"
    if isinstance(value, list | tuple | deque):
        return f"{'' if type(value) in (list, tuple) else name_of(type(value))}({', '.join(map(again, value))})"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(again, value)))}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(f'{again(k)}: {again(v)}' for k, v in value.items()))}}}"
    if isinstance(value, type):
        return name_of(value)
    if dataclasses.is_dataclass(value):
        fields = (f"{field.name}={again(getattr(value, field.name, None))}" for field in dataclasses.fields(value))
        return f"{name_of(type(value))}({', '.join(fields)})"
    if isinstance(value, functools.partial):
        return f"partial of {again(value.func)} with {again(value.args)} {again(value.keywords)}"
    if isinstance(value, types.MethodType):
        return f"{again(value.__func__)} of {again(value.__self__)}"
    if isinstance(value, types.FunctionType):
        return _function(value, again)
    if isinstance(value, types.BuiltinFunctionType):
        return name_of(value)
    if isinstance(value, np.ufunc | types.ModuleType):
        return f"{name_of(type(value))} {value.__name__}"
    if isinstance(value, nn.Module | logging.Logger):  # a module has its own entries, a logger leads to all the others
        return name_of(type(value))
    attributes = object.__getstate__(value)  # of __dict__ and __slots__; a class's own may refuse, or leave some out
    return name_of(type(value)) + (f" with {again(attributes)}" if attributes else "")


def _function(f: types.FunctionType, again: Callable) -> str:
    """A function's name, and a digest of all that its definition fixes; of torch's own functions the name is enough."""
    f = getattr(f, "_torchdynamo_orig_callable", f)  # torch.compile keeps the state of its work around it
    plain = f.__closure__ is None and not hasattr(f, "__wrapped__")  # else it depends on more than its name
    if plain and all(f"{name}.".startswith("torch.") for name in (f.__module__, f.__globals__.get("__name__"))):
        return name_of(f)
    parts = [again(getattr(f, "__wrapped__", None)), _code(f.__code__, again)]
    parts += [again(f.__defaults__), again(f.__kwdefaults__)]
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
        try:
            parts.append(f"{name}={again(cell.cell_contents)}")
        except ValueError:  # a name that is not bound yet
            parts.append(f"{name} is empty")
    return f"{name_of(f)} SHA-256 {_sha(' '.join(parts))}"


def _code(code: types.CodeType, again: Callable) -> str:
    """Bytecode, names and constants; the code of inner functions is one of the constants."""
    constants = [_code(c, again) if isinstance(c, types.CodeType) else again(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _sha(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:12]


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:80]}… SHA-256 {_sha(text)}"
