"""What printed a wrong number in silence, or would have forced a special case on later chapters, does so no more."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from coming import (
    CategoricalBase,
    CircleAmbient,
    CircleAngle,
    CircleVector,
    ImageEncoder,
    ModularShift,
    Planar,
    Rounded,
    Stereographic,
    UniformAngle,
)
from constructors import CONSTRUCTORS, CONTEXTS, EVENTS, small, wide
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, Uniform, kl_divergence

from nfcourse import (
    MADE,
    MAF,
    MLP,
    NADE,
    PLU,
    ActNorm,
    Affine,
    Bijection,
    Compose,
    ConditionalAffine,
    ConditionalNormal,
    Conv1x1,
    ConvNet,
    Coupling,
    Dequantized,
    DiagonalNormal,
    FactorOut,
    Flow,
    FlowPP,
    Inverse,
    Logit,
    Permutation,
    RealNVP,
    Sigmoid,
    SplineCoupling,
    Squeeze,
    StandardNormal,
    bits_per_dim,
    check,
    data,
    half_mask,
    spaces,
)
from nfcourse.bijections import RQSTransformer
from nfcourse.spaces import circle, cyclic, sphere


class Law(nn.Module):
    """Any distribution of torch as a base."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, context=None):
        return self.make()


def uniform_base(dim):
    return Law(lambda: Independent(Uniform(torch.zeros(dim), torch.ones(dim), validate_args=False), 1))


# ---- 1, 2, 4: one truth for shapes and spaces ----


@pytest.mark.parametrize("dim", [1, 3])
def test_base_and_bijection_must_have_one_shape(dim):
    with pytest.raises(ValueError, match=rf"base's event shape is \({dim},\), but Compose starts from \(2,\)"):
        Flow(StandardNormal(dim), RealNVP(2, 2))
    # a base that does not say its shape is compared at the call
    late = Flow(Law(StandardNormal(dim)), RealNVP(2, 2))
    for call in (lambda: late(torch.zeros(4, 2)), lambda: late.sample((4,)), late.distribution):
        with pytest.raises(ValueError, match="event shape"):
            call()
    with pytest.raises(ValueError, match=r"expects x of shape \(\*batch, 2\), got \(4, 3\)"):
        Flow(StandardNormal(2), Sigmoid())(torch.full((4, 3), 0.5))
    with pytest.raises(ValueError, match="event_dim"):
        Flow(StandardNormal((2, 2)), Sigmoid(event_dim=1))


def test_compose_compares_the_shapes_of_its_parts():
    with pytest.raises(ValueError, match=r"shapes do not fit: map 2, PLU, starts from \(2,\), .* ends in \(3,\)"):
        Compose(Affine(3), PLU(2))
    f = Compose(Squeeze(), Affine((1, 4, 4)))
    assert f.event_shape == (4, 2, 2) and Inverse(f).event_shape == (1, 4, 4)
    assert check.check_bijection(f).round_trip


def test_dequantized_reads_the_models_event():
    flow = Flow(StandardNormal((3, 8, 8)), Sigmoid(event_dim=3))
    torch.manual_seed(0)
    bits = bits_per_dim(Dequantized(flow, 256)(torch.randint(0, 256, (5, 3, 8, 8))), 3 * 64)
    # at y the density of sigmoid(z) is φ(logit y) / (y (1 - y)), about 1: near 8.8 bits, not 1
    assert bits.shape == (5,) and ((bits > 7) & (bits < 10)).all()
    with pytest.raises(ValueError, match="one event_dim"):
        Dequantized(flow, 256, event_dim=1)
    with pytest.raises(ValueError, match="must say it"):
        Dequantized(nn.Linear(2, 2), 256)


def test_spaces_are_chained():
    for make in (lambda: Compose(RealNVP(2, 2), Logit()), lambda: Compose(Sigmoid(), Affine(2, loc=5.0))):
        with pytest.raises(ValueError, match="space"):
            make()
    flow = Flow(StandardNormal(1), Logit())
    with pytest.raises(ValueError, match="base's space is the real numbers, but Logit starts from the unit interval"):
        flow(torch.zeros(3, 1))
    right = Flow(uniform_base(1), Logit())
    check.integral(right.log_prob, -30.0, 30.0, dtype=torch.float32)
    assert right.distribution().support.check(torch.zeros(1)) and Flow(StandardNormal(1), Sigmoid())(torch.ones(1) / 2)
    # entries that are only moved about keep their space
    moved = Compose(Permutation([1, 0]), Sigmoid(), Permutation([1, 0]))
    assert moved.domain == spaces.real and moved.codomain == spaces.unit_interval
    assert Compose(Permutation([1, 0])).codomain is None
    with pytest.raises(ValueError, match="space"):
        Compose(Sigmoid(), Permutation([1, 0]), Affine(2))


def test_spaces_of_torch():
    c = torch.distributions.constraints
    pairs = {
        c.real: spaces.real,
        c.independent(c.real, 2): spaces.real,
        c.unit_interval: spaces.unit_interval,
        c.positive: spaces.positive,
        c.boolean: cyclic(2),
        c.integer_interval(0, 4): cyclic(5),
        c.dependent: None,
        c.greater_than(1.0): spaces.Space("", "Lebesgue", 1.0),
        c.nonnegative: spaces.positive,
        c.nonnegative_integer: spaces.Space("", "counting", 0.0),
        c.interval(-1.0, 1.0): spaces.interval(-1, 1),
        spaces.circle: spaces.circle,
    }
    for constraint, space in pairs.items():
        assert spaces.space_of(constraint) == space
    assert spaces.space_of(Normal(0.0, 1.0)) is spaces.real
    for odd in (c.simplex, c.one_hot, c.lower_cholesky, c.interval(torch.zeros(2), torch.tensor([1.0, 2.0]))):
        assert spaces.space_of(odd) not in pairs.values(), "a space like no other"


@pytest.mark.parametrize("space", [spaces.real, spaces.positive, spaces.unit_interval, spaces.integers, cyclic(7),
                                   spaces.interval(-2, 3), circle, sphere], ids=str)  # fmt: skip
def test_draws_lie_in_their_space(space):
    x = space.draw((500, 3))
    assert space.check(x).all() and x.dtype == torch.float64 and (space.difference(x, x) == 0).all()
    assert x.unique().numel() >= (3 if space.is_discrete else 500)
    outside = {"the real numbers": math.nan, circle.name: math.inf}.get(space.name, -7.5)
    assert not space.check(torch.full((1, 3), outside)).any()


