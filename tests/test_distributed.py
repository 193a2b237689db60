"""Training in two processes: the same loss and gradients as one process on the joined batch.

Run as a script, by torchrun, this file is those processes.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from nfcourse import train

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
    history = train.fit(model, x, context=context, validation=held_out, lr=0.05, progress=False, **settings)
    found = {f"{name} loss": torch.tensor(history.loss), f"{name} validation": torch.tensor(history.validation)}
    found |= {f"{name} gradient {key}": p.grad for key, p in model.named_parameters()}
    return found | {f"{name} state {key}": value.clone() for key, value in model.state_dict().items()}


def runs(folder):
    """One step; several with unequal shares and clipping; a run that is stopped and resumed; batch statistics."""
    found = run(folder, "one step", steps=1, batch_size=8, clip=None)
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


def worker(folder):
    signal.alarm(100)  # processes that wait for each other end all the same
    writes = []
    write = train._write
    # slow, so that a process which does not wait for the end of a write would read the checkpoint before
    train._write = lambda *arguments: (writes.append(1), time.sleep(0.2), write(*arguments))
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
