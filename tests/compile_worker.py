"""Compile every layer and model with fullgraph=True; run in a process without the type-checking import hook."""

import shutil
import sys

import torch
from constructors import CONSTRUCTORS, CONTEXTS, EVENTS

from nfcourse import (
    ConditionalNormal,
    Dequantized,
    DiagonalNormal,
    Flow,
    Sigmoid,
    StandardNormal,
    check,
    multiscale,
    noise_flow,
    spaces,
)
from nfcourse.nets import MLP

BACKEND = "aot_eager" if shutil.which("g++") is None or "--eager" in sys.argv else "inductor"


def same(name, function, *args):
    """Compare the compiled function with the plain one."""
    torch.manual_seed(0)
    want = function(*args)
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend=BACKEND)
    torch.manual_seed(0)
    got = compiled(*args)
    for a, b in zip(torch.utils._pytree.tree_leaves(want), torch.utils._pytree.tree_leaves(got), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, name
        if "sample" not in name:
            assert torch.allclose(a, b, atol=1e-4, rtol=1e-4), f"{name}: {(a - b).abs().max()}"
    print("compiled", name)


def main():
    """Every constructor, as a layer and inside a flow; every model."""
    for name, make in CONSTRUCTORS.items():
        torch.manual_seed(0)
        f = check.randomize(make()).eval()
        context = torch.randn(16, *CONTEXTS[name]) if name in CONTEXTS else None
        z = check.draw_inputs(f.domain, (16, *(EVENTS.get(name) or f.event_shape))).float()
        if len(f.directions) == 1:
            (way,) = f.directions
            same(f"{name}: {way}", getattr(f, way), z, context)
            continue
        x = f(z, context)[0].detach()
        # log_prob compiles the inverse, sample_and_log_prob the forward map
        if f.domain is spaces.real:
            flow = Flow(StandardNormal(tuple(z.shape[1:])), f)
            same(f"{name}: log_prob", flow, x, context)
            same(f"{name}: sample_and_log_prob", lambda flow=flow, c=context: flow.sample_and_log_prob((5,), c))
        else:
            same(f"{name}: inverse", f.inverse, x, context)
            same(f"{name}: forward", f, z, context)
    coupling = CONSTRUCTORS["coupling, with context"]()
    context, x = torch.randn(16, 2), torch.randn(16, 4)
    for base in (DiagonalNormal(4), ConditionalNormal(MLP(2, 8, zero_init=False))):
        same(f"{type(base).__name__}: log_prob", Flow(base, coupling), x, context)
        same(f"{type(base).__name__}: sample", lambda b=base: Flow(b, coupling).sample((3,), context))
    bounded = CONSTRUCTORS["compose, to the unit interval"]()
    model = Dequantized(Flow(StandardNormal(2), bounded), levels=16)
    same("dequantized: log_prob of integers (sample of the noise)", model, torch.randint(0, 16, (16, 2)))
    same("dequantized: sample", lambda: model.sample((5,)))
    glow = check.randomize(multiscale((1, 8, 8), 2, 1, 8), 0.1)
    same("multi-scale: log_prob", glow, torch.randn(4, 1, 8, 8))
    same("multi-scale: sample", lambda: glow.sample((3,), temperature=0.7))
    same("multi-scale: sample_and_log_prob", lambda: glow.sample_and_log_prob((3,)))
    same("multi-scale: latents", lambda: glow.from_latents(glow.latents(torch.ones(2, 1, 8, 8))))
    learned = Dequantized(glow.then(Sigmoid(event_dim=3)), 17, 3, noise_flow((1, 8, 8), 2, 8))
    same("dequantized with learned noise: log_prob (sample of the noise)", learned, torch.randint(0, 17, (4, 1, 8, 8)))


if __name__ == "__main__":
    main()
