"""Glow on Fashion-MNIST: this package against normflows, with the same number of parameters, steps, batches and noise.

Both flows have two scales with the same number of steps each. A step is an activation normalization, a 1x1 convolution
in LU form, and an affine coupling of the channels with a network of three convolutions, 3x3, 1x1 and 3x3. Normflows'
width is given; this package, whose priors of factored-out halves have networks of their own, gets the largest multiple
of 8 with no more parameters in all. Both see the same pixels, dequantised with the same uniform noise, opened by
logit(0.05 + 0.9 y) and standardised pixel by pixel; the log-determinant of this is counted. Trained with Adam on the
10,000 images that ship with the course, without clipping of gradients, at two learning rates, and scored in bits per
dimension on the 2,000 test images. A run that diverges is tested where it was best before; its last step is noted.
"""

import itertools
import math

import torch
from common import Report, Rival, line, parameters, parser, tasks, time_in_turn
from quality import Pixels, train
from torch import nn

from nfcourse import data
from nfcourse.models import multiscale

SHAPE = (1, 28, 28)


class Net(nn.Sequential):
    """The network that normflows' Glow brings, for this package's."""

    def __init__(self, n_in, n_out, width):
        last = nn.Conv2d(width, n_out, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(nn.Conv2d(n_in, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), last)


def ours(levels, steps, width):
    """This package's Glow."""
    flow = multiscale(SHAPE, levels, steps, width, conditioner=Net)
    return Rival(flow, flow.log_prob, lambda n: flow.sample((n,)))


def normflows(levels, steps, width):
    """Normflows' Glow, put together as in its documentation, with a learned Gaussian for each latent entry."""
    import normflows as nf

    c, h, w = SHAPE
    bases, flows, merges = [], [], []
    for i in range(levels):
        channels = c * 2 ** (levels + 1 - i)
        flows.append([nf.flows.GlowBlock(channels, width) for _ in range(steps)] + [nf.flows.Squeeze()])
        if i > 0:
            merges.append(nf.flows.Merge())
        kept, scale = (channels, levels) if i == 0 else (channels // 2, levels - i)
        bases.append(nf.distributions.DiagGaussian((kept, h // 2**scale, w // 2**scale)))
    flow = nf.MultiscaleFlow(bases, flows, merges, class_cond=False)
    return Rival(flow, lambda x: flow.log_prob(x, None), lambda n: flow.sample(n)[0])


def match(levels, steps, budget):
    """The width for this package's Glow that keeps to the budget of parameters; no less than 4, for smoke runs."""
    widths = range(8, 1000, 8)
    fits = itertools.takewhile(lambda width: parameters(ours(levels, steps, width).model) <= budget, widths)
    return max(fits, default=4)


def main(argv=None):
    """Print times and bits per dimension."""
    cli = parser(__doc__)
    cli.add_argument("--inner", type=int, default=1)
    cli.add_argument("--steps", type=int, default=1000)
    cli.add_argument("--seeds", type=int, default=1)
    cli.add_argument("--lrs", type=float, nargs="+", default=[1e-3, 5e-4], help="learning rates")
    args = cli.parse_args(argv)
    levels, depth, width, batch, steps = (2, 1, 4, 8, 2) if args.smoke else (2, 4, 64, 64, args.steps)
    torch.manual_seed(0)
    rival = normflows(levels, depth, width)
    widths = {"ours": match(levels, depth, parameters(rival.model)), "normflows": width}
    make = {"ours": ours, "normflows": normflows}
    report = Report(
        "image",
        args,
        levels=levels,
        depth=depth,
        widths=widths,
        batch=batch,
        steps=steps,
        rounds=args.rounds,
        seeds=list(range(args.seeds)),
    )
    sets = [data.fashion_mnist_small(part)[0][:, None].float() for part in ("train", "test")]
    if args.smoke:
        sets = [x[:64] for x in sets]
    problem = Pixels(*sets, 256, len(sets[0]) // 20, batch, 1e-3, steps)
    v, _ = problem.noisy(problem.train[:batch], torch.Generator().manual_seed(0))

    rivals = {}
    for name in make:
        torch.manual_seed(0)
        rivals[name] = make[name](levels, depth, widths[name])
        start(rivals[name], v)
    results = {name: {"parameters": parameters(rivals[name].model)} for name in make}
    line("", make)
    line("parameters", [results[name]["parameters"] for name in make], form="{:d}")
    for task, jobs in tasks(rivals, v).items():
        seconds = time_in_turn(jobs, args.rounds, args.inner)
        for name in make:
            results[name][f"{task} ms"] = round(1e3 * seconds[name], 3)
        line(f"{task}, ms", [results[name][f"{task} ms"] for name in make])

    for name in make:
        results[name] |= {"bits_per_dim": {}, "last_step": {}}
    for lr in args.lrs:
        problem.lr = lr
        for name in make:
            bits, last = [], []
            for seed in range(args.seeds):
                torch.manual_seed(seed)
                rival = make[name](levels, depth, widths[name])
                start(rival, v)
                nll, step = train(rival, problem, steps, max(1, steps // 4), seed)
                bits.append(nll / (problem.dim * math.log(2)))
                last.append(step)
            results[name]["bits_per_dim"][f"{lr:g}"], results[name]["last_step"][f"{lr:g}"] = bits, last
        line(
            f"bits per dimension, lr {lr:g}",
            [r["bits_per_dim"][f"{lr:g}"][-1] for r in results.values()],
            form="{:.4f}",
        )
    report.write(results)


def start(rival, v):
    """Initialise the activation normalizations from data; normflows does it at the first call."""
    with torch.no_grad():
        (rival.model.initialize if hasattr(rival.model, "initialize") else rival.log_prob)(v)


if __name__ == "__main__":
    main()
