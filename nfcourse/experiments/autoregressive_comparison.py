"""Masked autoregressive flows against couplings, with affine maps and with splines, at one budget and over seeds.

``python -m nfcourse.experiments.autoregressive_comparison --out book/results/autoregressive_comparison.json``

Four flows on three data sets: two in the plane, whose density is known, and the 8x8 digits. Equal for all are the data,
the optimiser, the number of steps, the batches (same seed, same order) and the number of weights that count (a weight
that a mask closes does not); the width of the networks follows from it. Depth and learning rate of each flow and data
set are chosen on validation data among the same candidates, with the first seed. Chapter 10 shows the file that this
script writes; with one thread it takes about half an hour. ``--data`` runs some of the data sets and keeps the others'
figures that the file already has, if seeds, settings and versions are the same.
"""

import argparse
import itertools
import json
import math
import platform
from functools import partial
from pathlib import Path

import torch

import nfcourse as nf
from nfcourse import data, train

DEPTHS = (4, 8)
RATES = (1e-3, 4e-3)
BATCH = 256

#: data set -> (number of weights, steps, dimension)
BUDGETS = {"moons": (10_000, 1500, 2), "pinwheel": (10_000, 1500, 2), "digits": (200_000, 800, 64)}


def couplings(make, dim, depth, width):
    """Return couplings in which the halves take turns."""
    return make(dim, layers=depth, conditioner=partial(nf.MLP, hidden=(width, width)))


def autoregressive(transformer, dim, depth, width):
    """Return masked autoregressive layers; every second one reads the coordinates backwards."""
    return nf.masked_autoregressive(dim, layers=depth, hidden=(width, width), transformer=transformer)


FLOWS = {
    "affine coupling": partial(couplings, nf.RealNVP),
    "affine autoregressive": partial(autoregressive, nf.AffineTransformer),
    "spline coupling": partial(couplings, nf.SplineCoupling),
    "spline autoregressive": partial(autoregressive, nf.RQSTransformer),
}


def open_weights(module: torch.nn.Module) -> int:
    """Count parameters, without those that a mask multiplies by zero."""
    closed = sum(int((m.mask == 0).sum()) for m in module.modules() if isinstance(m, nf.nets.MaskedLinear))
    return sum(p.numel() for p in module.parameters()) - closed


def build(flow: str, dataset: str, depth: int, width: int) -> torch.nn.Module:
    """Return the model of a data set: flow and normalizing layer, and for digits logit and dequantisation."""
    dim = BUDGETS[dataset][2]
    layers = [FLOWS[flow](dim, depth, width), nf.ActNorm(dim)]
    if dataset != "digits":
        return nf.Flow(nf.StandardNormal(dim), nf.Compose(*layers))
    return nf.Dequantized(nf.Flow(nf.StandardNormal(dim), nf.Compose(*layers, nf.Sigmoid())), levels=17)


def fitting_width(flow: str, dataset: str, depth: int, budget: int | None = None) -> int:
    """Return the width whose number of open weights is nearest to the budget."""
    budget = BUDGETS[dataset][0] if budget is None else budget
    low, high = 1, 1024
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if open_weights(build(flow, dataset, depth, middle)) <= budget else (low, middle)
    return min((low, high), key=lambda w: abs(open_weights(build(flow, dataset, depth, w)) - budget))


def load(dataset: str):
    """Return training, validation and test data; the split is fixed."""
    if dataset == "digits":
        x = data.digits("train")[0].float()[torch.randperm(1297, generator=torch.Generator().manual_seed(0))]
        return x[:1037], x[1037:], data.digits("test")[0].float()
    toy = data.pinwheel() if dataset == "pinwheel" else data.toy(dataset)
    return toy.sample(10_000, seed=0), toy.sample(2_000, seed=2), toy.sample(20_000, seed=1)


def floor(dataset: str) -> float | None:
    """Return the test negative log-likelihood of the truth, where it is known."""
    if dataset == "digits":
        return None
    toy = data.pinwheel() if dataset == "pinwheel" else data.toy(dataset)
    return -toy.log_prob(load(dataset)[2].double()).mean().item()


