"""Flows of images: squeezing, nested scales, temperature, and bounds through noise that is learned."""

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, Uniform

from nfcourse import (
    ActNorm,
    Affine,
    Compose,
    ConditionalAffine,
    Conv1x1,
    Dequantized,
    DiagonalNormal,
    FactorOut,
    Flow,
    GlowNet,
    LogisticMixtureTransformer,
    Sigmoid,
    Squeeze,
    StandardNormal,
    bits_per_dim,
    check,
    glow_step,
    multiscale,
    noise_flow,
    spaces,
    train,
)


def glow(levels=2, seed=0, **how):
    """A small multi-scale flow of 1x8x8 images with weights that are not zero, and 16 images."""
    torch.manual_seed(seed)
    flow = check.randomize(multiscale((1, 8, 8), levels, 1, 8, **how), 0.2, seed).double()
    return flow, torch.randn(16, 1, 8, 8, dtype=torch.float64)


# ---- layers ----


def test_squeeze_puts_each_square_into_four_channels():
    x = torch.arange(32.0).reshape(2, 4, 4)
    z, log_det = Squeeze().inverse(x)
    for c in range(2):
        for a in (0, 1):
            for b in (0, 1):
                assert torch.equal(z[4 * c + 2 * a + b], x[c, a::2, b::2])
    assert torch.equal(z, torch.nn.functional.pixel_unshuffle(x, 2)) and log_det == 0
    assert torch.equal(Squeeze()(z)[0], x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Squeeze().inverse(torch.zeros(1, 3, 4)), "even sides"),
        (lambda: Squeeze()(torch.zeros(3, 2, 2)), "4 C"),
        (lambda: Conv1x1(3)(torch.zeros(2, 2, 2)), r"\(\*batch, 3, any, any\)"),
        (lambda: glow_step((1, 2, 2)), "D >= 2"),
        (lambda: glow_step((4, 2)), r"\(C, H, W\)"),
        (lambda: multiscale((1, 6, 8), 2), "divisible"),
        (lambda: multiscale((1, 8, 8), 0), ">= 1"),
        (lambda: noise_flow((8, 8)), r"\(C, H, W\)"),
        (lambda: Affine((2, 3), share=3), "share"),
        (lambda: ConditionalAffine(nn.Linear(2, 6))(torch.zeros(3)), "context"),
        (lambda: ConditionalAffine(nn.Linear(2, 6))(torch.zeros(4), torch.zeros(2)), r"\(\*batch, 3\)"),
        (lambda: FactorOut(StandardNormal(2), StandardNormal(2)), "Flow as prior"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_1x1_convolution_is_a_convolution():
    torch.manual_seed(0)
    f = check.randomize(Conv1x1(3)).double()
    z = torch.randn(5, 3, 4, 2, dtype=torch.float64)
    x, log_det = f(z)
    assert torch.allclose(x, nn.functional.conv2d(z, f.plu.matrix[:, :, None, None], f.plu.bias))
    assert torch.allclose(log_det, 8 * torch.linalg.slogdet(f.plu.matrix).logabsdet.expand(5))
    assert torch.allclose(f.plu.inverse_matrix, torch.linalg.inv(f.plu.matrix))


def test_actnorm_shares_statistics_over_positions():
    torch.manual_seed(0)
    x = torch.tensor([3.0, -1.0]).reshape(2, 1, 1) + torch.tensor([2.0, 0.5]).reshape(2, 1, 1) * torch.randn(
        50, 2, 4, 4
    )
    f = ActNorm((2, 4, 4), share=2)
    z = f.initialize(x)
    assert f.loc.shape == (2, 1, 1)
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(z.var((0, 2, 3), unbiased=False), torch.ones(2), atol=1e-4)


def test_conditional_affine_is_a_conditional_normal():
    torch.manual_seed(0)
    net = nn.Linear(2, 6).double()
    flow = Flow(StandardNormal(3).double(), ConditionalAffine(net, clamp=1e9))
    x, c = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 2, dtype=torch.float64)
    mu, s = net(c).chunk(2, -1)
    assert torch.allclose(flow(x, c), Independent(Normal(mu, s.exp()), 1).log_prob(x))
    assert flow.sample((4,), c).shape == (4, 7, 3)


