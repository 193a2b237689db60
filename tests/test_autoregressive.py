"""The masks are right: Jacobians, and the slow loop that is never shown what a mask should hide."""

from functools import partial

import pytest
import torch
from torch import nn

from nfcourse import (
    MAF,
    AdditiveTransformer,
    AffineTransformer,
    Flow,
    Inverse,
    LogisticMixtureTransformer,
    RQSTransformer,
    SlowMAF,
    StandardNormal,
    check,
    masked_autoregressive,
)
from nfcourse.nets import MADE

ORDERS = [None, "reverse", "random", [2, 0, 4, 1, 3, 5]]
TRANSFORMERS = {
    "additive": AdditiveTransformer,
    "affine": AffineTransformer,
    "spline": partial(RQSTransformer, 5),
    "logistic mixture": partial(LogisticMixtureTransformer, 3),
}
# dim, hidden widths, context features: widths that degrees do not divide, narrower ones, none, several blocks
SIZES = [
    (6, (16, 11), 0),
    (6, (7,), 2),
    (6, (3, 4, 5), 2),
    (6, (), 2),
    (2, (4, 4), 0),
    (1, (4,), 0),
    (1, (4, 3), 2),
    (21, (30, 47), 0),
    (21, (10, 25), 3),
]


def build(dim=6, hidden=(16, 11), context=0, order=None, transformer=None, batch=(5,)):
    """A MAF with weights moved from their start, points and contexts, all float64."""
    torch.manual_seed(0)
    order = order if isinstance(order, str | None) or len(order) == dim else None
    maf = MAF(dim, hidden, transformer, order, context, nn.Tanh)
    maf = check.randomize(maf.double(), scale=0.8)
    z = 2 * torch.randn(*batch, dim, dtype=torch.float64)
    return maf, z, torch.randn(*batch, context, dtype=torch.float64) if context else None


def allowed(order, n_params):
    """What may depend on what, (P, D, D): entry (p, i, j) is True where j comes before i."""
    rank = order.argsort()
    return (rank[:, None] > rank).expand(n_params, -1, -1)


# ---- the masks ----


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("hidden", [(), (5,), (16,), (9, 7, 14)], ids=str)
def test_made_jacobian_is_strictly_triangular(hidden, context, order):
    """Exactly zero where the order forbids, and not zero where it allows: no dependence is lost."""
    torch.manual_seed(1)
    net = check.randomize(MADE(6, 3, hidden, order, context, nn.Tanh, zero_init=False).double(), scale=1.0)
    c = torch.randn(context, dtype=torch.float64) if context else None
    jac = torch.func.jacrev(lambda u: net(u, c).unflatten(-1, (3, 6)))(torch.randn(6, dtype=torch.float64))
    assert torch.equal(jac != 0, allowed(net.order, 3))
    if context:
        jac = torch.func.jacrev(net, 1)(torch.randn(6, dtype=torch.float64), c)
        assert (jac != 0).all(), "the context must reach everything"


def test_made_loses_only_dependences_that_narrow_layers_cannot_carry():
    net = check.randomize(MADE(9, 2, (4,), activation=nn.Tanh).double(), scale=1.0)
    jac = torch.func.jacrev(lambda u: net(u).unflatten(-1, (2, 9)))(torch.randn(9, dtype=torch.float64))
    assert not (jac != 0)[~allowed(net.order, 2)].any() and (jac != 0).any(-1)[:, 2:].all()


def test_degrees_are_sorted_and_complete():
    """Between 1 and D - 1; with a context from 0, unless that would cost a dependence."""
    for dim, width, context, lowest in ((6, 5, 0, 1), (6, 13, 0, 1), (6, 5, 1, 1), (6, 6, 1, 0), (64, 128, 0, 1)):
        (degrees,) = MADE(dim, 1, (width,), context_features=context).degrees
        assert degrees == sorted(degrees) and set(degrees) == set(range(lowest, dim))


def test_random_orders_differ_and_are_saved():
    torch.manual_seed(0)
    f = masked_autoregressive(12, 3, (16,), order="random")
    orders = [tuple(layer.made.order.tolist()) for layer in f]
    assert len(set(orders)) == 3 and all(sorted(o) == list(range(12)) for o in orders)
    check.randomize(f)
    g = masked_autoregressive(12, 3, (16,), order="random")
    x = torch.randn(4, 12)
    before = g.inverse(x)[0]
    g.load_state_dict(f.state_dict())
    assert torch.equal(g.inverse(x)[0], f.inverse(x)[0]) and not torch.equal(before, g.inverse(x)[0])
    assert torch.allclose(g(x)[0], f(x)[0])