def test_a_flow_is_no_base():
    inner = Flow(StandardNormal(2), Affine(2))
    with pytest.raises(ValueError, match="then"):
        Flow(inner, Affine(2))


# ---- 3, 12: gradients by name ----


def two_peaks(means):
    peaks = Independent(Normal(means.unsqueeze(-1), 0.5), 1)
    return Law(lambda: MixtureSameFamily(Categorical(torch.ones(2)), peaks))


def test_a_base_without_rsample_gives_no_silent_gradient():
    means = torch.tensor([-1.0, 1.0], requires_grad=True)
    flow = Flow(two_peaks(means), Affine(1))
    for call in (flow.sample_and_log_prob, flow.rsample, flow.distribution().rsample):
        with pytest.raises(NotImplementedError, match="rsample.*sample"):
            call((5,))
    with torch.no_grad():
        x, log_prob = flow.sample_and_log_prob((5,))
    assert torch.allclose(log_prob, flow(x)) and flow.sample((5,)).shape == (5, 1)


def test_samples_are_detached_and_a_number_is_a_shape():
    flow = Flow(DiagonalNormal(2), check.randomize(RealNVP(2, 2, context_features=1)))
    context = torch.randn(3, 1, requires_grad=True)
    assert flow.sample(500, context).numpy().shape == (500, 3, 2)
    assert flow.sample((), context[0]).shape == (2,) and flow.distribution(context).sample((4,)).grad_fn is None
    flow.rsample(10, context).sum().backward()
    assert context.grad.abs().sum() > 0 and all(p.grad is not None for p in flow.base.parameters())
    model = NADE(4)
    assert model.sample(3).shape == (3, 4)


# ---- 5: mixed precision ----


