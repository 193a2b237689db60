"""Time a masked autoregressive flow against its bare masked networks and against zuko, nflows and normflows.

All flows are affine MAFs of 5 layers with masked networks 2 x 128, every second layer reading backwards, batch 512,
float32, a standard normal base. log_prob and the training step need one pass through the networks; a sample goes
coordinate by coordinate. Printed is the median time over the median of the bare masked networks, one pass.
"""

import torch
from common import LIBRARIES, BareMasked, Report, autoregressive, bare, line, parser, ratios, tasks, time_in_turn


def main(argv=None):
    """Print one line per dimension and task."""
    cli = parser(__doc__)
    cli.add_argument("--inner", type=int, default=5)
    cli.add_argument("--dims", type=int, nargs="+", default=[2, 16, 64])
    args = cli.parse_args(argv)
    layers, width, batch = (2, 8, 16) if args.smoke else (5, 128, 512)
    hidden = (width, width)
    report = Report(
        "autoregressive", args, layers=layers, hidden=hidden, batch=batch, dims=args.dims, rounds=args.rounds, seeds=[0]
    )
    results = {}
    line("times the bare nets", LIBRARIES)
    for dim in args.dims:
        torch.manual_seed(0)
        rivals = {"bare": bare(BareMasked, "affine", dim, layers, hidden)}
        rivals |= {name: autoregressive(name, dim, layers, hidden) for name in LIBRARIES}
        for task, jobs in tasks(rivals, torch.randn(batch, dim)).items():
            inner = 1 if task == "sample" else args.inner  # some samples take a good part of a second
            row = results[f"D={dim} {task}"] = ratios(time_in_turn(jobs, args.rounds, inner))
            line(f"D = {dim}, {task}", [row[name] for name in LIBRARIES])
    report.write(results)


if __name__ == "__main__":
    main()
