r"""Rational-quadratic splines: time of a spline coupling flow, and precision of the spline itself, in four libraries.

**Time.** 8 couplings, 8 bins on [-5, 5], conditioners 2 x 128, alternating halves, batch 512, float32; as in
``coupling.py``, where also stands who takes part.

**Precision.** One spline per point, 20,000 points for each of 5 seeds, logits and derivative parameters drawn with
standard deviation 5 and 20: far outside of what a network starts with, and what training can reach. The spline is
evaluated at u in float32, v = f(u), and inverted. The error of the round trip is compared with its floor, the error
that rounding u and v alone makes:

    eps |u| + max(|g(f(u) + d) - u|, |g(f(u) - d) - u|),    d = eps max|f(u)|,

with the library's own f and its inverse g in float64. To first order it is eps (|u| + max|f(u)| / f'(u)). The same for
the other round trip, the inverse first. Also: the worst error at slopes in [1e-2, 1e2], points that come back as NaN or
make the library raise an error, and points with a gradient that is not finite.
"""

from functools import partial

import torch
from common import (
    BINS,
    BOUND,
    TASKS,
    BareCouplings,
    Report,
    bare,
    coupling,
    line,
    parser,
    time_flows,
)

from nfcourse.bijections import RQSTransformer


def splines():
    """For each library ``f(value, widths, heights, derivatives, inverse) -> (value, log-derivative)``, K last."""
    import zuko
    from nflows.transforms.splines.rational_quadratic import unconstrained_rational_quadratic_spline as nflows
    from normflows.utils.splines import unconstrained_rational_quadratic_spline as normflows

    def ours(value, widths, heights, derivatives, inverse=False):
        spline = RQSTransformer(BINS, BOUND).to(value)
        params = torch.cat([widths, heights, derivatives], -1).movedim(-1, 0)
        # the rational function itself leads from data to base, so here it is the layer's inverse
        return (spline if inverse else spline.inverse)(value, params)

    def zuko_(value, widths, heights, derivatives, inverse=False):
        spline = zuko.transforms.MonotonicRQSTransform(widths, heights, derivatives, bound=BOUND)
        return (spline.inv if inverse else spline).call_and_ladj(value)

    tails = {"tails": "linear", "tail_bound": BOUND}
    return {"ours": ours, "zuko": zuko_, "nflows": partial(nflows, **tails), "normflows": partial(normflows, **tails)}


def survivors(spline, value, params, inverse):
    """The values, NaN where the library raises an error; and the number of those points.

    A batch that fails is halved until the points that fail stand alone.
    """
    try:
        return spline(value, *params, inverse=inverse)[0], 0
    except Exception:
        if len(value) == 1:
            return torch.full_like(value, torch.nan), 1
    half = len(value) // 2
    parts = [survivors(spline, value[s], [p[s] for p in params], inverse) for s in (slice(0, half), slice(half, None))]
    return torch.cat([part[0] for part in parts]), parts[0][1] + parts[1][1]


def precision(spline, std, points, seeds):
    """Round trips, failures and gradients of one library's spline: the worst, or the sum, over the seeds."""
    runs = []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        start = BOUND * (2 * torch.rand(points, generator=generator) - 1)
        params = [std * torch.randn(points, k, generator=generator) for k in (BINS, BINS, BINS - 1)]
        run = round_trip(spline, start, params, False)
        run |= {f"inverse_first_{key}": value for key, value in round_trip(spline, start, params, True).items()}
        runs.append(run | {"bad_gradients": gradients(spline, start, params)})
    result = {
        key: (max if "worst" in key else sum)(run[key] for run in runs) for key in runs[0] if key != "bad_gradients"
    }
    bad = [run["bad_gradients"] for run in runs]
    return result | {"bad_gradients": None if None in bad else sum(bad)}


@torch.no_grad()
def round_trip(spline, u, params, first):
    """Error of u -> v -> u, where the first step is the spline or, with ``first``, its inverse."""
    v, errors = survivors(spline, u, params, first)
    back, more = survivors(spline, v, params, not first)
    fine = back.isfinite() & v.isfinite()
    error = (back.double() - u.double()).abs()
    # the same in float64
    u, params, eps = u.double(), [p.double() for p in params], torch.finfo(torch.float32).eps
    exact, log_slope = spline(u, *params, inverse=first)
    slope = log_slope.exp()
    step = eps * exact.abs().max()
    moved = [(survivors(spline, exact + d, params, not first)[0] - u).abs() for d in (-step, step)]
    ratio = error / (eps * u.abs() + torch.maximum(*moved))
    first_order = error / (eps * u.abs() + step / slope)
    bounded = fine & (slope >= 1e-2) & (slope <= 1e2)
    return {
        "worst": error[fine].max().item(),
        "worst_over_floor": ratio[fine & ratio.isfinite()].max().item(),
        "points_above_4_floors": int((ratio[fine] > 4).sum()),
        "points_above_4_first_order_floors": int((first_order[fine] > 4).sum()),
        "worst_bounded": error[bounded].max().item(),
        "bounded_points": int(bounded.sum()),
        "errors": errors + more,
        "nan": int((~fine).sum()) - errors - more,
    }


def gradients(spline, u, params):
    """Number of points, in both directions, inside and outside of the interval, with a gradient that is not finite.

    None if the library raises an error.
    """
    bad = 0
    with torch.no_grad():
        v = survivors(spline, u, params, False)[0].nan_to_num()
    for value, inverse in ((u, False), (3 * u, False), (v, True), (3 * v, True)):
        inputs = [t.clone().requires_grad_() for t in (value, *params)]
        try:
            out, log_derivative = spline(*inputs, inverse=inverse)
            grads = torch.autograd.grad(out.sum() + log_derivative.sum(), inputs)
        except Exception:
            return None
        bad += int(sum(~g.reshape(len(u), -1).isfinite().all(1) for g in grads).bool().sum())
    return bad


def measure_precision(points, seeds):
    """Per standard deviation and library."""
    results = {}
    columns = ("worst", "worst_over_floor", "worst_bounded", "errors", "nan", "bad_gradients")
    columns += tuple(f"inverse_first_{c}" for c in columns[:2])
    line("precision", [c.replace("inverse_first", "rev") for c in columns], 17)
    for std in (5, 20):
        for name, spline in splines().items():
            row = results[f"{name} {std}"] = precision(spline, float(std), points, seeds)
            line(f"logits {std}, {name}", [row[c] for c in columns], 17, "{:.3g}")
    return results


def main(argv=None):
    """Print both tables."""
    cli = parser(__doc__)
    cli.add_argument("--inner", type=int, default=3)
    cli.add_argument("--dims", type=int, nargs="+", default=[2, 16, 64])
    args = cli.parse_args(argv)
    layers, width, batch, points, seeds = (2, 8, 16, 200, 1) if args.smoke else (8, 128, 512, 20_000, 5)
    hidden = (width, width)
    report = Report(
        "spline",
        args,
        layers=layers,
        hidden=hidden,
        bins=BINS,
        bound=BOUND,
        batch=batch,
        dims=args.dims,
        rounds=args.rounds,
        points=points,
        seeds=list(range(seeds)),
    )

    def build(name, dim):
        if name == "bare":
            return bare(BareCouplings, "spline", dim, layers, hidden)
        return coupling(name, "spline", dim, layers, hidden)

    time, skipped = time_flows(args, "spline", batch, build, dict.fromkeys(TASKS, args.inner))
    report.write({"time": time, "precision": measure_precision(points, seeds)}, skipped)


if __name__ == "__main__":
    main()