@pytest.mark.parametrize("scale", [1.0, 2.0, 5.0])
def test_splines_are_finite_under_autocast(scale):
    """100 % of the points; the map and its log-det are those of float32, given what the conditioner said."""
    torch.manual_seed(0)
    f = Coupling(half_mask(4), small, RQSTransformer())
    with torch.no_grad():
        f.conditioner[-1].weight.zero_()
        f.conditioner[-1].bias.copy_(scale * torch.randn_like(f.conditioner[-1].bias))
        f.conditioner[-1].weight.copy_(scale * torch.randn_like(f.conditioner[-1].weight) / 4)
    z = 3 * torch.randn(20_000, 4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        params = f._params(z[:, :2], z[:, 2:], None)
        x, log_det = f(z)
        back, _ = f.inverse(x)
    assert f.conditioner(z[:, :2]).dtype == torch.float32 and x.dtype == log_det.dtype == torch.float32
    assert torch.isfinite(log_det).all() and torch.isfinite(x).all()
    assert torch.equal(params, params.bfloat16().float()), "the conditioner did not run in bfloat16"
    plain_x, plain = f.transformer(z[:, 2:], params)
    assert torch.equal(x[:, 2:], plain_x) and torch.equal(log_det, plain.sum(-1)), "not what float32 gives"
    exact_x, exact = f.transformer(z[:, 2:].double(), params.double())
    steep = 1 + exact.abs().amax(-1).exp()
    assert (x[:, 2:] - exact_x).abs().amax(-1).div(steep).max() < 1e-5
    # the round trip is that of float32: rounding, times the steepness of the spline
    assert (back - z).abs().amax(-1).div(steep).max() < 1e-5


@pytest.mark.parametrize(
    "name", [n for n in CONSTRUCTORS if "coupling" in n or n in ("plu", "1x1 convolution", "compose")]
)
def test_couplings_round_trip_under_autocast(name):
    """In float32, as far as the map alone allows; matrices of linear layers are not conditioners."""
    torch.manual_seed(0)
    f = check.randomize(CONSTRUCTORS[name](), 0.1).eval()
    context = torch.randn(64, *CONTEXTS[name]) if name in CONTEXTS else None
    z = check.draw_inputs(f.domain, (64, *(EVENTS.get(name) or f.event_shape)), scale=1.0).float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        x, log_det = f(z, context)
        back, log_det_back = f.inverse(x, context)
    assert x.dtype == log_det.dtype == back.dtype == log_det_back.dtype == torch.float32
    assert torch.allclose(back, z, atol=2e-5, rtol=1e-5) and torch.allclose(
        log_det, -log_det_back, atol=1e-3, rtol=1e-4
    )


def test_conditional_base_under_autocast():
    flow = Flow(ConditionalNormal(MLP(2, 6, zero_init=False)), MAF(3, (16,), context_features=2))
    context = torch.randn(50, 2)
    with torch.autocast("cpu", torch.bfloat16):
        x, log_prob = flow.sample_and_log_prob((), context)
    assert x.dtype == log_prob.dtype == torch.float32


# ---- 6, 9: state in state_dict alone; initialisation reaches every layer ----


def test_inverse_of_actnorm_is_initialized():
    torch.manual_seed(0)
    x = 40 + 7 * torch.randn(2000, 3)
    for f in (
        Inverse(ActNorm(3)),
        Inverse(Compose(ActNorm(3), PLU(3), ActNorm(3))),
        Compose(Inverse(ActNorm(3)), PLU(3)),
    ):
        flow = Flow(StandardNormal(3), f)
        flow.initialize(x)
        z = f.inverse(x)[0]
        if not isinstance(f, Compose):
            assert z.mean(0).abs().max() < 1e-3 and (z.std(0, unbiased=False) - 1).abs().max() < 1e-3
        assert flow(x).mean() > -30
    images = 5 + 3 * torch.randn(50, 2, 4, 4)
    f = Inverse(ActNorm((2, 4, 4), share=2))
    assert f.initialize(images).mean((0, 2, 3)).abs().max() < 1e-4 and "initialized" in repr(list(f.state_dict()))


def test_forward_only_flows_are_initialized_as_they_are():
    flow = Flow(StandardNormal(3), Compose(ActNorm(3), Planar(3)))
    flow.initialize(torch.randn(10, 3))  # there is no way from the data to the base
    assert not bool(flow.bijection[0].initialized)


# ---- 8: second derivatives ----


@pytest.mark.parametrize("name", ["flow++", "coupling, logistic mixture", "coupling, spline", "maf, spline", "planar"])
def test_hessians_against_finite_differences(name):
    torch.manual_seed(0)
    f = check.randomize(CONSTRUCTORS[name]()).double()
    z = torch.randn(f.event_shape, dtype=torch.float64)
    weights = torch.linspace(0.5, 1.5, len(z), dtype=torch.float64)

    def value(v):
        x, log_det = f(v)
        return (weights * x).sum() + log_det

    hessian, h = torch.func.hessian(value)(z), 1e-5
    gradient = torch.func.grad(value)
    columns = [(gradient(z + h * e) - gradient(z - h * e)) / (2 * h) for e in torch.eye(len(z), dtype=torch.float64)]
    assert (hessian - torch.stack(columns)).abs().max() <= 1e-4 * (1 + hessian.abs().max())
    # and the gradient itself against values
    slopes = [(value(z + h * e) - value(z - h * e)) / (2 * h) for e in torch.eye(len(z), dtype=torch.float64)]
    assert (gradient(z) - torch.stack(slopes)).abs().max() < 1e-6 * (1 + gradient(z).abs().max())


def test_hessian_with_respect_to_parameters():
    """Of the mixture's inverse, through the implicit function."""
    f = FlowPP(2, 1, lambda i, o: MLP(i, o, (3,), nn.Tanh), components=2)
    check.randomize(f).double()
    names, z = dict(f.named_parameters()), torch.tensor([0.3, -0.7], dtype=torch.float64)
    name, flat = "bijections.0.conditioner.2.bias", names["bijections.0.conditioner.2.bias"].detach()

    def value(p):
        x, log_det = torch.func.functional_call(f, {name: p}, (z,))
        return x.sum() + log_det

    hessian, h = torch.func.hessian(value)(flat), 1e-5
    gradient = torch.func.grad(value)
    columns = [(gradient(flat + h * e) - gradient(flat - h * e)) / (2 * h) for e in torch.eye(len(flat)).double()]
    assert (hessian - torch.stack(columns)).abs().max() <= 1e-4


# ---- 10, 11: broadcasting, contexts, flows as bases ----


def conditional_flows():
    torch.manual_seed(0)
    return {
        "affine": Flow(StandardNormal(3), ConditionalAffine(MLP(2, 6, zero_init=False))),
        "normal": Flow(ConditionalNormal(MLP(2, 6, zero_init=False)), Affine(3)),
        "coupling": Flow(StandardNormal(3), check.randomize(RealNVP(3, 2, small, 2))),
        "maf": Flow(StandardNormal(3), check.randomize(MAF(3, (8,), context_features=2))),
        "both": Flow(ConditionalNormal(MLP(2, 6, zero_init=False)), check.randomize(RealNVP(3, 2, small, 2))),
        "unconditional on conditional": Flow(ConditionalNormal(MLP(2, 6, zero_init=False)), RealNVP(3, 2, small)),
    }


@pytest.mark.parametrize("name", conditional_flows())
@pytest.mark.parametrize(
    ("x", "c"), [((), (10,)), ((7,), ()), ((7, 1), (10,)), ((4, 5), (5,)), ((0,), ()), ((2, 3), (2, 3))]
)
def test_points_and_contexts_broadcast_both_ways(name, x, c):
    flow = conditional_flows()[name]
    points, contexts = torch.randn(*x, 3), torch.randn(*c, 2)
    batch = torch.broadcast_shapes(x, c)
    got = flow(points, contexts)
    assert got.shape == batch
    want = flow(points.expand(*batch, 3).reshape(-1, 3), contexts.expand(*batch, 2).reshape(-1, 2))
    assert torch.allclose(got.reshape(-1), want, atol=1e-5)
    assert torch.allclose(flow.distribution(contexts).log_prob(points), got, atol=1e-5)


def test_batches_that_do_not_broadcast():
    for flow in conditional_flows().values():
        with pytest.raises(ValueError, match="do not broadcast"):
            flow(torch.zeros(4, 3), torch.zeros(5, 2))
    for layer in (ConditionalAffine(MLP(2, 6)), RealNVP(3, 2, small, 2), MAF(3, (8,), context_features=2)):
        with pytest.raises(ValueError, match="one batch shape"):
            layer(torch.zeros(7, 3), torch.zeros(2))
    with pytest.raises(ValueError, match="do not broadcast"):
        NADE(3, context_features=2)(torch.zeros(4, 3), torch.zeros(5, 2))
    assert NADE(3, context_features=2)(torch.zeros(3), torch.zeros(5, 2)).shape == (5,)


def test_a_context_that_nobody_takes():
    flow = Flow(StandardNormal(3), RealNVP(3, 2, small))
    for call in (lambda c: flow(torch.zeros(4, 3), c), lambda c: flow.sample((2,), c), flow.distribution):
        with pytest.raises(ValueError, match="takes no context, got one of shape"):
            call(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="context_dim"):
        Flow(ConditionalNormal(MLP(2, 6), context_dim=3), RealNVP(3, 2, small, 2))
    with pytest.raises(ValueError, match="context_dim"):
        Compose(ConditionalAffine(MLP(2, 6)), ConditionalAffine(MLP(2, 6), context_dim=3))


def test_expand_and_mixtures():
    flow = conditional_flows()["both"]
    contexts = torch.randn(4, 2)
    d = flow.distribution(contexts)
    wide = d.expand((5, 4))
    assert wide.batch_shape == (5, 4) and wide.sample((2,)).shape == (2, 5, 4, 3)
    x = torch.randn(6, 3)
    mixture = MixtureSameFamily(Categorical(torch.tensor([0.1, 0.2, 0.3, 0.4])), d)
    want = torch.stack([flow(x, c) for c in contexts], -1) + torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    assert torch.allclose(mixture.log_prob(x), want.logsumexp(-1), atol=1e-5)
    assert mixture.sample((100,)).shape == (100, 3)
    plain = Flow(StandardNormal(3), Affine(3)).distribution().expand((4,))
    assert plain.log_prob(x[:4]).shape == (4,) and plain.rsample((2,)).shape == (2, 4, 3)
    assert plain.log_prob(x[0]).shape == (4,)


def test_a_mixture_of_flows_learns_and_integrates():
    """Two components by their contexts, torch's own mixture on top: a density, with gradients."""
    flow = conditional_flows()["coupling"].double()
    contexts = nn.Parameter(torch.randn(2, 2, dtype=torch.float64))

    def model(x):
        return MixtureSameFamily(Categorical(torch.ones(2).double()), flow.distribution(contexts)).log_prob(x)

    with torch.no_grad():
        low, high = flow.sample((2000,), contexts).reshape(-1, 3).aminmax(dim=0)
    check.integral(model, low - 2, high + 2, n=60, tol=0.02)
    (grad,) = torch.autograd.grad(model(torch.randn(5, 3).double()).sum(), contexts)
    assert (grad != 0).all()


class OnFlow(nn.Module):
    """A base that is a flow."""

    def __init__(self, flow):
        super().__init__()
        self.flow, self.context_dim = flow, flow.context_dim

    def forward(self, context=None):
        return self.flow.distribution(context)


def test_a_flow_as_base_answers_everything():
    inner = conditional_flows()["both"]
    outer = Flow(OnFlow(inner), check.randomize(RealNVP(3, 2, small)))
    context = torch.randn(4, 2)
    x, log_prob = outer.sample_and_log_prob((6,), context)
    assert x.shape == (6, 4, 3) and torch.allclose(outer(x, context), log_prob, atol=1e-4)
    latents = outer.latents(x, context)
    assert len(latents) == 1 and torch.allclose(outer.from_latents(latents, context), x, atol=1e-4)
    cold = outer.sample((50,), context, temperature=0.0)
    assert (cold - cold[:1]).abs().max() < 1e-5
    assert outer.distribution(context).expand((2, 4)).sample().shape == (2, 4, 3)


def test_a_foreign_base_says_what_it_lacks():
    flow = Flow(uniform_base(2), Logit())
    assert flow.sample(5).shape == (5, 2)
    for call in (lambda: flow.sample(5, temperature=0.5), lambda: flow.latents(torch.zeros(2)),
                 lambda: flow.from_latents([torch.zeros(2)])):  # fmt: skip
        with pytest.raises(NotImplementedError, match="The base of this flow, Independent, has no .*BaseDistribution"):
            call()


def image_flow(conditional):
    """A multi-scale flow whose context is an image; its deeper half takes one or not."""
    step = Coupling(half_mask(4), lambda i, o: ConvNet(i, o, 8), None, 1, 3, 3)
    deeper = Flow(StandardNormal((2, 2, 2)), Coupling(half_mask(2), lambda i, o: ConvNet(i, o, 8), None,
                                                      int(conditional), 3, 3))  # fmt: skip
    prior = Flow(StandardNormal((2, 2, 2)), ConditionalAffine(ConvNet(2, 4, 8), event_dim=3))
    return Flow(FactorOut(prior, deeper), step)


@pytest.mark.parametrize("conditional", [True, False])
def test_an_image_context_goes_through_factor_out(conditional):
    torch.manual_seed(0)
    flow = check.randomize(image_flow(conditional), 0.1)
    context = torch.randn(5, 1, 2, 2)
    x, log_prob = flow.sample_and_log_prob((3,), context)
    assert x.shape == (3, 5, 4, 2, 2) and torch.allclose(flow(x, context), log_prob, atol=1e-4)
    latents = flow.latents(x, context)
    assert torch.allclose(flow.from_latents(latents, context), x, atol=1e-5)
    assert flow.distribution(context).expand((2, 5)).sample().shape == (2, 5, 4, 2, 2)
    with pytest.raises(ValueError, match="expects 2 latents, got 3"):
        flow.from_latents([*latents, latents[0]], context)
    with pytest.raises(ValueError, match="expected latents of event shape"):
        flow.from_latents([e[..., :1] for e in latents], context)


# ---- 13, 15: the checks themselves; dtypes ----


class Bare(Affine):
    """Returns its value alone."""

    def forward(self, z, context=None):
        return super().forward(z)[0]


class FalseCodomain(Affine):
    """Claims to map into the unit interval."""

    codomain = spaces.unit_interval


class Silent(Bijection):
    """Has neither direction."""

    event_shape = (2,)


class Halves(Bijection):
    """Forgets every second whole number."""

    domain = codomain = spaces.integers
    event_shape = (2,)

    def forward(self, z, context=None):
        return (z / 2).floor(), z.new_zeros(z.shape[:-1])


class Weighs(ModularShift):
    """A map of digits with a volume term."""

    def forward(self, z, context=None):
        x, log_det = super().forward(z)
        return x, log_det + 0.1


class NotOnto(Bijection):
    """exp, whose values are all positive, under the claim that they are all real."""

    event_shape = (2,)

    def forward(self, z, context=None):
        return z.exp(), z.sum(-1)

    def inverse(self, x, context=None):
        return x.log(), -x.log().sum(-1)


class Doubles(Bijection):
    """The even numbers, under the claim that they are all."""

    domain = codomain = spaces.integers
    event_shape = (2,)

    def forward(self, z, context=None):
        return 2 * z, z.new_zeros(z.shape[:-1])

    def inverse(self, x, context=None):
        return (x / 2).floor(), x.new_zeros(x.shape[:-1])


class Stretches(CircleAngle):
    """An angle times 1.35: one point of the circle goes to two."""

    def forward(self, z, context=None):
        return 1.35 * z + 0 * self.log_ratio, (math.log(1.35) + 0 * z + 0 * self.log_ratio).sum(-1)

    def inverse(self, x, context=None):
        return x / 1.35 + 0 * self.log_ratio, (-math.log(1.35) + 0 * x + 0 * self.log_ratio).sum(-1)


class Detached(Affine):
    """The log-determinant is right, its gradient is lost in one direction."""

    def forward(self, z, context=None):
        x, log_det = super().forward(z)
        return x, log_det.detach()


class Mixes(Affine):
    """Points of a batch change places."""

    def forward(self, z, context=None):
        x, log_det = super().forward(z)
        return x.transpose(0, -2).reshape(x.shape) if x.dim() == 3 else x, log_det


class Feels(Affine):
    """Each point feels the others of its batch."""

    def forward(self, z, context=None):
        mean = z.reshape(-1, z.shape[-1]).mean(0) if z.numel() else 0.0
        x, log_det = super().forward(z + 0.9 * (mean - z.reshape(-1, z.shape[-1])[0] if z.numel() else 0.0))
        return x, log_det


class Undeclared(Affine):
    """Uses a context that it does not declare."""

    def forward(self, z, context=None):
        x, log_det = super().forward(z)
        return x + context.sum(-1, keepdim=True), log_det

    def inverse(self, x, context=None):
        return super().inverse(x - context.sum(-1, keepdim=True))


class TurnsByContext(Bijection):
    """x = c z: one to one for each c, of either sign."""

    event_shape, context_dim = (1,), 1

    def forward(self, z, context=None):
        return context * z, context.abs().log().squeeze(-1)


class LinearOnSphere(Bijection):
    """x = A z / |A z|, without its inverse."""

    domain = codomain = sphere
    event_shape = (3,)

    def __init__(self):
        super().__init__()
        self.register_buffer("matrix", torch.tensor([[1.0, 0.5, 0.0], [0.0, 2.0, 0.3], [0.0, 0.0, 0.7]]))

    def forward(self, z, context=None):
        y = z @ self.matrix.T
        length = y.norm(dim=-1, keepdim=True)
        # the area of the sphere at z is stretched by |det A| / |A z|^3
        return y / length, torch.linalg.slogdet(self.matrix).logabsdet - 3 * length.squeeze(-1).log()


class Loses(ModularShift):
    """The inverse has the wrong sign."""

    def inverse(self, x, context=None):
        return self._move(x, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bare(2), "must return two tensors .value, log_det., got Tensor"),
        (lambda: FalseCodomain(2), "outside the unit interval"),
        (Silent, "overrides neither"),
        (Halves, "25 points have only 9 images"),
        (lambda: Weighs(5), "counting measure asks"),
        (lambda: Loses(5), "another point for"),
        (CircleAmbient, "log_det of forward"),
        (NotOnto, "outside the real numbers"),
        (Doubles, "no image"),
        (Stretches, "one point of the circle .* to two"),
        (lambda: Detached(2), "forward: the gradient of log_det with respect to log_scale"),
        (lambda: Inverse(Detached(2)), "inverse: the gradient of log_det with respect to bijection.log_scale"),
        (lambda: Mixes(2), "another image in a batch"),
        (lambda: Feels(2), "another image in a batch"),
    ],
)
def test_check_bijection_sees(make, message):
    with pytest.raises(check.CheckFailed, match=message):
        check.check_bijection(make())


