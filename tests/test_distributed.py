"""Several processes, threads and lives: runs train as one, take turns, die without a trace, and go on.

Run as a script, by torchrun, this file is the processes that train as one.
"""

import concurrent.futures
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_train import Annealed, Gaussian, Noisy, Rows, data, quiet, same, state
from test_train_files import process, result
from torch import nn

from nfcourse import train
from nfcourse.train import files

ROOT = Path(__file__).parent.parent


class Conditional(nn.Module):
    """x | c ~ N(net(c), σ²)."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3))
        self.log_scale = nn.Parameter(torch.zeros(3))

    def forward(self, x, context=None):
        return torch.distributions.Normal(self.net(context), self.log_scale.exp()).log_prob(x).sum(-1)


class Statistics(nn.Module):
    """A model with running statistics, the one thing that processes see differently while they train."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x, context=None):
        return -self.norm(x).square().sum(-1)


def run(folder, name, model=None, **settings):
    """Fits; returns losses, gradients of the last step and weights as one dictionary of tensors."""
    generator = torch.Generator().manual_seed(1)
    x, context = torch.randn(21, 3, generator=generator) * 3, torch.randn(21, 2, generator=generator)
    model = Conditional() if model is None else model
    held_out = (x[:11], context[:11])
    found, grads = {}, lambda: {f"{name} gradient {key}": p.grad.clone() for key, p in model.named_parameters()}

    def optimizer(*arguments, **settings):
        adam = torch.optim.Adam(*arguments, **settings)
        adam.register_step_pre_hook(lambda *_: found.update(grads()))  # after the run there are none
        return adam

    settings |= {"lr": 0.05, "optimizer": optimizer, "progress": False}
    history = train.fit(model, x, context=context, validation=held_out, **settings)
    found |= {f"{name} loss": torch.tensor(history.loss), f"{name} validation": torch.tensor(history.validation)}
    return found | {f"{name} state {key}": value.clone() for key, value in model.state_dict().items()}


def runs(folder):
    """One step; several with unequal shares and clipping; a run that is stopped and resumed; batch statistics."""
    found = run(folder, "one step", steps=1, batch_size=8, clip=None)
    model = Conditional()
    found |= run(folder, "annealed", model, objective=Annealed(model), steps=3, batch_size=6)
    found |= run(folder, "unequal", epochs=3, batch_size=7, clip=0.5)
    run(folder, "", steps=4, batch_size=5, checkpoint=folder / "run", checkpoint_every=3)
    found |= run(folder, "resumed", steps=9, batch_size=5, checkpoint=folder / "run", checkpoint_every=3)
    return found | run(folder, "statistics", Statistics(), epochs=2, batch_size=7)


def test_two_processes_train_as_one(tmp_path):
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, __file__, tmp_path], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (load_file(tmp_path / f"{rank}") for rank in (0, 1))
    assert first.pop("writes") == 4 and second.pop("writes") == 0  # the first process alone writes checkpoints
    assert first.pop("refused") and second.pop("refused")  # a checkpoint that only one process can read
    assert first.pop("idle") and second.pop("idle")  # a parameter for whose gradient all would wait
    (tmp_path / "run").unlink()
    alone = runs(tmp_path)
    assert first.keys() == second.keys() == alone.keys()
    for name, expected in alone.items():
        if name.startswith("statistics state"):  # each process normalizes its own share; in the end all are equal
            assert torch.equal(first[name], second[name]), name
        elif not name.startswith("statistics"):
            for found in (first, second):
                worst = (found[name] - expected).abs().max().item()
                assert worst <= 1e-6 * max(1.0, expected.abs().max().item()), f"{name}: off by {worst:.1e}"


def test_without_torchrun_there_is_one_process(monkeypatch):
    with train.distributed() as device:
        assert isinstance(device, torch.device) and not torch.distributed.is_initialized()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="with distributed"):
        train.fit(Statistics(), torch.zeros(4, 3), steps=1)


# --- one run at a time


class Waiting(Gaussian):
    """Says that its run has begun, and then waits until it may go on."""

    folder = None

    def forward(self, x, context=None):
        (self.folder / "begun").touch()
        await_file(self.folder / "go")
        return super().forward(x)


