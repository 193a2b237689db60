"""Every layer keeps every promise of the protocol."""

import math

import pytest
import torch
from constructors import CONSTRUCTORS, CONTEXTS, EVENTS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import nfcourse
from nfcourse import (
    PLU,
    ActNorm,
    Affine,
    BatchNorm,
    Bijection,
    Compose,
    Coupling,
    Flow,
    Inverse,
    Permutation,
    PReLU,
    Sigmoid,
    StandardNormal,
    check,
    half_mask,
)
from nfcourse.bijections import AffineTransformer


def build(name):
    """A bijection of the dictionary, and contexts for 32 points if it needs them."""
    torch.manual_seed(0)
    f = CONSTRUCTORS[name]()
    context = torch.randn(32, *CONTEXTS[name]) if name in CONTEXTS else None
    return f, context


def ways(f):
    """The directions that a bijection has, as methods."""
    return [getattr(f, direction) for direction in sorted(f.directions)]


def points(f, name, n=32):
    """Points of the layer's domain."""
    return check.draw_inputs(f.domain, (n, *(EVENTS.get(name) or f.event_shape)))


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_check_bijection(name, record_property):
    f, context = build(name)
    before = {k: v.clone() for k, v in f.state_dict().items()}
    report = check.check_bijection(f, points(f, name), context, name)
    assert (report.round_trip == {}) == (len(report.directions) == 1)
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        assert report.round_trip.get(dtype, 0.0) <= bound
    trip = report.round_trip.get(torch.float32, math.nan)
    row = [name, report.measure, " + ".join(report.directions), trip, report.log_det[torch.float32]]
    record_property("bijection", row)  # the table at the end of the run
    assert report.log_det[torch.float32] <= 1e-4 and report.log_det[torch.float64] <= 1e-9
    assert all(torch.equal(before[k], v) for k, v in f.state_dict().items()), "the check changed the layer"


def test_no_subclass_is_missing():
    def subclasses(cls):
        return {cls}.union(*(subclasses(c) for c in cls.__subclasses__()))

    own = {c for c in subclasses(Bijection) if c.__module__.startswith("nfcourse.") and c.__name__[0] != "_"}
    own -= {Bijection}
    tested = {type(part) for name in CONSTRUCTORS for part in build(name)[0].modules()}
    assert own <= tested, f"not in the dictionary of constructors: {own - tested}"
    exported = {getattr(nfcourse, n) for n in nfcourse.__all__}
    assert own <= exported, f"not exported: {own - exported}"


# ---- check_bijection must be able to fail: each mutilated layer breaks one promise ----


class SumsAll(Coupling):
    """Sums the log-scales over the untouched coordinates too."""

    def forward(self, z, context=None):
        x, log_det = super().forward(z, context)
        return x, 2 * log_det


class WrongSign(Affine):
    """Returns the log-determinant of the other direction."""

    def inverse(self, x, context=None):
        z, log_det = super().inverse(x, context)
        return z, -log_det


class WrongInverse(Affine):
    """Forgets the shift."""

    def inverse(self, x, context=None):
        return x * (-self.log_scale).exp(), super().inverse(x)[1]


class LostDtype(Affine):
    """Returns float32 whatever comes."""

    def forward(self, z, context=None):
        x, log_det = super().forward(z)
        return x, log_det.float()


class ForgetsBatch(Affine):
    """Returns one number for the whole batch."""

    def forward(self, z, context=None):
        x, _ = super().forward(z)
        return x, self.log_scale.sum()


class DeadParameter(Affine):
    """Has a parameter that does nothing."""

    def __init__(self, shape):
        super().__init__(shape)
        self.unused = nn.Parameter(torch.ones(2))


class UnsavedOrder(Permutation):
    """Draws its order anew when it is built, and does not save it."""

    def __init__(self, dim):
        super().__init__(torch.randperm(dim))
        for key in ("order", "inverse_order"):
            value = getattr(self, key)
            delattr(self, key)
            self.register_buffer(key, value, persistent=False)

    def __deepcopy__(self, memo):
        return UnsavedOrder(self.order.numel())


class InitializesAgain(ActNorm):
    """Forgets that it has been initialised."""

    def initialize(self, x, context=None):
        self.initialized.fill_(False)
        return super().initialize(x, context)


