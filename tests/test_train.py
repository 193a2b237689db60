"""The training loop: does it learn, repeat, resume, stop and refuse as it says?

Run as a script, this file is the process that the tests kill.
"""

import functools
import io
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from torch import nn

from nfcourse import train
from nfcourse.train import History, NegativeLogLikelihood, TrainingDiverged, fit, load_weights, save_weights

ROOT = Path(__file__).parent.parent


class Gaussian(nn.Module):
    """Learned mean and scale, in two dimensions."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2))
        self.log_scale = nn.Parameter(torch.zeros(2))

    def forward(self, x, context=None):
        return torch.distributions.Normal(self.mean, self.log_scale.exp()).log_prob(x).sum(-1)


class Noisy(Gaussian):
    """With all that a resumed run could lose: noise from the global generator, and a buffer that moves."""

    def __init__(self):
        super().__init__()
        self.register_buffer("running", torch.zeros(2))
        self.calls = 0

    def forward(self, x, context=None):
        if self.training:
            self.calls += 1
            self.running.lerp_(x.mean(0), 0.1)
        return super().forward(x + 0.3 * torch.randn_like(x) + 0.1 * self.running, context)


class Linear(nn.Module):
    """log p = θ·1: the gradient of the loss is -1 in every step, so a plain step adds exactly the learning rate."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(()))

    def forward(self, x, context=None):
        return self.theta.expand(len(x))


def data(n=200, seed=0):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor([2.0, 0.5]) + 1.0


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


quiet = functools.partial(fit, progress=False)
sgd = functools.partial(fit, optimizer=torch.optim.SGD, progress=False)

# --- it learns


def test_fit_finds_the_maximum_of_the_likelihood():
    x, model = data(), Gaussian()
    history = quiet(model, x, steps=400, lr=0.1, schedule="cosine")
    assert torch.allclose(model.mean, x.mean(0), atol=1e-3)
    assert torch.allclose(model.log_scale.exp(), x.std(0, correction=0), atol=1e-3)
    # 200 samples: every batch holds all of them
    assert history.loss[0] == pytest.approx(-Gaussian()(x).mean().item(), abs=1e-5)
    assert history.loss[-1] == pytest.approx(-model(x).mean().item(), abs=1e-5)
    assert history.steps == list(range(1, 401)) and history.stopped == "all 400 steps done"
    assert history.best is None and history.seconds > 0 and not model.training


def test_an_epoch_visits_no_sample_twice_and_drops_the_incomplete_batch():
    seen = []

    class Recorder(Linear):
        def forward(self, x, context=None):
            assert torch.equal(context, x + 100)
            seen.append(x[:, 0].int().tolist())
            return super().forward(x)

    x = torch.arange(10.0)[:, None]
    quiet(Recorder(), x, context=x + 100, epochs=2, batch_size=3)
    assert [len(batch) for batch in seen] == [3] * 6
    first, second = sum(seen[:3], []), sum(seen[3:], [])
    assert len(set(first)) == len(set(second)) == 9 and first != second


def test_the_same_seed_gives_the_same_run_and_leaves_the_callers_generator_alone():
    def run(seed):
        model = Noisy()
        quiet(model, data(), epochs=3, batch_size=16, seed=seed)
        return state(model)

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = run(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)  # the state that the caller happens to be in must not matter
    assert same(run(0), first) and not same(run(1), first)


def test_long_gradients_are_clipped():
    for clip, moved in ((0.25, 0.25), (10.0, 1.0), (None, 1.0)):
        model = Linear()
        sgd(model, torch.zeros(4, 1), steps=1, lr=1.0, clip=clip)
        assert model.theta.item() == pytest.approx(moved, abs=1e-5)


def test_schedules():
    for schedule, moved in ((None, 4.0), ("cosine", 2.5), (lambda t: t, 0 + 0.25 + 0.5 + 0.75)):
        model = Linear()
        sgd(model, torch.zeros(4, 1), steps=4, lr=1.0, schedule=schedule)
        assert model.theta.item() == pytest.approx(moved, abs=1e-5)


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