class WrongNearZero(Bijection):
    """Both log-determinants are wrong where a standard normal lives, and right at a distance."""

    event_shape = (16,)

    def forward(self, z, context=None):
        return 2 * z, 16 * math.log(2) + (z.norm(dim=-1) < 8).to(z)

    def inverse(self, x, context=None):
        return x / 2, -16 * math.log(2) - ((x / 2).norm(dim=-1) < 8).to(x)


def test_check_bijection_looks_where_the_mass_is():
    with pytest.raises(check.CheckFailed, match="log_det of forward"):
        check.check_bijection(WrongNearZero())


def test_check_bijection_accepts_right_maps_with_one_direction():
    check.check_bijection(LinearOnSphere())
    check.check_bijection(TurnsByContext(), context=torch.randn(32, 1))


def test_check_bijection_wants_contexts_that_a_flow_would_hand_on():
    with pytest.raises(ValueError, match="declares no context_dim"):
        check.check_bijection(Undeclared(2), context=torch.randn(32, 3))
    layer = ConditionalAffine(MLP(3, 4))
    for wrong in (torch.randn(31, 3), torch.randn(32, 2, 3)):
        with pytest.raises(ValueError, match="one for each point"):
            check.check_bijection(layer, torch.randn(32, 2), wrong)


def test_check_bijection_reads_directions_and_measures():
    report = check.check_bijection(Planar(3))
    assert report.directions == ("forward",) and report.round_trip == {} and len(report.log_det) == 2
    assert check.check_bijection(Inverse(Planar(3))).directions == ("inverse",)
    assert check.check_bijection(Compose(Affine(3), Planar(3))).directions == ("forward",)
    assert Compose(Planar(3), Inverse(Planar(3))).directions == frozenset()
    for layer, measure in ((CircleVector(), "surface"), (ModularShift(3), "counting"), (PLU(2), "Lebesgue")):
        assert check.check_bijection(layer).measure == measure


