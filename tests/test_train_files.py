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
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_train import Gaussian, Linear, Noisy, Rows, data, quiet, same, sgd, state
from torch import nn

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

    def forward(self, x, context=None):
        self.seen.append(state(self))
        if self.calls + 1 == self.at and self.where == "value":
            x = x * math.nan
        log_p = super().forward(x, context)
        if self.calls == self.at and self.where == "gradient":
            log_p = log_p + torch.where(self.mean[0] < 99, 0.0, (self.mean[0] * 0).sqrt())
        return log_p


@pytest.mark.parametrize("where", ["value", "gradient"])
def test_a_lost_loss_stops_training_in_the_last_finite_state(where):
    model = Poisoned(7, where)
    with pytest.raises(TrainingDiverged, match="diverged at step 7: loss .*smaller lr") as caught:
        quiet(model, data(), steps=20, batch_size=32)
    assert caught.value.step == 7 and caught.value.history.steps == [1, 2, 3, 4, 5, 6]
    assert torch.equal(model.mean, model.seen[5]["mean"])  # these parameters gave the sixth loss, the last finite one
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


# --- a run survives its own death


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
    ],
)
def test_what_no_weight_shows_is_compared_too(tmp_path, name, make, message):
    settings = {"model": Gaussian(), "x": data(20), "lr": 0.01, "checkpoint": tmp_path / "run"}
    quiet(**settings | {name: make(0)}, steps=3)
    quiet(**settings | {name: make(0)}, steps=3)
    with pytest.raises(ValueError, match=f"belongs to another run: .*{message}"):
        quiet(**settings | {name: make(1)}, steps=3)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass(frozen=True)
class Space:
    low: float
    high: float | None = None


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
