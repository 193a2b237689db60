"""The loop: ``fit``, and the objective of maximum likelihood."""

import contextlib
import copy
import itertools
import math
import numbers
import operator
import os
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.utils.data import Dataset

from . import files, fingerprint, noise, processes, rows
from .history import History, TrainingDiverged

__all__ = ["NegativeLogLikelihood", "fit"]


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


# --- the loop --------------------------------------------------------------------------------------------------------


def fit(
    model: nn.Module,
    x: Tensor | Dataset,
    *,
    context: Tensor | None = None,
    validation: Tensor | tuple[Tensor, Tensor] | Dataset | None = None,
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

    The model is changed in place. However the run ends, the model is left in eval mode, without gradients, in its best
    validated state, or in its last state when there is no validation set. An epoch visits the data in a new random
    order; its last incomplete batch is dropped (a data set smaller than ``batch_size`` is one batch), so that every
    step weighs the same number of samples.

    Args:
        model: A module whose ``forward(x, context=None)`` returns one log-likelihood, or bound, per sample, in nats.
        x: The data, shape ``(n, *event)``, on any device; or a map-style data set (``len(x)``, ``x[i]`` or
            ``x.__getitems__(list)``) whose items are ``x`` or ``(x, context)``. An item may be drawn at random, by the
            global generators of torch, NumPy or Python, which are seeded before each step.
        context: What the model is conditioned on, shape ``(n, ...)``.
        validation: Held-out data ``x_val``, ``(x_val, context_val)`` or a data set. Scored in eval mode, under equal
            noise.
        epochs: How often to pass over the data. Exactly one of ``epochs`` and ``steps`` is given.
        steps: How many updates to make.
        batch_size: Samples per step, over all processes.
        lr: Learning rate.
        clip: Longest gradient allowed (Euclidean norm over all parameters); longer ones are shortened to it. None: no
            limit. The default cuts off rare spikes of small models; Adam does not mind a gradient that is always cut.
        patience: Stop after this many validations in a row without a new best. None: never.
        validate_every: Steps between validations; by default one epoch. The last step is always validated.
        seed: Fixes the order of the data and all noise of the global generators of torch, NumPy and Python inside the
            model. The caller finds the generators as they were.
        objective: A module ``objective(x, context) -> scalar mean loss`` that contains the model, in place of
            ``NegativeLogLikelihood(model)``. Schedules of its own follow the step, see below.
        optimizer: Called as ``optimizer(parameters, lr=lr)``; by default Adam.
        schedule: The factor on ``lr`` as a function of the part of the run that is done, in [0, 1); ``"cosine"`` is
            :math:`(1 + \cos \pi t)/2`.
        initialize: Whether to call ``model.initialize(x, context)`` on the first batch, if there is such a method. Pass
            False to train on from weights that a second start would spoil.
        device: Where to train; by default where the model's parameters are. Batches are moved as they are used.
        compile: Whether to run the objective through ``torch.compile``.
        checkpoint: A file to which the state of the run is written. If it exists, the run goes on from there; a file
            that another run wrote (other data, model, attributes of the model or settings) or that is damaged is a
            ValueError, and nothing is overwritten. Tensors and ``TensorDataset``, also in a ``Subset``, are compared
            whole, of other data sets a sample of 64 items. More epochs or steps than before are allowed as long as
            there is no schedule. One run at a time has the file, by a lock ``PATH.lock`` beside it.
        checkpoint_every: Steps between writes; by default one epoch.
        progress: Whether to show a bar on a terminal or in a notebook (the variable TQDM_DISABLE=1 hides all bars).

    Returns:
        The ``History`` of the run.

    Raises:
        ValueError: a setting or the data cannot be used; the message says what came.
        TrainingDiverged: loss or gradient became NaN or infinite. The model is left in the last state whose loss was
            finite.
        RuntimeError: another run has the checkpoint, or gradients are switched off by ``torch.inference_mode()``
            (under ``torch.no_grad()`` fit switches them on).
        OSError: the checkpoint cannot be read or written; the message names it.

    **Schedules of the objective.** Every scalar buffer named ``step``, anywhere inside the objective, holds the number
    of updates made so far (one that holds no whole number at the start is a ValueError). What depends on it, the weight
    β of a divergence or a temperature, is then a function of the state, and survives ``torch.compile``, a resumed run
    and several processes. Validations compare states, so score them under one weight, the final one: ``self.training``
    tells the two apart. ::

        class Annealed(nn.Module):
            def __init__(self, vae, warm_up):
                super().__init__()
                self.vae, self.warm_up = vae, warm_up
                self.register_buffer("step", torch.zeros(()))

            def forward(self, x, context=None):
                warm = (self.step / self.warm_up).clamp(max=1.0)
                beta = warm if self.training else 1.0
                reconstruction, divergence = self.vae.terms(x)
                return (beta * divergence - reconstruction).mean()

        fit(vae, x, epochs=10, objective=Annealed(vae, warm_up=1000))

    **Threads.** Noise comes from the generators of the process, so runs in several threads take turns.

    **Processes.** Under ``torchrun`` (see ``distributed``) every process calls ``fit`` with the same arguments and the
    whole data set. Each takes its share of every batch, and loss and gradient are those of the joined batch; only batch
    statistics and noise are a matter of each process. The first process writes the checkpoint, on a path that all can
    read.

    Example:
        >>> import torch
        >>> class Gaussian(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.mean = torch.nn.Parameter(torch.zeros(1))
        ...     def forward(self, x, context=None):
        ...         normal = torch.distributions.Normal(self.mean, 1.0)
        ...         return normal.log_prob(x).sum(-1)
        >>> gaussian = Gaussian()
        >>> x = torch.tensor([[1.0], [2.0], [3.0]])
        >>> options = {"lr": 0.1, "schedule": "cosine", "progress": False}
        >>> history = fit(gaussian, x, steps=300, **options)
        >>> round(gaussian.mean.item(), 3)
        2.0
    """
    rank, world = processes.rank_and_world()
    seed, batch_size, lr, clip, epochs, steps, patience, validate_every, checkpoint_every = _settings(
        seed, batch_size, lr, clip, epochs=epochs, steps=steps, patience=patience, validate_every=validate_every,
        checkpoint_every=checkpoint_every,
    )  # fmt: skip
    objective = NegativeLogLikelihood(model) if objective is None else objective
    parameters = _trainable(model, objective)
    device = parameters[0].device if device is None else torch.device(device)

    with files.locked(checkpoint), noise.turn(device):
        data, held_out = rows.sources(x, context, validation)
        if patience is not None and held_out is None:
            raise ValueError("patience counts validations: give a validation set, or leave patience out")
        n, batch_size = len(data), min(batch_size, len(data))
        if batch_size < world:
            raise ValueError(f"batch_size: each of {world} processes needs a share of every batch, got {batch_size}")
        per_epoch = n // batch_size
        total = steps or epochs * per_epoch
        validate_every, checkpoint_every = validate_every or per_epoch, checkpoint_every or per_epoch

        objective.to(device)
        optimizer = _adam(parameters, lr) if optimizer is None else optimizer(parameters, lr=lr)
        rates = [group["lr"] for group in optimizer.param_groups]
        factor = _schedule(schedule)
        settings = {"batch_size": batch_size, "lr": lr, "clip": clip, "seed": seed, "validate_every": validate_every}
        if schedule is not None and checkpoint is not None:
            settings |= {"schedule": fingerprint.curve(schedule, factor, total), "steps": total}
        saved = files.Checkpoint(checkpoint, settings, objective, optimizer, (data, held_out))
        history, best = saved.read() if saved.exists() else (History(), None)
        step, begun = len(history.steps), time.perf_counter() - history.seconds
        processes.same_everywhere(step, checkpoint, device)
        if step > total:
            raise ValueError(f"{checkpoint} has {step} steps behind it, more than the {total} asked for")

        clock = _Clock(objective, step)
        if step == 0 and initialize and hasattr(model, "initialize"):
            noise.seed_all(device, seed, "initialize")
            try:
                with torch.no_grad():
                    model.initialize(*_take(data, next(_batches(n, batch_size, seed, 0)), device))
            except BaseException:
                objective.eval()
                raise
        compiled = torch.compile(objective) if compile else objective
        trained = processes.parallel(compiled, device)  # all gradients come through this one module
        batches = _batches(n, batch_size, seed, start=step)

        with _States(objective, best) as states, _bar(progress and rank == 0, total, step) as bar:
            objective.train()
            while step < total and (patience is None or history.waited() < patience):
                share = next(batches)[rank::world]
                noise.seed_all(device, seed, "step", step, rank)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor(step / total)
                step += 1

                optimizer.zero_grad()
                # gradients are averaged over processes: by this factor every sample counts alike in unequal shares
                loss = _loss(trained, objective, _take(data, share, device)) * (len(share) * world / batch_size)
                loss.backward()
                processes.all_used(objective)
                norm = nn.utils.clip_grad_norm_(parameters, math.inf if clip is None else clip)
                loss, norm = processes.mean(torch.stack([loss.detach(), norm.detach()])).tolist()
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    raise TrainingDiverged(f"loss {loss:.4g}, gradient norm {norm:.4g}", step, history, settings)
                states.keep()
                optimizer.step()
                if (step % checkpoint_every == 0 or step == total) and not states.finite():
                    raise TrainingDiverged("parameters not finite", step, history, settings)
                clock.show(step)

                history.steps.append(step)
                history.loss.append(loss)
                history.seconds = time.perf_counter() - begun
                bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
                bar.update()
                if held_out is not None and (step % validate_every == 0 or step == total):
                    objective.eval()
                    if history.validated(step, _evaluate(compiled, objective, held_out, batch_size, device, seed)):
                        states.best = copy.deepcopy(objective.state_dict())
                    objective.train()
                if step % checkpoint_every == 0:
                    saved.write(history, states.best)

            if step % checkpoint_every != 0:
                saved.write(history, states.best)
        early = f"no better validation loss in {patience} validations; the best was after step {history.best_step}"
        history.stopped = early if step < total else f"all {total} steps done"
        processes.agree(objective)
        return history


def _batches(n: int, batch_size: int, seed: int, start: int) -> Iterator[Tensor]:
    """Batches of indices without end, from step ``start`` on; each epoch is a permutation drawn from (seed, epoch)."""
    per_epoch = n // batch_size
    for epoch in itertools.count(start // per_epoch):
        generator = torch.Generator("cpu").manual_seed(noise.number(seed, "epoch", epoch))
        # the caller may have set another default device
        batches = torch.randperm(n, generator=generator, device="cpu")[: per_epoch * batch_size].split(batch_size)
        yield from batches[start % per_epoch if epoch == start // per_epoch else 0 :]


def _take(data, index: Tensor, device: torch.device) -> list[Tensor | None]:
    """The rows ``index`` of x and context, on the device."""
    return [None if part is None else part.to(device, non_blocking=True) for part in data.rows(index)]


def _loss(called: nn.Module, objective: nn.Module, batch: list[Tensor | None]) -> Tensor:
    """The loss of a batch, by the objective or what wraps it: a scalar that backward() can start from."""
    loss = called(*batch)
    found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
    if found == "a tensor of shape ()" and not loss.requires_grad and torch.is_grad_enabled():
        found += " that no parameter has a part in"
    elif found == "a tensor of shape ()":
        return loss
    raise ValueError(f"{type(objective).__name__} must return the mean loss, a scalar with a gradient; got {found}")


@torch.no_grad()
def _evaluate(called: nn.Module, objective: nn.Module, data, batch_size: int, device: torch.device, seed: int) -> float:
    """The mean loss over a data set; the processes share its batches.

    The noise of a batch depends on its place alone: states are compared under equal noise, whatever the number of
    processes.
    """
    rank, world = processes.rank_and_world()
    total, n = 0.0, len(data)
    for start in range(rank * batch_size, n, world * batch_size):
        index = torch.arange(start, min(start + batch_size, n), device="cpu")
        noise.seed_all(device, seed, "validation", start)
        total += _loss(called, objective, _take(data, index, device)).item() * len(index)
    if world > 1:
        total = world * processes.mean(torch.tensor(total, dtype=torch.float64, device=device)).item()
    return total / n


class _Clock:
    """The buffers named ``step`` inside a module, which show how many updates were made."""

    def __init__(self, module: nn.Module, step: int):
        self.dials = []
        for name, buffer in module.named_buffers():
            if name.split(".")[-1] != "step" or buffer.ndim > 0 or buffer.dtype == torch.bool or buffer.is_complex():
                continue
            value = buffer.item()
            if not (value >= 0 and value % 1 == 0):  # the length of a step, say; it would be lost
                raise ValueError(
                    f"buffer {name}: fit keeps the number of updates in every scalar buffer named step; expected a "
                    f"whole number, 0 or more, got {value:g}. Give the buffer another name"
                )
            self.dials.append(buffer)
        self.show(step)

    def show(self, step: int) -> None:
        for dial in self.dials:
            dial.fill_(step)


class _States:
    """The states that a run may end in, and the one that it does end in, whatever ends it.

    After a divergence that is the last state whose loss was finite, else the best one, else the last. A copy of the
    real and complex state is refreshed by one fused copy per step (integers cannot become NaN). It holds on to the
    tensors themselves, since layers change their buffers in place.
    """

    def __init__(self, module: nn.Module, best: dict[str, Tensor] | None):
        self.module, self.best = module, best
        tensors = (value for value in module.state_dict().values() if isinstance(value, Tensor))  # extra state is not
        self.live = [tensor for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()]
        self.kept = [tensor.clone() for tensor in self.live]

    def keep(self) -> None:
        torch._foreach_copy_(self.kept, self.live)

    def finite(self) -> bool:
        return all(bool(tensor.isfinite().all()) for tensor in self.live)

    def __enter__(self) -> "_States":
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        if kind is not TrainingDiverged and self.best is not None:
            self.module.load_state_dict(self.best)
        elif kind is TrainingDiverged or not self.finite():
            torch._foreach_copy_(self.live, self.kept)
        self.module.zero_grad()
        self.module.eval()


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


def _bar(wanted: bool, total: int, step: int) -> contextlib.AbstractContextManager:
    """A progress bar. Unless it is unwanted tqdm decides, which shows none where no person can see it."""
    from tqdm.auto import tqdm  # here, since it is an import that only a run needs

    # tqdm reads this variable only when `disable` is not passed
    silenced = os.environ.get("TQDM_DISABLE", "") not in ("", "0")
    return tqdm(total=total, initial=step, unit="step", disable=True if silenced or not wanted else None)


# --- what comes in ---------------------------------------------------------------------------------------------------


def _settings(seed: int, batch_size: int, lr: float, clip: float | None, **counts: int | None) -> tuple:
    """All of them as numbers of Python: equal ones must be equal in words and in hashes too."""
    seed, batch_size, lr = _whole("seed", seed, -math.inf), _whole("batch_size", batch_size), _positive("lr", lr)
    clip = None if clip is None else _positive("clip", clip)
    counts = {name: None if value is None else _whole(name, value) for name, value in counts.items()}
    if (counts["epochs"] is None) == (counts["steps"] is None):
        came = f"epochs={counts['epochs']}, steps={counts['steps']}"
        raise ValueError(f"give exactly one of epochs and steps; got {came}")
    return seed, batch_size, lr, clip, *counts.values()


def _whole(name: str, value, least: float = 1) -> int:
    try:
        number = least - 1 if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = math.nan
    if isinstance(number, float) or number < least:
        raise ValueError(f"{name}: expected a {'positive ' if least == 1 else ''}whole number, got {value!r}")
    return number


def _positive(name: str, value) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a positive number, got {value!r}")
    return float(value)


def _trainable(model: nn.Module, objective: nn.Module) -> list[nn.Parameter]:
    parameters = [p for p in objective.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(f"{type(model).__name__} has no parameter that requires a gradient: there is nothing to fit")
    if not {id(p) for p in model.parameters()} <= {id(p) for p in objective.parameters()}:
        raise ValueError(f"objective: {type(objective).__name__} must contain the model that is fitted as a submodule")
    return parameters
