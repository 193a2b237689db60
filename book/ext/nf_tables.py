"""Tables and numbers of the pages start, status, instructors and which_flow: functions of a `Book`."""

import math
import statistics

from nf_book import TASKS, duration, link, minutes, short, table
from nf_leaderboard import leaderboard_rows


def map_of_chapters(book):
    """Each part with its chapters: the question of those that are written, and the times."""
    rows = []
    for number, row in book.chapters.items():
        if row["file"]:
            seconds = book.status.get(row["file"].stem, {}).get("seconds")
            run = f"{seconds:.0f} s" if seconds is not None else ""
            rows.append([link(book, number, title=True), row["question"], duration(minutes(book, number)[0]), run])
        else:
            about = row.get("topic") or row["question"]
            rows.append([link(book, number, title=True), f"*{about}*", "", ""])
    text = table(["chapter", "its question", "reading", "run"], rows, "llrr")
    return text + f"\nPart VI, further *(to come)*: {' · '.join(book.walk['further'])}.\n"


def path_chapters(book, path):
    """The numbers of the chapters of one path, in the order of the walk."""
    wanted = list(book.chapters) if path["chapters"] == "all" else list(path["chapters"])
    newest = max(book.written, key=list(book.chapters).index)
    wanted = [newest if number == "newest" else number for number in wanted]
    return [number for number in book.chapters if number in wanted]


def paths(book):
    """The paths through the course, and how long what is written of each takes."""
    rows = []
    for path in book.walk["paths"]:
        numbers = path_chapters(book, path)
        done = [n for n in numbers if n in book.written]
        reading = sum(minutes(book, n)[0] for n in done)
        names = [link(book, n).replace("Chapter ", "") if n in done else f"*{short(n)}*" for n in numbers]
        rows.append([f"**{path['name']}**", path["for"], " · ".join(names), duration(reading)])
    return table(["path", "for whom", "chapters (those to come in italics)", "reading, as written"], rows, "lllr")


def status(book):
    """What each written chapter takes: run time, memory, reading."""
    rows = []
    for number, row in book.written.items():
        found = book.status.get(row["file"].stem)
        times = [f"{found['seconds']:.0f} s", f"{found['memory_gb']:.1f} GB"] if found else ["not run yet", ""]
        rows.append([link(book, number, title=True), *times, *map(duration, minutes(book, number))])
    head = ["chapter", "run time", "peak memory", "main line", "exercises"]
    return table(head, rows, "lrrrr")


def instructors(book):
    """What each written chapter offers for class, with its times."""
    rows = []
    for number, row in book.written.items():
        found = book.status.get(row["file"].stem)
        run = f"{found['seconds']:.0f} s" if found else ""
        times = map(duration, minutes(book, number))
        rows.append([link(book, number, title=True), row["class"], str(book.predictions(number)), *times, run])
    head = ["chapter", "a task that works in class", "predictions", "main line", "exercises", "run"]
    return table(head, rows, "llrrrr")


def written_so_far(book):
    """The written chapters in a sentence."""
    names = [short(n) for n in book.written]
    return f"Written so far: Chapters {', '.join(names[:-1])} and {names[-1]}, of {len(book.chapters)}."


def total_run(book):
    """Minutes that all written chapters take together, as text."""
    return f"{sum(book.status.get(r['file'].stem, {}).get('seconds', 0) for r in book.written.values()) / 60:.1f}"


def longest_run(book):
    """The longest run time of a chapter, in whole seconds."""
    stems = [row["file"].stem for row in book.written.values()]
    return f"{max(book.status[stem]['seconds'] for stem in stems if stem in book.status):.0f}"


# ---------------------------------------------------------------- which flow

#: name on the page -> file of its times, path inside it, flow of the comparison at equal weights
KINDS = {
    "affine coupling": ("bench_coupling.json", (), "affine coupling"),
    "spline coupling": ("bench_spline.json", ("time",), "spline coupling"),
    "affine MAF": ("bench_autoregressive.json", (), "affine autoregressive"),
    "spline MAF": (None, (), "spline autoregressive"),
}
DIMS = (2, 16, 64)


