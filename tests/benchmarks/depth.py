"""Train 32 affine couplings on two moons, gently and far too fast, and note where a library loses its numbers.

Plain Adam, no clipping of gradients, no normalization layers, conditioners 2 x 64, batch 256. The learning rates are
the usual 1e-3 and one ten times as large.
"""

import torch
from common import LIBRARIES, Report, coupling, line, parser
from quality import Moons, train


def main(argv=None):
    """Print the test score and the last finite step of each library."""
    cli = parser(__doc__)
    cli.add_argument("--steps", type=int, default=300)
    cli.add_argument("--layers", type=int, default=32)
    args = cli.parse_args(argv)
    width, steps = (8, 2) if args.smoke else (64, args.steps)
    report = Report("depth", args, layers=args.layers, hidden=(width, width), steps=steps, batch=Moons.batch, seeds=[0])
    problem, results = Moons(), {}
    line("nats (last finite step)", LIBRARIES, 18)
    for lr in (1e-3, 1e-2):
        problem.lr = lr
        row = {}
        for library in LIBRARIES:
            torch.manual_seed(0)
            rival = coupling(library, "affine", 2, args.layers, (width, width))
            nll, last = train(rival, problem, steps, max(1, steps // 10), 0)
            row[library] = {"nll": nll, "last_step": last}
        line(f"lr = {lr:g}", [f"{r['nll']:.3f} ({r['last_step']})" for r in row.values()], 18)
        results[f"lr={lr:g}"] = row
    report.write(results)


if __name__ == "__main__":
    main()