@pytest.mark.parametrize(
    "broken",
    [
        lambda: SumsAll(half_mask(4)),
        lambda: WrongSign(3),
        lambda: WrongInverse(3),
        lambda: LostDtype(3),
        lambda: ForgetsBatch(3),
        lambda: DeadParameter(3),
        lambda: UnsavedOrder(12),
        lambda: InitializesAgain(3),
    ],
    ids=["sums all", "wrong sign", "wrong inverse", "lost dtype", "forgets batch", "dead", "unsaved", "again"],
)
def test_check_bijection_finds(broken):
    torch.manual_seed(0)
    with pytest.raises((check.CheckFailed, RuntimeError)):
        check.check_bijection(broken())


# ---- bad input: a clear ValueError, nothing else ----


@pytest.mark.parametrize("name", CONSTRUCTORS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_shape_or_dtype(name, data):
    """Whatever comes in: a ValueError, or outputs of the promised shapes and dtype."""
    f, context = build(name)
    shape = tuple(data.draw(st.lists(st.integers(0, 5), max_size=4)))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool]))
    x = torch.full(shape, 0.25).to(dtype)
    f = f.double().eval() if dtype == torch.float64 else f.eval()
    c = None
    if context is not None:
        c = torch.zeros(*shape[: max(len(shape) - f.event_dim, 0)], *context.shape[1:])
        c = c.double() if dtype == torch.float64 else c
    for method in ways(f):
        try:
            value, log_det = method(x, c)
        except ValueError:
            continue
        batch, event = x.shape[: x.dim() - f.event_dim], x.shape[x.dim() - f.event_dim :]
        event = (f.forward_shape if method == f.forward else f.inverse_shape)(event)
        assert value.shape == (*batch, *event) and value.dtype == x.dtype
        assert log_det.shape == batch and log_det.dtype == x.dtype


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Affine(2, scale=0.0), "positive scale"),
        (lambda: Affine(0), "positive integers"),
        (lambda: PReLU(2, slope=0.0), "slope > 0"),
        (lambda: PReLU(2, slope=-1.0), "slope > 0"),
        (lambda: PLU(0), "dimension >= 1"),
        (lambda: PLU(2, torch.ones(2, 2)), "invertible"),
        (lambda: PLU(2, torch.eye(3)), "2 x 2"),
        (lambda: PLU(2, torch.tensor([[float("nan"), 0], [0, 1]])), "finite"),
        (lambda: Permutation([0, 0, 1]), "once"),
        (lambda: Permutation([]), "once"),
        (lambda: BatchNorm(2, eps=0.0), "eps > 0"),
        (lambda: BatchNorm(2, momentum=2.0), "momentum"),
        (lambda: BatchNorm(2).inverse(torch.zeros(1, 2)), "two points"),
        (lambda: ActNorm(2).initialize(torch.zeros(1, 2)), "two points"),
        (lambda: Coupling(torch.tensor([True])), "D >= 2"),
        (lambda: Coupling(torch.tensor([True, True])), "both True and False"),
        (lambda: Coupling(torch.tensor([1.0, 0.0])), "boolean"),
        (lambda: Coupling(half_mask(2), context_features=1)(torch.zeros(3, 2)), "context"),
        (lambda: Compose(), "at least one"),
        (lambda: Compose(nn.Linear(2, 2)), "Linear"),
        (lambda: Compose(Affine(2), Affine((2, 2))), "event_dim"),
        (lambda: Sigmoid(0), "event_dim"),
        (lambda: AffineTransformer(clamp=0.0), "clamp"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_missing_directions_say_what_to_use():
    class OneWay(Bijection):
        def forward(self, z, context=None):
            return z, z.new_zeros(z.shape[:-1])

    flow = Flow(StandardNormal(2), OneWay())
    x, log_prob = flow.sample_and_log_prob((3,))
    assert log_prob.shape == (3,)
    with pytest.raises(NotImplementedError, match="sample_and_log_prob"):
        flow(x)
    with pytest.raises(NotImplementedError, match="inverse"):
        Inverse(OneWay())(x)


# ---- single layers: what their formulas say, with numbers ----


def test_plu_is_its_matrix():
    torch.manual_seed(1)
    matrix = torch.randn(5, 5, dtype=torch.float64)
    f = PLU(5, matrix)
    assert torch.allclose(f.matrix, matrix)
    z = torch.randn(7, 5, dtype=torch.float64)
    x, log_det = f(z)
    assert torch.allclose(x, z @ matrix.T)
    assert torch.allclose(log_det, torch.linalg.slogdet(matrix).logabsdet.expand(7))


def test_plu_in_one_dimension():
    f = PLU(1, torch.tensor([[-2.0]]))
    x, log_det = f(torch.tensor([[3.0]]))
    assert x.item() == -6.0 and abs(log_det.item() - math.log(2.0)) < 1e-6
    assert abs(f.inverse(x)[0].item() - 3.0) < 1e-6


def test_batch_norm_statistics():
    torch.manual_seed(0)
    f, x = BatchNorm(3, momentum=0.25), 2 + 3 * torch.randn(500, 3)
    z, log_det = f.train().inverse(x)
    assert torch.allclose(z.mean(0), torch.zeros(3), atol=1e-5) and torch.allclose(
        z.var(0, unbiased=False), torch.ones(3), atol=1e-4
    )
    assert torch.allclose(f.mean, 0.25 * x.mean(0)) and torch.allclose(f.var, 0.75 + 0.25 * x.var(0, unbiased=False))
    assert torch.allclose(log_det[0], -0.5 * (x.var(0, unbiased=False) + 1e-5).log().sum(), atol=1e-5)
    before = f.mean.clone()
    f.eval().inverse(x)
    assert torch.equal(before, f.mean)


def test_actnorm_initializes_once():
    torch.manual_seed(0)
    f, x = ActNorm(3), 2 + 3 * torch.randn(500, 3)
    z = f.initialize(x)
    assert torch.allclose(z.mean(0), torch.zeros(3), atol=1e-5) and torch.allclose(
        z.std(0, unbiased=False), torch.ones(3), atol=1e-4
    )
    loc = f.loc.clone()
    f.initialize(10 * x)
    assert torch.equal(loc, f.loc)
    constant = ActNorm(2)
    constant.initialize(torch.ones(5, 2))
    assert torch.isfinite(constant.log_scale).all()


def test_compose_initializes_from_the_data_side():
    torch.manual_seed(0)
    f, x = Compose(ActNorm(2), Affine(2, scale=4.0), ActNorm(2)), 7 + 5 * torch.randn(400, 2)
    f.initialize(x)
    z = f.inverse(x)[0]
    assert torch.allclose(z.mean(0), torch.zeros(2), atol=1e-4) and torch.allclose(
        z.std(0, unbiased=False), torch.ones(2), atol=1e-3
    )
    assert torch.allclose(f[2].loc, x.mean(0))


def test_coupling_leaves_a_alone_and_sees_only_a():
    f = check.randomize(Coupling(half_mask(4)))
    z = torch.randn(6, 4)
    jac = torch.func.vmap(torch.func.jacrev(lambda v: f(v)[0]))(z)
    assert torch.equal(f(z)[0][:, :2], z[:, :2])
    assert torch.allclose(jac[:, 2, 3], torch.zeros(6)) and torch.allclose(jac[:, 3, 2], torch.zeros(6))
    assert (jac[:, 2, :2].abs() > 0).any()


def test_clamp_bounds_the_scale():
    t = AffineTransformer(clamp=2.0)
    _, log_scale = t(torch.zeros(1, 3), torch.full((2, 1, 3), 1e4))
    assert ((log_scale > 1.99) & (log_scale < 2.0)).all()


def test_sigmoid_is_finite_at_the_ends():
    f = Sigmoid()
    for dtype in (torch.float32, torch.float64):
        x, log_det = f(torch.tensor([[-200.0, 200.0]], dtype=dtype))
        assert ((x > 0) & (x < 1)).all() and torch.isfinite(log_det).all()
        z, log_det = f.inverse(torch.tensor([[0.0, 1.0]], dtype=dtype))
        assert torch.isfinite(z).all() and torch.isfinite(log_det).all()


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_vmap(name):
    f, context = build(name)
    f.eval()
    z = points(f, name, 8).float()
    (f, *_) = ways(f)
    want = f(z, None if context is None else context[:8])
    got = torch.func.vmap(f)(z) if context is None else torch.func.vmap(f)(z, context[:8])
    assert torch.allclose(got[0], want[0], atol=1e-5, rtol=1e-4) and torch.allclose(got[1], want[1], atol=1e-4)