def cost(book, kind, task, dim):
    """Milliseconds for a batch, of this package's flow, eager: the bare networks' time times the stored ratio."""
    name, keys, _ = KINDS[kind]
    found = book.result(name)["results"]
    for key in keys:
        found = found[key]
    row = found[f"D={dim} {task}"]
    return row["bare_ms"] * row["ours"]


def score(book, flow, dataset):
    """Mean and standard error over seeds: nats above the floor, or bits per dimension where the floor is unknown."""
    stored = book.result("autoregressive_comparison.json")
    row = next(r for r in stored["rows"] if r["data"] == dataset and r["flow"] == flow)
    floor, dim = stored["floor"][dataset], stored["budget"][dataset]["dim"]
    values = [v - floor if floor is not None else v / (dim * math.log(2)) for v in row["nll"]]
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values)), row["weights"]


def which_flow(book):
    """Costs and scores of each kind of flow, one row a kind."""
    rows = []
    for kind, (file, _, flow) in KINDS.items():
        if file:
            cells = [" · ".join(f"{cost(book, kind, task, d):.1f}" for d in DIMS) for task in TASKS]
        else:
            cells = ["not timed"] * 3
        pinwheel, digits = (score(book, flow, name) for name in ("pinwheel", "digits"))
        cells += [f"{pinwheel[0]:.3f} ± {pinwheel[1]:.3f}", f"{digits[0]:.3f} ± {digits[1]:.3f}"]
        rows.append([kind, *cells])
    head = ["flow", "log-density, ms", "sample, ms", "training, ms", "pinwheel, nats", "digits, bits"]
    return table(head, rows, "lrrrrr")


def which_flow_settings(book):
    """What the table was measured with, in one paragraph."""
    coupling, maf = book.result("bench_coupling.json"), book.result("bench_autoregressive.json")
    spline, pair = book.result("bench_spline.json"), book.result("autoregressive_comparison.json")
    weights = {name: [r["weights"] for r in pair["rows"] if r["data"] == name] for name in ("pinwheel", "digits")}
    size = {name: f"{min(w):,} to {max(w):,}" for name, w in weights.items()}
    c, m, s = coupling["settings"], maf["settings"], spline["settings"]
    return (
        f"**Times**: milliseconds for {c['batch']} points at $D =$ {' · '.join(f'${d}$' for d in c['dims'])}, "
        f"one thread, eager; {c['layers']} couplings, {s['layers']} spline couplings of {s['bins']} bins, "
        f"{m['layers']} autoregressive layers, all with networks of {' and '.join(map(str, c['hidden']))} "
        f"hidden units. "
        f"They do not have equal numbers of layers or of weights. **Scores**: mean ± standard error over "
        f"{len(pair['seeds'])} seeds; depth and learning rate of each flow chosen on validation data; "
        f"{size['pinwheel']} open weights and {pair['budget']['pinwheel']['steps']:,} steps on the pinwheel, "
        f"{size['digits']} and {pair['budget']['digits']['steps']:,} on the digits. Lower is better. "
        f"The pinwheel's score is exact, the digits' is a bound against counting measure.\n"
    )


def ratio_of(over, under, task, dim):
    return lambda book: f"{cost(book, over, task, dim) / cost(book, under, task, dim):.1f}"


