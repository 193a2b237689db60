"""Time an affine coupling flow against its bare conditioner networks and against zuko, nflows and normflows.

All flows have 8 couplings with MLP conditioners 2 x 128 and alternating halves, batch 512, float32, a standard normal
base, and run in one process, in turn, so that a drift of the machine's speed meets all of them. Printed is the median
time over the median of the bare networks: what the flow itself costs.

Run with ``make bench``, or ``python tests/benchmarks/coupling.py [--rounds 20] [--json FILE]``.
"""

import torch
from common import LIBRARIES, BareCouplings, Report, bare, coupling, line, parser, ratios, tasks, time_in_turn


def main(argv=None):
    """Print one line per dimension and task."""
    cli = parser(__doc__)
    cli.add_argument("--inner", type=int, default=5)
    cli.add_argument("--dims", type=int, nargs="+", default=[2, 16, 64])
    args = cli.parse_args(argv)
    layers, width, batch = (2, 8, 16) if args.smoke else (8, 128, 512)
    hidden = (width, width)
    report = Report(
        "coupling", args, layers=layers, hidden=hidden, batch=batch, dims=args.dims, rounds=args.rounds, seeds=[0]
    )
    results = {}
    line("times the bare nets", LIBRARIES)
    for dim in args.dims:
        torch.manual_seed(0)
        rivals = {"bare": bare(BareCouplings, "affine", dim, layers, hidden)}
        rivals |= {name: coupling(name, "affine", dim, layers, hidden) for name in LIBRARIES}
        for task, jobs in tasks(rivals, torch.randn(batch, dim)).items():
            row = results[f"D={dim} {task}"] = ratios(time_in_turn(jobs, args.rounds, args.inner))
            line(f"D = {dim}, {task}", [row[name] for name in LIBRARIES])
    report.write(results)


if __name__ == "__main__":
    main()
