"""Flows, bases and dequantisation: densities integrate to one, shapes and gradients are the promised ones."""

import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from constructors import CONSTRUCTORS, CONTEXTS, EVENTS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, MultivariateNormal, StudentT, Uniform

from nfcourse import (
    MLP,
    PLU,
    ActNorm,
    Affine,
    Compose,
    ConditionalNormal,
    Coupling,
    Dequantized,
    DiagonalNormal,
    Flow,
    PReLU,
    Sigmoid,
    StandardNormal,
    alternate_mask,
    bits_per_dim,
    check,
    half_mask,
    spaces,
)

small = partial(MLP, hidden=(16,), activation=torch.nn.Tanh)


def coupling_flow(dim, n=4, context_features=0):
    """A coupling flow with weights that are not zero."""
    torch.manual_seed(0)
    layers = [
        Coupling(alternate_mask(dim, flip=k % 2 == 1), small, context_features=context_features) for k in range(n)
    ]
    return check.randomize(Flow(StandardNormal(dim), Compose(*layers)), scale=0.5)


def simple_flow(dim, n=3):
    """A flow of the simple maps of chapter 8."""
    torch.manual_seed(1)
    layers = [g for _ in range(n) for g in (PLU(dim), PReLU(dim, slope=0.7), ActNorm(dim))]
    return check.randomize(Flow(DiagonalNormal(dim), Compose(*layers)), scale=0.2)


@pytest.mark.parametrize("make", [coupling_flow, simple_flow])
@pytest.mark.parametrize("dim", [2, 3])
def test_density_integrates_to_one(make, dim):
    """By the midpoint rule over the box that the flow's own samples span, with a margin."""
    flow = make(dim)
    x = flow.sample((20_000,))
    low, high = x.min(0).values, x.max(0).values
    check.integral(flow, low - 0.3 * (high - low), high + 0.3 * (high - low), n=700 if dim == 2 else 140, tol=5e-3)


def _has_a_density_on_vectors(f):
    known = {f.domain, f.codomain} <= {None, spaces.real, spaces.unit_interval}
    return f.event_dim == 1 and "inverse" in f.directions and known


VECTORS = [n for n, f in CONSTRUCTORS.items() if _has_a_density_on_vectors(f()) and "16" not in n]


@pytest.mark.parametrize("name", VECTORS)
def test_every_layer_gives_a_density(name):
    """Importance sampling in the layer's own dimension, the proposal a heavy-tailed cloud around its samples."""
    torch.manual_seed(0)
    f = check.randomize(CONSTRUCTORS[name](), scale=0.2).eval().double()
    dim = (EVENTS.get(name) or f.event_shape)[0]
    context = torch.zeros(CONTEXTS[name], dtype=torch.float64) if name in CONTEXTS else None
    base = StandardNormal(dim).double()
    if f.domain is spaces.unit_interval:
        flow = Flow(base, Compose(Sigmoid(), f)).double()
    else:
        flow = Flow(base, f).double()
    if f.codomain is spaces.unit_interval:
        proposal = Independent(Uniform(torch.zeros(dim).double(), torch.ones(dim).double()), 1)
    else:
        x = flow.sample((4000,), context)
        proposal = Independent(StudentT(4.0, x.mean(0), 1.5 * x.std(0)), 1)

    def log_prob(x):
        return flow(x, None if context is None else context.expand(len(x), -1))

    check.integral_mc(log_prob, proposal, n=200_000, tol=0.05)


def test_integral_check_finds_the_sum_over_all_coordinates():
    class SumsAll(Coupling):
        def inverse(self, x, context=None):
            a, b = self._split(x)
            _, log_scale = self.transformer.inverse(b, self._params(a, b, context))
            return super().inverse(x, context)[0], log_scale.sum(-1) * 2

    flow = Flow(StandardNormal(2), check.randomize(SumsAll(half_mask(2), small), scale=1.0))
    with pytest.raises(check.CheckFailed):
        check.integral(flow, [-12.0, -12.0], [12.0, 12.0])


