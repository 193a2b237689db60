"""Is anything slower than it was? Times this checkout against another one, cell by cell.

    git worktree add /tmp/base COMMIT
    python tests/benchmarks/regress.py --base /tmp/base [--only "MAF D=16"] [--json FILE]

A cell is a flow (8 affine couplings, 8 spline couplings, 5 MAF layers; networks 2 x 128), a dimension and a task
(log-density, training step, sampling without gradients), in float32 on one thread, 512 points.

Two processes, one for each checkout, do the same work in turn, a short block each, in random order and on the same
core, and the processor time of a block over that of its partner is one figure. Two flows with the very same code differ
by a percent or two, and now and then by twenty, for as long as they live, by where their memory happens to lie. So
there are several such pairs of processes, and all build their flow anew for every round of a few blocks. The mean of
the logarithms of a round is one figure, the median of a pair's rounds one observation, and the interval is Student's
over the pairs. Rounds are added until it is narrow enough, or there are too many. A cell holds when the upper end of
its 95% interval is at most 1.03. The exit status says whether all do.
"""

import argparse
import gc
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KINDS, DIMS, TASKS = ("affine coupling", "spline coupling", "MAF"), (2, 16, 64), ("log_prob", "training step", "sample")
CELLS = [f"{kind} D={dim} {task}" for kind, dim, task in product(KINDS, DIMS, TASKS)]


# --- the worker: knows one checkout ---------------------------------------------------------------------------------


def job(cell, batch=512):
    """The work of a cell, from whichever package is imported; only what both have is used here."""
    import torch

    import nfcourse as nf

    kind, rest = cell.split(" D=")
    dim, task = rest.split(" ", 1)
    dim = int(dim)
    torch.manual_seed(0)
    shift = [torch.empty(random.randrange(1, 1 << 16)) for _ in range(8)]  # the flow lies elsewhere each time
    make = {"affine coupling": nf.RealNVP, "spline coupling": nf.SplineCoupling, "MAF": nf.masked_autoregressive}
    flow = nf.Flow(nf.StandardNormal(dim), make[kind](dim))
    x = torch.randn(batch, dim)
    del shift
    if task != "training step":
        return torch.no_grad()({"log_prob": lambda: flow.log_prob(x), "sample": lambda: flow.sample((batch,))}[task])
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-4, fused=True)

    def step():
        optimizer.zero_grad()
        (-flow.log_prob(x).mean()).backward()
        optimizer.step()

    return step


def work(root):
    """Read a cell, or how often to do its job; answer a number with the processor seconds that it took."""
    import torch

    import nfcourse

    if not Path(nfcourse.__file__).is_relative_to(root):
        sys.exit(f"nfcourse comes from {nfcourse.__file__}, not from {root}")
    torch.set_num_threads(1)
    gc.disable()
    for line in sys.stdin:
        do = None if "=" in line else do  # the last cell's flow goes before the next one comes
        gc.collect()
        if do is None:
            do = job(line.strip())
            gc.freeze()
        else:
            start = time.process_time()
            for _ in range(int(line)):
                do()
            print(time.process_time() - start, flush=True)


class Worker:
    """A process that works with the package of one checkout, on one core."""

    def __init__(self, root, core):
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.root = root
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", "--base", str(root)],
            env={**os.environ, **one, "PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if core is not None:
            os.sched_setaffinity(self.process.pid, {core})

    def say(self, message):
        """Send a cell or a number."""
        print(message, file=self.process.stdin, flush=True)

    def block(self, times):
        """Processor seconds of one block."""
        self.say(times)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"The worker of {self.root} ended; its error stands above.")
        return float(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


# --- the comparison -------------------------------------------------------------------------------------------------


def interval(observations):
    """Mean and half-width of Student's 95% interval."""
    from scipy.stats import t as student  # the workers need not wait for it

    n = len(observations)
    return statistics.fmean(observations), student.ppf(0.975, n - 1) * statistics.stdev(observations) / math.sqrt(n)


def build(pairs, cell):
    """Let all workers make the flow of a cell, and warm up."""
    for worker in (worker for pair in pairs for worker in pair):
        worker.say(cell)
        worker.block(2)


def blocks(pair, times, number):
    """Mean logarithm of new over base, over some blocks in turn."""
    logs = []
    for _ in range(number):
        spent = {worker: worker.block(times) for worker in random.sample(pair, 2)}
        logs.append(math.log(spent[pair[1]] / spent[pair[0]]))
    return statistics.fmean(logs)


def compare(pairs, cell, args):
    """Add rounds until the interval is narrow enough."""
    build(pairs, cell)
    times = max(1, round(3 * args.seconds / min(base.block(3) for base, _ in pairs)))
    logs = [[] for _ in pairs]
    while True:
        for pair, log in zip(pairs, logs, strict=True):
            log.append(blocks(pair, times, args.blocks))
        rounds = len(logs[0])
        if rounds >= args.rounds[0]:
            mean, half = interval([statistics.median(log) for log in logs])
            if 2 * half < args.width or rounds >= args.rounds[1]:
                ratio, low, high = (math.exp(v) for v in (mean, mean - half, mean + half))
                return {"ratio": ratio, "low": low, "high": high, "rounds": rounds, "holds": high <= args.limit}
        build(pairs, cell)


def main(argv=None):
    """Print one line per cell."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--base", type=Path, required=True, help="the checkout to compare with")
    cli.add_argument("--new", type=Path, default=ROOT, help="the checkout to judge (default: this one)")
    cli.add_argument("--only", nargs="+", default=[""], help="cells that contain one of these, e.g. 'MAF D=16'")
    cli.add_argument("--width", type=float, default=0.02, help="width of the interval to reach (default: %(default)s)")
    cli.add_argument("--limit", type=float, default=1.03, help="what its upper end may be (default: %(default)s)")
    cli.add_argument("--pairs", type=int, default=8, help="pairs of processes, two or more (default: %(default)s)")
    cli.add_argument("--rounds", type=int, nargs=2, default=(8, 40), help="least and most (default: %(default)s)")
    cli.add_argument("--blocks", type=int, default=5, help="blocks of a round, each pair (default: %(default)s)")
    cli.add_argument("--seconds", type=float, default=0.02, help="processor seconds of a block (default: %(default)s)")
    cli.add_argument("--json", help="write the figures to this file")
    cli.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = cli.parse_args(argv)
    args.base, args.new = args.base.resolve(), args.new.resolve()
    if args.worker:
        return work(args.base)
    cells = [cell for cell in CELLS if any(part in cell for part in args.only)]
    if not cells:
        cli.error(f"no cell contains any of {args.only}; there are {', '.join(CELLS)}")
    results, start = {}, time.perf_counter()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else [None]
    with ExitStack() as stack:
        pairs = [
            [stack.enter_context(Worker(root, cores[k % len(cores)])) for root in (args.base, args.new)]
            for k in range(args.pairs)
        ]
        for cell in cells:
            row = results[cell] = compare(pairs, cell, args)
            values = f"{row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}] {row['rounds']:3} rounds"
            print(f"{cell:>32}  {values}  {'holds' if row['holds'] else f'above {args.limit}'}", flush=True)
    if args.json:
        settings = {k: getattr(args, k) for k in ("width", "limit", "pairs", "rounds", "blocks", "seconds")}
        spent = round(time.perf_counter() - start, 1)
        content = {"base": str(args.base), "new": str(args.new), "settings": settings, "seconds": spent}
        Path(args.json).write_text(json.dumps({**content, "results": results}, indent=1) + "\n")
    return 0 if all(row["holds"] for row in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