def test_masks_are_state():
    """A network called with another one's state computes what the other does, masks included."""
    a, b = (check.randomize(MADE(6, 2, (16,), "random"), seed=seed) for seed in (0, 1))
    assert a.order.tolist() != b.order.tolist()
    x = torch.randn(3, 6)
    assert torch.equal(torch.func.functional_call(b, a.state_dict(), (x,)), a(x))


def test_orders_of_a_stack():
    natural, backwards = list(range(4)), [3, 2, 1, 0]
    assert [f.made.order.tolist() for f in masked_autoregressive(4, 3)] == [natural, backwards, natural]
    assert [f.made.order.tolist() for f in masked_autoregressive(4, 2, order=None)] == [natural, natural]


# ---- MAF against its definition ----


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_maf_is_slow_maf(size, order):
    """Values and log-determinants of both directions, to rounding."""
    maf, z, context = build(*size, order)
    slow = SlowMAF(maf)
    for fast, definition in ((maf.forward, slow.forward), (maf.inverse, slow.inverse)):
        for got, want in zip(fast(z, context), definition(z, context), strict=True):
            assert torch.allclose(got, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_maf_is_slow_maf_for_each_transformer(name, context):
    maf, z, c = build(5, (16, 11), context, "reverse", TRANSFORMERS[name]())
    slow = SlowMAF(maf)
    for fast, definition in ((maf.forward, slow.forward), (maf.inverse, slow.inverse)):
        for got, want in zip(fast(z, c), definition(z, c), strict=True):
            assert torch.allclose(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("block", [1, 2, 5, 8, 100])
def test_blocks_only_arrange_the_work(block, monkeypatch):
    monkeypatch.setattr(MADE, "block", block)
    maf, z, context = build(21, (30, 10), 2, "random")
    assert torch.allclose(maf(z, context)[0], SlowMAF(maf)(z, context)[0], rtol=1e-11, atol=1e-11)


def test_slow_maf_finds_a_wrong_mask():
    """A mask with one entry too many: the definition no longer agrees."""
    maf, z, _ = build(5, (16, 11))
    with torch.no_grad():
        maf.made.layers[0].mask[0, 4] = 1
    assert not torch.allclose(maf.inverse(z)[0], SlowMAF(maf).inverse(z)[0], atol=1e-6)


def test_sampling_is_the_inverse_by_d_passes():
    """D sweeps of the fixed-point iteration x <- tau(z; h(x)) from any start end at the exact pre-image."""
    maf, z, context = build(12, (24, 30), 2, "random")
    x = torch.full_like(z, 3.0)
    for k in range(12):
        x = maf.transformer(z, maf.params(x, context))[0]
        known = maf.made.order[: k + 1]
        assert torch.allclose(x[:, known], maf(z, context)[0][:, known], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(6, (16, 11), 2), (21, (30, 10), 0), (1, (4, 3), 2)], ids=str)
@pytest.mark.parametrize("name", ["affine", "spline"])
def test_gradients_through_sampling(name, size):
    """Those of noise, context and weights, through value and log-determinant, are those of the definition."""
    maf, z, context = build(*size, "random", TRANSFORMERS[name]())
    inputs = [z.requires_grad_()] + ([context.requires_grad_()] if context is not None else [])
    weights = torch.randn_like(z)
    grads = []
    for f in (maf, SlowMAF(maf)):
        x, log_det = f(z, context)
        loss = (weights * x).sum() + (0.3 * log_det).sum()
        grads.append(torch.autograd.grad(loss, [*inputs, *[p for p in maf.parameters() if p.requires_grad]]))
    for got, want in zip(*grads, strict=True):
        assert torch.allclose(got, want, rtol=1e-8, atol=1e-9)


def test_second_derivatives_through_sampling():
    maf, z, _ = build(3, (6,), batch=(2,))
    assert torch.autograd.gradgradcheck(lambda v: maf(v)[0], z.requires_grad_())


# ---- what users meet ----


def test_fresh_layers_are_the_identity():
    x = torch.randn(4, 5)
    stack = masked_autoregressive(5, transformer=RQSTransformer)
    for f, c in ((MAF(5), None), (MAF(5, context_features=2), torch.randn(4, 2)), (stack, None)):
        assert torch.allclose(f(x, c)[0], x, atol=1e-5) and torch.allclose(f.inverse(x, c)[0], x, atol=1e-5)


def test_iaf_is_the_inverse():
    maf, z, _ = build()
    iaf = Inverse(maf)
    assert torch.equal(iaf(z)[0], maf.inverse(z)[0]) and torch.equal(iaf.inverse(z)[1], maf(z)[1])


def test_a_flow_broadcasts_the_context_and_a_layer_does_not():
    maf, z, context = build(6, (16,), 2, batch=(3, 4))
    one, flow = context[0, 0], Flow(StandardNormal(6).double(), maf)
    assert torch.allclose(flow(z, one), flow(z, one.expand(3, 4, 2)))
    assert not torch.allclose(flow(z, one), flow(z, context))
    for f in (maf.forward, maf.inverse, SlowMAF(maf).forward):
        with pytest.raises(ValueError, match=r"one batch shape, got \(3, 4\) and \(\)"):
            f(z, one)


def test_one_dimension_without_context_has_free_parameters_only():
    maf = MAF(1)
    assert [p.shape for p in maf.parameters() if p.requires_grad] == [(2,)]
    flow = Flow(StandardNormal(1), check.randomize(maf))
    check.integral(flow, -30.0, 30.0, name="one dimension")


def test_density_integrates_to_one():
    flow = Flow(StandardNormal(2), masked_autoregressive(2, 2, (8,), partial(RQSTransformer, 4), activation=nn.Tanh))
    check.integral(check.randomize(flow), [-12.0, -12.0], [12.0, 12.0], n=300, name="two dimensions")


def test_rsample_learns():
    """Sampling is differentiable: a flow fits a shifted normal by the reverse divergence."""
    torch.manual_seed(0)
    flow = Flow(StandardNormal(2), MAF(2, (8,)))
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.05)
    target = torch.distributions.Independent(torch.distributions.Normal(torch.tensor([1.0, -2.0]), 0.5), 1)
    for _ in range(150):
        x, log_det = flow.bijection(torch.randn(64, 2))
        loss = (-log_det - target.log_prob(x)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.allclose(flow.sample((2000,)).mean(0), torch.tensor([1.0, -2.0]), atol=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MAF(0), "sizes >= 1"),
        (lambda: MAF(3, hidden=(4, 0)), "sizes >= 1"),
        (lambda: MAF(3, context_features=-1), "context_features -1"),
        (lambda: MAF(3, order="backwards"), "backwards"),
        (lambda: MAF(3, order=[0, 1]), "once"),
        (lambda: MAF(3, order=[0, 1, 1]), "once"),
        (lambda: MADE(3, 0), "sizes >= 1"),
        (lambda: MADE(3, 1)(torch.zeros(2, 4)), r"\(\*batch, 3\)"),
        (lambda: MADE(3, 1)(torch.zeros(2, 3).long()), "int64"),
        (lambda: SlowMAF(nn.Linear(2, 2)), "Linear"),
        (lambda: masked_autoregressive(3, order="sideways"), "sideways"),
        (lambda: masked_autoregressive(3, layers=0), "at least one"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("wrap", [lambda f: f, SlowMAF, Inverse], ids=["maf", "slow", "iaf"])
def test_bad_inputs(wrap, direction):
    plain, conditional = (getattr(wrap(MAF(3, (4,), context_features=n)), direction) for n in (0, 2))
    x = torch.zeros(2, 3)
    for call, message in (
        (lambda: plain(torch.zeros(2, 4)), "shape"),
        (lambda: plain(torch.tensor(0.0)), "shape"),
        (lambda: plain(x.long()), "floating-point"),
        (lambda: conditional(x), r"\(\*batch, 2\), got none"),
        (lambda: conditional(x, torch.zeros(2, 3)), r"\(\*batch, 2\)"),
        (lambda: conditional(x, torch.tensor(0.0)), r"\(\*batch, 2\)"),
        (lambda: conditional(x, torch.zeros(2, 2).long()), "int64"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
