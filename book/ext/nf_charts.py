"""Charts of the benchmarks, as SVG that a phone reads too."""

import html
import statistics

from nf_book import TASKS, Html

LIBRARIES = {
    "ours": "this package",
    "ours_compiled": "compiled",
    "zuko": "zuko",
    "nflows": "nflows",
    "normflows": "normflows",
    "FrEIA": "FrEIA",
    "flowjax": "flowjax, jit",
}


def bars(groups, title, form="{:.2f}", mark=None):
    """Horizontal bars as one SVG of any width: places in percent, letters in pixels, so a phone reads them too.

    ``groups`` holds pairs (heading, [(name, value, class)]); each has its own scale. ``mark`` draws a
    dashed line there.
    """
    label, room = 29, 53  # percent of the width for names, and for the longest bar; values stand behind the bars
    lines, y = [], 6
    for heading, rows in groups:
        top = max(mark or 0, *(value for _, value, _ in rows)) or 1
        lines.append(f'<text class="nf-bars-head" x="0" y="{y + 14}">{html.escape(heading)}</text>')
        y += 24
        if mark:
            at, end = f"{label + room * mark / top:.2f}%", y + 20 * len(rows)
            lines.append(f'<line class="nf-bars-one" x1="{at}" x2="{at}" y1="{y - 4}" y2="{end}"/>')
        for name, value, kind in rows:
            width = room * value / top
            lines.append(f'<text x="0" y="{y + 13}">{html.escape(name)}</text>')
            lines.append(f'<rect class="{kind}" x="{label}%" y="{y + 2}" width="{width:.2f}%" height="14" rx="2"/>')
            lines.append(f'<text x="{label + width:.2f}%" dx="6" y="{y + 13}">{form.format(value)}</text>')
            y += 20
        y += 8
    text = "; ".join(f"{h}: " + ", ".join(f"{n} {form.format(v)}" for n, v, _ in rows) for h, rows in groups)
    return (
        f'<figure class="nf-bars"><svg role="img" width="100%" height="{y}" '
        f'aria-label="{html.escape(title + ". " + text, quote=True)}">{"".join(lines)}</svg>'
        f"<figcaption>{html.escape(title)}</figcaption></figure>"
    )


def chart(name, keys, dims, title):
    """The maker of a chart of times over the bare networks."""

    def made(book):
        found = book.result(name)["results"]
        for key in keys:
            found = found[key]
        groups = []
        for dim in dims:
            for task in TASKS:
                row = found[f"D={dim} {task}"]
                shown = [(text, row[lib], "nf-bar-ours" if lib.startswith("ours") else "nf-bar-peer")
                         for lib, text in LIBRARIES.items() if lib in row]  # fmt: skip
                task = {"log_prob": "log-density"}.get(task, task)
                groups.append((f"{task}, D = {dim}", shown))
        return Html(bars(groups, title, mark=1))

    return made


def compared(rows):
    """(library, value) as bars: this package stands out."""
    return [(LIBRARIES[lib], value, "nf-bar-ours" if lib == "ours" else "nf-bar-peer") for lib, value in rows]


def chart_quality(book):
    """Test scores above the best library's, for each data set and flow."""
    groups = []
    for key, row in book.result("bench_quality.json")["results"].items():
        means = [(lib, row[lib]["mean"]) for lib in LIBRARIES if lib in row]
        best = min(value for _, value in means)
        groups.append((key, compared([(lib, value - best) for lib, value in means])))
    title = "Mean test score above that of the best library, in nats; shorter is better. Each group has its own scale"
    return Html(bars(groups, title, "{:.3f}"))


def chart_depth(book):
    """Test scores of 32 layers above the best library's."""
    groups = []
    for key, row in book.result("bench_depth.json")["results"].items():
        best = min(r["nll"] for r in row.values())
        head = f"learning rate {key.removeprefix('lr=')}"
        groups.append((head, compared([(lib, row[lib]["nll"] - best) for lib in LIBRARIES if lib in row])))
    title = "Test score above that of the best library, in nats, one run each. Each group has its own scale"
    return Html(bars(groups, title, "{:.3f}"))


def chart_precision(prefix):
    """The maker of the chart of points that lose more than four floors."""

    def made(book):
        found = book.result("bench_spline.json")["results"]["precision"]
        groups = []
        for std in sorted({key.split()[1] for key in found}, key=int):
            rows = [(lib, found[f"{lib} {std}"][f"{prefix}points_above_4_floors"]) for lib in LIBRARIES
                    if f"{lib} {std}" in found]  # fmt: skip
            groups.append((f"logits of standard deviation {std}", compared(rows)))
        settings = book.result("bench_spline.json")["settings"]
        total = settings["points"] * len(settings["seeds"])
        title = f"Points, of {total:,}, whose round trip loses more than four floors. Each group has its own scale"
        return Html(bars(groups, title, "{:.0f}"))

    return made


def chart_image(book):
    """Times and scores of the two Glows."""
    found = book.result("bench_image.json")["results"]
    groups = []
    for task in TASKS:
        rows = [(lib, found[lib][f"{task} ms"]) for lib in LIBRARIES if lib in found]
        groups.append((f"{({'log_prob': 'log-density'}).get(task, task)}, ms a batch", compared(rows)))
    for lr in found["ours"]["bits_per_dim"]:
        rows = [(lib, statistics.fmean(found[lib]["bits_per_dim"][lr])) for lib in LIBRARIES if lib in found]
        groups.append((f"bits per dimension, learning rate {lr}", compared(rows)))
    return Html(bars(groups, "Glow: times and bits per dimension; shorter is better. Each group has its own scale"))


def goals(book):
    """How many of the goals are reached, and which are not."""
    lines = (book.results / "bench_goals.md").read_text("utf8").splitlines()[2:]
    rows = [line.strip("| ").split(" | ") for line in lines]
    missed = [f"{row[0]} (measured: {row[1]})" for row in rows if row[2] != "yes"]
    head = f"Reached: {len(rows) - len(missed)} of {len(rows)}."
    return head + (" Missed:\n\n" + "\n".join(f"- {text}" for text in missed) if missed else "") + "\n"


MAKERS = {
    "goals": goals,
    "chart quality": chart_quality,
    "chart depth": chart_depth,
    "chart precision": chart_precision(""),
    "chart precision inverse first": chart_precision("inverse_first_"),
    "chart image": chart_image,
}
for _kind, _file, _keys in (
    ("couplings", "bench_coupling.json", ()),
    ("autoregressive flows", "bench_autoregressive.json", ()),
    ("spline couplings", "bench_spline.json", ("time",)),
):
    _title = f"Times of {_kind} over the time of their bare networks; shorter is faster. "
    _title += "Each group has its own scale; the dashed line is at 1"
    _slug = _file.removeprefix("bench_").removesuffix(".json")
    MAKERS[f"chart {_slug} 64"] = chart(_file, _keys, (64,), _title)
    MAKERS[f"chart {_slug} small"] = chart(_file, _keys, (2, 16), _title)