def await_file(path):
    for _ in range(6000):
        if path.exists():
            return
        time.sleep(0.01)
    raise TimeoutError(path)


def wait_in_a_run(folder):
    Waiting.folder = Path(folder)
    quiet(Waiting(), data(), steps=4, checkpoint=Waiting.folder / "run")
    print("true")


@pytest.mark.parametrize("where", ["process", "thread"])
def test_a_checkpoint_in_use_is_refused_at_once(tmp_path, where):
    path, go, Waiting.folder = tmp_path / "run", tmp_path / "go", tmp_path
    go.touch()
    quiet(Waiting(), data(), steps=2, checkpoint=path)
    before = path.read_bytes()
    go.unlink(), (tmp_path / "begun").unlink()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        other = process(wait_in_a_run, tmp_path) if where == "process" else threads.submit(wait_in_a_run, tmp_path)
        await_file(tmp_path / "begun")
        with pytest.raises(RuntimeError, match=f"{path} is in use: another run, in this process or another"):
            quiet(Waiting(), data(), steps=4, checkpoint=path)
        assert path.read_bytes() == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["begun", "run", "run.lock"]
        go.touch()
        assert result(other) if where == "process" else other.result() is None
    assert len(quiet(Waiting(), data(), steps=4, checkpoint=path).steps) == 4


# --- they take turns


def test_writers_of_one_file_do_not_meet(tmp_path):
    path, models = tmp_path / "weights", [Noisy() for _ in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: train.save_weights(models[i % 8], path), range(80)))
    train.load_weights(Noisy(), path)
    assert list(tmp_path.iterdir()) == [path]


def test_runs_in_threads_are_the_runs_that_they_would_be_alone():
    def run(seed):
        model = Noisy()
        return quiet(model, data(), steps=150, batch_size=16, seed=seed).loss, state(model)["mean"].tolist()

    alone = [run(seed) for seed in range(3)]
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        assert list(threads.map(run, range(3))) == alone


def test_a_run_inside_a_run_leaves_the_outer_one_as_it_was():
    class Nested(Noisy):
        inner = False

        def forward(self, x, context=None):
            if self.inner and self.training:
                quiet(Noisy(), data(), steps=2, batch_size=8)
            return super().forward(x, context)

    plain, nested = Nested(), Nested()
    nested.inner = True
    assert quiet(plain, data(), steps=5).loss == quiet(nested, data(), steps=5).loss


# --- they die


def long_run(path, model, **settings):
    x = data()
    return quiet(
        model, x, context=None, validation=x[:50], steps=40, batch_size=32, lr=0.05, schedule="cosine",
        validate_every=7, checkpoint=path, checkpoint_every=10, **settings,
    )  # fmt: skip


def run_and_die(path, when):
    """Runs until it is killed: in the forward pass of step 25, or while the checkpoint of step 30 is half written."""

    forward = Noisy.forward

    def mortal(model, x, context=None):
        if when == "step" and model.training and model.calls == 24:
            os.kill(os.getpid(), signal.SIGKILL)
        return forward(model, x, context)

    Noisy.forward = mortal  # no subclass: the run of another class would not be resumed
    model = Noisy()
    replace = os.replace

    def half(source, target):
        if model.calls == 30:
            os.truncate(source, os.path.getsize(source) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    if when == "write":
        os.replace = half
    long_run(path, model)


@pytest.mark.parametrize(("when", "left"), [("step", 20), ("write", 20)])
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, when, left):
    path = tmp_path / "run.safetensors"
    killed = process(run_and_die, path, when)
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("run.safetensors.*.part"))) == (when == "write")
    resumed, whole = Noisy(), Noisy()
    a, b = long_run(path, resumed), long_run(None, whole)
    assert resumed.calls == 40 - left
    assert same(state(resumed), state(whole))
    assert (a.loss, a.validation, a.best_step, a.stopped) == (b.loss, b.validation, b.best_step, b.stopped)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.safetensors", "run.safetensors.lock"]


