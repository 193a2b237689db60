r"""Training: one loop for every model of the course, and weights that survive the process.

``fit`` minimises the mean negative log-likelihood :math:`-\frac1n \sum_i \log p(x_i \mid c_i)`, in nats, of any model
whose ``forward(x, context=None)`` returns one log-likelihood, or lower bound on it, per sample. The file has three
parts: the loop (``fit``), the files (``save_weights``, ``load_weights``, checkpoints) and several processes
(``distributed``).

**No hidden state.** All randomness of a run is a function of (seed, step): the order of epoch e is drawn from a
generator seeded by (seed, e), and the global generator, from which a dequantised model draws its noise, is seeded anew
before every step by (seed, step, rank). The learning rate too is a function of the step. So a checkpoint needs no
generator states, and a run that was killed and resumed takes exactly the steps that it would have taken: on a CPU the
weights are equal bit for bit (on a GPU as far as its kernels are deterministic).
"""

import contextlib
import copy
import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from tqdm.auto import tqdm

from nfcourse import check

__all__ = ["History", "NegativeLogLikelihood", "TrainingDiverged", "distributed", "fit", "load_weights", "save_weights"]


class NegativeLogLikelihood(nn.Module):
    r"""The objective of maximum likelihood, in nats.

    .. math::
        L(\theta) = -\frac1b \sum_{i=1}^b \log p_\theta(x_i \mid c_i) .

    Model and objective are one module because DistributedDataParallel, ``torch.compile`` and vmap see only what happens
    inside the ``forward`` of the module that they wrap.

    Args:
        model: A module whose ``forward(x, context)`` returns one log-likelihood, or lower bound on it, per sample.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(
        self, x: Shaped[Tensor, "batch *event"], context: Shaped[Tensor, "batch *condition"] | None = None
    ) -> Float[Tensor, ""]:
        """Return the mean loss of a batch, a scalar."""
        log_p = self.model(x, context)
        if log_p.shape != x.shape[:1]:  # a mean over anything else would still train, towards a wrong target
            raise ValueError(
                f"the model must return one log-likelihood per sample: expected shape {tuple(x.shape[:1])}, "
                f"got {tuple(log_p.shape)} for x of shape {tuple(x.shape)}"
            )
        return -log_p.mean()


@dataclass
class History:
    """What happened during a run: numbers to plot, and why it stopped.

    Attributes:
        steps: 1, 2, …: the steps taken.
        loss: The loss of each step's batch, before the step's update.
        validation_steps: The steps after which the validation set was scored.
        validation: The mean loss on the validation set, one entry per ``validation_steps``.
        best: The lowest finite validation loss; None if there is none.
        best_step: The step after which it was reached.
        seconds: Time spent training, over all resumed parts of the run.
        stopped: Why training ended, in words; empty while it runs.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    validation_steps: list[int] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best: float | None = None
    best_step: int | None = None
    seconds: float = 0.0
    stopped: str = ""

    def validated(self, step: int, loss: float) -> bool:
        """Record a validation loss; return whether it is the best so far. A loss that is not finite never is."""
        self.validation_steps.append(step)
        self.validation.append(loss)
        better = math.isfinite(loss) and (self.best is None or loss < self.best)
        if better:
            self.best, self.best_step = loss, step
        return better

    def waited(self) -> int:
        """Return the number of validations since the best one."""
        since = itertools.takewhile(lambda step: step > (self.best_step or 0), reversed(self.validation_steps))
        return sum(1 for _ in since)


class TrainingDiverged(FloatingPointError):
    """The loss, its gradient or the parameters became NaN or infinite.

    Attributes:
        step: The step at which it happened.
        history: The ``History`` up to the step before.
    """

    def __init__(self, what: str, step: int, history: History, settings: dict):
        super().__init__(
            f"training diverged at step {step}: {what}. The model is back in the last state whose loss was finite. "
            f"Try a smaller lr (now {settings['lr']:g}), a smaller clip (now {settings['clip']}), or data of unit scale"
        )
        self.step, self.history = step, history


# --- the loop -------------------------------------------------------------------------------------------------------