def test_ambient_jacobians_are_wrong_on_the_circle():
    """The map of the circle is the edge of a conformal map of the disc, whose ambient log-det is twice as large."""
    f, z = CircleVector().double(), spaces.sphere.draw((8, 2))
    k = torch.tanh(-f.log_ratio.detach() / 2)  # (1 - r) / (1 + r)

    def disc(v):
        """w to (w + k) / (1 + k w), for w = v0 + i v1."""
        bottom = (1 + k * v[0]).square() + (k * v[1]).square()
        top = (v[0] + k) * (1 + k * v[0]) + k * v[1].square()
        return torch.stack([top / bottom, v[1] * (1 - k.square()) / bottom])

    assert torch.allclose(torch.func.vmap(disc)(z), f(z)[0]), "not the same map on the circle"
    jac = torch.func.vmap(torch.func.jacrev(disc))(z)
    frame = spaces.sphere.frame(z)
    tangent = 0.5 * torch.linalg.slogdet((jac @ frame).mT @ (jac @ frame)).logabsdet
    ambient = 0.5 * torch.linalg.slogdet(jac.mT @ jac).logabsdet
    assert torch.allclose(tangent, f(z)[1]) and torch.allclose(ambient, 2 * tangent) and tangent.abs().max() > 0.1


class Square(Bijection):
    """Folds the plane twice."""

    event_shape = (2,)

    def forward(self, z, context=None):
        return z.square(), (2 * z.abs()).log().sum(-1)


def test_check_bijection_sees_a_fold_of_a_map_with_one_direction():
    with pytest.raises(check.CheckFailed, match="a fold"):
        check.check_bijection(Square())
    folded = Planar(3)
    folded.constrained = False
    with torch.no_grad():
        folded.u.fill_(-2.0)
    with pytest.raises(check.CheckFailed, match="a fold"):
        check.check_bijection(folded)


def test_a_layer_that_does_not_say_its_shape_asks_for_points():
    with pytest.raises(ValueError, match=r"pass points of its domain, z of shape \(n, \*event\)"):
        check.check_bijection(Sigmoid())
    check.check_bijection(Sigmoid(), torch.randn(8, 2))
    with pytest.raises(ValueError, match=r"expects z of shape \(n, 3\), got \(8, 2\)"):
        check.check_bijection(Affine(3), torch.randn(8, 2))
    with pytest.raises(ValueError, match="Linear"):
        check.check_bijection(nn.Linear(2, 2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Affine(3),
        lambda: PLU(3),
        lambda: RealNVP(3, 1),
        lambda: MAF(3),
        lambda: ActNorm(3),
        lambda: SplineCoupling(3, 1),
        lambda: ConditionalAffine(MLP(3, 6)),
    ],
)
def test_dtypes_do_not_mix(make):
    f, x = make(), torch.zeros(4, 3, dtype=torch.float64)
    context = x if f.context_dim else None
    for method in (f.forward, f.inverse):
        with pytest.raises(ValueError, match=r"float32 weights .* got torch.float64.* `.to\(torch.float64\)`"):
            method(x, context)
    assert f.double()(x, context)[1].dtype == torch.float64