def test_validation_weighs_every_sample_alike_and_uses_equal_noise():
    class Jitter(Gaussian):
        def forward(self, x, context=None):
            return super().forward(x + torch.randn_like(x))

    x = data(50)
    still = {"lr": 1e-30, "batch_size": 10, "validate_every": 1}  # nothing can change but the noise
    history = sgd(Jitter(), x, validation=x[:33], steps=3, **still)
    assert len(set(history.validation)) == 1 and len(set(history.loss)) == 3
    exact = -Gaussian()(x[:33]).mean().item()  # 33 = 3 batches of 10 and one of 3
    assert sgd(Gaussian(), x, validation=x[:33], steps=1, **still).best == pytest.approx(exact, abs=1e-5)


def test_a_validation_loss_that_is_not_finite_is_never_the_best():
    history = History()
    assert [history.validated(s, v) for s, v in enumerate((math.nan, math.inf, 2.0, 1.0, math.nan), 1)] == [
        False, False, True, True, False,
    ]  # fmt: skip
    assert history.best == 1.0 and history.best_step == 4 and history.waited() == 1


def test_own_objective_and_context():
    class Weighted(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model, self.extra = model, nn.Parameter(torch.zeros(()))

        def forward(self, x, context=None):
            return -(context[:, 0] * self.model(x, context)).mean() - self.extra

    model = Linear()
    objective = Weighted(model)
    x, context = torch.zeros(5, 1), torch.full((5, 1), 3.0)
    history = sgd(model, x, context=context, validation=(x, context), objective=objective, steps=1, lr=1.0)
    assert model.theta.item() == pytest.approx(3.0) and objective.extra.item() == pytest.approx(1.0)
    assert history.validation == pytest.approx([-10.0])


def test_initialize_is_called_once_with_the_first_batch(tmp_path):
    class Initialised(Linear):
        def initialize(self, x, context=None):
            self.calls = [*getattr(self, "calls", []), x]

    x, path = torch.arange(6.0)[:, None], tmp_path / "run"
    model = Initialised()
    quiet(model, x, steps=4, batch_size=2, checkpoint=path)
    assert [batch.shape for batch in model.calls] == [(2, 1)]
    resumed, skipped = Initialised(), Initialised()
    quiet(resumed, x, steps=6, batch_size=2, checkpoint=path)
    quiet(skipped, x, steps=1, initialize=False)
    assert not hasattr(resumed, "calls") and not hasattr(skipped, "calls")


def test_compiled_training_takes_the_same_steps(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    plain, compiled = Gaussian(), Gaussian()
    a = quiet(plain, data(), validation=data(60), steps=5, batch_size=32)
    b = quiet(compiled, data(), validation=data(60), steps=5, batch_size=32, compile=True)
    assert a.loss == pytest.approx(b.loss, abs=1e-5) and a.best == pytest.approx(b.best, abs=1e-5)


def test_the_bar_shows_the_loss_on_a_terminal_only(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def shown(stream, **settings):
        monkeypatch.setattr(sys, "stderr", stream)
        fit(Linear(), torch.zeros(2, 1), steps=2, **settings)
        return stream.getvalue()

    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    assert "loss -0.0010" in shown(Terminal()) and "step/s" in shown(Terminal())
    assert shown(io.StringIO()) == "" and shown(Terminal(), progress=False) == ""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert shown(Terminal()) == ""


# --- it refuses what cannot be used


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of epochs and steps"),
        ({"epochs": 1, "steps": 1}, "exactly one of epochs and steps"),
        ({"steps": 0}, "steps: expected a positive whole number, got 0"),
        ({"epochs": 1.5}, "epochs: expected a positive whole number, got 1.5"),
        ({"steps": 1, "batch_size": -1}, "batch_size: expected a positive whole number, got -1"),
        ({"steps": 1, "lr": math.nan}, "lr: expected a positive number, got nan"),
        ({"steps": 1, "clip": 0.0}, "clip: expected a positive number, got 0.0"),
        ({"steps": 1, "patience": 2}, "patience counts validations"),
        ({"steps": 1, "schedule": "linear"}, "schedule: expected"),
        ({"steps": 1, "validation": "test"}, "validation: expected"),
        ({"steps": 1, "validation": torch.zeros(3, 5)}, r"validation x: expected shape \(n, 2\)"),
        ({"steps": 1, "validation": (torch.zeros(3, 2), torch.zeros(3))}, "context: give it for training and"),
        ({"steps": 1, "context": torch.zeros(3)}, "context: expected one row per sample, 200, got 3"),
        ({"steps": 1, "context": torch.full((200, 1), math.nan)}, "context"),
        ({"steps": 1, "validation": torch.full((3, 2), math.inf)}, "validation x"),
        ({"steps": 1, "objective": NegativeLogLikelihood(Linear())}, "must contain the model"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    model = Gaussian()
    with pytest.raises(ValueError, match=message):
        quiet(model, data(), **settings)
    assert same(state(model), state(Gaussian()))


def test_models_that_cannot_be_fitted():
    class PerCoordinate(Gaussian):
        def forward(self, x, context=None):
            return torch.distributions.Normal(self.mean, 1.0).log_prob(x)

    with pytest.raises(ValueError, match=r"expected shape \(200,\), got \(200, 2\)"):
        quiet(PerCoordinate(), data(), steps=1)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        quiet(Gaussian().requires_grad_(False), data(), steps=1)


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(
    n=st.integers(0, 4),
    values=st.lists(st.floats(-1e3, 1e3, width=32) | st.sampled_from([math.nan, math.inf]), min_size=8),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_any_data_is_fitted_or_refused(n, values, dtype):
    x = torch.tensor(values[: 2 * n], dtype=dtype).reshape(n, 2)
    model = Gaussian().to(dtype)
    if n > 0 and x.isfinite().all():
        assert math.isfinite(quiet(model, x, steps=2).loss[-1])
    else:
        with pytest.raises(ValueError, match="^x: "):
            quiet(model, x, steps=2)


# --- it stops when the loss is lost


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


def test_divergence_in_the_very_last_update_is_seen_and_never_stored(tmp_path):
    class Steep(Linear):
        def forward(self, x, context=None):
            return 1e3 * super().forward(x)

    model = Steep()
    with pytest.raises(TrainingDiverged, match="parameters not finite"):
        sgd(model, torch.zeros(2, 1), steps=1, lr=1e38, clip=None, checkpoint=tmp_path / "run")
    assert model.theta.item() == 0 and not (tmp_path / "run").exists()


# --- it survives its own death


def long_run(path, model, **settings):
    x = data()
    return quiet(
        model, x, context=None, validation=x[:50], steps=40, batch_size=32, lr=0.05, schedule="cosine",
        validate_every=7, checkpoint=path, checkpoint_every=10, **settings,
    )  # fmt: skip


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def run_and_die(path, when):
    """Runs until it is killed: in the forward pass of step 25, or while the checkpoint of step 30 is half written."""

    class Mortal(Noisy):
        def forward(self, x, context=None):
            if when == "step" and self.training and self.calls == 24:
                die()
            return super().forward(x, context)

    model = Mortal()
    replace = os.replace

    def half(source, target):
        if model.calls == 30:
            os.truncate(source, os.path.getsize(source) // 2)
            die()
        replace(source, target)

    if when == "write":
        os.replace = half
    long_run(path, model)


@pytest.mark.parametrize(("when", "left"), [("step", 20), ("write", 20)])
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, when, left):
    path = tmp_path / "run.safetensors"
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    killed = subprocess.run([sys.executable, __file__, path, when], env=os.environ | {"PYTHONPATH": paths}, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "run.safetensors.part").exists() == (when == "write")
    resumed, whole = Noisy(), Noisy()
    a, b = long_run(path, resumed), long_run(None, whole)
    assert resumed.calls == 40 - left
    assert same(state(resumed), state(whole))
    assert (a.loss, a.validation, a.best_step, a.stopped) == (b.loss, b.validation, b.best_step, b.stopped)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.safetensors"]


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.5}, "lr was 0.01, is 0.5"),
        ({"x": data(seed=1)}, "x was .* is "),
        ({"model": nn.ModuleList()}, "model was"),
        ({"optimizer": torch.optim.SGD}, "optimizer was Adam .* is SGD"),
        ({"schedule": "cosine"}, "schedule was not set, is cosine"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, change, message):
    path = tmp_path / "run"
    settings = {"model": Gaussian(), "x": data(), "steps": 2, "lr": 0.01, "checkpoint": path}
    quiet(**settings)
    before = path.read_bytes()
    if "model" in change:
        change = {"model": Noisy()}
    with pytest.raises(ValueError, match=f"belongs to another run: .*{message}.*delete the file"):
        quiet(**settings | change)
    assert path.read_bytes() == before


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "a bit flipped":
        content[-1] ^= 1
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "junk": b"x" * 100}.get(how, content))


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
    assert set(train._read(path)[0]) == set(model.state_dict()) and len(model.state_dict()) == 7


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


if __name__ == "__main__":
    run_and_die(*sys.argv[1:])
