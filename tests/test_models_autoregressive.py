"""Autoregressive models: mass one, nothing seen too early, samples that follow the law."""

import math

import pytest
import torch
from scipy.stats import chi2

from nfcourse import NADE, RNADE, PixelCNN, PixelRNN, check, data, receptive_field, train

BLIND = pytest.mark.parametrize("blind_spot", [False, True])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def built(model, scale=0.5):
    """The model in float64, with weights that are not small."""
    return check.randomize(model.double(), scale)


def grid(levels, *shape):
    """All points with entries 0, ..., levels - 1."""
    return torch.cartesian_prod(*[torch.arange(levels)] * math.prod(shape)).reshape(-1, *shape)


TINY = {
    "NADE": (lambda **k: NADE(4, 8, **k), grid(2, 4)),
    "PixelCNN": (lambda **k: PixelCNN((2, 2), 3, 8, 2, **k), grid(3, 2, 2)),
    "PixelCNN with a blind spot": (lambda **k: PixelCNN((2, 2), 3, 8, 2, blind_spot=True, **k), grid(3, 2, 2)),
    "PixelRNN": (lambda **k: PixelRNN((2, 2), 3, 8, **k), grid(3, 2, 2)),
}


@pytest.mark.parametrize("name", TINY)
def test_mass_is_one_with_and_without_context(name):
    make, support = TINY[name]
    check.mass(built(make()), support)
    model = built(make(context_features=2))
    for context in torch.eye(2, dtype=torch.float64):
        check.mass(lambda x, c=context, m=model: m(x, c), support)


def test_mass_of_nade_in_eight_dimensions():
    check.mass(built(NADE(8, 16)), grid(2, 8))


@pytest.mark.parametrize("family", ["gaussian", "laplace"])
def test_rnade_integrates_to_one(family):
    check.integral(built(RNADE(2, 3, 16, family), 0.3), (-50.0, -50.0), (50.0, 50.0), n=1000)


def test_rnade_is_the_mixture_that_it_claims():
    """One coordinate, two components: against the formula written out."""
    model = built(RNADE(1, 2, 4))
    h = (model.start * model.rho).relu()
    logits, mean, raw = (model.out_bias[0] + model.out_weight[0] @ h).chunk(3)
    scale = (5 * (raw / 5).tanh()).exp()
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    p = logits.softmax(0) * torch.exp(-0.5 * ((x[:, None] - mean) / scale) ** 2) / (scale * math.tau**0.5)
    assert torch.allclose(model(x[:, None]), p.sum(1).log())


def test_rnade_survives_points_far_out():
    """A soft clamp of the scales: finite values and gradients, however large the raw parameters."""
    model = check.randomize(RNADE(3, 4, 8), 10.0)
    log_prob = model(100 * torch.randn(64, 3))
    log_prob.mean().backward()
    assert torch.isfinite(log_prob).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("make", [lambda: NADE(6, 16), lambda: RNADE(6, 2, 16)])
def test_conditionals_depend_on_all_earlier_coordinates_only(make):
    model = built(make())
    x = torch.rand(6, dtype=torch.float64)

    def terms(x):
        """The D terms of the log-likelihood, from the models of the first 1, ..., D coordinates."""
        state, past, out = model._begin((), None), [], []
        for d, value in enumerate(x):
            out.append(model._conditional(d, state).log_prob(x[d].detach()))
            past.append(value)
            state = model._step(state, past)
        return torch.stack(out)

    assert torch.allclose(terms(x).sum(), model(x))
    hears = torch.autograd.functional.jacobian(terms, x) != 0
    assert torch.equal(hears, torch.ones(6, 6).tril(-1).bool())


def before(height, width, row, col):
    """Which pixels come before (row, col) in raster order."""
    return (torch.arange(height * width) < row * width + col).view(height, width)