# ---- 16, 17: targets that compile; a light package that says what it holds ----


@pytest.mark.parametrize("name", data.TOYS)
def test_toys_trace_and_compile(name):
    toy = data.toy(name)
    f = toy.energy if name.startswith("U") else toy.log_prob
    x = torch.randn(9, 2, dtype=torch.float64)
    want = f(x)
    torch.compiler.reset()
    assert torch.allclose(torch.func.vmap(f)(x), want)
    assert torch.allclose(torch.compile(f, fullgraph=True, backend="aot_eager")(x), want)
    if not name.startswith("U"):
        assert torch.isnan(toy.log_prob(torch.tensor([math.nan, 0.0])))


def test_import_is_light():
    """No pictures, no tables, no progress bars before they are asked for."""
    heavy = ("matplotlib", "scipy", "ipywidgets", "tqdm", "sklearn", "PIL")
    code = f"import nfcourse, sys; print([m for m in {heavy} if m in sys.modules])"
    loaded_by_torch = code.replace("nfcourse", "torch")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    ours, torchs = (
        subprocess.run([sys.executable, "-c", c], env=env, capture_output=True, text=True, check=True).stdout
        for c in (code, loaded_by_torch)
    )
    assert ours == torchs, "tqdm comes with torch"
    probe = "import nfcourse as nf; nf.plot, nf.data, nf.train, nf.widgets; nf.nothing"
    run = subprocess.run([sys.executable, "-c", probe], env=env, capture_output=True, text=True)
    assert "module 'nfcourse' has no attribute 'nothing'" in run.stderr


def test_modules_print_their_configuration():
    assert "bins=7, bound=4.0" in repr(SplineCoupling(2, 1, bins=7, bound=4.0))
    assert "event_shape=(3,)" in repr(Affine(3)) and "levels=16" in repr(
        Dequantized(Flow(StandardNormal(2), Sigmoid()), 16)
    )
    assert "dim=5, n_params=2, context_features=1" in repr(MADE(5, 2, (4,), context_features=1))
    for name, make in CONSTRUCTORS.items():
        assert len(repr(make())) < 8000, name


def test_sum_over_no_dimension_is_the_value():
    from nfcourse.events import sum_event

    x = torch.randn(3, 4)
    assert torch.equal(sum_event(x, 0), x) and torch.equal(sum_event(x, 2), x.sum().reshape(()))


@pytest.mark.parametrize("name", [n for n in CONSTRUCTORS if n.startswith("maf")])
def test_maf_is_built_on_meta(name):
    with torch.device("meta"):
        f = CONSTRUCTORS[name]()
    assert {p.device.type for p in f.parameters()} == {"meta"}
    real = CONSTRUCTORS[name]()
    g = f.to_empty(device="cpu")
    g.load_state_dict(real.state_dict())
    x = torch.randn(4, *real.event_shape)
    c = torch.randn(4, 2) if name in CONTEXTS else None
    assert torch.equal(g.inverse(x, c)[0], real.inverse(x, c)[0])


@pytest.mark.parametrize("activation", [lambda: nn.Softmax(-1), lambda: nn.LayerNorm(8), lambda: nn.GLU(-1)])
def test_made_refuses_an_activation_that_mixes_units(activation):
    with pytest.raises(ValueError, match="acts on each unit alone"):
        MADE(3, 2, (8,), activation=activation)
    for fine in (nn.ReLU, nn.Tanh, nn.SiLU, nn.PReLU, nn.Softplus):
        MADE(3, 2, (8,), activation=fine)


# ---- the rooms to come: each fits the protocol as it is ----


def test_planar_flows_as_a_posterior_given_an_image():
    """VAE: q(z | image) is a flow with a conditional base and planar layers; no inverse is needed for the ELBO."""
    torch.manual_seed(0)
    base = ConditionalNormal(ImageEncoder(4), context_dim=3)
    q = check.randomize(Flow(base, Compose(Planar(2), Planar(2))))
    images = torch.rand(6, 1, 4, 4)
    z, log_q = q.sample_and_log_prob((10,), images)
    assert z.shape == (10, 6, 2) and log_q.shape == (10, 6)
    elbo = (Independent(Normal(torch.zeros(2), 1.0), 1).log_prob(z) - log_q).mean()
    elbo.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in q.parameters())
    with pytest.raises(NotImplementedError, match="sample_and_log_prob"):
        q.log_prob(z, images)
    # with an inverse the same flow scores; through an affine map it is a normal, whose divergence is known
    shift, scale = torch.tensor([0.5, -1.0]), torch.tensor([0.6, 1.5])
    q = Flow(base, Affine(2, shift, scale)).double()
    with torch.no_grad():
        z, log_q = q.sample_and_log_prob((40_000,), images.double())
        assert torch.allclose(q(z[:5], images.double()), log_q[:5])
        start, prior = base(images.double()).base_dist, Normal(torch.zeros(2).double(), 1.0)
        pushed = Normal(shift + scale * start.loc, scale * start.scale)
        closed = kl_divergence(pushed, prior).sum(-1)
    assert torch.allclose((log_q - prior.log_prob(z).sum(-1)).mean(0), closed, atol=0.05)


def test_integer_flow_sums_to_one():
    """Rounded couplings and a permutation of whole numbers, a discretised base: a mass function, by enumeration."""
    torch.manual_seed(0)

    class Discretised(nn.Module):
        def forward(self, context=None):
            return _Rounded()

    from nfcourse.bases import BaseDistribution

    class _Rounded(BaseDistribution):
        has_rsample, space = False, spaces.integers

        def __init__(self):
            super().__init__(torch.Size(), torch.Size([2]), validate_args=False)

        def draw(self, shape, temperature=1.0):
            return (1.5 * torch.randn(*shape, 2)).round()

        def log_prob(self, value):
            cdf = Normal(0.0, 1.5).cdf
            return (cdf(value + 0.5) - cdf(value - 0.5)).clamp_min(1e-30).log().sum(-1)

    def couple():
        return check.randomize(Coupling(half_mask(2), wide, Rounded()), 1.0)

    flow = Flow(Discretised(), Compose(couple(), Permutation([1, 0]), couple()))
    grid = torch.arange(-25.0, 26.0)
    points = torch.cartesian_prod(grid, grid)
    check.mass(flow, points, tol=1e-4)
    x = flow.sample(40_000)
    assert flow.distribution().support.is_discrete and torch.equal(x, x.round())
    # any one-to-one inverse sums to one; that it is the inverse of what samples shows in the frequencies
    counts = torch.bincount((51 * (x[:, 0] + 25) + x[:, 1] + 25).long(), minlength=51 * 51) / 40_000
    mass = flow(points).exp().detach()
    assert ((counts - mass).abs() < 5 * (mass / 40_000).sqrt() + 2e-4).all()
    shifts = [
        part.conditioner(points[:, :1]).round().unique().numel() for part in (flow.bijection[0], flow.bijection[2])
    ]
    assert min(shifts) > 2, "the couplings move nothing"
    with pytest.raises(ValueError, match="space"):
        Flow(StandardNormal(2), couple())(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="space"):
        Compose(couple(), Affine(2))