def kill_many(folder):
    """One warm process whose children are runs; it kills them at random moments, and ends with one that may live."""
    import safetensors.torch  # noqa: F401  what a run imports late, its children shall not import each
    import tqdm.auto  # noqa: F401
    from filelock import FileLock  # noqa: F401

    torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    folder = Path(folder)

    def child(name):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                settings = {"batch_size": 32, "lr": 0.05, "schedule": "cosine", "validate_every": 7}
                quiet(Noisy(), data(), validation=data(50), steps=250, checkpoint=folder / name, checkpoint_every=1,
                      **settings)  # fmt: skip
                status = 0
            finally:
                os._exit(status)
        return pid

    begun = time.perf_counter()
    assert os.waitpid(child("whole"), 0)[1] == 0
    seconds, draw, killed, steps = time.perf_counter() - begun, random.Random(0), 0, [0]
    for _ in range(20):
        pid = child("run")
        time.sleep(draw.uniform(0, seconds / 8))
        os.kill(pid, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        if (folder / "run").exists():
            steps.append(len(files.read_tensors(folder / "run")[0]["history/steps"]))  # raises if damaged
    assert os.waitpid(child("run"), 0)[1] == 0
    print(json.dumps({"killed": killed, "steps": steps}))


def test_twenty_deaths_leave_no_trace(tmp_path):
    found = result(process(kill_many, tmp_path))
    assert found["killed"] >= 15 and found["steps"] == sorted(found["steps"])
    assert len(set(found["steps"])) > 5, "the runs died before their first checkpoint, which shows nothing"
    run, whole = (files.read_tensors(tmp_path / name)[0] for name in ("run", "whole"))
    assert same(run, whole) and len(run["history/steps"]) == 250 and any(name.startswith("best/") for name in run)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "run.lock", "whole", "whole.lock"]


# --- they go on


@pytest.mark.parametrize("optimizer", [None, torch.optim.AdamW, functools.partial(torch.optim.SGD, momentum=0.9)])
def test_a_finished_run_returns_at_once_and_can_be_extended(tmp_path, optimizer):
    path, x = tmp_path / "run", data()
    settings = {"batch_size": 64, "optimizer": optimizer}
    first, again, longer, straight = Noisy(), Noisy(), Noisy(), Noisy()
    history = quiet(first, x, epochs=3, checkpoint=path, **settings)
    assert quiet(again, x, epochs=3, checkpoint=path, **settings) == history
    assert again.calls == 0 and same(state(again), state(first))
    quiet(longer, x, epochs=5, checkpoint=path, **settings)
    quiet(straight, x, epochs=5, **settings)
    assert longer.calls == 6 and same(state(longer), state(straight)) and not same(state(longer), state(first))
    with pytest.raises(ValueError, match="15 steps behind it, more than the 9"):
        quiet(Noisy(), x, epochs=3, checkpoint=path, **settings)


class Augmented(Rows):  # items that are new at each visit, by all three generators
    seen = []

    def __getitem__(self, i):
        x = super().__getitem__(i) + torch.randn(2) + random.random() + torch.from_numpy(np.random.randn(2)).float()
        self.seen.append((i, x.tolist()))
        return x


def test_random_items_are_the_same_after_a_resume(tmp_path):
    def run(epochs, path):
        Augmented.seen.clear()
        random.seed(1), np.random.seed(1), torch.manual_seed(epochs)
        model = Noisy()
        quiet(model, Augmented(data(20)), epochs=epochs, batch_size=5, validation=Augmented(data(6)), checkpoint=path)
        ours = random.Random(1).random(), np.random.RandomState(1).rand()
        assert (random.random(), np.random.rand()) == ours  # the caller's generators are as they were
        return model

    whole = run(4, None)
    assert len({str(x) for i, x in Augmented.seen if i == 7}) == 4  # new at each visit
    run(2, tmp_path / "run")
    assert same(state(run(4, tmp_path / "run")), state(whole))


class Changing(Noisy):
    def __init__(self):
        super().__init__()
        self.bound = 1.0
        self.register_buffer("drift", torch.zeros(2), persistent=False)
        self.register_buffer("grown", None, persistent=False)

    def initialize(self, x, context=None):
        self.ready = True

    def forward(self, x, context=None):
        if self.training:
            self.last = x
            self.drift += 0.01
            self.grown = torch.ones(self.calls + 1)
        return super().forward(x + self.drift, context)


