"""The whole dictionary on the machine's GPU, against the CPU; skipped, with the reason, where there is none."""

import pytest
import torch
from constructors import CONSTRUCTORS, CONTEXTS, EVENTS

from nfcourse import Compose, Dequantized, Flow, Sigmoid, StandardNormal, check, multiscale, spaces, train

DEVICES = [d for d, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())) if there]
pytestmark = pytest.mark.skipif(not DEVICES, reason="this machine has neither an NVIDIA GPU (CUDA) nor Apple's (MPS)")


@pytest.fixture(params=DEVICES or ["none"])
def device(request):
    """A device and the precision in which both machines agree."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch.device(request.param)


def build(name):
    torch.manual_seed(0)
    f = check.randomize(CONSTRUCTORS[name](), 0.1).eval()
    context = torch.randn(16, *CONTEXTS[name]) if name in CONTEXTS else None
    z = check.draw_inputs(f.domain, (16, *(EVENTS.get(name) or f.event_shape)), scale=1.0).float()
    return f, z, context


def to(value, device):
    return None if value is None else value.to(device)


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_layers_agree_with_the_cpu(name, device):
    f, z, context = build(name)
    point = z
    for way in sorted(f.directions):  # forward first
        with torch.no_grad():
            want = getattr(f.to("cpu"), way)(point, context)
            got = getattr(f.to(device), way)(point.to(device), to(context, device))
        for a, b in zip(got, want, strict=True):
            assert a.device.type == device.type and torch.allclose(a.cpu(), b, atol=2e-4, rtol=1e-4)
        point = want[0]


@pytest.mark.parametrize(
    "name", [n for n in CONSTRUCTORS if "coupling" in n or n in ("compose", "plu", "1x1 convolution")]
)
def test_couplings_round_trip_under_autocast(name, device):
    f, z, context = build(name)
    f, z, context = f.to(device), z.to(device), to(context, device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        x, log_det = f(z, context)
        back, log_det_back = f.inverse(x, context)
    assert x.dtype == log_det.dtype == torch.float32
    assert torch.allclose(back, z, atol=5e-5, rtol=1e-5) and torch.allclose(
        log_det, -log_det_back, atol=1e-3, rtol=1e-4
    )


@pytest.mark.parametrize("name", [n for n, f in CONSTRUCTORS.items() if f().domain == spaces.real == f().codomain])
def test_flows_sample_and_learn(name, device):
    f, z, context = build(name)
    flow = Flow(StandardNormal(tuple(z.shape[1:])), f).to(device)
    x, log_prob = flow.sample_and_log_prob((3,), to(context, device))
    assert x.device.type == device.type and torch.isfinite(log_prob).all()
    if "inverse" in f.directions:
        loss = -flow(x.detach(), to(context, device)).mean()
        if loss.requires_grad:
            loss.backward()
            assert all(p.grad is None or torch.isfinite(p.grad).all() for p in flow.parameters())


def test_images_train(device):
    torch.manual_seed(0)
    model = Dequantized(multiscale((1, 8, 8), 2, 1, 8).then(Sigmoid(event_dim=3)), 17).to(device)
    x = torch.randint(0, 17, (64, 1, 8, 8))
    history = train.fit(model, x, steps=60, batch_size=64, lr=5e-3, progress=False)
    assert sum(history.loss[-5:]) < sum(history.loss[:5]) and model.sample(4).device.type == device.type


def test_compose_keeps_its_device(device):
    f = Compose(*[CONSTRUCTORS[n]() for n in ("plu", "permutation")]).to(device)
    assert {t.device.type for t in f.state_dict().values()} == {device.type}
