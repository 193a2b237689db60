"""Time a masked autoregressive flow against its bare masked networks and against other libraries.

All flows are affine MAFs of 5 layers with masked networks 2 x 128, every second layer reading backwards, batch 512,
float32, a standard normal base. log_prob and the training step need one pass through the networks; a sample goes
coordinate by coordinate. Printed is the median time over the median of the bare masked networks, one pass. Who takes
part: see ``coupling.py``.
"""

from common import TASKS, BareMasked, Report, autoregressive, bare, parser, time_flows


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

    def build(name, dim):
        if name == "bare":
            return bare(BareMasked, "affine", dim, layers, hidden)
        return autoregressive(name, dim, layers, hidden)

    # some samples take a good part of a second
    report.write(*time_flows(args, "MAF", batch, build, {**dict.fromkeys(TASKS, args.inner), "sample": 1}))


if __name__ == "__main__":
    main()
