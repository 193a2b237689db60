"""Time an affine coupling flow against its bare conditioner networks and against other libraries.

All flows have 8 couplings with MLP conditioners 2 x 128 and alternating halves, batch 512, float32, a standard normal
base, and run in one process, in turn, so that a drift of the machine's speed meets all of them. Printed is the median
time over the median of the bare networks: what the flow itself costs. The libraries are zuko, nflows and normflows
and, where they are installed, FrEIA and flowjax; where there is a C++ compiler, this package is also timed behind
``torch.compile``.

Run with ``make bench``, or ``python tests/benchmarks/coupling.py [--rounds 20] [--json FILE]``.
"""

from common import TASKS, BareCouplings, Report, bare, coupling, parser, time_flows


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

    def build(name, dim):
        if name == "bare":
            return bare(BareCouplings, "affine", dim, layers, hidden)
        return coupling(name, "affine", dim, layers, hidden)

    report.write(*time_flows(args, "affine", batch, build, dict.fromkeys(TASKS, args.inner)))


if __name__ == "__main__":
    main()
