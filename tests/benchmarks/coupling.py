r"""Time an affine coupling flow against its bare conditioner networks and against zuko, nflows and normflows.

All flows have 8 couplings with MLP conditioners 2 x 128 and alternating halves, batch 512, float32, a standard normal
base, and run in one process, in turn, so that a drift of the machine's speed meets all of them. Printed is the median
time over the median of the bare networks: what the flow itself costs.

Run with ``make bench``, or ``python tests/benchmarks/coupling.py [--rounds 30] [--json FILE]``.
"""

import argparse
import json
import statistics
import time
import warnings

import torch
from torch import nn

from nfcourse import MLP, Compose, Coupling, Flow, StandardNormal, half_mask

LAYERS, HIDDEN, BATCH = 8, 128, 512


class Bare(nn.Module):
    """The eight conditioner networks alone, each fed with half the coordinates: the cost that no flow avoids."""

    def __init__(self, dim):
        super().__init__()
        n_a = dim // 2
        self.nets = nn.ModuleList(MLP(n_a, 2 * (dim - n_a), (HIDDEN, HIDDEN), zero_init=False) for _ in range(LAYERS))
        self.n_a = n_a

    def forward(self, x):
        """Return something of the shape of a log-density that depends on every network."""
        a = x[:, : self.n_a]
        return sum(net(a).sum(-1) for net in self.nets)


def ours(dim):
    """This package's flow."""
    layers = [
        Coupling(half_mask(dim, flip=k % 2 == 1), lambda i, o: MLP(i, o, (HIDDEN, HIDDEN))) for k in range(LAYERS)
    ]
    flow = Flow(StandardNormal(dim), Compose(*layers))
    return flow, flow.log_prob, lambda: flow.sample((BATCH,))


def bare(dim):
    """The conditioners alone."""
    net = Bare(dim)
    x = torch.randn(BATCH, dim)
    return net, net, lambda: net(x)


def zuko(dim):
    """zuko's NICE class is an affine coupling flow."""
    import zuko

    flow = zuko.flows.NICE(dim, transforms=LAYERS, hidden_features=(HIDDEN, HIDDEN), randmask=False)
    return flow, lambda x: flow().log_prob(x), lambda: flow().sample((BATCH,))


def nflows(dim):
    """The affine coupling transform of nflows with the same MLPs."""
    from nflows.distributions.normal import StandardNormal as Base
    from nflows.flows.base import Flow as NFlow
    from nflows.transforms.base import CompositeTransform
    from nflows.transforms.coupling import AffineCouplingTransform

    class Net(MLP):
        def forward(self, x, context=None):
            return super().forward(x)

    layers = [
        AffineCouplingTransform(~half_mask(dim, flip=k % 2 == 1), lambda i, o: Net(i, o, (HIDDEN, HIDDEN)))
        for k in range(LAYERS)
    ]
    flow = NFlow(CompositeTransform(layers), Base([dim]))
    return flow, flow.log_prob, lambda: flow.sample(BATCH)


def normflows(dim):
    """The affine coupling block of normflows, halves exchanged in between."""
    import normflows as nf

    layers = []
    for _ in range(LAYERS):
        net = nf.nets.MLP([dim // 2, HIDDEN, HIDDEN, 2 * (dim - dim // 2)], init_zeros=True)
        layers += [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(dim, mode="swap")]
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(dim, trainable=False), layers)
    return flow, flow.log_prob, lambda: flow.sample(BATCH)


def time_in_turn(jobs, rounds, inner):
    """Median seconds of each job; the jobs take turns, so that a drift of the machine meets all."""
    seconds = {name: [] for name in jobs}
    for k in range(rounds + 2):
        for name, job in jobs.items():
            start = time.perf_counter()
            for _ in range(inner):
                job()
            if k >= 2:
                seconds[name].append((time.perf_counter() - start) / inner)
    return {name: statistics.median(s) for name, s in seconds.items()}


def jobs(dim):
    """For each library: log_prob, a training step and a sample."""
    x = torch.randn(BATCH, dim)
    table = {"log_prob": {}, "training step": {}, "sample": {}}
    for make in (bare, ours, zuko, nflows, normflows):
        torch.manual_seed(0)
        model, log_prob, sample = make(dim)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

        def evaluate(f=log_prob):
            with torch.no_grad():
                f(x)

        def step(f=log_prob, o=optimizer):
            o.zero_grad()
            (-f(x).mean()).backward()
            o.step()

        def draw(f=sample):
            with torch.no_grad():
                f()

        table["log_prob"][make.__name__], table["training step"][make.__name__] = evaluate, step
        table["sample"][make.__name__] = draw
    return table


def main():
    """Print one line per dimension and task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--inner", type=int, default=5)
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 16, 64])
    parser.add_argument("--json", help="write the ratios to this file")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    result = {}
    print(
        f"{'':>24} "
        + " ".join(f"{n:>10}" for n in ("ours", "zuko", "nflows", "normflows"))
        + "   (times the bare nets)"
    )
    for dim in args.dims:
        for task, table in jobs(dim).items():
            seconds = time_in_turn(table, args.rounds, args.inner)
            ratio = {n: seconds[n] / seconds["bare"] for n in seconds if n != "bare"}
            result[f"D={dim} {task}"] = {"bare_ms": 1e3 * seconds["bare"], **{n: round(r, 3) for n, r in ratio.items()}}
            print(f"D = {dim:>2}, {task:>15} " + " ".join(f"{r:>10.2f}" for r in ratio.values()))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(
                {"torch": torch.__version__, "threads": torch.get_num_threads(), "ratios": result}, file, indent=1
            )


if __name__ == "__main__":
    main()