# ---- nested scales ----


def test_factor_out_is_the_sum_written_by_hand():
    flow, x = glow()
    z, log_det = flow.bijection.inverse(x)
    z1, y = z[:, :2], z[:, 2:]
    prior, deeper = flow.base.prior, flow.base.deeper
    e, log_det_prior = prior.bijection.inverse(z1, y)
    w, log_det_deeper = deeper.bijection.inverse(y)

    def gauss(v):
        return Normal(0.0, 1.0).log_prob(v).flatten(1).sum(1)

    want = gauss(e) + gauss(w) + log_det + log_det_prior + log_det_deeper
    assert torch.allclose(flow(x), want)
    assert flow.distribution().event_shape == (1, 8, 8) and flow.base().event_shape == (4, 4, 4)


def test_the_nested_flow_is_one_bijection():
    """The density against the Jacobian of all latents, found by autograd."""
    flow, x = glow(seed=1)

    def flat(v):
        return torch.cat([e.flatten() for e in flow.latents(v.reshape(1, 1, 8, 8))])

    for point in x[:3]:
        noise = flat(point.flatten())
        jacobian = torch.autograd.functional.jacobian(flat, point.flatten())
        want = Normal(0.0, 1.0).log_prob(noise).sum() + torch.linalg.slogdet(jacobian).logabsdet
        assert torch.allclose(flow(point), want)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("transformer", [None, lambda: LogisticMixtureTransformer(2)], ids=["affine", "mixture"])
def test_latents_round_trip(levels, transformer):
    flow, x = glow(levels, **({} if transformer is None else {"transformer": transformer}))
    latents = flow.latents(x)
    assert [e.shape[1:] for e in latents] == {
        1: [(4, 4, 4)],
        2: [(2, 4, 4), (8, 2, 2)],
        3: [(2, 4, 4), (4, 2, 2), (16, 1, 1)],
    }[levels]
    assert torch.allclose(flow.from_latents(latents), x, atol=1e-8)
    with pytest.raises(ValueError, match=f"expects {levels} latents, got {levels + 1}"):
        flow.from_latents([latents[0], *latents])
    with pytest.raises(ValueError, match=f"expects {levels} latents, got {levels - 1}"):
        flow.from_latents(latents[1:])


def test_latents_of_a_learned_base_are_standardised():
    torch.manual_seed(0)
    flow = check.randomize(Flow(DiagonalNormal(3), Affine(3)))
    noise = flow.latents(flow.sample((20_000,)).detach())[0]
    assert noise.mean(0).abs().max() < 0.03 and (noise.std(0) - 1).abs().max() < 0.03


def test_samples_carry_their_density_and_gradients():
    flow, _ = glow()
    x, log_prob = flow.sample_and_log_prob((6,))
    assert torch.allclose(log_prob, flow(x))
    with_grad = torch.autograd.grad(x.sum(), [p for p in flow.base.deeper.parameters()], allow_unused=True)
    assert any(g is not None and bool((g != 0).any()) for g in with_grad)
    assert flow.sample((2, 3)).shape == (2, 3, 1, 8, 8) and flow.distribution().sample((2,)).shape == (2, 1, 8, 8)


def test_temperature():
    """It scales the noises: T = 1 is the law itself, T = 0 one image, and T^2 the variance of a linear flow."""
    flow, _ = glow()
    draws = []
    for temperature in (1.0, 0.7, 0.0):
        torch.manual_seed(3)
        draws.append(flow.sample((4,), temperature=temperature))
    torch.manual_seed(3)
    assert torch.equal(draws[0], flow.sample((4,)))
    assert torch.allclose(draws[1], flow.from_latents([0.7 * e for e in flow.latents(draws[0])]))
    zero = flow.from_latents([torch.zeros_like(e) for e in flow.latents(draws[0])])
    assert torch.allclose(draws[2], zero) and torch.allclose(draws[2], draws[2][:1].expand(4, -1, -1, -1))

    linear = check.randomize(Flow(DiagonalNormal(2), Affine(2)))
    with torch.no_grad():
        sharp, full = linear.sample((40_000,), temperature=0.5), linear.sample((40_000,))
    assert torch.allclose(sharp.std(0), 0.5 * full.std(0), rtol=0.03)
    assert torch.allclose(sharp.mean(0), full.mean(0), atol=0.03)


