"""Several processes and threads: they train as one, take turns, and die without a trace.

Run as a script, by torchrun, this file is the processes that train as one.
"""

import concurrent.futures
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_train import Gaussian, Noisy, data, quiet, same, state
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


class Annealed(nn.Module):
    """A loss that grows with the step."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.register_buffer("step", torch.zeros(()))

    def forward(self, x, context=None):
        return -self.step * self.model(x, context).mean()


def run(folder, name, model=None, **settings):
    """Fits; returns losses, gradients of the last step and weights as one dictionary of tensors."""
    generator = torch.Generator().manual_seed(1)
    x, context = torch.randn(21, 3, generator=generator) * 3, torch.randn(21, 2, generator=generator)
    model = Conditional() if model is None else model
    held_out = (x[:11], context[:11])
    history = train.fit(model, x, context=context, validation=held_out, lr=0.05, progress=False, **settings)
    found = {f"{name} loss": torch.tensor(history.loss), f"{name} validation": torch.tensor(history.validation)}
    found |= {f"{name} gradient {key}": p.grad for key, p in model.named_parameters()}
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
    (tmp_path / "run").unlink()
    alone = runs(tmp_path)
    assert first.keys() == second.keys() == alone.keys()
    for name, expected in alone.items():
        if name.startswith("statistics state"):  # each process normalises its own share; in the end all are equal
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
        save_file(found, folder / str(rank))


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
