"""Networks keep their shapes, start at zero where they promise to, and refuse nonsense."""

import pytest
import torch

from nfcourse import MLP, ConvNet, GatedAttentionNet, ResidualMLP

VECTORS = {"mlp": lambda **kw: MLP(3, 5, (8,), **kw), "residual": lambda **kw: ResidualMLP(3, 5, 8, **kw)}
IMAGES = {
    "conv": lambda **kw: ConvNet(3, 5, 8, **kw),
    "conv, two blocks": lambda **kw: ConvNet(3, 5, 8, 2, **kw),
    "attention": lambda **kw: GatedAttentionNet(3, 5, 8, 2, 2, **kw),
}


@pytest.mark.parametrize("name", [*VECTORS, *IMAGES])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3), (0,)])
def test_shapes_and_start(name, batch):
    event = () if name in VECTORS else (4, 6)
    make = (VECTORS | IMAGES)[name]
    u = torch.randn(*batch, 3, *event)
    assert make()(u).shape == (*batch, 5, *event)
    assert (make()(u) == 0).all()
    if 0 not in batch:
        assert (make(zero_init=False)(u) != 0).any()


@pytest.mark.parametrize("name", IMAGES)
def test_batch_dimensions_are_only_folded(name):
    torch.manual_seed(0)
    net = IMAGES[name](zero_init=False)
    u = torch.randn(2, 3, 3, 4, 4)
    assert torch.allclose(net(u)[1, 2], net(u[1, 2]), atol=1e-5)


def test_attention_looks_everywhere_and_convolution_does_not():
    torch.manual_seed(0)
    u = torch.randn(1, 3, 12, 12, requires_grad=True)
    reach = {}
    for name in ("conv", "attention"):
        out = IMAGES[name](zero_init=False)(u)
        reach[name] = (torch.autograd.grad(out[0, :, 0, 0].sum(), u)[0][0].abs().sum(0) > 0).sum().item()
    assert reach["conv"] == 16 and reach["attention"] == 144


@pytest.mark.parametrize(
    "make",
    [
        lambda: MLP(0, 1),
        lambda: ResidualMLP(1, 1, blocks=0),
        lambda: ConvNet(1, 0),
        lambda: GatedAttentionNet(1, 1, width=10, heads=4),
    ],
)
def test_bad_sizes(make):
    with pytest.raises(ValueError, match="expects"):
        make()