@BLIND
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("place", [(0, 0), (0, 5), (4, 2), (5, 5)])
def test_receptive_field_and_blind_spot(kernel, blind_spot, place):
    """The gated stacks see all earlier pixels; the single one misses a wedge to the upper right, as computed."""
    model = PixelCNN((6, 6), 5, 8, layers=5 if kernel == 3 else 3, kernel=kernel, blind_spot=blind_spot)
    rows, cols = torch.arange(6).view(-1, 1), torch.arange(6)
    wedge = (cols - place[1] > (kernel // 2) * (place[0] - rows)) & (rows < place[0])
    expected = before(6, 6, *place)
    assert torch.equal(receptive_field(model.double(), *place), expected & ~wedge if blind_spot else expected)
    assert wedge.any() or place[0] < 4 or place[1] > 2


def test_receptive_field_of_few_layers_is_a_square():
    field = receptive_field(PixelCNN((8, 8), 4, 8, layers=2).double(), 6, 4)
    near = (torch.arange(8) - 4).abs() <= 2
    assert torch.equal(field, before(8, 8, 6, 4) & (torch.arange(8).view(-1, 1) >= 4) & near)


def test_recurrent_model_hears_all_earlier_pixels():
    model = PixelRNN((4, 4), 5, 8, context_features=2).double()
    assert torch.equal(receptive_field(model, 2, 1), before(4, 4, 2, 1))


@pytest.mark.parametrize("name", TINY)
def test_samples_follow_the_law(name):
    """Chi-square test of the frequencies of all points, with a context; fails by chance once in ten thousand seeds."""
    make, support = TINY[name]
    model = built(make(context_features=1))
    context = torch.tensor([0.7], dtype=torch.float64)
    torch.manual_seed(0)
    x = model.sample((4000,), context)
    expected = 4000 * model(support, context).detach().exp()
    counts = (x.reshape(4000, 1, -1) == support.flatten(1)).all(-1).sum(0)
    assert counts.sum() == 4000
    rare = expected < 5  # joined into one cell
    cells = [torch.cat([v[~rare], v[rare].sum().expand(int(rare.any()))]) for v in (counts.double(), expected)]
    statistic = ((cells[0] - cells[1]) ** 2 / cells[1]).sum().item()
    assert statistic < chi2.ppf(1 - 1e-4, len(cells[0]) - 1)


@pytest.mark.parametrize("family", ["gaussian", "laplace"])
def test_rnade_samples_have_the_density_s_mean_and_cells(family):
    model = built(RNADE(2, 3, 8, family), 0.3)
    torch.manual_seed(0)
    x = model.sample((4000,))
    edge = torch.linspace(-20, 20, 401, dtype=torch.float64)
    middle = (edge[1:] + edge[:-1]) / 2
    p = (model(torch.cartesian_prod(middle, middle)).detach().exp() * 0.01).view(400, 400)
    left, right = p[:200].sum(1), p[200:].sum(1)
    for measured, exact in (
        ((x < 0).double().mean(0)[0], left.sum()),
        ((x < 0).double().mean(0)[1], p[:, :200].sum()),
        ((x < 0).all(1).double().mean(), p[:200, :200].sum()),
    ):
        assert abs(measured - exact) < 4 * 0.5 / 4000**0.5
    assert abs(left.sum() + right.sum() - 1) < 1e-3


@BLIND
def test_sampling_uses_the_same_law_as_the_likelihood(blind_spot):
    """With one level far more likely than the rest, a draw is the sequence of most likely levels, row by row."""
    torch.manual_seed(0)
    model = built(PixelCNN((5, 4), 6, 8, 4, context_features=3, blind_spot=blind_spot), 2.0)
    with torch.no_grad():
        model.head[-1].weight.mul_(1e6)
        context = torch.eye(3, dtype=torch.float64)
        x = model.sample((2,), context)
        assert torch.equal(model.logits(x, context.expand(2, 3, 3)).argmax(-1), x)
    assert x.unique().numel() > 1


def test_shapes_dtypes_and_broadcast_contexts():
    contexts = torch.randn(3, 2)
    for make, shape in (
        (lambda: PixelCNN((3, 5), 4, 8, 2, context_features=2), (3, 5)),
        (lambda: PixelRNN((3, 5), 4, 8, context_features=2), (3, 5)),
        (lambda: NADE(5, 8, context_features=2), (5,)),
        (lambda: RNADE(5, 2, 8, context_features=2), (5,)),
    ):
        model = make()
        x = model.sample((7,), contexts)
        assert x.shape == (7, 3, *shape)
        assert model(x, contexts).shape == (7, 3) and model(x[0, 0], contexts[0]).shape == ()
        assert torch.equal(model(x, contexts), model.log_prob(x, contexts.expand(7, 3, 2)))
        if isinstance(model, RNADE):
            with pytest.raises(ValueError, match="float32 weights"):
                model(x.double(), contexts)
        else:  # whole numbers are the same in any dtype
            assert torch.allclose(model(x.double(), contexts), model(x, contexts))
        assert model.sample((0,), contexts[0]).shape == (0, *shape)
        if len(shape) == 2:
            assert model.logits(x, contexts).shape == (7, 3, *shape, 4) and x.dtype == torch.int64
            assert torch.equal(model(x.to(torch.uint8), contexts), model(x, contexts))


def test_rows_of_a_batch_do_not_mix():
    for model in (PixelCNN((4, 4), 3, 8, 3), PixelRNN((4, 4), 3, 8)):
        x = torch.randint(0, 3, (5, 4, 4))
        assert torch.allclose(model(x)[2], model(x[2]), atol=1e-5)


def digits(n):
    x, y = data.digits("train")
    return x[:n].reshape(-1, 8, 8), torch.nn.functional.one_hot(y[:n], 10).float()


@BLIND
def test_fit_lowers_the_loss_on_digits(blind_spot):
    x, labels = digits(256)
    torch.manual_seed(0)
    model = PixelCNN((8, 8), 17, 8, 2, context_features=10, blind_spot=blind_spot)
    history = train.fit(model, x, context=labels, steps=15, batch_size=64, lr=1e-2, progress=False)
    assert history.loss[-1] < history.loss[0] - 15
    with torch.no_grad():
        assert (model(x[:1], labels[:1]) - model(x[:1], labels[1:2])).abs() > 1e-3


@pytest.mark.parametrize("make", [lambda: NADE(64, 16), lambda: RNADE(64, 2, 16), lambda: PixelRNN((8, 8), 17, 8)])
def test_fit_lowers_the_loss_of_the_recurrent_ones(make):
    x, _ = digits(128)
    torch.manual_seed(0)
    model = make()
    if isinstance(model, NADE):
        x = (x.flatten(1) > 8).float()
    elif isinstance(model, RNADE):
        x = x.flatten(1) / 8 + 0.1 * torch.rand(128, 64)
    history = train.fit(model, x, steps=12, batch_size=64, lr=1e-2, progress=False)
    assert history.loss[-1] < history.loss[0] - 3


@pytest.mark.parametrize(
    "model, x",
    [
        (NADE(2, 8, context_features=2), torch.ones(2, 2)),
        (RNADE(2, 3, 8, "laplace", context_features=2), torch.ones(2, 2)),
        (PixelCNN((3, 3), 4, 8, 2, context_features=2), torch.ones(2, 3, 3).long()),
        (PixelCNN((3, 3), 4, 8, 2, context_features=2, blind_spot=True), torch.ones(2, 3, 3).long()),
        (PixelRNN((2, 2), 4, 8, context_features=2), torch.ones(2, 2, 2)),
    ],
)
def test_compile_fullgraph(model, x):
    torch.compiler.reset()
    context = torch.randn(2, 2)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x, context), model(x, context), atol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: NADE(0), "positive integers"),
        (lambda: NADE(4, 0), "sizes >= 1"),
        (lambda: NADE(4, context_features=-1), "context_features >= 0"),
        (lambda: RNADE(2, 0), "sizes >= 1"),
        (lambda: RNADE(2, family="cauchy"), "gaussian"),
        (lambda: NADE(3)(torch.zeros(2, 4)), "shape"),
        (lambda: NADE(3)(torch.zeros(2, 3), torch.zeros(2, 1)), "context"),
        (lambda: NADE(3, context_features=1)(torch.zeros(2, 3)), "context"),
        (lambda: NADE(3, context_features=1).sample((2,)), "context"),
        (lambda: PixelCNN((4, 4), 1), "two levels"),
        (lambda: PixelCNN(16, 3), "shape"),
        (lambda: PixelCNN((4, 4), 3, layers=0), "sizes >= 1"),
        (lambda: PixelCNN((4, 4), 3, kernel=4), "odd kernel"),
        (lambda: PixelCNN((4, 4), 3, kernel=1), "odd kernel"),
        (lambda: PixelCNN((4, 4), 3)(torch.zeros(3)), "shape"),
        (lambda: PixelCNN((4, 4), 3)(torch.zeros(2, 16)), "shape"),
        (lambda: PixelCNN((4, 4), 3, context_features=2)(torch.zeros(2, 4, 4)), "context"),
        (lambda: PixelCNN((4, 4), 3, context_features=2)(torch.zeros(2, 4, 4), torch.zeros(2, 3)), "contexts of shape"),
        (lambda: PixelCNN((4, 4), 3, context_features=2)(torch.zeros(2, 4, 4), torch.zeros(2, 2).long()), "floating"),
        (lambda: PixelRNN((4, 4), 1), "two levels"),
        (lambda: PixelRNN((4, 4), 3, 0), "sizes >= 1"),
        (lambda: receptive_field(PixelCNN((4, 4), 3), 4, 0), "pixel"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