def test_temperature_one_gives_the_law_of_the_density():
    """Under the law, log p of the draws is what the density's own entropy says: compare with latents drawn apart."""
    flow, _ = glow()
    torch.manual_seed(0)
    with torch.no_grad():
        x = flow.sample((4000,))
        latents = flow.latents(x)
        a, b = flow(x), flow(flow.from_latents([torch.randn_like(e) for e in latents]))
    assert abs(a.mean() - b.mean()) < 4 * (a.var() / 4000 + b.var() / 4000).sqrt()
    for e in latents:
        assert abs(float(e.mean())) < 0.02 and abs(float(e.std()) - 1) < 0.02


def test_every_level_is_initialised_from_data():
    torch.manual_seed(0)
    flow = multiscale((1, 8, 8), 3, 2, 8)
    x = 100 + 30 * torch.randn(64, 1, 8, 8)
    flow.initialize(x)
    norms = [m for m in flow.modules() if isinstance(m, ActNorm)]
    assert len(norms) == 6 and all(m.initialized for m in norms)
    # couplings are the identity at the start; only the rotations mix what is standardised
    for e in flow.latents(x):
        assert torch.allclose(e.mean((0, 2, 3)), torch.zeros(e.shape[1]), atol=1e-3)
        assert torch.allclose(e.std((0, 2, 3)), torch.ones(e.shape[1]), atol=0.2)


def test_nested_weights_survive_the_disk(tmp_path):
    flow, x = glow()
    train.save_weights(flow, tmp_path / "glow.safetensors")
    other, _ = glow(seed=5)
    assert not torch.allclose(other(x), flow(x))
    train.load_weights(other, tmp_path / "glow.safetensors")
    assert torch.equal(other(x), flow(x))


def test_a_class_moves_every_level():
    flow, x = glow(context_features=3)
    labels = torch.eye(3, dtype=torch.float64)[[0, 1] * 8]
    assert flow.sample((), labels).shape == x.shape and flow.sample((5,), labels[:2]).shape == (5, 2, 1, 8, 8)
    latents = flow.latents(x, labels)
    assert torch.allclose(flow.from_latents(latents, labels), x)
    other = flow.from_latents(latents, labels.roll(1, 0))
    assert (other - x).abs().max() > 1e-3
    drawn, log_prob = flow.sample_and_log_prob((2,), labels)
    assert torch.allclose(log_prob, flow(drawn, labels.expand(2, -1, -1)))


def test_glow_learns_digits():
    from nfcourse import data

    x = data.digits("train")[0].reshape(-1, 1, 8, 8)
    torch.manual_seed(0)
    model = Dequantized(multiscale((1, 8, 8), 2, 2, 16).then(Sigmoid(event_dim=3)), 17, event_dim=3)
    train.fit(model, x, steps=40, batch_size=64, lr=5e-3, clip=None, progress=False)
    with torch.no_grad():
        assert 2.0 < float(bits_per_dim(model(x[:200]).mean(), 64)) < 2.7
    drawn = model.sample((3,), temperature=0.7)
    assert drawn.dtype == torch.int64 and 0 <= int(drawn.min()) and int(drawn.max()) <= 16


# ---- noise that is learned ----


class Flat(nn.Module):
    """The uniform distribution as a base, batched like the context."""

    def forward(self, context=None):
        shape = (context if context is not None else torch.zeros(1)).shape
        return Independent(Uniform(torch.zeros(shape), torch.ones(shape), validate_args=False), 1)


