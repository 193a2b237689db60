"""The leaderboard: rows from stored results and from what chapters have printed, and the yardsticks beside them."""

import math
import re
import statistics

from nf_book import ResultError, link, table

#: what a row must have, and of which type; a value that was not stored is null
SCHEMA = {
    "data": str,
    "model": str,
    "kind": str,
    "bits_per_dim": list,
    "seeds": list,
    "parameters": int,
    "steps": int,
    "seconds": (int, float, type(None)),
    "where": str,
}
DATA = {"digits": "Digits, 8 × 8, 17 levels", "fashion-mnist": "Fashion-MNIST, 28 × 28", "mnist": "MNIST, 28 × 28"}


def check_row(row, where):
    """Say what is wrong with a row of the leaderboard, in the words of its writer."""

    def wrong(text):
        raise ResultError(f"{where}: {text}")

    if not isinstance(row, dict):
        wrong(f"expected an object with the keys {', '.join(SCHEMA)}, found {row!r}")
    for key, kind in SCHEMA.items():
        if key not in row:
            wrong(f'"{key}" is missing')
        if not isinstance(row[key], kind) or isinstance(row[key], bool):
            wrong(f'"{key}" has the wrong type: {row[key]!r}')
    extra = set(row) - set(SCHEMA) - {"note"}
    if extra:
        wrong(f"unknown keys {sorted(extra)}; known are {', '.join(SCHEMA)} and note")
    if row["data"] not in DATA:
        wrong(f'"data" must be one of {", ".join(DATA)}, found "{row["data"]}"')
    if row["kind"] not in ("exact", "bound"):
        wrong(f'"kind" must be "exact" or "bound", found "{row["kind"]}"')
    bits = row["bits_per_dim"]
    if not bits or not all(isinstance(b, (int, float)) and math.isfinite(b) and 0 < b < 16 for b in bits):
        wrong(f'"bits_per_dim" must be a list of numbers between 0 and 16, one for each seed, found {bits}')
    if len(bits) != len(row["seeds"]):
        wrong(f"{len(bits)} scores for {len(row['seeds'])} seeds")
    return row


def rows_of_image_flow(name, stored):
    o = stored["options"]
    yield {
        "data": {"fashion": "fashion-mnist"}.get(o["data"], o["data"]),
        "model": f"Glow, {o['levels']} scales of {o['depth']} steps, width {o['width']}, {o['dequantization']} noise",
        "kind": "bound",
        "bits_per_dim": [statistics.fmean(stored["test"])],
        "seeds": [stored["seed"]],
        "parameters": stored["parameters"],
        "steps": stored["budget"]["steps"],
        "seconds": stored["seconds"]["training"],
        "where": name,
    }


def rows_of_comparison(name, stored):
    budget = stored["budget"].get("digits")
    for row in stored["rows"]:
        if row["data"] == "digits":
            yield {
                "data": "digits",
                "model": f"{row['flow']}, {row['depth']} layers",
                "kind": "bound",
                "bits_per_dim": [v / (budget["dim"] * math.log(2)) for v in row["nll"]],
                "seeds": stored["seeds"],
                "parameters": row["weights"],
                "steps": budget["steps"],
                "seconds": statistics.fmean(row["seconds"]),
                "where": name,
            }


def rows_of_quality(name, stored):
    for key, row in stored["results"].items():
        dataset, flow = key.split(", ")
        if dataset == "digits":
            yield {
                "data": "digits",
                "model": f"{flow}, as in the comparison of libraries",
                "kind": "bound",
                "bits_per_dim": [v / (64 * math.log(2)) for v in row["ours"]["nll"]],
                "seeds": stored["settings"]["seeds"],
                "parameters": row["ours"]["parameters"],
                "steps": row["steps"],
                "seconds": None,
                "where": name,
            }


def rows_of_bench_image(name, stored):
    s, row = stored["settings"], stored["results"]["ours"]
    for lr, bits in row["bits_per_dim"].items():
        yield {
            "data": "fashion-mnist",
            "model": f"Glow, {s['levels']} scales of {s['depth']} steps, width {s['widths']['ours']}, "
            f"learning rate {lr}",
            "kind": "bound",
            "bits_per_dim": bits,
            "seeds": s["seeds"],
            "parameters": row["parameters"],
            "steps": s["steps"],
            "seconds": None,
            "where": name,
            "note": "the 10,000 shipped training images, 2,000 test images",
        }


#: results from before the leaderboard had a form of its own: how to read them
READERS = {
    "image_flow-*.json": rows_of_image_flow,
    "autoregressive_comparison.json": rows_of_comparison,
    "bench_quality.json": rows_of_quality,
    "bench_image.json": rows_of_bench_image,
}