def test_what_changes_in_training_is_no_other_run(tmp_path):
    path, whole, first, other = tmp_path / "run", Changing(), Changing(), Changing()
    quiet(whole, data(), steps=6)
    quiet(first, data(), steps=3, checkpoint=path)
    copy = shutil.copy(path, tmp_path / "copy")
    quiet(first, data(), steps=6, checkpoint=path)
    quiet(other, data(), steps=4, checkpoint=copy)
    quiet(other, data(), steps=6, checkpoint=copy)
    for model in (first, other):
        assert same(state(model), state(whole)) and torch.equal(model.drift, whole.drift)
    assert first.grown.shape == (6,)
    first.bound = 2.0
    with pytest.raises(ValueError, match="another run: objective.model.bound was 1.0, is 2.0. "):
        quiet(first, data(), steps=6, checkpoint=path)


class Counting(torch.optim.SGD):  # as schedule-free optimisers do
    def __init__(self, parameters, lr):
        super().__init__(parameters, lr=lr)
        self.param_groups[0] |= {"k": 0, "warm": True, "note": None}

    def step(self, closure=None):
        group = self.param_groups[0]
        group["k"] += 1
        group["lr"] /= group["k"]
        super().step(closure)


@pytest.mark.parametrize("schedule", [None, "cosine"])
def test_numbers_in_the_groups_of_an_optimiser_are_kept(tmp_path, schedule):
    def run(path, death=99):
        model = Gaussian()
        alive = iter([True] * death)
        model.register_forward_hook(lambda *_: None if next(alive, False) else 1 / 0)
        quiet(model, data(), steps=6, optimizer=Counting, schedule=schedule, checkpoint=path, checkpoint_every=1)
        return state(model)

    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "run", death=3)
    assert same(run(tmp_path / "run"), run(None))


def test_extra_state_is_fitted_and_cannot_be_stored(tmp_path):
    class Stateful(Noisy):
        def get_extra_state(self):
            return {"calls": self.calls}

        def set_extra_state(self, state):
            self.calls = state["calls"]

    model = Stateful()
    assert quiet(model, data(), validation=data(20), steps=5, lr=0.5).best_step == model.calls
    with pytest.raises(ValueError, match="only tensors can be stored, not model._extra_state"):
        quiet(Stateful(), data(), steps=2, checkpoint=tmp_path / "run")


def test_items_that_cannot_be_drawn_again_have_no_checkpoint(tmp_path):
    class Own(Rows):
        def __getitem__(self, i):
            return super().__getitem__(i) + torch.randn(2, generator=own)

    own = torch.Generator()
    quiet(Gaussian(), Own(data()), steps=1)
    with pytest.raises(ValueError, match="x: Own gives other items when it is read again, .*leave checkpoint out"):
        quiet(Gaussian(), Own(data()), steps=1, checkpoint=tmp_path / "run")


# --- the processes of torchrun


def worker(folder):
    signal.alarm(100)  # processes that wait for each other end all the same
    writes = []
    write = files.write_tensors
    # slow, so that a process which does not wait for the end of a write would read the checkpoint before
    files.write_tensors = lambda *arguments: (writes.append(1), time.sleep(0.2), write(*arguments))
    with train.distributed() as device:
        assert device.type == "cpu" and torch.distributed.get_world_size() == 2
        rank = torch.distributed.get_rank()
        found = runs(folder) | {"writes": torch.tensor(len(writes)), "refused": torch.tensor(False)}
        try:
            run(folder, "", steps=9, batch_size=5, checkpoint=folder / ("run" if rank == 0 else "elsewhere"))
        except ValueError as error:
            found["refused"] = torch.tensor("at step 0 for one process, 9 for another" in str(error))
        model = Conditional()
        model.spare = nn.Parameter(torch.zeros(2))
        try:
            run(folder, "", model, steps=3, batch_size=6)
        except ValueError as error:
            found["idle"] = torch.tensor("the loss does not reach model.spare: use them in" in str(error))
        save_file(found, folder / str(rank))


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