def paired(worse, better, unit):
    """Mean of the paired differences, with its standard error."""
    differences = [(a - b) / unit for a, b in zip(worse, better, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{statistics.fmean(differences):.3f} ± {error:.3f}".replace("-", "\N{MINUS SIGN}")


def compared_scores(book, dataset):
    """Scores of each flow in nats, by seed; the unit in which the page states them; the floor."""
    stored = book.result("autoregressive_comparison.json")
    floor = stored["floor"][dataset]
    unit = 1 if floor is not None else stored["budget"][dataset]["dim"] * math.log(2)
    return {r["flow"]: r["nll"] for r in stored["rows"] if r["data"] == dataset}, unit, floor


def gain(dataset, worse, better):
    """How much lower the better flow's score is, with the standard error of the paired difference."""

    def made(book):
        rows, unit, _ = compared_scores(book, dataset)
        return paired(rows[worse], rows[better], unit)

    return made


def median_gain(book):
    """The median over seeds of what splines gain on the pinwheel: one stuck run does not move it."""
    rows, _, _ = compared_scores(book, "pinwheel")
    pairs = zip(rows["affine coupling"], rows["spline coupling"], strict=True)
    return f"{statistics.median(a - b for a, b in pairs):.2f}"


def first_seed(flow):
    """The maker of one flow's distance from the floor on the pinwheel, with the first seed."""

    def made(book):
        rows, _, floor = compared_scores(book, "pinwheel")
        return f"{rows[flow][0] - floor:.3f}"

    return made


def quality_gain(book):
    """How much affine couplings lead over affine autoregressive flows on the digits where libraries are compared."""
    rows = book.result("bench_quality.json")["results"]
    return paired(*(rows[f"digits, {flow}"]["ours"]["nll"] for flow in ("MAF", "affine coupling")), 64 * math.log(2))


def noise_bits(noise):
    """The maker of the score of the two-epoch image flow with one kind of noise."""
    return lambda book: f"{statistics.fmean(book.result(f'image_flow-{noise}-2-epochs.json')['test']):.3f}"


def precision(keys, form, settings=(5, 20)):
    """The maker of the worst of some figures of our splines, over the settings."""

    def made(book):
        found = book.result("bench_spline.json")["results"]["precision"]
        return form(max(found[f"ours {std}"][key] for std in settings for key in keys))

    return made


def precision_points(book):
    settings = book.result("bench_spline.json")["settings"]
    return f"{settings['points'] * len(settings['seeds']):,}"


def power(value):
    """A small number as text: 7.4·10⁻⁵."""
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}·10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def glow_bits(book):
    """The best stored bits per dimension of the image flow on Fashion-MNIST."""
    return f"{min(r['bits_per_dim'][0] for r in leaderboard_rows(book) if r['data'] == 'fashion-mnist'):.2f}"


def glow_parameters(book):
    rows = [r for r in leaderboard_rows(book) if r["data"] == "fashion-mnist"]
    return f"{min(rows, key=lambda r: r['bits_per_dim'][0])['parameters']:,}"


def glow_step(book):
    stored = book.result("bench_image.json")
    return f"{stored['results']['ours']['training step ms']:.0f}"


MAKERS = {
    "map": map_of_chapters,
    "paths": paths,
    "status": status,
    "instructors": instructors,
    "written": written_so_far,
    "total run": total_run,
    "longest run": longest_run,
    "which flow": which_flow,
    "which flow settings": which_flow_settings,
    "maf sample 64": ratio_of("affine MAF", "affine coupling", "sample", 64),
    "maf sample 2": ratio_of("affine MAF", "affine coupling", "sample", 2),
    "spline training 64": ratio_of("spline coupling", "affine coupling", "training step", 64),
    "spline training 2": ratio_of("spline coupling", "affine coupling", "training step", 2),
    "gain splines pinwheel": gain("pinwheel", "affine coupling", "spline coupling"),
    "gain splines digits": gain("digits", "affine coupling", "spline coupling"),
    "gain maf digits": gain("digits", "affine coupling", "affine autoregressive"),
    "gain coupling digits": quality_gain,
    "quality steps": lambda book: str(book.result("bench_quality.json")["results"]["digits, MAF"]["steps"]),
    "median splines pinwheel": median_gain,
    "pinwheel steps": lambda book: f"{book.result('autoregressive_comparison.json')['budget']['pinwheel']['steps']:,}",
    "affine pinwheel seed 0": first_seed("affine coupling"),
    "spline pinwheel seed 0": first_seed("spline coupling"),
    "uniform noise": noise_bits("uniform"),
    "learned noise": noise_bits("variational"),
    "precision points": precision_points,
    "precision ratio": precision(("worst_over_floor", "inverse_first_worst_over_floor"), "{:.1f}".format),
    "precision bounded": precision(("worst_bounded", "inverse_first_worst_bounded"), power),
    "precision worst 5": precision(("worst",), "{:.2f}".format, (5,)),
    "precision worst 20": precision(("worst",), "{:.2f}".format, (20,)),
    "glow bits": glow_bits,
    "glow parameters": glow_parameters,
    "glow step": glow_step,
}