def leaderboard_rows(book):
    """Every row of the leaderboard: from the key "leaderboard" of any stored result, and from the older results."""
    rows = []
    for path in sorted(book.results.glob("*.json")):
        stored = book.result(path.name)
        found = []
        if isinstance(stored, dict) and "leaderboard" in stored:
            found = stored["leaderboard"]
            if not isinstance(found, list):
                raise ResultError(f'{path.name}: "leaderboard" must be a list of rows')
        else:
            for pattern, read in READERS.items():
                if path.match(pattern):
                    found = read(path.name, stored)
        rows += [check_row(row, f"{path.name}, row {k}") for k, row in enumerate(found, 1)]
    return rows


def bits_text(row):
    values = row["bits_per_dim"]
    mean = f"{statistics.fmean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.3f}"


def leaderboard(dataset):
    """The maker of the table of one data set, the best score first."""

    def made(book):
        rows = [r for r in leaderboard_rows(book) if r["data"] == dataset]
        cells, sources = [], []
        for r in sorted(rows, key=lambda r: statistics.fmean(r["bits_per_dim"])):
            seconds = "?" if r["seconds"] is None else f"{r['seconds']:,.0f}"
            note = f" ({r['note']})" if r.get("note") else ""
            if r["where"] not in sources:
                sources.append(r["where"])
            source = "abcdefghijklmnopqrstuvwxyz"[sources.index(r["where"])]
            counts = [f"{r['parameters']:,}", f"{r['steps']:,}", seconds, str(len(r["seeds"]))]
            cells.append([f"{r['model']}{note} ({source})", bits_text(r), r["kind"], *counts])
        if not cells:
            return "No result yet.\n"
        head = ["model", "bits", "kind", "parameters", "steps", "seconds", "seeds"]
        names = ", ".join(
            f"({letter}) `{name}`" for letter, name in zip("abcdefghijklmnopqrstuvwxyz", sources, strict=False)
        )
        return f"{table(head, cells, 'lrlrrrr')}\nFrom {names}.\n"

    return made


#: how a printed line of a chapter says a score, where book/leaderboard.yml does not say another form
FORM = r"{name} +{score}(?: ± {spread})?(?= |$)"


def chapter_rows(book):
    """The rows that chapters have printed: data, model, bits as text, kind, seeds, chapter."""
    rows = []
    for group in book.runs:
        text = book.printed(group["chapter"], group["cell"])
        for name, model in group["lines"].items():
            form = group.get("form", FORM).replace("{score}", r"(\d+\.\d+)").replace("{spread}", r"(\d+\.\d+)")
            found = re.findall("^ *" + form.replace("{name}", re.escape(name)), text, re.M)
            if len(found) != 1:
                where = f"book/leaderboard.yml, Chapter {group['chapter']}, cell {group['cell']}"
                raise ResultError(f'{where}: {len(found)} printed lines for "{name}", expected one')
            score, spread = found[0] if isinstance(found[0], tuple) else (found[0], "")
            bits = f"{score} ± {spread}" if spread else score
            rows.append({**group, "model": model, "bits": bits})
    return rows


def leaderboard_chapters(dataset):
    """The maker of the table of the chapters' own runs on one data set, the best score first."""

    def made(book):
        rows = [r for r in chapter_rows(book) if r["data"] == dataset]
        rows.sort(key=lambda r: float(r["bits"].split()[0]))
        cells = [[r["model"], r["bits"], r["kind"], str(r["seeds"]), link(book, r["chapter"])] for r in rows]
        return table(["model", "bits", "kind", "seeds", "where"], cells, "lrlrl")

    return made


def yardsticks(dataset):
    """What general compressors need for the same pictures."""

    def made(book):
        stored = book.result("yardsticks.json")
        found = stored["data"][dataset]
        rows = [(bits, name, "our script") for name, bits in found["measured"].items()]
        rows += [(bits, name, "its own program, once") for name, bits in found["elsewhere"].items()]
        cells = [[name, f"{bits:.2f}", "exact", source] for bits, name, source in sorted(rows)]
        text = table(["compressor", "bits per dimension", "kind", "measured by"], cells, "lrll")
        return f"{text}\nImages: {found['what']}, unless a row says otherwise. The script is `{stored['command']}`.\n"

    return made


MAKERS = {
    "leaderboard digits": leaderboard("digits"),
    "leaderboard fashion": leaderboard("fashion-mnist"),
    "leaderboard chapters digits": leaderboard_chapters("digits"),
    "leaderboard chapters fashion": leaderboard_chapters("fashion-mnist"),
    "yardsticks digits": yardsticks("digits"),
    "yardsticks fashion": yardsticks("fashion-mnist"),
}