def test_discrete_flow_with_a_categorical_base():
    torch.manual_seed(0)
    flow = Flow(CategoricalBase(2, 5), Compose(ModularShift(5), Permutation([1, 0]), ModularShift(5)))
    points = torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0))
    check.mass(flow, points)
    x = flow.sample(20_000)
    counts = torch.bincount((5 * x[:, 0] + x[:, 1]).long(), minlength=25) / 20_000
    assert (counts - flow(points).exp().detach()).abs().max() < 5 * (0.25 / 20_000) ** 0.5
    with pytest.raises(NotImplementedError, match="rsample"):
        flow.sample_and_log_prob(3)
    with pytest.raises(ValueError, match="space"):
        Flow(CategoricalBase(2, 4), ModularShift(5)).sample(3)


def test_flows_on_the_circle_integrate_to_one():
    """Against arc length, with the event as one angle and as a unit vector; and draws fall as the density says."""
    angle = torch.linspace(-math.pi, math.pi, 2001)[:-1]
    vector = torch.stack([angle.cos(), angle.sin()], -1)
    by_angle, by_vector = Flow(UniformAngle(circle), CircleAngle()), Flow(UniformAngle(sphere), CircleVector())
    check.close("arc", by_angle(angle[:, None]).exp().mean().detach() * math.tau, 1.0, tol=1e-5)
    check.close("arc", by_vector(vector).exp().mean().detach() * math.tau, 1.0, tol=1e-5)
    x = by_vector.sample(50_000)
    share = (torch.atan2(x[:, 1], x[:, 0]).abs() < 0.5).float().mean()
    want = by_vector(vector).exp().detach()[angle.abs() < 0.5].sum() * math.tau / 2000
    assert abs(share - want) < 5 * (want * (1 - want) / 50_000) ** 0.5 + 1e-3
    assert by_vector.distribution().support.check(by_vector.sample(50)).all()
    with pytest.raises(ValueError, match="space"):
        Flow(UniformAngle(circle), Affine(1)).sample(3)


def test_a_flow_from_the_plane_onto_the_sphere():
    """The event grows; the density is one against area, so its mean over uniform points is 1 / 4π."""
    torch.manual_seed(0)
    flow = Flow(StandardNormal(2), Stereographic()).double()
    x = flow.sample(200_000)
    assert x.shape == (200_000, 3) and spaces.sphere.check(x).all()
    u = spaces.sphere.draw((200_000, 3), seed=1)
    assert abs(u.pow(4).mean() - 1 / 5) < 1e-3, "the points are not uniform"
    density = 4 * math.pi * flow(u).exp()
    check.close("mass on the sphere", density.mean(), 1.0, tol=float(4 * density.std() / 200_000**0.5))


def test_conv1x1_dtype_and_shapes():
    with pytest.raises(ValueError, match="float32 weights"):
        Conv1x1(2)(torch.zeros(1, 2, 3, 3, dtype=torch.float64))


# ---- what an attacker found when all of the above was mended ----


def test_a_distribution_scores_points_of_its_own_shape_alone():
    d = Flow(StandardNormal(2), RealNVP(2, 2)).distribution()
    for points in (torch.randn(4, 1), torch.tensor(0.3), torch.randn(4, 3)):
        with pytest.raises(ValueError, match=r"points of shape \(\*batch, 2\)"):
            d.log_prob(points)
        with pytest.raises(ValueError, match="points of shape"):
            StandardNormal(2)().log_prob(points)
        with pytest.raises(ValueError, match="points of shape"):
            DiagonalNormal(2)().log_prob(points)
    with pytest.raises(ValueError, match="does not expand"):
        d.expand((5,)).expand((1,))


def test_a_coupling_refuses_weights_of_another_mask():
    a, b = Coupling(half_mask(4, flip=True)), Coupling(half_mask(4))
    with pytest.raises(RuntimeError, match="another mask"):
        b.load_state_dict(a.state_dict())
    Coupling(half_mask(4)).load_state_dict(b.state_dict())


def test_a_conditioner_with_another_number_of_outputs():
    for n in (2, 3, 8):
        with pytest.raises(ValueError, match=f"expects 2 x 2 outputs of its conditioner, got {n}"):
            Coupling(half_mask(4), lambda i, o, n=n: MLP(i, n))(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="even number"):
        ConditionalNormal(nn.Linear(1, 3))(torch.zeros(2, 1))


def test_no_mass_outside_the_support():
    flow = Flow(StandardNormal(1), Compose(Affine(1, scale=10.0), Sigmoid()))
    log_p = flow(torch.tensor([[0.5], [1.5], [-2.0], [0.0], [1.0]]))
    assert log_p[1] == log_p[2] == -math.inf and torch.isfinite(log_p[[0, 3, 4]]).all()
    check.integral(Flow(StandardNormal(1), Sigmoid()), -1, 2, tol=2e-3)


def test_noise_must_live_in_the_unit_interval():
    model = Flow(StandardNormal(1), Sigmoid())
    with pytest.raises(ValueError, match="ends in the unit interval, got one in the real numbers"):
        Dequantized(model, 2, noise=Flow(DiagonalNormal(1), Affine(1)))
    Dequantized(model, 2, noise=Flow(DiagonalNormal(1), Sigmoid()))


