"""Files: weights, and checkpoints that a run goes on from.

A file appears whole or not at all, and carries a checksum. Damage is a ValueError; a file that the system does not let
us read or write is an OSError that names it, and says nothing of damage.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from . import fingerprint, processes
from .history import History

__all__ = ["Checkpoint", "load_weights", "locked", "read_tensors", "save_weights", "write_tensors"]


def save_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Write parameters and persistent buffers of a model to a safetensors file.

    The file appears whole or not at all. Tensors that the model uses under several names are stored under each.

    Args:
        model: The module to store.
        path: The file; folders above it are made, an existing file is replaced. Of a link, the file it leads to.

    Raises:
        OSError: the file cannot be written (the disk is full, say); an earlier file is as it was.
    """
    write_tensors(path, _tensors(model), {"format": "nfcourse weights 1"})


def load_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Read a model's parameters and buffers from a file of ``save_weights``, in place.

    Args:
        model: A module with the same names, shapes and dtypes as the one that was stored. It may be on any device.
        path: The file.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: the file is damaged, or names, shapes or dtypes differ; the message lists them, and the model is
            unchanged.
    """
    tensors, _ = read_tensors(path)
    _load(model, tensors, path)


def _load(module: nn.Module, tensors: dict[str, Tensor], path: str | os.PathLike) -> None:
    """``load_state_dict`` with nothing missing, unexpected or converted."""
    expected = module.state_dict()
    wrong = [f"{name} is missing" for name in expected if name not in tensors]
    wrong += [f"{name} is unexpected" for name in tensors if name not in expected]
    for name in expected.keys() & tensors.keys():
        here, there = (f"{tuple(t.shape)} {t.dtype}" for t in (expected[name], tensors[name]))
        if here != there:
            wrong.append(f"{name} is {there} in the file, {here} in the model")
    if wrong:
        raise ValueError(f"{path} does not fit this {type(module).__name__}: {_some(sorted(wrong))}")
    module.load_state_dict(tensors)


def _some(differences: list[str]) -> str:
    more = f"; and {len(differences) - 8} more" if len(differences) > 8 else ""
    return "; ".join(differences[:8]) + more


def _tensors(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    state = module.state_dict()
    other = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if other:
        raise ValueError(f"{type(module).__name__}: only tensors can be stored, not {', '.join(other)}")
    return {prefix + name: value for name, value in state.items()}


# --- one file -------------------------------------------------------------------------------------------------------


def _target(path: str | os.PathLike) -> Path:
    """The file itself: a link would be replaced, and have a lock of its own."""
    return Path(os.path.realpath(path))  # Path.resolve has an error of its own for links in a circle


def write_tensors(path: str | os.PathLike, tensors: dict[str, Tensor], metadata: dict) -> None:
    """Write a safetensors file with a checksum, beside its place, and move it there when it is whole."""
    import safetensors.torch

    path = _target(path)
    part = path.with_name(f"{path.name}.{os.urandom(6).hex()}.part")  # each writer has its own
    # cloned: the format refuses tensors that share memory
    tensors = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    text = json.dumps(metadata, sort_keys=True)
    content = safetensors.torch.save(tensors, {"nfcourse": text, "sha256": fingerprint.digest(tensors, text)})
    try:
        with _named(path, "cannot be written ({}); nothing was changed, an earlier file there is as it was"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)  # one step for the file system: a reader finds the old file or the new one
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            part.unlink()
        raise


def read_tensors(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict]:
    """Return tensors and metadata of a safetensors file; one that this module wrote must match its checksum."""
    import safetensors.torch

    with _named(path, "cannot be read ({})"):
        content = Path(path).read_bytes()
    try:
        tensors = safetensors.torch.load(content)
        # the format: eight bytes that say how long the header is, and the header
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error}); delete it or give another") from error
    metadata = header.get("__metadata__", {})
    text = metadata.get("nfcourse", "{}")
    ours = metadata.keys() & {"nfcourse", "sha256"}  # either: an altered byte may hide the name of one
    if ours and metadata.get("sha256") != fingerprint.digest(tensors, text):
        raise ValueError(f"{path} is damaged: its content does not match its checksum; delete it or give another")
    return tensors, json.loads(text)


@contextlib.contextmanager
def _named(path: str | os.PathLike, what: str) -> Iterator[None]:
    """Lets an error of the system through as one of its own kind that names the file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, what.format(error.strerror or error), str(path)) from error


@contextlib.contextmanager
def locked(path: str | os.PathLike | None) -> Iterator[None]:
    """Keep a checkpoint to one run. The system gives it back when the process ends, however it ends.

    The first process holds it for all. The lock is an empty file ``PATH.lock``, which stays.

    Raises:
        RuntimeError: another run has it.
    """
    if path is None or processes.rank_and_world()[0] > 0:
        yield
        return
    from filelock import FileLock, Timeout

    path = _target(path)
    with _named(f"{path}.lock", "cannot be locked ({})"):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            lock = None
    if lock is None:
        raise RuntimeError(
            f"{path} is in use: another run, in this process or another, has its lock {path}.lock. "
            "Wait until that run has ended, or give another path"
        )
    try:
        left = re.compile(re.escape(path.name) + r"\.[0-9a-f]{12}\.part")  # by writers that were killed
        for file in path.parent.iterdir():
            if left.fullmatch(file.name):
                file.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