def test_affine_flow_is_a_gaussian():
    torch.manual_seed(0)
    plu = PLU(3, torch.randn(3, 3, dtype=torch.float64))
    with torch.no_grad():
        plu.bias.copy_(torch.tensor([1.0, -2.0, 0.5]))
    flow = Flow(StandardNormal(3).double(), plu)
    want = MultivariateNormal(plu.bias, plu.matrix @ plu.matrix.T)
    x = torch.randn(20, 3, dtype=torch.float64)
    assert torch.allclose(flow(x), want.log_prob(x))


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
@pytest.mark.parametrize("batch", [None, (), (4,), (2, 2)])
def test_sample_shapes(shape, batch):
    """Samples have shape (*shape, *context batch, *event), with log-densities to match."""
    flow = coupling_flow(3, context_features=0 if batch is None else 2)
    context = None if batch is None else torch.randn(*batch, 2)
    x, log_prob = flow.sample_and_log_prob(shape, context)
    assert x.shape == (*shape, *(batch or ()), 3) and log_prob.shape == (*shape, *(batch or ()))
    assert flow.sample(shape, context).shape == x.shape
    again = flow(x, None if context is None else context.expand(*x.shape[:-1], 2))
    assert torch.allclose(again, log_prob, atol=1e-4)
    distribution = flow.distribution(context)
    assert distribution.batch_shape == (batch or ()) and distribution.event_shape == (3,)
    assert torch.allclose(distribution.log_prob(x), log_prob, atol=1e-4)
    assert distribution.rsample(shape).requires_grad and not distribution.sample(shape).requires_grad


def test_contexts_make_different_draws():
    flow = coupling_flow(2, context_features=2)
    x = flow.sample((2000,), torch.tensor([[-3.0, 0.0], [3.0, 0.0]]))
    assert (x[:, 0].mean(0) - x[:, 1].mean(0)).abs().max() > 0.1
    assert not torch.equal(x[:, 0], x[:, 1])


def test_conditional_base():
    net = MLP(2, 6, zero_init=False)
    flow = Flow(ConditionalNormal(net), Affine(3))
    context = torch.randn(5, 2)
    x, log_prob = flow.sample_and_log_prob((7,), context)
    assert x.shape == (7, 5, 3) and log_prob.shape == (7, 5)
    with pytest.raises(ValueError, match="context"):
        flow.sample((2,))


def test_support_and_rsample_gradient():
    flow = Flow(DiagonalNormal(2), Compose(Affine(2), Sigmoid()))
    d = flow.distribution()
    x = d.rsample((100,))
    assert bool(d.support.check(x).all()) and not bool(d.support.check(torch.tensor([0.5, 1.5])))
    x.sum().backward()
    assert all(p.grad is not None for p in flow.parameters())


def test_reverse_kl_by_monte_carlo():
    """KL(q || p) from samples and log-densities in one pass, against the closed form."""
    torch.manual_seed(0)
    q = Flow(StandardNormal(2), Affine(2, loc=0.5, scale=0.7)).double()
    x, log_q = q.sample_and_log_prob((200_000,))
    p = Independent(torch.distributions.Normal(torch.zeros(2).double(), 1.0), 1)
    closed = torch.distributions.kl_divergence(
        torch.distributions.Normal(torch.full((2,), 0.5).double(), 0.7), torch.distributions.Normal(0.0, 1.0)
    ).sum()
    assert abs(float((log_q - p.log_prob(x)).mean().detach() - closed.detach())) < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_follows_the_model(dtype):
    flow = simple_flow(3).to(dtype)
    x, log_prob = flow.sample_and_log_prob((4,))
    assert x.dtype == log_prob.dtype == flow(x).dtype == dtype


def test_meta_device():
    """No layer creates a tensor on the wrong device: on the meta device any mixture raises."""
    flow = Flow(StandardNormal(4), Compose(PLU(4), PReLU(4), ActNorm(4), Coupling(half_mask(4)))).to("meta")
    assert flow(torch.empty(3, 4, device="meta")).device.type == "meta"
    assert flow.sample((3,)).device.type == "meta"


