"""The training loop: does it learn, repeat, resume, stop and refuse as it says?"""

import functools
import io
import math
import random
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from torch import nn

from nfcourse.train import History, NegativeLogLikelihood, fingerprint, fit


class Gaussian(nn.Module):
    """Learned mean and scale, in two dimensions."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2))
        self.log_scale = nn.Parameter(torch.zeros(2))

    def forward(self, x, context=None):
        # not validated: torch does so or not, depending on whether anything was compiled before
        return torch.distributions.Normal(self.mean, self.log_scale.exp(), validate_args=False).log_prob(x).sum(-1)


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
    assert all(p.grad is None for p in model.parameters())


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


def test_the_seed_fixes_all_noise_and_numbers_count_by_their_value(tmp_path):
    class OtherNoise(Noisy):
        def forward(self, x, context=None):
            return super().forward(x + random.random() + torch.from_numpy(np.random.randn(*x.shape)).float())

    def run(seed, steps, lr, clip, path=None):
        model = OtherNoise()
        return quiet(model, data(), seed=seed, steps=steps, lr=lr, clip=clip, checkpoint=path), state(model)

    one, other = (0, 3, 1, 10), (np.int64(0), np.int32(3), np.float32(1), 10.0)
    (history, first), (equal, again) = run(*one), run(*other)
    assert same(first, again) and history == equal and not same(first, run(-1, 3, 1, 10)[1])
    assert run(*one, tmp_path / "run")[0] == run(*other, tmp_path / "run")[0]


def test_the_default_device_does_not_matter():
    here, there, x = Gaussian(), Gaussian(), data()
    history = sgd(here, x, validation=x, steps=3, batch_size=32)
    with torch.device("meta"):
        assert sgd(there, x, validation=x, steps=3, batch_size=32) == history and same(state(there), state(here))


def test_gradients_are_switched_on_where_they_can_be():
    there, here = Noisy(), Noisy()
    with torch.no_grad():
        quiet(there, data(), steps=3)
        assert not torch.is_grad_enabled()
    quiet(here, data(), steps=3)
    assert same(state(there), state(here)) and not same(state(there), state(Noisy()))
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode.. allows none: call fit outside"):
        quiet(Noisy(), data(), steps=3)


def test_a_history_prints_in_one_line():
    history = quiet(Gaussian(), data(), validation=data(60), steps=200, batch_size=8)
    assert repr(history) == (
        f"History(200 steps, last loss {history.loss[-1]:.4g}, best of 8 validations {history.best:.4g} "
        f"after step {history.best_step}, stopped: all 200 steps done)"
    )
    assert repr(History()) == "History(0 steps)"


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


class Annealed(nn.Module):
    """The model's loss, weighted by β = step / 4 up to 1 in training, by 1 in validation."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.register_buffer("step", torch.tensor(7))
        self.deeper = nn.Module()
        self.deeper.register_buffer("step", torch.tensor(7.0))
        self.register_buffer("steps", torch.tensor(7))
        self.other = nn.Module()
        self.other.register_buffer("step", torch.tensor([7, 7]))

    def forward(self, x, context=None):
        beta = (self.deeper.step / 4).clamp(max=1.0) if self.training else 1.0
        return -(beta * self.model(x, context)).mean() + 0.0 * self.step


def annealed(steps, **settings):
    model = Linear()
    objective = Annealed(model)
    settings = {"objective": objective, "steps": steps, "lr": 1.0, "batch_size": 2, "validate_every": 2} | settings
    return objective, sgd(model, torch.zeros(4, 1), validation=torch.zeros(4, 1), **settings)


def test_an_objective_follows_the_step(tmp_path):
    objective, history = annealed(6)
    assert objective.model.theta.item() == pytest.approx(0 + 0.25 + 0.5 + 0.75 + 1 + 1)
    assert history.validation == pytest.approx([-0.25, -1.5, -3.5])  # all under β = 1
    assert objective.step.item() == objective.deeper.step.item() == 6
    assert objective.steps.item() == 7 and objective.other.step.tolist() == [7, 7]
    annealed(3, checkpoint=tmp_path / "run")
    resumed, again = annealed(6, checkpoint=tmp_path / "run")
    assert same(state(resumed), state(objective)) and again.loss == history.loss


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
            if len(x) == 5:
                raise ZeroDivisionError
            self.calls = [*getattr(self, "calls", []), x]

    x, path = torch.arange(6.0)[:, None], tmp_path / "run"
    model = Initialised()
    quiet(model, x, steps=4, batch_size=2, checkpoint=path)
    assert [batch.shape for batch in model.calls] == [(2, 1)]
    resumed, skipped = Initialised(), Initialised()
    quiet(resumed, x, steps=6, batch_size=2, checkpoint=path)
    quiet(skipped, x, steps=1, initialize=False)
    assert not hasattr(resumed, "calls") and not hasattr(skipped, "calls")
    with pytest.raises(ZeroDivisionError):
        quiet(skipped.train(), x, steps=1, batch_size=5)
    assert not skipped.training