def tiny():
    """A density of one pixel with two levels, whose masses are known by integration: Normal, squashed."""
    flow = Flow(StandardNormal(1), Compose(Affine(1, loc=0.8, scale=1.3), Sigmoid()))
    grid = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    with torch.no_grad():
        density = flow.double()(grid[:, None]).exp()
        log_mass = torch.stack([density[:100_000].mean() / 2, density[100_000:].mean() / 2]).log()
    return flow.float(), log_mass.float()


def noise(seed=0, context=1):
    """Noise in (0, 1) given the pixel; with random weights, and tails that keep importance weights bounded."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(context, 16), nn.Tanh(), nn.Linear(16, 2 * context))
    with torch.no_grad():
        net[-1].bias[context:] += 1
    return Flow(StandardNormal(context), Compose(ConditionalAffine(net), Sigmoid()))


def test_the_masses_add_up_and_the_bounds_lie_below():
    flow, log_mass = tiny()
    check.mass(lambda x: log_mass[x], torch.tensor([0, 1]))
    x = torch.tensor([[0], [1]]).expand(20_000, 2, 1)
    for q in (None, noise(0), noise(1)):
        model = Dequantized(flow, 2, noise=q)
        with torch.no_grad():
            draws = model(x)
        bound, error = draws.mean(0), draws.std(0) / len(x) ** 0.5
        assert (bound < log_mass + 3 * error).all()
        # and the draws are unbiased for the mass itself: E exp(draw) = P(x), importance sampling
        weights = draws.exp()
        assert ((weights.mean(0) - log_mass.exp()).abs() < 5 * weights.std(0) / len(x) ** 0.5 + 1e-3).all()


def test_uniform_noise_is_the_special_case():
    """A noise flow whose law is uniform gives the very same draws."""
    flow, _ = tiny()

    class Same(Sigmoid):
        domain = spaces.unit_interval

        def forward(self, z, context=None):
            return z, z.new_zeros(z.shape[:-1])

    x = torch.tensor([[0], [1]]).repeat(50, 1)
    results = []
    for q in (None, Flow(Flat(), Same())):
        torch.manual_seed(4)
        results.append(Dequantized(flow, 2, noise=q)(x))
    assert torch.allclose(*results, atol=1e-6)


def test_learned_noise_closes_the_gap():
    """Training q alone raises its bound above the uniform one, up to the mass."""
    flow, log_mass = tiny()
    flow.requires_grad_(False)
    model = Dequantized(flow, 2, noise=noise())
    x = torch.tensor([[0], [1]]).repeat(64, 1)
    train.fit(model, x, steps=300, batch_size=128, lr=2e-2, schedule="cosine", progress=False)
    with torch.no_grad():
        many = x[:2].expand(20_000, 2, 1)
        uniform, learned = Dequantized(flow, 2)(many).mean(0), model(many).mean(0)
    assert (learned > uniform + 0.01).all()
    assert ((log_mass - learned) < 0.03).all() and (learned < log_mass + 0.01).all()


def test_noise_flow_starts_nearly_uniform():
    torch.manual_seed(0)
    q = noise_flow((1, 4, 4), 2, 8)
    model = Dequantized(multiscale((1, 4, 4), 1, 1, 8).then(Sigmoid(event_dim=3)), 4, 3, q)
    x = torch.randint(0, 4, (64, 1, 4, 4))
    model.initialize(x)
    u, log_q = q.sample_and_log_prob((), x / 4.0)
    assert u.shape == x.shape and bool(((u > 0) & (u < 1)).all())
    assert abs(float(log_q.detach().mean()) / 16) < 0.1
    assert torch.isfinite(model(x)).all() and model.dequantize(x).shape == x.shape


def test_glow_net_takes_any_batch():
    u = torch.randn(2, 3, 1, 4, 4)
    net = GlowNet(1, 2, 4, zero_init=False)
    assert torch.allclose(net(u)[1, 2], net(u[1, 2][None])[0], atol=1e-6)
    assert not bool(GlowNet(1, 2, 4)(u).any())