def test_nan_gives_nan():
    flow = coupling_flow(2)
    assert torch.isnan(flow(torch.tensor([[float("nan"), 0.0]]))).all()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    dtype=st.sampled_from([torch.float32, torch.int64, torch.bool, torch.complex64]),
)
def test_models_reject_other_shapes_and_dtypes(shape, dtype):
    x = torch.zeros(shape).to(dtype)
    bound = Dequantized(Flow(StandardNormal(2), Compose(Affine(2), Sigmoid())), levels=4)
    for model in (coupling_flow(2), simple_flow(2), bound):
        try:
            log_prob = model(x)
        except ValueError:
            continue
        assert shape[-1] == 2 and log_prob.shape == shape[:-1] and log_prob.dtype == torch.float32


@pytest.mark.parametrize("base", [StandardNormal(2), DiagonalNormal(2), DiagonalNormal((2, 3))])
def test_an_empty_batch_has_no_log_densities(base):
    assert base().log_prob(torch.zeros(0, *base.event_shape)).shape == (0,)
    assert base().expand((0,)).log_prob(torch.zeros(0, *base.event_shape)).shape == (0,)


# ---- dequantisation ----


def bound_model(levels=4):
    """A dequantised flow on two integers."""
    torch.manual_seed(0)
    f = Compose(Affine(2, scale=1.3), Coupling(half_mask(2), small), Sigmoid())
    return check.randomize(Dequantized(Flow(StandardNormal(2), f), levels=levels))


def test_dequantized_is_a_bound_on_a_mass_function():
    model, levels = bound_model(), 4
    grid = torch.cartesian_prod(torch.arange(levels), torch.arange(levels))
    u = torch.cartesian_prod(*[(torch.arange(60) + 0.5) / 60] * 2)
    y = (grid[:, None].float() + u) / levels
    log_p = model.model(y).detach() - 2 * math.log(levels)
    exact = log_p.exp().mean(1)
    check.close("total mass", float(exact.sum()), 1.0, 2e-3)
    bound = log_p.mean(1)
    assert (bound <= exact.log() + 1e-6).all() and (bound < exact.log() - 1e-3).any()
    draws = torch.stack([model(grid).detach() for _ in range(4000)])
    error = draws.std(0) / 4000**0.5
    assert ((draws.mean(0) - bound).abs() < 5 * error + 2e-3).all(), "the estimate of the bound is biased"


def test_dequantized_samples_and_ranges():
    model = bound_model()
    x = model.sample((500,))
    assert x.dtype == torch.int64 and 0 <= int(x.min()) and int(x.max()) <= 3
    y = model.dequantize(torch.full((100_000, 2), 3))
    assert float(y.min()) >= 0.75 and float(y.max()) < 1
    with pytest.raises(ValueError, match="levels"):
        Dequantized(model.model, levels=1)
    with pytest.raises(ValueError, match="integers"):
        model(torch.zeros(3, 2, dtype=torch.bool))


def test_bits_per_dim():
    """The uniform law on 256 levels costs 8 bits per dimension."""
    assert abs(float(bits_per_dim(torch.tensor(-10 * math.log(256.0)), 10)) - 8) < 1e-6
    with pytest.raises(ValueError, match="dims"):
        bits_per_dim(torch.tensor(0.0), 0)


def test_flow_expects_a_bijection():
    with pytest.raises(ValueError, match="Bijection"):
        Flow(StandardNormal(2), torch.nn.Linear(2, 2))


def test_compile_fullgraph():
    """In a process of its own, without the import hook that checks types."""
    here = Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]), "NFCOURSE_NO_TYPECHECK": "1"}
    run = subprocess.run(
        [sys.executable, str(here / "compile_worker.py"), "--eager"],
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stdout[-500:] + run.stderr[-3000:]
    assert run.stdout.count("compiled") > 60