def test_compiled_training_takes_the_same_steps(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    plain, compiled = Gaussian(), Gaussian()
    a = quiet(plain, data(), validation=data(60), steps=5, batch_size=32)
    b = quiet(compiled, data(), validation=data(60), steps=5, batch_size=32, compile=True)
    assert a.loss == pytest.approx(b.loss, abs=1e-5) and a.best == pytest.approx(b.best, abs=1e-5)
    one, other = torch.compile(plain), torch.compile(compiled)
    assert fingerprint.configuration(one) == fingerprint.configuration(other)
    assert annealed(6, compile=True)[1].validation == pytest.approx([-0.25, -1.5, -3.5])


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


# --- data sets


class Rows:
    """A map-style data set of nobody's base class."""

    def __init__(self, *parts):
        self.parts = parts

    def __len__(self):
        return len(self.parts[0])

    def __getitem__(self, i):
        item = tuple(part[i] for part in self.parts)
        return item if len(item) > 1 else item[0]


class Conditional(Noisy):
    """One whose mean moves with the context."""

    def forward(self, x, context=None):
        return super().forward(x if context is None else x - context)


def test_a_data_set_is_as_good_as_a_tensor():
    x, context = data(70), data(70, seed=1)
    settings = {"epochs": 3, "batch_size": 16, "validate_every": 5}

    def run(x, **more):
        model = Conditional()
        history = quiet(model, x, **settings, **more)
        return history.loss, history.validation, {name: value.tolist() for name, value in state(model).items()}

    expected = run(x, context=context, validation=(x[:9], context[:9]))
    assert run(Rows(x, context), validation=Rows(x[:9], context[:9])) == expected
    library = torch.utils.data.TensorDataset(x, context)
    assert run(torch.utils.data.Subset(library, range(70)), validation=(x[:9], context[:9])) == expected
    assert run(Rows(x), validation=Rows(x[:9])) == run(x, validation=x[:9]) != expected


class Short(Rows):
    """Loses items."""

    def __getitems__(self, index):
        return [self[i] for i in index[1:]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"x": Rows(data().index_fill(0, torch.tensor(3), math.nan))}, r"^x, item 3: expected finite numbers"),
        ({"x": Rows(data(), data() * math.inf)}, r"^context, item \d+: expected finite numbers"),
        ({"x": Rows([{"a": 1}] * 9)}, "^x: expected a torch tensor, got dict"),
        ({"x": Rows([data(1), data(2)])}, "^x: items .* of Rows do not stack to tensors"),
        ({"x": Rows(*[data()] * 3)}, r"^x: expected items x or \(x, context\), got 3 parts from Rows"),
        ({"x": Rows([[3.1, 2.9]] * 9)}, r"^x: an item of Rows is the list of numbers .* return a tensor or an array"),
        ({"x": Short(data())}, "^x: expected 200 rows for as many items, got 199"),
        ({"x": Rows([])}, "^x: expected at least one sample, got an empty Rows"),
        ({"x": Rows(data()), "context": data()}, "^context: the items of a data set bring their own"),
        ({"x": Rows(data()), "validation": Rows(data(), data())}, "^context: give it for training and for validation"),
        ({"x": Rows(data()), "validation": data()[:, :1]}, r"^validation x: expected shape \(n, 2\) as in training"),
        ({"x": list(data())}, r"^x: expected a tensor .* or a data set .* got list"),
        ({"x": data().numpy()}, r"^x: expected a tensor .*as_tensor.* got ndarray"),
        ({"x": {1, 2}}, r"^x: expected a tensor .* or a data set with __len__ and __getitem__ .* got set"),
    ],
)
def test_data_sets_that_cannot_be_used(settings, message):
    with pytest.raises(ValueError, match=message):
        quiet(Gaussian(), steps=1, **settings)


# --- it refuses what cannot be used


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of epochs and steps"),
        ({"epochs": 1, "steps": 1}, "exactly one of epochs and steps"),
        ({"steps": 0}, "steps: expected a positive whole number, got 0"),
        ({"epochs": 1.5}, "epochs: expected a positive whole number, got 1.5"),
        ({"steps": 1, "batch_size": -1}, "batch_size: expected a positive whole number, got -1"),
        ({"steps": 1, "batch_size": True}, "batch_size: expected a positive whole number, got True"),
        ({"steps": 1, "seed": True}, "seed: expected a whole number, got True"),
        ({"steps": 1, "seed": None}, "seed: expected a whole number, got None"),
        ({"steps": 1, "seed": 0.5}, "seed: expected a whole number, got 0.5"),
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
    for value in (0.01, -1.0, math.nan):
        model = Gaussian()
        model.register_buffer("step", torch.tensor(value))
        with pytest.raises(ValueError, match=f"buffer model.step: .* a whole number, 0 or more, got {value:g}"):
            quiet(model, data(), steps=1)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        quiet(Gaussian().requires_grad_(False), data(), steps=1)


WRONG = {
    r"a tensor of shape \(3,\)": lambda loss: loss.expand(3), r"a tensor of shape \(1,\)": lambda loss: loss[None],
    "a float": torch.Tensor.item, "a tuple": lambda loss: (loss, {}),
    r"a tensor of shape \(\) that no parameter has a part in": torch.detach,
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_an_objective_returns_a_scalar_with_a_gradient(what):
    class Wrong(NegativeLogLikelihood):
        def forward(self, x, context=None):
            return WRONG[what](super().forward(x, context))

    model = Gaussian()
    with pytest.raises(ValueError, match=f"Wrong must return the mean loss, a scalar with a gradient; got {what}$"):
        quiet(model, data(), steps=1, objective=Wrong(model))


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