def run(flow: str, dataset: str, depth: int, width: int, lr: float, seed: int, steps: int | None = None) -> dict:
    """Train once; return negative log-likelihoods in nats per point, and the seconds."""
    x, validation, test = load(dataset)
    torch.manual_seed(seed)
    model = build(flow, dataset, depth, width)
    steps = BUDGETS[dataset][1] if steps is None else steps
    settings = {"batch_size": BATCH, "schedule": "cosine", "seed": seed, "progress": False, "validate_every": 50}
    history = train.fit(model, x, validation=validation, steps=steps, lr=lr, **settings)
    torch.manual_seed(0)  # the same noise for every model
    draws = 10 if dataset == "digits" else 1
    with torch.no_grad():
        nll = -torch.stack([model(test).mean() for _ in range(draws)]).mean().item()
    return {"nll": nll, "validation": history.best, "best_step": history.best_step, "seconds": history.seconds}


def compare(datasets, seeds) -> list[dict]:
    """Return one row per flow and data set."""
    rows = []
    for dataset, flow in itertools.product(datasets, FLOWS):
        widths = {depth: fitting_width(flow, dataset, depth) for depth in DEPTHS}
        choices = list(itertools.product(DEPTHS, RATES))
        pilot = {(d, lr): run(flow, dataset, d, widths[d], lr, seeds[0]) for d, lr in choices}
        depth, lr = best = min(choices, key=lambda choice: pilot[choice]["validation"])
        runs = [pilot[best], *(run(flow, dataset, depth, widths[depth], lr, seed) for seed in seeds[1:])]
        weights = open_weights(build(flow, dataset, depth, widths[depth]))
        row = {"data": dataset, "flow": flow, "depth": depth, "width": widths[depth], "weights": weights, "lr": lr}
        row |= {key: [r[key] for r in runs] for key in ("nll", "validation", "best_step", "seconds")}
        row["candidates"] = [{"depth": d, "lr": r, "validation": pilot[d, r]["validation"]} for d, r in choices]
        rows.append(row)
        scores = " ".join(f"{v:.3f}" for v in row["nll"])
        print(f"{dataset:9s} {flow:22s} depth {depth} lr {lr:g} weights {weights:7,d} nll {scores}", flush=True)
    return rows


def main(arguments=None):
    """Run the comparison and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=list(BUDGETS), default=list(BUDGETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("book/results/autoregressive_comparison.json"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = compare(options.data, options.seeds)
    result = {
        "what": "test negative log-likelihood in nats per point: exact for moons and pinwheel, a bound for digits",
        "budget": {k: dict(zip(("weights", "steps", "dim"), BUDGETS[k], strict=True)) for k in options.data},
        "settings": {"batch": BATCH, "rates": list(RATES), "depths": list(DEPTHS), "schedule": "cosine, Adam"},
        "seeds": options.seeds,
        "floor": {name: _rounded(floor(name)) for name in options.data},
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
        "hardware": "one thread of a CPU, float32",
        "seconds": {name: _rounded(sum(sum(r["seconds"]) for r in rows if r["data"] == name)) for name in options.data},
        "rows": [{k: _rounded(v) for k, v in row.items()} for row in rows],
    }
    if options.out.exists():
        result = _joined(json.loads(options.out.read_text()), result)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


def _joined(old: dict, new: dict) -> dict:
    """Add the data sets of an older file, or start anew if it was made in another way."""
    if any(old.get(key) != new[key] for key in ("what", "settings", "seeds", "versions", "hardware")):
        return new
    kept = [name for name in BUDGETS if name in old["budget"] and name not in new["budget"]]
    order = [name for name in BUDGETS if name in kept or name in new["budget"]]
    for key in ("budget", "floor", "seconds"):
        new[key] = {name: (old if name in kept else new)[key][name] for name in order}
    rows = new["rows"] + [row for row in old["rows"] if row["data"] in kept]
    return new | {"rows": sorted(rows, key=lambda row: order.index(row["data"]))}


def _rounded(value):
    """Five digits: more would not repeat on another processor."""
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) and math.isfinite(value) else value


if __name__ == "__main__":
    main()
