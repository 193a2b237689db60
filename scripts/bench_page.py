"""Turn the stored figures of the benchmarks, book/results/bench_*.json, into the tables of book/benchmarks.md.

Usage: ``python scripts/bench_page.py``. Every number of that page comes from here: the tables, the list of goals, and
the sentence on the machine.
"""

import json
import math
import statistics
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "book" / "results"
BENCHMARKS = ("coupling", "autoregressive", "spline", "depth", "quality", "image")
LIBRARIES = ("ours", "zuko", "nflows", "normflows")
PEERS = LIBRARIES[1:]
#: the columns of the tables of times; those without a figure are left out
COLUMNS = (*LIBRARIES, "FrEIA", "ours_compiled", "flowjax")
#: libraries that only some of the benchmarks use, where they are installed
OPTIONAL = ("FrEIA", "flowjax", "jax")
#: heads of tables with many columns
SHORT = {"ours_compiled": "compiled"}
HEADS = {"ours": "this package", "ours_compiled": "this package, compiled", "flowjax": "flowjax, under jit"}


def load():
    """The stored figures by benchmark."""
    return {name: json.loads((RESULTS / f"bench_{name}.json").read_text("utf8")) for name in BENCHMARKS}


def table(head, rows):
    """A Markdown table: the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def times(results):
    """Times over the bare networks, one row for each dimension and task."""
    columns, rows = [c for c in COLUMNS if any(c in row for row in results.values())], []
    for key, row in results.items():
        dim, task = key.removeprefix("D=").split(" ", 1)
        task = {"log_prob": "log-density"}.get(task, task)
        cells = [f"{row[c]:.2f}" if c in row else "" for c in columns]
        rows.append([f"{task}, $D = {dim}$", f"{row['bare_ms']:.2f}", *cells])
    return table(["task", "bare, ms", *[SHORT.get(c, c) for c in columns]], rows)


def number(value):
    """A number of any size, with three digits, or two and a power of ten."""
    if not math.isfinite(value):
        return "NaN"
    if value == 0 or 0.01 <= abs(value) < 10_000:
        return f"{value:#.3g}".rstrip(".") if abs(value) < 100 else f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return rf"${mantissa} \cdot 10^{{{int(exponent)}}}$"


def precision(results, prefix=""):
    """What float32 leaves of a round trip: the spline first, or with a prefix its inverse."""
    head = ["logits: library", "worst error", "worst error / floor", "points above 4 floors"]
    head += ["worst error, slopes bounded", "errors", "NaN"]
    columns = ("worst", "worst_over_floor", "points_above_4_floors", "worst_bounded", "errors", "nan")
    rows = []
    for key, row in results.items():
        name, std = key.split()
        cells = [row[prefix + c] for c in columns]
        rows.append([f"{std}: {HEADS.get(name, name)}", *[str(c) if isinstance(c, int) else number(c) for c in cells]])
        if not prefix:
            bad = row["bad_gradients"]
            rows[-1].append("error" if bad is None else str(bad))
    return table(head + ["gradients not finite"] * (not prefix), rows)


def spread(row):
    """Mean and standard deviation."""
    return f"{row['mean']:.3f} ± {row['std']:.3f}"


def quality(results, seeds):
    """Test scores over the seeds, the score of the true density where it is known, and the budgets."""
    rows, budgets = [], {}
    for key, row in results.items():
        true = "" if row["entropy"] is None else f"{row['entropy']:.3f}"
        rows.append([key, *[spread(row[name]) for name in LIBRARIES], true, verdict(row)])
        budgets[key.split(",")[0]] = (
            f"{row['steps']} steps of {row['batch']} points at a learning rate of {row['lr']:g}"
        )
    head = ["data, flow", *[HEADS.get(n, n) for n in LIBRARIES], "true density", "against the best peer"]
    sizes = "; ".join(f"{key}: {row['ours']['parameters']:,}" for key, row in results.items())
    budget = "; ".join(f"{name}: {text}" for name, text in budgets.items())
    return table(head, rows) + f"\nBudget: {budget}; {len(seeds)} seeds. Parameters, in every library: {sizes}.\n"


def verdict(row):
    """Ours against the peer with the lowest mean: the difference counts from two standard errors on."""
    best = min(PEERS, key=lambda name: row[name]["mean"])
    difference = row["ours"]["mean"] - row[best]["mean"]
    error = math.hypot(*[row[n]["std"] / math.sqrt(len(row[n]["nll"])) for n in ("ours", best)])
    word = "level" if abs(difference) <= 2 * error else "better" if difference < 0 else "worse"
    return f"{word} ({difference:+.3f} ± {error:.3f}, {best})"


def depth(results):
    """Test scores of 32 layers."""
    steps = max(r["last_step"] for row in results.values() for r in row.values())
    rows = []
    for key, row in results.items():
        cells = []
        for name in LIBRARIES:
            r = row[name]
            stopped = "" if r["last_step"] == steps else f", NaN after step {r['last_step']}"
            cells.append(f"{r['nll']:.3f}{stopped}")
        rows.append([f"learning rate {key.removeprefix('lr=')}", *cells])
    return table(["run", *[HEADS.get(n, n) for n in LIBRARIES]], rows)


def image(results, settings):
    """Glow: size, times, bits per dimension."""
    names = ("ours", "normflows")
    rows = [["parameters", *[f"{results[n]['parameters']:,}" for n in names]]]
    rows.append(["hidden width", *[str(settings["widths"][n]) for n in names]])
    for task, text in (("log_prob", "log-density"), ("training step", "training step"), ("sample", "sample")):
        rows.append([f"{text}, ms a batch", *[f"{results[n][f'{task} ms']:.1f}" for n in names]])
    for lr in results["ours"]["bits_per_dim"]:
        rows.append(
            [f"bits per dimension, learning rate {lr}", *[bits(results[n], lr, settings["steps"]) for n in names]]
        )
    return table(["Glow", *[HEADS.get(n, n) for n in names]], rows)


def bits(row, lr, steps):
    """Mean over the seeds, and where the first of them diverged."""
    stopped = min(row["last_step"][lr])
    text = f"{statistics.fmean(row['bits_per_dim'][lr]):.3f}"
    return text if stopped == steps else f"{text} (diverged after step {stopped} of {steps})"


def goals(files):
    """Every goal, what was measured, and whether it is reached."""
    results = {name: content["results"] for name, content in files.items()}
    maf, spline, exact = results["autoregressive"], results["spline"]["time"], results["spline"]["precision"]
    rows = []

    def goal(text, measured, met):
        rows.append([text, measured, "yes" if met else "**no**"])

    def by_dim(benchmark, task, value):
        found = {k.split()[0][2:]: value(row) for k, row in benchmark.items() if k.split(" ", 1)[1] == task}
        return list(found.values()), "; ".join(f"{v:.2f} ($D = {d}$)" for d, v in found.items())

    values, text = by_dim(maf, "log_prob", lambda row: row["ours"])
    goal("MAF: log-density at most 1.45 times the bare masked networks", text, max(values) <= 1.45)
    faster = maf["D=64 sample"]["zuko"] / maf["D=64 sample"]["ours"]
    goal("MAF: sampling at $D = 64$ at least 10 times faster than zuko", f"{faster:.1f} times", faster >= 10)
    values, text = by_dim(spline, "training step", lambda row: row["ours"] / min(row[p] for p in PEERS))
    goal("Splines: training step faster than every eager peer's", f"time over the best peer's: {text}", max(values) < 1)
    if all("ours_compiled" in row for key, row in spline.items() if key.endswith("training step")):
        values, text = by_dim(spline, "training step", lambda row: row["ours_compiled"])
        goal("Splines: compiled training step at most 2.2 times the bare networks", text, max(values) <= 2.2)
    ours = {key.split()[1]: row for key, row in exact.items() if key.startswith("ours")}

    def by_std(field):
        return [row[field] for row in ours.values()], "; ".join(
            f"{number(r[field])} (logits {s})" for s, r in ours.items()
        )

    for prefix, order in (("", "data to base and back"), ("inverse_first_", "base to data and back")):
        values, text = by_std(f"{prefix}worst_over_floor")
        goal(f"Splines: {order} in float32 within 4 times the floor, at every point", text, max(values) <= 4)
    bounded = [f"{prefix}worst_bounded" for prefix in ("", "inverse_first_")]
    worst = max(row[field] for row in ours.values() for field in bounded)
    goal("Splines: both round trips at most $10^{-3}$ where slopes are bounded", number(worst), worst <= 1e-3)
    failures = sum(row[p + f] for row in ours.values() for p in ("", "inverse_first_") for f in ("errors", "nan"))
    goal("Splines: never NaN or an error", f"{failures} points", failures == 0)
    bad = sum(row["bad_gradients"] or 0 for row in ours.values())
    goal("Splines: gradients finite everywhere", f"{bad} points with others", bad == 0)
    runs = {key: row["ours"] for key, row in results["depth"].items()}
    steps = files["depth"]["settings"]["steps"]
    text = "; ".join(f"{r['last_step']} of {steps} steps finite ({key.replace('=', ' = ')})" for key, r in runs.items())
    goal(
        f"{files['depth']['settings']['layers']} affine layers train without NaN",
        text,
        all(r["last_step"] == steps for r in runs.values()),
    )
    for key, row in results["quality"].items():
        goal(
            f"Test likelihood no worse than the best peer's: {key}", verdict(row), not verdict(row).startswith("worse")
        )
    glow = results["image"]
    best = {
        name: min(statistics.fmean(values) for values in row["bits_per_dim"].values()) for name, row in glow.items()
    }
    goal(
        "Glow: bits per dimension no worse than normflows' Glow, each at its better learning rate",
        f"{best['ours']:.3f} against {best['normflows']:.3f}",
        best["ours"] <= best["normflows"],
    )
    for task, text in (("training step", "training step"), ("log_prob", "log-density")):
        ratio = glow["ours"][f"{task} ms"] / glow["normflows"][f"{task} ms"]
        goal(f"Glow: {text} no slower than that of normflows' Glow", f"{ratio:.2f} times its time", ratio <= 1)
    text = table(["goal", "measured", "reached"], rows)
    return text.replace(" ---: | ---: |", " --- | --- |", 1)


def machine(files):
    """A sentence for each machine, with the benchmarks that ran on it; one machine is the rule."""
    groups = {}
    for name, content in files.items():
        where = {k: v for k, v in content["machine"].items() if k != "date"}
        where["versions"] = {k: v for k, v in where["versions"].items() if k not in OPTIONAL}
        groups.setdefault(json.dumps(where), []).append(name)
    sentences = []
    for where, names in groups.items():
        m = json.loads(where)
        found = {k: v for name in names for k, v in files[name]["machine"]["versions"].items()}
        m["versions"] |= {k: found[k] for k in OPTIONAL if k in found}
        days = sorted({files[name]["machine"]["date"] for name in names})
        versions = ", ".join(f"{name} {v}" for name, v in m["versions"].items() if name != "nfcourse")
        threads = "one thread" if m["threads"] == 1 else f"{m['threads']} threads"
        which = "" if len(groups) == 1 else f"({', '.join(names)}) "
        days = " to ".join(days[:1] + days[1:][-1:])
        where = f"{m['system']}, processor {m['cpu']} with {m['cores']} cores, {threads}; {versions}"
        sentences.append(f"Measured {which}on {days}: {where}.\n")
    return "\n".join(sentences)


def pages(files):
    """The text of every generated file, by name."""
    results = {name: content["results"] for name, content in files.items()}
    return {
        "bench_goals.md": goals(files),
        "bench_machine.md": machine(files),
        "bench_coupling.md": times(results["coupling"]),
        "bench_autoregressive.md": times(results["autoregressive"]),
        "bench_spline.md": times(results["spline"]["time"]),
        "bench_precision.md": precision(results["spline"]["precision"]),
        "bench_precision_inverse_first.md": precision(results["spline"]["precision"], "inverse_first_"),
        "bench_depth.md": depth(results["depth"]),
        "bench_quality.md": quality(results["quality"], files["quality"]["settings"]["seeds"]),
        "bench_image.md": image(results["image"], files["image"]["settings"]),
    }


if __name__ == "__main__":
    for name, text in pages(load()).items():
        (RESULTS / name).write_text(text, "utf8")