def fit(
    model: nn.Module,
    x: Tensor,
    *,
    context: Tensor | None = None,
    validation: Tensor | tuple[Tensor, Tensor] | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 256,
    lr: float = 1e-3,
    clip: float | None = 10.0,
    patience: int | None = None,
    validate_every: int | None = None,
    seed: int = 0,
    objective: nn.Module | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    schedule: str | Callable[[float], float] | None = None,
    initialize: bool = True,
    device: torch.device | str | None = None,
    compile: bool = False,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    progress: bool = True,
) -> History:
    r"""Fit a model by stochastic gradient descent on its mean negative log-likelihood.

    The model is changed in place. It ends in eval mode, in its best validated state, or in its last state when there
    is no validation set. An epoch visits the data in a new random order; its last incomplete batch is dropped (a data
    set smaller than ``batch_size`` is one batch), so that every step weighs the same number of samples.

    Args:
        model: A module whose ``forward(x, context=None)`` returns one log-likelihood, or bound, per sample, in nats.
        x: The data, shape ``(n, *event)``, on any device.
        context: What the model is conditioned on, shape ``(n, ...)``.
        validation: Held-out data ``x_val``, or ``(x_val, context_val)``. Scored in eval mode, under equal noise.
        epochs: How often to pass over the data. Exactly one of ``epochs`` and ``steps`` is given.
        steps: How many updates to make.
        batch_size: Samples per step, over all processes.
        lr: Learning rate.
        clip: Longest gradient allowed (Euclidean norm over all parameters); longer ones are shortened to it. None: no
            limit. The default cuts off rare spikes of small models; Adam does not mind a gradient that is always cut.
        patience: Stop after this many validations in a row without a new best. None: never.
        validate_every: Steps between validations; by default one epoch. The last step is always validated.
        seed: Fixes the order of the data and all noise inside the model. The caller's generators are left as they were.
        objective: A module ``objective(x, context) -> scalar mean loss`` that contains the model, in place of
            ``NegativeLogLikelihood(model)``.
        optimizer: Called as ``optimizer(parameters, lr=lr)``; by default Adam.
        schedule: The factor on ``lr`` as a function of the part of the run that is done, in [0, 1); ``"cosine"`` is
            :math:`(1 + \cos \pi t)/2`.
        initialize: Whether to call ``model.initialize(x, context)`` on the first batch, if there is such a method. Pass
            False to train on from weights that a second start would spoil.
        device: Where to train; by default where the model's parameters are. Batches are moved as they are used.
        compile: Whether to run the objective through ``torch.compile``.
        checkpoint: A file to which the state of the run is written. If it exists, the run goes on from there; a file
            that another run wrote (other data, model or settings) or that is damaged is a ValueError, and nothing is
            overwritten. More epochs or steps than before are allowed as long as there is no schedule.
        checkpoint_every: Steps between writes; by default one epoch.
        progress: Whether to show a bar on a terminal or in a notebook (the variable TQDM_DISABLE=1 hides all bars).

    Returns:
        The ``History`` of the run.

    Raises:
        ValueError: a setting or the data cannot be used; the message says what came.
        TrainingDiverged: loss or gradient became NaN or infinite. The model is left in the last state whose loss was
            finite.

    Under ``torchrun`` (see ``distributed``) every process calls ``fit`` with the same arguments and the whole data
    set. Each takes its share of every batch, and loss and gradient are those of the joined batch; only batch statistics
    and noise are a matter of each process. The first process writes the checkpoint, on a path that all can read.

    Example:
        >>> import torch
        >>> class Gaussian(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.mean = torch.nn.Parameter(torch.zeros(1))
        ...     def forward(self, x, context=None):
        ...         return torch.distributions.Normal(self.mean, 1.0).log_prob(x).sum(-1)
        >>> gaussian = Gaussian()
        >>> x = torch.tensor([[1.0], [2.0], [3.0]])
        >>> history = fit(gaussian, x, steps=300, lr=0.1, schedule="cosine", progress=False)
        >>> round(gaussian.mean.item(), 3)
        2.0
    """
    rank, world = _processes()
    _check_settings(batch_size=batch_size, lr=lr, clip=clip, epochs=epochs, steps=steps, patience=patience,
                    validate_every=validate_every, checkpoint_every=checkpoint_every)  # fmt: skip
    data, held_out = _check_data(x, context, validation)
    if patience is not None and held_out is None:
        raise ValueError("patience counts validations: give a validation set, or leave patience out")
    batch_size = min(batch_size, len(x))
    if batch_size < world:
        raise ValueError(f"batch_size: each of the {world} processes needs a sample of every batch, got {batch_size}")
    per_epoch = len(x) // batch_size
    total = steps or epochs * per_epoch
    validate_every, checkpoint_every = validate_every or per_epoch, checkpoint_every or per_epoch

    objective = NegativeLogLikelihood(model) if objective is None else objective
    if device is not None:
        objective.to(device)
    parameters = _trainable(model, objective)
    device = parameters[0].device
    optimizer = _adam(parameters, lr) if optimizer is None else optimizer(parameters, lr=lr)
    rates = [group["lr"] for group in optimizer.param_groups]
    factor = _schedule(schedule)
    settings = {"batch_size": batch_size, "lr": lr, "clip": clip, "seed": seed, "validate_every": validate_every}
    if schedule is not None:
        name = schedule if isinstance(schedule, str) else getattr(schedule, "__qualname__", type(schedule).__qualname__)
        settings |= {"schedule": name, "steps": total}
    saved = _Checkpoint(checkpoint, settings, objective, optimizer, data, held_out)
    history, best = saved.read() if saved.exists() else (History(), None)
    step, begun = len(history.steps), time.perf_counter() - history.seconds
    _same_everywhere(step, checkpoint, device)
    if step > total:
        raise ValueError(f"{checkpoint} has {step} steps behind it, more than the {total} asked for")

    bar = tqdm(total=total, initial=step, unit="step", disable=_hidden(progress, rank))
    with bar, _own_randomness(device):
        if step == 0 and initialize and hasattr(model, "initialize"):
            _seed(device, seed, "initialize")
            with torch.no_grad():
                model.initialize(*_take(data, next(_batches(len(x), batch_size, seed, 0)), device))
        compiled = torch.compile(objective) if compile else objective
        trained = _parallel(compiled, device) if world > 1 else compiled  # all gradients come through this one module
        safe = _Shelf(objective)
        batches = _batches(len(x), batch_size, seed, start=step)
        objective.train()

        while step < total and (patience is None or history.waited() < patience):
            share = next(batches)[rank::world]
            _seed(device, seed, "step", step, rank)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor(step / total)
            step += 1

            optimizer.zero_grad()
            # gradients are averaged over processes: the factor makes every sample count alike in shares of unequal size
            loss = trained(*_take(data, share, device)) * (len(share) * world / batch_size)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters, math.inf if clip is None else clip)
            loss, norm = _mean_over_processes(torch.stack([loss.detach(), norm.detach()])).tolist()
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise safe.back(TrainingDiverged(f"loss {loss:.4g}, gradient norm {norm:.4g}", step, history, settings))
            safe.keep()
            optimizer.step()
            if (step % checkpoint_every == 0 or step == total) and not safe.finite():
                raise safe.back(TrainingDiverged("parameters not finite", step, history, settings))

            history.steps.append(step)
            history.loss.append(loss)
            history.seconds = time.perf_counter() - begun
            bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
            bar.update()
            if held_out is not None and (step % validate_every == 0 or step == total):
                objective.eval()
                if history.validated(step, _evaluate(compiled, held_out, batch_size, device, seed)):
                    best = copy.deepcopy(objective.state_dict())
                objective.train()
            if step % checkpoint_every == 0:
                saved.write(history, best)

    if step % checkpoint_every != 0:
        saved.write(history, best)
    early = f"no better validation loss in {patience} validations; the best was after step {history.best_step}"
    history.stopped = early if step < total else f"all {total} steps done"
    if best is not None:
        objective.load_state_dict(best)
    _agree(objective)
    objective.eval()
    return history


