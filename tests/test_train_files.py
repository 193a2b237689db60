"""What is left of a run: the model's state, weights and checkpoints, whole or not there at all."""

import dataclasses
import enum
import errno
import functools
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
from collections import deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_train import Gaussian, Linear, Noisy, Rows, data, quiet, same, sgd, state
from torch import nn
from torch.utils.data import Subset, TensorDataset

import nfcourse as nf
from nfcourse.train import TrainingDiverged, files, fingerprint, load_weights, save_weights

ROOT = Path(__file__).parent.parent


def process(function, *arguments, **settings):
    """A process of its own that runs a function of a test file. The classes keep the names that they have here."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    code = f"import sys, {function.__module__} as t; t.{function.__name__}(*sys.argv[1:])"
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | settings
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.PIPE)


def result(running):
    """What such a process prints, when it has ended well."""
    out, _ = running.communicate(timeout=120)
    assert running.returncode == 0
    return json.loads(out.splitlines()[-1])


# --- a run ends well


class Poisoned(Noisy):
    """Turns bad in one step, in the value or in the gradient alone."""

    def __init__(self, at, where):
        super().__init__()
        self.at, self.where, self.seen = at, where, []
        self.turn = nn.Parameter(torch.ones(2, dtype=torch.complex64))

    def forward(self, x, context=None):
        self.seen.append(state(self))
        if self.calls + 1 == self.at and self.where == "value":
            x = x * math.nan
        log_p = super().forward(x, context) - self.turn.abs().square().sum()
        if self.calls == self.at and self.where == "gradient":
            log_p = log_p + torch.where(self.mean[0] < 99, 0.0, (self.mean[0] * 0).sqrt())
        return log_p


@pytest.mark.parametrize("where", ["value", "gradient"])
def test_a_lost_loss_stops_training_in_the_last_finite_state(where):
    model = Poisoned(7, where)
    with pytest.raises(TrainingDiverged, match="diverged at step 7: loss .*smaller lr") as caught:
        quiet(model, data(), steps=20, batch_size=32)
    assert caught.value.step == 7 and caught.value.history.steps == [1, 2, 3, 4, 5, 6]
    for name in ("mean", "turn"):  # these parameters gave the sixth loss, the last finite one
        assert torch.equal(getattr(model, name), model.seen[5][name])
    assert torch.equal(model.running, model.seen[6]["running"]) and model.running.isfinite().all()
    assert not model.training


def test_a_state_that_is_not_finite_is_never_left_nor_stored(tmp_path):
    class Steep(Linear):
        def forward(self, x, context=None):
            if not self.theta.isfinite():
                raise ZeroDivisionError
            return 1e3 * super().forward(x)

    for steps, error in ((1, TrainingDiverged), (3, ZeroDivisionError)):  # lost in the last update, and in the first
        model = Steep()
        with pytest.raises(error, match="parameters not finite" if steps == 1 else None):
            sgd(model, torch.zeros(2, 1), steps=steps, lr=1e38, clip=None, checkpoint=tmp_path / "run",
                checkpoint_every=3)  # fmt: skip
        assert model.theta.item() == 0 and not model.training and not (tmp_path / "run").exists()


class Walking(Gaussian):
    """Its mean walks by 0.1 a step past the held-out data at 0.52; in one step something happens."""

    def __init__(self, at, event):
        super().__init__()
        self.calls, self.at, self.event = 0, at, event
        self.log_scale.requires_grad_(False)

    def forward(self, x, context=None):
        self.calls += self.training
        if self.calls == self.at:
            self.event()
        return super().forward(x)


walk = functools.partial(sgd, x=torch.full((8, 2), 5.0), steps=12, lr=0.1, clip=math.sqrt(2), validate_every=1)


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("held_out", [None, torch.full((6, 2), 0.52)])
def test_whatever_ends_the_run_the_model_is_left_at_its_best(end, held_out):
    def event():
        raise end

    model = Walking(9, event)
    with pytest.raises(end):
        walk(model, validation=held_out)
    assert torch.allclose(model.mean, torch.tensor(0.8 if held_out is None else 0.5), atol=1e-4)
    assert not model.training


def test_early_stop_keeps_the_best_state(tmp_path):
    # the mean walks by 0.1 a step from 0 towards 5, past the held-out data at 0.52
    x, held_out = torch.full((8, 2), 5.0), torch.full((6, 2), 0.52)
    settings = {"steps": 100, "lr": 0.1, "clip": math.sqrt(2), "validate_every": 1, "patience": 3}

    def run():
        model = Gaussian()
        model.log_scale.requires_grad_(False)
        return model, sgd(model, x, validation=held_out, checkpoint=tmp_path / "run", **settings)

    model, history = run()
    assert torch.allclose(model.mean, torch.tensor(0.5), atol=1e-4)
    assert history.best_step == 5 and history.validation_steps == list(range(1, 9)) and len(history.loss) == 8
    assert history.best == min(history.validation) == pytest.approx(-model(held_out).mean().item(), abs=1e-6)
    assert history.stopped == "no better validation loss in 3 validations; the best was after step 5"
    resumed, again = run()
    assert again.loss == history.loss and same(state(resumed), state(model))


# --- never another run's


class Bounded(Gaussian):
    """A setting that no weight shows."""

    def __init__(self, bound, act=torch.tanh):
        super().__init__()
        self.inner = nn.Sequential(nn.Identity())
        self.inner[0].bound, self.act = bound, act


def spline(bound):
    return nf.Flow(nf.StandardNormal(2), nf.SplineCoupling(2, layers=1, bound=bound))


def masked(value):
    model = Gaussian()
    model.register_buffer("mask", torch.tensor(value), persistent=False)
    return model


def library(at, value):
    return TensorDataset(data().index_fill(0, torch.tensor(at), value))


def grouped(parameters, lr, scale=0.1, first=1):
    parameters = list(parameters)
    groups = [{"params": parameters[:first], "lr": scale * lr}, {"params": parameters[first:]}]
    return torch.optim.SGD(groups, lr=lr, momentum=0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.5}, "lr was 0.01, is 0.5"),
        ({"x": data(seed=1)}, "x was .* is "),
        ({"x": Rows(data())}, r"x was \(200, 2\) .* is test_train.Rows of 200 items"),
        ({"model": Noisy()}, "objective.model was test_train.Gaussian, is test_train.Noisy"),
        ({"optimizer": torch.optim.SGD}, "optimizer was Adam .* is SGD"),
        ({"schedule": "cosine"}, "schedule was not set, is cosine"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, change, message):
    path = tmp_path / "run"
    settings = {"model": Gaussian(), "x": data(), "steps": 2, "lr": 0.01, "checkpoint": path}
    quiet(**settings)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"belongs to another run: .*{message}.*delete the file"):
        quiet(**settings | change)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("model", lambda i: Bounded((5.0, 2.0)[i]), "objective.model.inner.0.bound was 5.0, is 2.0"),
        ("model", lambda i: spline((5.0, 2.0)[i]), "bound was 5.0, is 2.0"),
        ("model", lambda i: Bounded(1, (torch.tanh, torch.sin)[i]), "act was torch.*tanh, is torch.*sin"),
        ("model", masked, "objective.model.mask was tensor .* is tensor"),
        ("schedule", lambda i: (lambda t: 1 - t, lambda t: 1 - t / 2)[i], "schedule was .* 0.5, 0.25 .* 0.75, 0.625"),
        ("optimizer", lambda i: functools.partial(grouped, scale=(0.1, 0.2)[i]), "group 0: lr was 0.001, is 0.002"),
        ("optimizer", lambda i: functools.partial(grouped, first=(1, 0)[i]), "group 0: parameters was 1: .*mean, is 0"),
        ("x", lambda i: Rows(data(20 + i)), "x was test_train.Rows of 20 items.* is test_train.Rows of 21 items"),
        ("x", lambda i: Rows(data(20, seed=i)), "x was test_train.Rows of 20 items, some with SHA"),
        ("x", lambda i: Rows(data(20).index_fill(0, torch.tensor(13), i)), "x was test_train.Rows of 20 items, some"),
        ("x", lambda i: library(99, 70 + i), "TensorDataset of 200 items, all with SHA"),
        ("x", lambda i: Subset(Subset(library(i, 7), range(5, 200)), range(9)), "Subset of 9 items, all with SHA"),
        ("x", lambda i: Subset(library(1, 7), [*range(80), 80 + i]), "Subset of 81 items, all with SHA"),
        ("schedule", lambda i: lambda t: min(1, t / (0.01, 0.015)[i]), "schedule was .*100 values"),
    ],
)
def test_what_no_weight_shows_is_compared_too(tmp_path, name, make, message):
    settings = {"model": Gaussian(), "x": data(20), "lr": 0.01, "checkpoint": tmp_path / "run"}
    quiet(**settings | {name: make(0)}, steps=100)
    quiet(**settings | {name: make(0)}, steps=100)
    with pytest.raises(ValueError, match=f"belongs to another run: .*{message}"):
        quiet(**settings | {name: make(1)}, steps=100)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass(frozen=True)
class Space:
    low: float
    high: float | None = None


class Power(SimpleNamespace):
    def __call__(self, x):
        return x**self.power


def closed(number):
    return lambda x, power=2: (number * x) ** power


def recursive(n):
    again = lambda m: again(m - n)  # noqa: E731
    return again


#: pairs of values that a fingerprint must tell apart
PAIRS = [
    (1, 2), (1.5, 2.5), (True, False), (None, 0), ("a", "b"), (torch.float32, torch.float64), ((1, 2), (2, 1)),
    (torch.Size([1]), torch.Size([2])), ([1, [2]], [1, [3]]), ({"a": 1, "b": 2}, {"a": 1, "b": 3}),
    ({"a", "b", "c"}, {"a", "b", "d"}), (Space(0.0), Space(0.0, 1.0)), (np.float32(1), np.float32(2)),
    (np.arange(3), np.arange(3) + 1), (torch.arange(3), torch.arange(3) + 1), (Colour.RED, Colour.BLUE),
    (nn.ReLU, nn.ELU), (torch.relu, torch.tanh), (math.sin, math.cos), (closed(1), closed(2)),
    (lambda x: x.sin(), lambda x: x.cos()), (lambda x: x + 1, lambda x: x + 2), (lambda x, a=1: x, lambda x, a=2: x),
    (lambda x, *, a=1: x, lambda x, *, a=2: x), (lambda x: (lambda: x + 1), lambda x: (lambda: x + 2)),
    (functools.partial(closed, 1), functools.partial(closed, 2)), (recursive(1), recursive(2)),
    (Colour.RED.__str__, Colour.RED.__repr__), (nn.functional.relu, nn.functional.elu), (object(), random.Random(0)),
    (torch.distributions.Normal(0, 1), torch.distributions.Normal(0, 5)), (Power(power=1), Power(power=2)),
    (Power(power=1).__call__, Power(power=2).__call__), (Decimal("0.1"), Decimal("0.2")), (deque([1]), deque([2])),
    (Fraction(1, 2), Fraction(1, 3)), (np.sin, np.cos), (torch.device("cpu"), torch.device("meta")), (math, random),
    (functools.cache(closed(1)), functools.cache(closed(2))), (torch.func.jacrev(torch.sin), torch.sin),
    (torch.func.jacrev(torch.sin), torch.func.jacrev(torch.cos)), (torch.vmap(torch.sin), torch.vmap(torch.sin, 1)),
    (functools.wraps(torch.sin)(closed(1)), functools.wraps(torch.sin)(closed(2))),
]  # fmt: skip


def describe_all():
    print(json.dumps([[fingerprint.describe(value) for value in pair] for pair in PAIRS]))


def test_a_description_tells_values_apart_and_is_the_same_in_every_process():
    here = [[fingerprint.describe(value) for value in pair] for pair in PAIRS]
    assert all(one != other for one, other in here), [pair for pair in here if pair[0] == pair[1]]
    assert result(process(describe_all, PYTHONHASHSEED="1")) == here
    endless = [1]
    endless.append(endless)
    assert fingerprint.describe(endless) == "(1, itself)"
    ring = SimpleNamespace()
    ring.ring = ring
    assert "itself" in fingerprint.describe(ring)
    assert fingerprint.describe(nn.functional.relu) == "torch.nn.functional.relu"
    assert len({fingerprint.describe(nn.Parameter(torch.tensor(x))) for x in (1.0, 2.0)}) == 1  # they are trained


# --- damaged, unreadable, full


def damage(path, how):
    content = path.read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    new = {"truncated": content[: len(content) // 2], "a bit flipped": flipped, "empty": b"", "junk": b"x" * 100}
    path.write_bytes(new[how])


@pytest.mark.parametrize("how", ["truncated", "a bit flipped", "empty", "junk"])
def test_a_damaged_file_is_never_used(tmp_path, how):
    run, weights = tmp_path / "run", tmp_path / "weights"
    quiet(Gaussian(), data(), steps=2, checkpoint=run)
    save_weights(Gaussian(), weights)
    uses = {run: lambda m: quiet(m, data(), steps=2, checkpoint=run), weights: lambda m: load_weights(m, weights)}
    for path, use in uses.items():
        model = Gaussian()
        use(model)
        before = state(model)
        damage(path, how)
        with pytest.raises(ValueError, match="is damaged"):
            use(model)
        assert same(state(model), before)


def test_no_byte_can_change_unseen(tmp_path):
    path, model = tmp_path / "weights", Gaussian()
    save_weights(model, path)
    content = path.read_bytes()
    for place in range(len(content)):
        for change in (1, 32, 128):
            path.write_bytes(content[:place] + bytes([content[place] ^ change]) + content[place + 1 :])
            with pytest.raises(ValueError, match=f"{path} is damaged"):
                load_weights(model, path)
    assert same(state(model), state(Gaussian()))


def test_what_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    path.mkdir()
    uses = [lambda: load_weights(Gaussian(), path), lambda: quiet(Gaussian(), data(), steps=1, checkpoint=path)]
    for use in uses:
        with pytest.raises(IsADirectoryError, match=rf"cannot be read \(Is a directory\): '{path}'"):
            use()
    with pytest.raises(IsADirectoryError, match=f"cannot be written .*nothing was changed.*: '{path}'"):
        save_weights(Gaussian(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["folder", "folder.lock"]

    def denied(_):
        raise PermissionError(errno.EACCES, "Permission denied")  # root is denied nothing

    monkeypatch.setattr(Path, "read_bytes", denied)
    for use in uses:
        with pytest.raises(PermissionError, match=rf"cannot be read \(Permission denied\): '{path}'"):
            use()


def fill_the_disk(folder):
    def full():  # no file can be longer
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # else the system ends the process
    path, weights, model, found = Path(folder) / "run", Path(folder) / "weights", Walking(8, full), []
    save_weights(nn.Linear(50, 50), weights)
    run = functools.partial(walk, model, validation=torch.full((6, 2), 0.52), checkpoint=path, checkpoint_every=6)
    for write in (run, lambda: save_weights(nn.Linear(50, 50), weights)):
        try:
            write()
        except OSError as error:
            found.append([error.errno, str(error)])
    steps, _ = len(files.read_tensors(path)[0]["history/steps"]), load_weights(nn.Linear(50, 50), weights)
    names = sorted(p.name for p in Path(folder).iterdir())
    print(json.dumps([found, steps, names, model.mean.tolist(), model.training]))


def test_a_full_disk_changes_nothing(tmp_path):
    found, steps, names, mean, training = result(process(fill_the_disk, tmp_path))
    for (number, message), name in zip(found, ["run", "weights"], strict=True):
        assert number == errno.EFBIG
        assert message.endswith(f"nothing was changed, an earlier file there is as it was: '{tmp_path / name}'")
    assert steps == 6 and names == ["run", "run.lock", "weights"]
    assert mean == pytest.approx([0.5, 0.5], abs=1e-4) and not training  # the best state, after step 5


# --- weights


class Mixed(nn.Module):
    """Every kind of tensor that a model may keep."""

    def __init__(self, fill=0.0):
        super().__init__()
        self.brief = nn.Parameter(torch.full((2, 3), fill, dtype=torch.bfloat16))
        self.long = nn.Parameter(torch.full((3, 2), fill, dtype=torch.float64).T)
        self.tied = self.long
        self.register_buffer("mask", torch.tensor([bool(fill), True]))
        self.register_buffer("order", torch.tensor([1, 0]) + int(fill))
        self.register_buffer("count", torch.tensor(int(fill)))
        self.register_buffer("empty", torch.zeros(0, 2))


def test_weights_come_back_as_they_were(tmp_path):
    path = tmp_path / "new" / "folder" / "weights.safetensors"
    model, other = Mixed(3.0), Mixed()
    save_weights(model, path)
    load_weights(other, path)
    assert same(state(other), state(model)) and other.tied is other.long
    assert set(files.read_tensors(path)[0]) == set(model.state_dict()) and len(model.state_dict()) == 7
    save_file(Gaussian().state_dict(), path, {"format": "pt"})  # a file that is not ours has no checksum
    load_weights(Gaussian(), path)


def test_weights_of_another_model_are_refused(tmp_path):
    path = tmp_path / "weights"
    save_weights(Gaussian(), path)
    model = Noisy()
    model.mean = nn.Parameter(torch.zeros(3))
    del model.log_scale
    before = state(model)
    message = r"log_scale is unexpected; mean is \(2,\) torch.float32 in the file, \(3,\) .*; running is missing"
    with pytest.raises(ValueError, match=message):
        load_weights(model, path)
    with pytest.raises(ValueError, match="mean is .*float32 in the file, .*float64 in the model"):
        load_weights(Gaussian().double(), path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_weights(model, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="not a checkpoint"):
        quiet(Gaussian(), data(), steps=1, checkpoint=path)
    assert same(state(model), before)


def test_a_link_leads_to_the_file(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("weights", "run"):
        (tmp_path / name).symlink_to(tmp_path / "deep" / name)
    save_weights(Gaussian(), tmp_path / "weights")
    load_weights(Gaussian(), tmp_path / "deep" / "weights")
    quiet(Gaussian(), data(), steps=2, checkpoint=tmp_path / "run")
    assert len(quiet(Gaussian(), data(), steps=4, checkpoint=tmp_path / "deep" / "run").steps) == 4
    assert (tmp_path / "weights").is_symlink() and (tmp_path / "run").is_symlink()
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["run", "run.lock", "weights"]
    with files.locked(tmp_path / "run"), pytest.raises(RuntimeError, match="is in use"):
        quiet(Gaussian(), data(), steps=4, checkpoint=tmp_path / "deep" / "run")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    save_weights(Gaussian(), path)
    before = path.read_bytes()

    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save_weights(Noisy(), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