# --- checkpoints ----------------------------------------------------------------------------------------------------


class Checkpoint:
    """The state of a run in one file. Without a path it never exists, and writing does nothing.

    What decides where a run goes (settings, data, optimiser, and the model's classes, attributes and shapes) is kept in
    the file in words, so that no run goes on from the file of another, and the message can say what differs. Attributes
    that change while the run goes on (counters, caches) are left out; buffers outside of the state_dict that change are
    stored.

    Args:
        path: The file, or None.
        settings: Numbers and words that the run depends on.
        objective: The module whose state is stored.
        optimizer: The optimiser, whose state is stored too.
        sources: Where the rows of training and validation come from (see ``rows``).
    """

    FORMAT = "nfcourse checkpoint 3"
    LISTS = {"steps": torch.int64, "loss": torch.float64, "validation_steps": torch.int64, "validation": torch.float64}

    def __init__(self, path, settings: dict, objective: nn.Module, optimizer: torch.optim.Optimizer, sources: tuple):
        self.path, self.objective, self.optimizer = path, objective, optimizer
        if path is None:
            return
        self.path = _target(path)
        _tensors(objective)  # what cannot be stored is to be told before the first step
        self.settings = {name: str(value) for name, value in settings.items()}
        for source in sources:
            self.settings |= source.description() if source is not None else {}
        self.settings |= fingerprint.recipe(optimizer, objective)
        self.start, self.changed = fingerprint.configuration(objective), set()

    def exists(self) -> bool:
        """Whether there is a file to go on from."""
        return self.path is not None and self.path.exists()

    def write(self, history: History, best: dict[str, Tensor] | None) -> None:
        """Store all that the next step depends on. The first process writes for all."""
        if self.path is None or processes.rank_and_world()[0] > 0:
            return
        now = fingerprint.configuration(self.objective)
        self.changed |= {name for name in now.keys() | self.start.keys() if now.get(name) != self.start.get(name)}
        tensors = _tensors(self.objective, "now/") | {f"best/{name}": tensor for name, tensor in (best or {}).items()}
        for name, buffer in self.objective.named_buffers(remove_duplicate=False):
            if f"objective.{name}" in self.changed and f"now/{name}" not in tensors:
                tensors[f"buffers/{name}"] = buffer
        numbers = {}
        for index, state in self.optimizer.state_dict()["state"].items():
            for name, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{index}/{name}"] = value
                elif value is None or isinstance(value, int | float):
                    numbers[f"{index}/{name}"] = value
                else:
                    kind = type(self.optimizer).__name__
                    raise ValueError(f"{kind} cannot be stored: {name} is a {type(value).__name__}")
        record = asdict(history)
        for name, kind in self.LISTS.items():
            tensors[f"history/{name}"] = torch.tensor(record.pop(name), dtype=kind, device="cpu")
        fixed = {name: text for name, text in self.start.items() if name not in self.changed}
        content = {"format": self.FORMAT, "settings": self.settings | fixed, "changed": sorted(self.changed),
                   "history": record, "optimizer": numbers, "groups": self._groups()}  # fmt: skip
        write_tensors(self.path, tensors, content)

    def _groups(self) -> list[dict]:
        """The plain values of each group of parameters: some optimisers count there. The learning rate fit sets."""
        others = ("lr", *fingerprint.HOW)
        return [
            {name: v for name, v in group.items() if name not in others and isinstance(v, int | float | str | None)}
            for group in self.optimizer.param_groups
        ]

    def read(self) -> tuple[History, dict[str, Tensor] | None]:
        """Put model and optimizer where the run left them; return its history and its best state."""
        tensors, content = read_tensors(self.path)
        if content.get("format") != self.FORMAT:
            kind = content.get("format", "no format")
            raise ValueError(f"{self.path} is not a checkpoint of this fit (it has {kind}); give another path")
        self.changed = set(content["changed"])
        was = content["settings"]
        now = self.settings | {name: text for name, text in self.start.items() if name not in self.changed}
        wrong = [
            f"{name} was {was.get(name, 'not set')}, is {now.get(name, 'not set')}"
            for name in [*now, *sorted(was.keys() - now.keys())]
            if was.get(name) != now.get(name)
        ]
        if wrong:
            raise ValueError(
                f"{self.path} belongs to another run: {_some(wrong)}. "
                "Give another path, or delete the file to start anew"
            )
        groups: dict[str, dict] = {"now": {}, "best": {}, "buffers": {}, "optimizer": {}, "history": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = tensor
        _load(self.objective, groups["now"], self.path)
        device = next(self.objective.parameters()).device
        for name, tensor in groups["buffers"].items():
            owner, _, name = name.rpartition(".")
            self.objective.get_submodule(owner)._buffers[name] = tensor.to(
                device
            )  # training may have changed its shape
        state: dict[int, dict] = {}
        for name, value in (groups["optimizer"] | content["optimizer"]).items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = value
        param_groups = self.optimizer.state_dict()["param_groups"]
        for group, plain in zip(param_groups, content["groups"], strict=True):
            group |= plain
        self.optimizer.load_state_dict({"state": state, "param_groups": param_groups})
        lists = {name: groups["history"][name].tolist() for name in self.LISTS}
        return History(**content["history"], **lists), groups["best"] or None