def _batches(n: int, batch_size: int, seed: int, start: int) -> Iterator[Tensor]:
    """Batches of indices without end, from step ``start`` on; each epoch is a permutation drawn from (seed, epoch)."""
    per_epoch = n // batch_size
    for epoch in itertools.count(start // per_epoch):
        generator = torch.Generator().manual_seed(_number(seed, "epoch", epoch))
        batches = torch.randperm(n, generator=generator)[: per_epoch * batch_size].split(batch_size)
        yield from batches[start % per_epoch if epoch == start // per_epoch else 0 :]


def _take(data: tuple[Tensor, Tensor | None], index: Tensor | slice, device: torch.device) -> list[Tensor | None]:
    """The rows ``index`` of data and context, on the device."""
    return [None if part is None else part[index].to(device, non_blocking=True) for part in data]


@torch.no_grad()
def _evaluate(objective: nn.Module, data: tuple, batch_size: int, device: torch.device, seed: int) -> float:
    """The mean loss over a data set; the processes share its batches.

    The noise of a batch depends on its place alone: states are compared under equal noise, whatever the number of
    processes.
    """
    rank, world = _processes()
    total, n = 0.0, len(data[0])
    for start in range(rank * batch_size, n, world * batch_size):
        rows = slice(start, min(start + batch_size, n))
        _seed(device, seed, "validation", start)
        total += objective(*_take(data, rows, device)).item() * (rows.stop - rows.start)
    if world > 1:
        total = world * _mean_over_processes(torch.tensor(total, dtype=torch.float64, device=device)).item()
    return total / n


class _Shelf:
    """A copy of a module's floating-point state, refreshed by one fused copy per step (integers cannot become NaN).

    It holds on to the tensors themselves, since layers change their buffers in place.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self.live = [tensor for tensor in module.state_dict().values() if tensor.is_floating_point()]
        self.kept = [tensor.clone() for tensor in self.live]

    def keep(self) -> None:
        torch._foreach_copy_(self.kept, self.live)

    def finite(self) -> bool:
        return all(bool(tensor.isfinite().all()) for tensor in self.live)

    def back(self, error: TrainingDiverged) -> TrainingDiverged:
        """Puts the kept state back and hands the error on."""
        torch._foreach_copy_(self.live, self.kept)
        self.module.eval()
        return error


def _adam(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Adam, in one fused kernel where there is one: 10 to 13 % of a small model's step on a CPU."""
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    return torch.optim.Adam(parameters, lr=lr, fused=fused)


def _schedule(schedule: str | Callable[[float], float] | None) -> Callable[[float], float]:
    if schedule is None:
        return lambda t: 1.0
    if schedule == "cosine":
        return lambda t: (1 + math.cos(math.pi * t)) / 2
    if callable(schedule):
        return schedule
    raise ValueError(f'schedule: expected None, "cosine" or a function of t in [0, 1); got {schedule!r}')


def _hidden(progress: bool, rank: int) -> bool | None:
    """What tqdm is to do: True hides the bar, None leaves it to tqdm, which hides it where no person can see it."""
    # tqdm reads this variable only when `disable` is not passed
    silenced = os.environ.get("TQDM_DISABLE", "") not in ("", "0")
    return True if silenced or not progress or rank > 0 else None


# --- what comes in --------------------------------------------------------------------------------------------------


def _check_settings(batch_size: int, lr: float, clip: float | None, **counts: int | None) -> None:
    for name, value in {"lr": lr, "clip": clip, "batch_size": batch_size, **counts}.items():
        if value is None and name not in ("lr", "batch_size"):
            continue
        kinds, kind = ((int, float), "number") if name in ("lr", "clip") else ((int,), "whole number")
        if not isinstance(value, kinds) or isinstance(value, bool) or not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a positive {kind}, got {value!r}")
    if (counts["epochs"] is None) == (counts["steps"] is None):
        came = f"epochs={counts['epochs']}, steps={counts['steps']}"
        raise ValueError(f"give exactly one of epochs and steps; got {came}")


def _check_data(x: Tensor, context: Tensor | None, validation: Tensor | tuple | None) -> tuple[tuple, tuple | None]:
    """The first pass over the data: everything is there, finite, and of one length."""
    data = _check_pair("x", x, "context", context)
    if validation is None:
        return data, None
    if isinstance(validation, Tensor):
        validation = (validation, None)
    if not (isinstance(validation, tuple | list) and len(validation) == 2):
        raise ValueError(f"validation: expected x_val or (x_val, context_val), got {type(validation).__name__}")
    held_out = _check_pair("validation x", validation[0], "validation context", validation[1])
    for name, part, like in (("x", held_out[0], x), ("context", held_out[1], context)):
        if (part is None) != (like is None):
            raise ValueError(f"{name}: give it for training and for validation, or for neither")
        if part is not None and part.shape[1:] != like.shape[1:]:
            raise ValueError(
                f"validation {name}: expected shape (n, {', '.join(map(str, like.shape[1:]))}) as in training, "
                f"got {tuple(part.shape)}"
            )
    return data, held_out


def _check_pair(name: str, x: Tensor, context_name: str, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
    for title, part in ((name, x), (context_name, context)):
        if part is None and title == context_name:
            continue
        if not isinstance(part, Tensor):
            raise ValueError(f"{title}: expected a tensor of shape (n, ...), got {type(part).__name__}")
        if part.ndim == 0 or part.numel() == 0:
            raise ValueError(f"{title}: expected at least one sample, shape (n, ...), got shape {tuple(part.shape)}")
        check.validate(part, name=title)
    if context is not None and len(context) != len(x):
        raise ValueError(f"{context_name}: expected one row per sample, {len(x)}, got {len(context)}")
    return x, context


def _trainable(model: nn.Module, objective: nn.Module) -> list[nn.Parameter]:
    parameters = [p for p in objective.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(f"{type(model).__name__} has no parameter that requires a gradient: there is nothing to fit")
    if not {id(p) for p in model.parameters()} <= {id(p) for p in objective.parameters()}:
        raise ValueError(f"objective: {type(objective).__name__} must contain the model that is fitted as a submodule")
    return parameters


# --- randomness -----------------------------------------------------------------------------------------------------


def _number(*key: int | str) -> int:
    """A seed that depends on every part of the key, without pattern."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest()) >> 1


def _seed(device: torch.device, *key: int | str) -> None:
    """Seeds the global generators from which a model on this device draws."""
    number = _number(*key)
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)


def _own_randomness(device: torch.device) -> contextlib.AbstractContextManager:
    """Puts the caller's generators back at the end (on MPS, the CPU's only)."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


# --- files ----------------------------------------------------------------------------------------------------------


def save_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Write parameters and persistent buffers of a model to a safetensors file.

    The file appears whole or not at all. Tensors that the model uses under several names are stored under each.

    Args:
        model: The module to store.
        path: The file; folders above it are made, an existing file is replaced.
    """
    _write(path, _tensors(model), {"format": "nfcourse weights 1"})


def load_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Read a model's parameters and buffers from a file of ``save_weights``, in place.

    Args:
        model: A module with the same names, shapes and dtypes as the one that was stored. It may be on any device.
        path: The file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or names, shapes or dtypes differ; the message lists them, and the model is
            unchanged.
    """
    tensors, _ = _read(path)
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
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise ValueError(f"{path} does not fit this {type(module).__name__}: {'; '.join(sorted(wrong)[:8])}{more}")
    module.load_state_dict(tensors)


def _tensors(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    state = module.state_dict()
    other = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if other:
        raise ValueError(f"{type(module).__name__}: only tensors can be stored, not {', '.join(other)}")
    return {prefix + name: value for name, value in state.items()}


def _write(path: str | os.PathLike, tensors: dict[str, Tensor], metadata: dict) -> None:
    """Writes a safetensors file with a checksum, beside its place, and moves it there when it is whole."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    # cloned: the format refuses tensors that share memory
    tensors = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    text = json.dumps(metadata, sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(part, "wb") as file:
            file.write(safetensors.torch.save(tensors, {"nfcourse": text, "sha256": _digest(tensors, text)}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)  # one step for the file system: a reader finds the old file or the new one
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _read(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict]:
    """Tensors and metadata of a safetensors file; one that this module wrote must match its checksum."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error}); delete it or give another") from error
    text = metadata.get("nfcourse", "{}")
    if "sha256" in metadata and metadata["sha256"] != _digest(tensors, text):
        raise ValueError(f"{path} is damaged: its content does not match its checksum; delete it or give another")
    return tensors, json.loads(text)


def _digest(tensors: dict[str, Tensor], text: str = "") -> str:
    """SHA-256 over names, dtypes, shapes and bytes."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class _Checkpoint:
    """The state of a run in one file. Without a path it never exists, and writing does nothing.

    What decides where a run goes (settings, data, names and shapes of the model) is kept in the file in words, so that
    no run goes on from the file of another.
    """

    FORMAT = "nfcourse checkpoint 1"
    LISTS = {"steps": torch.int64, "loss": torch.float64, "validation_steps": torch.int64, "validation": torch.float64}

    def __init__(self, path, settings: dict, objective: nn.Module, optimizer, data: tuple, held_out: tuple | None):
        self.path, self.objective, self.optimizer = path, objective, optimizer
        if path is None:
            return
        self.settings = {name: str(value) for name, value in settings.items()}
        x_val, context_val = held_out or (None, None)
        parts = {"x": data[0], "context": data[1], "validation x": x_val, "validation context": context_val}
        for name, part in parts.items():
            self.settings[name] = "None" if part is None else f"{tuple(part.shape)} SHA-256 {_digest({'': part})[:12]}"
        shapes = repr([(name, tuple(t.shape), str(t.dtype)) for name, t in _tensors(objective).items()])
        model = f"{type(objective).__name__} SHA-256 {hashlib.sha256(shapes.encode()).hexdigest()[:12]}"
        how = {name: value for name, value in optimizer.defaults.items() if name not in ("foreach", "fused")}
        self.settings |= {"model": model, "optimizer": f"{type(optimizer).__name__} {how}"}

    def exists(self) -> bool:
        return self.path is not None and Path(self.path).exists()

    def write(self, history: History, best: dict[str, Tensor] | None) -> None:
        """Stores all that the next step depends on. The first process writes for all."""
        if self.path is None or _processes()[0] > 0:
            return
        tensors = _tensors(self.objective, "now/") | {f"best/{name}": tensor for name, tensor in (best or {}).items()}
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
            tensors[f"history/{name}"] = torch.tensor(record.pop(name), dtype=kind)
        content = {"format": self.FORMAT, "settings": self.settings, "history": record, "optimizer": numbers}
        _write(self.path, tensors, content)

    def read(self) -> tuple[History, dict[str, Tensor] | None]:
        """Puts model and optimizer where the run left them; returns its history and its best state."""
        tensors, content = _read(self.path)
        if content.get("format") != self.FORMAT:
            raise ValueError(f"{self.path} is not a checkpoint of fit; give another path")
        was = content["settings"]
        wrong = [
            f"{name} was {was.get(name, 'not set')}, is {self.settings.get(name, 'not set')}"
            for name in sorted(was.keys() | self.settings.keys())
            if was.get(name) != self.settings.get(name)
        ]
        if wrong:
            raise ValueError(
                f"{self.path} belongs to another run: {'; '.join(wrong)}. "
                "Give another path, or delete the file to start anew"
            )
        groups: dict[str, dict] = {"now": {}, "best": {}, "optimizer": {}, "history": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = tensor
        _load(self.objective, groups["now"], self.path)
        state: dict[int, dict] = {}
        for name, value in (groups["optimizer"] | content["optimizer"]).items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        lists = {name: groups["history"][name].tolist() for name in self.LISTS}
        return History(**content["history"], **lists), groups["best"] or None


# --- several processes ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def distributed() -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` started, and give each its device.

    The same script runs in one process and in many, on CPUs (gloo) and NVIDIA GPUs (NCCL)::

        with train.distributed() as device:
            train.fit(model.to(device), x, epochs=10)

        # python script.py                                     one process
        # torchrun --standalone --nproc-per-node=4 script.py   four

    Yields:
        The device of this process: its own GPU if there is one for each; without ``torchrun`` the best of the machine.
    """
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        yield torch.device(kind)
        return
    gpus = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpus else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def _processes() -> tuple[int, int]:
    """The number of this process, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # else every process would train alone, and all write one checkpoint
        raise RuntimeError("the processes of torchrun do not know each other: call fit inside `with distributed():`")
    return 0, 1


def _parallel(objective: nn.Module, device: torch.device) -> nn.Module:
    return nn.parallel.DistributedDataParallel(objective, device_ids=[device] if device.type == "cuda" else None)


def _mean_over_processes(values: Tensor) -> Tensor:
    world = _processes()[1]
    if world > 1:
        dist.all_reduce(values)
        values = values / world
    return values


def _same_everywhere(step: int, path: str | os.PathLike | None, device: torch.device) -> None:
    """Processes that start from different steps would wait for each other for ever."""
    if _processes()[1] > 1:
        ends = torch.tensor([step, -step], device=device)
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        last, first = ends[0].item(), -ends[1].item()
        if first != last:
            raise ValueError(
                f"{path} is at step {first} for one process, {last} for another: use a path that all can read"
            )


def _agree(module: nn.Module) -> None:
    """All processes end together, with the first one's running statistics, and when its last checkpoint is written."""
    if _processes()[1] > 1:
        dist.barrier()
        for buffer in module.buffers():
            if buffer.is_floating_point():
                dist.broadcast(buffer, 0)