LAWS = {
    "gamma": lambda: torch.distributions.Gamma(torch.tensor([2.0]), 1.0),
    "exponential": lambda: torch.distributions.Exponential(torch.ones(1)),
    "uniform": lambda: Uniform(torch.zeros(1), 2 * torch.ones(1)),
    "poisson": lambda: torch.distributions.Poisson(torch.tensor([3.0])),
    "binomial": lambda: torch.distributions.Binomial(4, torch.tensor([0.5])),
    "uniform, sides of two lengths": lambda: Uniform(torch.zeros(2), torch.tensor([1.0, 2.0])),
}


def test_laws_on_the_simplex_are_refused():
    for law in (torch.distributions.Dirichlet(torch.ones(3)), torch.distributions.OneHotCategorical(torch.ones(3))):
        with pytest.raises(ValueError, match="base's space"):
            Flow(Law(lambda law=law: law), Affine(3)).log_prob(torch.ones(3) / 3)


@pytest.mark.parametrize("name", LAWS)
def test_laws_of_torch_are_compared_too(name):
    base = Independent(LAWS[name](), 1)
    flow = Flow(Law(lambda: base), Affine(base.event_shape.numel()))
    with pytest.raises(ValueError, match="base's space"):
        flow.log_prob(torch.ones(3, *base.event_shape))


def test_the_categorical_of_torch_is_a_base():
    logits = torch.randn(2, 5)
    flow = Flow(Law(lambda: Independent(Categorical(logits=logits), 1)), ModularShift(5))
    x = flow.sample(50)
    assert x.dtype == torch.float32 and cyclic(5).check(x).all()
    check.mass(flow, torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0)))


def test_a_maf_lives_where_its_transformer_does():
    assert MAF(2, (8,), Rounded()).domain == spaces.integers == Inverse(MAF(2, (8,), Rounded())).codomain
    flow = Flow(StandardNormal(2), MAF(2, (8,), Rounded()))
    with pytest.raises(ValueError, match="space"):
        flow.sample(3)


def test_one_log_det_for_each_point():
    class Wide(Affine):
        def forward(self, z, context=None):
            x, log_det = super().forward(z)
            return x, log_det.unsqueeze(-1)

        def inverse(self, x, context=None):
            z, log_det = super().inverse(x)
            return z, log_det.unsqueeze(-1)

    flow = Flow(StandardNormal(2), Wide(2))
    for call in (lambda: flow(torch.zeros(2, 2)), lambda: flow.sample_and_log_prob(2)):
        with pytest.raises(ValueError, match="one log-determinant for each point"):
            call()


def test_batch_norm_inside_inverse_says_that_it_would_not_learn():
    from nfcourse import BatchNorm

    with pytest.raises(NotImplementedError, match="outside of Inverse"):
        Flow(StandardNormal(2), Inverse(BatchNorm(2))).initialize(torch.randn(10, 2))


def test_pixel_models_sum_in_full_precision():
    from nfcourse import PixelCNN, PixelRNN

    torch.manual_seed(0)
    x = torch.randint(0, 16, (4, 8, 8))
    for model in (PixelRNN((8, 8), 16, 8), PixelCNN((8, 8), 16, 8, 2)):
        want = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            got = model(x)
        assert got.dtype == torch.float32 and (got - want).abs().max() < 0.2


def test_flows_draw_under_vmap():
    flow = Flow(DiagonalNormal(2), check.randomize(RealNVP(2, 2, small)))
    draw = torch.func.vmap(lambda _: flow.sample((3,)), randomness="different")
    x = draw(torch.zeros(4))
    assert x.shape == (4, 3, 2) and x.reshape(-1, 2).unique(dim=0).shape[0] == 12


def test_contexts_broadcast_when_a_flow_starts_or_is_rebuilt():
    flow = conditional_flows()["both"]
    flow.initialize(torch.randn(6, 3), torch.randn(2))
    assert flow.from_latents([torch.randn(3)], torch.randn(10, 2)).shape == (10, 3)


def test_a_multi_scale_flow_as_base_keeps_its_latents():
    from nfcourse import multiscale

    flow = Flow(OnFlow(multiscale((1, 8, 8), 2, 1, 8)), Affine((1, 8, 8)))
    x = flow.sample(3)
    assert len(flow.latents(x)) == 2 and torch.allclose(flow.from_latents(flow.latents(x)), x, atol=1e-4)


def test_factor_out_compares_its_halves():
    prior = Flow(StandardNormal((1, 4, 4)), Affine((1, 4, 4)))
    deeper = Flow(StandardNormal((2, 4, 4)), Affine((2, 4, 4)))
    on_interval = Flow(StandardNormal((2, 4, 4)), Sigmoid(event_dim=3))
    for halves in ((prior, deeper), (on_interval, deeper), (Flow(StandardNormal(2), Affine(2)),) * 2):
        with pytest.raises(ValueError, match="two halves of one shape"):
            FactorOut(*halves)()
    FactorOut(on_interval, on_interval)()


def test_small_slips_get_clear_errors():
    flow = Flow(StandardNormal(2), RealNVP(2, 2, small, 1))
    calls = {
        "contexts as a floating-point tensor, got int": lambda: flow.sample(500, 2),
        r"one-hot": lambda: flow(torch.zeros(5, 2), torch.zeros(5).long()),
        "such as .500,., got 500.0": lambda: flow.sample(500.0),
        "points as a tensor, got ndarray": lambda: flow(torch.zeros(3, 2).numpy()),
        "the class Affine, not an instance": lambda: Flow(StandardNormal(2), Affine),
        "one after the other, got list": lambda: Compose([Affine(2), Affine(2)]),
        "1 from Affine, 2 from Sigmoid": lambda: Compose(Affine(2), Sigmoid(2)),
        "module whose call returns": lambda: Flow(Normal(0.0, 1.0), Affine(1)),
        "event_shape to be a tuple": lambda: check.check_bijection(_with(Planar(2), event_shape=[2])),
        "from nfcourse.spaces": lambda: check.check_bijection(
            _with(Planar(2), domain=torch.distributions.constraints.real)
        ),
        "low < high": lambda: spaces.interval(1, 0),
        "levels >= 1": lambda: spaces.cyclic(0),
        "float32 weights": lambda: MAF(2, (4,), context_features=1)(torch.zeros(3, 2), torch.zeros(3, 1).double()),
    }
    for message, call in calls.items():
        with pytest.raises(ValueError, match=message):
            call()
    shared = Affine(2)
    check.check_bijection(Compose(shared, shared))
    assert StandardNormal(2)().sample(torch.tensor(5)).shape == (5, 2)


def _with(module, **attributes):
    for name, value in attributes.items():
        setattr(module, name, value)
    return module
