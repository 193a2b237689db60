"""Train the same flows from four libraries under the same budget, and compare the test likelihood over several seeds.

Two data sets: two moons (2-D, the true density is known), and scikit-learn's 8x8 digits. The digits are dequantised
with uniform noise, y = (x + u) / 17, opened by logit(0.05 + 0.9 y) and standardised with the training set's mean and
standard deviation; this preprocessing is the same, fixed bijection for all, and its log-determinant is counted, so that
the digits are reported in nats per image with respect to counting measure (an upper bound on the negative
log-likelihood).

Three flows: affine couplings, an affine MAF, spline couplings, with the same networks, hence the same
number of parameters, in each library. One training loop for all: Adam, the same learning rate, the same batches and the
same noise for a given seed, no clipping of gradients; scored on held-out data at equal intervals, tested where the
held-out score was best. What differs is what each library does between network and density, and where its networks
start. A run that diverges is tested where it was best before; its last step is noted.
"""

import copy
import math
import statistics

import torch
from common import LIBRARIES, Report, autoregressive, coupling, line, parameters, parser

from nfcourse import data

FLOWS = ("affine coupling", "MAF", "spline coupling")


def flow(library, kind, dim, hidden):
    """The rival: 8 affine couplings, 5 MAF layers or 4 spline couplings."""
    if kind == "MAF":
        return autoregressive(library, dim, 5, hidden)
    name, layers = kind.split()[0], {"affine coupling": 8, "spline coupling": 4}[kind]
    return coupling(library, name, dim, layers, hidden, alternate=True)


class Moons:
    """Two moons: as many points as one asks for, no preprocessing."""

    dim, batch, lr, steps = 2, 256, 1e-3, 1000

    def __init__(self, n=2000):
        moons = data.toy("moons")
        self.train, self.validation, self.test = moons.sample(n, 1), moons.sample(1000, 2), moons.sample(10_000, 3)
        self.entropy = -moons.log_prob(self.test).mean().item()

    @staticmethod
    def noisy(x, generator):
        """The data as they are, and the log-determinant zero."""
        return x, torch.zeros(len(x))


class Pixels:
    """Images of integers: dequantised, opened by a logit, and standardised pixel by pixel with the training set."""

    alpha, entropy = 0.05, None

    def __init__(self, train, test, levels, held_out, batch, lr, steps):
        self.levels, self.batch, self.lr, self.steps, self.dim = levels, batch, lr, steps, train[0].numel()
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        self.train, self.validation, self.test = train[order[held_out:]], train[order[:held_out]], test
        self.mean, self.std = torch.tensor(0.0), torch.tensor(1.0)
        v, _ = self.noisy(self.train, torch.Generator().manual_seed(0))
        self.mean, self.std = v.mean(0), v.std(0)

    def noisy(self, x, generator):
        """One draw of the dequantised, opened, standardised data and the log-determinant, down to counting measure."""
        y = (x + torch.rand(x.shape, generator=generator)) / self.levels
        p = self.alpha + (1 - 2 * self.alpha) * y
        log_det = math.log((1 - 2 * self.alpha) / self.levels) - p.log() - (-p).log1p() - self.std.log()
        return (torch.logit(p) - self.mean) / self.std, log_det.flatten(1).sum(-1)


def digits():
    """Scikit-learn's 8x8 digits."""
    return Pixels(*(data.digits(part)[0].float() for part in ("train", "test")), 17, 200, 128, 1e-3, 600)


def score(rival, problem, x):
    """Mean negative log-likelihood, in nats, under the same noise at every call."""
    v, log_det = problem.noisy(x, torch.Generator().manual_seed(0))
    with torch.no_grad():
        return -(rival.log_prob(v) + log_det).mean().item()


def train(rival, problem, steps, every, seed):
    """Train; return the test score at the best held-out score, and the last step that was finite."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(rival.model.parameters(), lr=problem.lr, fused=True)
    best, state, last = math.inf, None, 0
    for step in range(1, steps + 1):
        index = torch.randint(len(problem.train), (problem.batch,), generator=generator)
        v, log_det = problem.noisy(problem.train[index], generator)
        loss = -(rival.log_prob(v) + log_det).mean()
        if not loss.isfinite():
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        last = step
        if step % every == 0 or step == steps:
            held_out = score(rival, problem, problem.validation)
            if held_out < best:
                best, state = held_out, copy.deepcopy(rival.model.state_dict())
    if state is None:
        return math.nan, last
    rival.model.load_state_dict(state)
    return score(rival, problem, problem.test), last


def main(argv=None):
    """Print one line per data set and flow: mean and standard deviation over the seeds."""
    cli = parser(__doc__)
    cli.add_argument("--seeds", type=int, default=5)
    cli.add_argument("--steps", type=int, help="in place of what each data set has")
    cli.add_argument("--data", nargs="+", default=["moons", "digits"], choices=["moons", "digits"])
    cli.add_argument("--flows", nargs="+", default=list(FLOWS), choices=FLOWS)
    args = cli.parse_args(argv)
    width, seeds = (8, 1) if args.smoke else (64, args.seeds)
    report = Report("quality", args, hidden=(width, width), seeds=list(range(seeds)), alternate=True, optimizer="Adam")
    results = {}
    line("test NLL in nats", LIBRARIES, 16)
    for name in args.data:
        problem = {"moons": Moons, "digits": digits}[name]()
        steps = 2 if args.smoke else args.steps or problem.steps
        for kind in args.flows:
            row = {}
            for library in LIBRARIES:
                runs = []
                for seed in range(seeds):
                    torch.manual_seed(seed)
                    rival = flow(library, kind, problem.dim, (width, width))
                    runs.append(train(rival, problem, steps, max(1, steps // 20), seed))
                nll = [run[0] for run in runs]
                row[library] = {
                    "nll": nll,
                    "mean": statistics.fmean(nll),
                    "std": statistics.stdev(nll) if len(nll) > 1 else 0.0,
                    "last_step": [run[1] for run in runs],
                    "parameters": parameters(rival.model),
                }
            line(f"{name}, {kind}", [f"{r['mean']:.3f} ± {r['std']:.3f}" for r in row.values()], 16)
            budget = {"steps": steps, "batch": problem.batch, "lr": problem.lr, "entropy": problem.entropy}
            results[f"{name}, {kind}"] = {**budget, **row}
    report.write(results)


if __name__ == "__main__":
    main()
