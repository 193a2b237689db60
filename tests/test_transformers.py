"""Transformers one by one: monotone, exact where users of splines were hurt, and with true gradients."""

import pytest
import torch

from nfcourse import MLP, Compose, Coupling, Flow, RealNVP, StandardNormal, half_mask, train
from nfcourse.bijections import AdditiveTransformer, AffineTransformer, LogisticMixtureTransformer, RQSTransformer

ALL = {
    "additive": AdditiveTransformer,
    "affine": AffineTransformer,
    "spline": RQSTransformer,
    "logistic mixture": LogisticMixtureTransformer,
}
EPS = torch.finfo(torch.float32).eps


def draw(transformer, n, scale, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(transformer.n_params, n, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("name", ALL)
def test_monotone_with_the_derivative_that_it_returns(name):
    t = ALL[name]().double()
    z = torch.linspace(-7, 7, 4001, dtype=torch.float64).requires_grad_()
    params = draw(t, 1, 1.0).expand(-1, len(z))
    x, log_derivative = t(z, params)
    assert (x.diff() > 0).all()
    slope = torch.autograd.grad(x.sum(), z)[0]
    assert torch.allclose(slope.log(), log_derivative, atol=1e-9)
    back, log_back = t.inverse(x, params)
    assert torch.allclose(back, z, atol=1e-9) and torch.allclose(log_back, -log_derivative, atol=1e-8)


@pytest.mark.parametrize("name", ["additive", "affine", "spline"])
def test_zero_parameters_are_the_identity(name):
    t = ALL[name]()
    z = torch.linspace(-6, 6, 101)
    for method in (t.forward, t.inverse):
        x, log_derivative = method(z, torch.zeros(t.n_params, 101))
        assert torch.allclose(x, z, atol=1e-5) and torch.allclose(log_derivative, torch.zeros(101), atol=1e-5)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_gradients_against_finite_differences(name, direction):
    """Gradients of value and log-derivative, in input and parameters; implicit ones through the root too."""
    t = ALL[name](**({"components": 3} if name == "logistic mixture" else {})).double()
    params = draw(t, 6, 0.7).requires_grad_()
    z = torch.linspace(-4, 4, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(getattr(t, direction), (z, params), atol=1e-5)


@pytest.mark.parametrize("std", [5.0, 20.0])
def test_spline_round_trip_reaches_the_floor_of_float32(std):
    """No worse than 4 times what rounding z alone costs; and 1e-3 outright where the slope is in [1e-2, 1e2].

    The floor of a point is how far its pre-image moves, in float64, when z moves by one rounding at the interval's
    end, plus the rounding of x.
    """
    t = RQSTransformer()
    generator = torch.Generator().manual_seed(0)
    x = t.bound * (2 * torch.rand(20_000, generator=generator) - 1)
    params = draw(t, len(x), std, dtype=torch.float32)
    z, log_derivative = t.inverse(x, params)
    back, log_back = t(z, params)
    assert all(torch.isfinite(v).all() for v in (z, log_derivative, back, log_back))
    error = (back - x).abs().double()
    exact, log_slope = t.inverse(x.double(), params.double())
    moved = [t((exact + sign * EPS * t.bound).clamp(-5, 5), params.double())[0] for sign in (-1, 1)]
    floor = torch.stack([(m - x).abs() for m in moved]).amax(0) + EPS * x.abs()
    assert (error <= 4 * floor).all(), float((error / floor).max())
    assert error.max() <= 4 * floor.max()
    moderate = (log_slope.exp() > 1e-2) & (log_slope.exp() < 1e2)
    assert moderate.float().mean() > 0.1 and error[moderate].max() < 1e-3


@pytest.mark.parametrize("std", [5.0, 20.0, 100.0])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_spline_gradients_are_finite_inside_and_outside(std, direction):
    t = RQSTransformer()
    generator = torch.Generator().manual_seed(1)
    z = (10 * torch.rand(20_000, generator=generator) - 5) * 2
    z[:4] = torch.tensor([-5.0, 5.0, 0.0, 1e30])
    z.requires_grad_()
    params = draw(t, len(z), std, dtype=torch.float32).requires_grad_()
    x, log_derivative = getattr(t, direction)(z, params)
    (x.sum() + log_derivative.sum()).backward()
    assert torch.isfinite(z.grad).all() and torch.isfinite(params.grad).all()
    outside = z.detach().abs() > 5
    assert torch.equal(x[outside], z[outside]) and (log_derivative[outside] == 0).all()
    assert (z.grad[outside] == 1).all() and (params.grad[:, outside] == 0).all()


def test_spline_hits_its_knots_and_derivatives():
    t = RQSTransformer(4, bound=2.0).double()
    params = draw(t, 1, 1.0)
    knots = t._knots(params[:8])[:, :, 0]
    z, log_derivative = t.inverse(knots[0, 1:-1], params.expand(-1, 3))
    assert torch.allclose(z, knots[1, 1:-1])
    want = torch.nn.functional.softplus(params[8:, 0] + t.offset) + t.min_derivative
    assert torch.allclose(log_derivative.exp(), want)


def test_nan_stays_nan():
    for name, make in ALL.items():
        t = make()
        for method in (t.forward, t.inverse):
            assert torch.isnan(method(torch.tensor([float("nan")]), torch.zeros(t.n_params, 1))[0]).all(), name


@pytest.mark.parametrize("std", [1.0, 5.0])
def test_logistic_mixture_root(std):
    t = LogisticMixtureTransformer(8).double()
    params = draw(t, 2000, std)
    z = 5 * torch.randn(2000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x, _ = t(z, params)
    assert ((t.inverse(x, params)[0] - z).abs() <= 1e-10 * (1 + z.abs())).all()


def test_one_logistic_is_an_affine_map():
    t = LogisticMixtureTransformer(1).double()
    params = torch.zeros(5, 3, dtype=torch.float64)
    params[1], params[4] = 0.5, 2.0
    x, log_derivative = t(torch.tensor([2.0, 3.0, -1.0], dtype=torch.float64), params)
    assert torch.allclose(x, torch.tensor([0.5, 1.5, -2.5], dtype=torch.float64))
    assert torch.allclose(log_derivative, torch.zeros(3, dtype=torch.float64), atol=1e-12)


def test_32_affine_layers_train_without_nan():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(256, 4), 1000 * torch.randn(8, 4)])
    model = Flow(StandardNormal(4), RealNVP(4, 32, lambda i, o: MLP(i, o, (16,))))
    history = train.fit(model, x, steps=60, batch_size=64, lr=1e-2, seed=0)
    assert torch.isfinite(torch.as_tensor(history.loss)).all() and torch.isfinite(model(x)).all()


def test_a_spline_gives_two_modes_where_affine_cannot():
    """One coupling: given the first coordinate the second is bimodal."""
    torch.manual_seed(0)
    sign = torch.randint(0, 2, (2000, 1)) * 2.0 - 1
    x = torch.cat([torch.randn(2000, 1), 2 * sign + 0.3 * torch.randn(2000, 1)], 1)
    loss = {}
    for name in ("affine", "spline"):
        coupling = Coupling(half_mask(2), lambda i, o: MLP(i, o, (16,)), ALL[name]())
        model = Flow(StandardNormal(2), Compose(coupling))
        train.fit(model, x, steps=300, batch_size=500, lr=1e-2, seed=0)
        loss[name] = -model(x).mean().item()
    assert loss["spline"] < loss["affine"] - 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RQSTransformer(1), "bins >= 2"),
        (lambda: RQSTransformer(8, bound=0.0), "bound > 0"),
        (lambda: RQSTransformer(8, min_bin=0.2), "min_bin"),
        (lambda: RQSTransformer(8, min_derivative=1.0), "min_derivative"),
        (lambda: LogisticMixtureTransformer(0), "components >= 1"),
        (lambda: LogisticMixtureTransformer(clamp=-1.0), "clamp > 0"),
        (lambda: AffineTransformer(clamp=0.0), "clamp"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
