"""The benchmarks run, their stored figures are complete, and the page of the book shows these figures and no others.

The scripts run here in their smoke mode, with tiny sizes: that they run is tested, not what they measure.
"""

import importlib
import importlib.util
import json
import math
import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "tests" / "benchmarks"
RESULTS = ROOT / "book" / "results"
PAGE = ROOT / "book" / "benchmarks.md"
PEERS = ("zuko", "nflows", "normflows")
NAMES = ("coupling", "autoregressive", "spline", "depth", "quality", "image")
#: what a benchmark times or names only where it is installed, or can be compiled
OPTIONAL = ("FrEIA", "flowjax", "jax", "ours_compiled", "bare_compiled")

missing = [name for name in PEERS if importlib.util.find_spec(name) is None]
needs_peers = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def page():
    """The script that makes the tables."""
    spec = importlib.util.spec_from_file_location("bench_page", ROOT / "scripts" / "bench_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(value):
    """All numbers in a nested structure."""
    if isinstance(value, dict):
        return [leaf for v in value.values() for leaf in leaves(v)]
    if isinstance(value, list):
        return [leaf for v in value for leaf in leaves(v)]
    return [value] if isinstance(value, int | float) else []


def shape(value):
    """The keys of a nested structure, without the lengths of lists and what is optional."""
    if not isinstance(value, dict):
        return None
    return {k: shape(v) for k, v in value.items() if k not in (*OPTIONAL, "skipped")}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """What each script writes in smoke mode."""
    folder = tmp_path_factory.mktemp("bench")
    files = {}

    def run(name):
        if name not in files:
            module = importlib.import_module(name)
            module.main(["--smoke", "--rounds", "1", "--json", str(folder / f"{name}.json")])
            files[name] = json.loads((folder / f"{name}.json").read_text())
        return files[name]

    before = sys.path.copy()
    sys.path.insert(0, str(SCRIPTS))
    yield run
    sys.path[:] = before


@needs_peers
@pytest.mark.parametrize("name", NAMES)
def test_script_runs_and_stored_file_has_the_same_fields(name, smoke):
    new, stored = smoke(name), json.loads((RESULTS / f"bench_{name}.json").read_text("utf8"))
    assert new["settings"]["smoke"] and not stored["settings"]["smoke"]
    assert shape(stored) == shape(new)
    assert all(math.isfinite(v) for v in leaves(stored["results"]) if name not in ("depth", "quality"))


@pytest.fixture(scope="module")
def common(smoke):
    """What the benchmarks share; its rivals."""
    return importlib.import_module("common")


@needs_peers
def test_rivals_that_are_not_installed_are_skipped_with_the_reason(common, monkeypatch):
    monkeypatch.setattr(common.importlib.util, "find_spec", lambda name: None)
    for kind in ("affine", "spline", "MAF"):
        names, skipped = common.contestants(kind)
        assert tuple(names) == common.LIBRARIES
        assert set(skipped) == set(common.OPTIONAL) and all(skipped.values())


@needs_peers
def test_freia_has_the_same_layers(common):
    """With our weights and our clamp its map from base to data is ours from data to base, the halves exchanged."""
    pytest.importorskip("FrEIA", reason="not installed: requirements-bench.txt")
    ours, theirs = (common.coupling(name, "affine", 6, 4, (8,)) for name in ("ours", "FrEIA"))
    for k, block in enumerate(theirs.model):
        block.clamp, block.f_clamp = 5.0, lambda r: r / (5.0 + r.abs())
        for net, layer in ((block.subnet1, 2 * k + 1), (block.subnet2, 2 * k)):
            weights = ours.model.bijection[layer].conditioner
            torch.nn.init.normal_(weights[-1].weight)
            net.load_state_dict(weights.state_dict())
            for p in net[-1].parameters():
                p.data = p.data.roll(3, 0)  # it has the scale first, we the shift
    x = torch.randn(20, 6)
    with torch.no_grad():
        z, log_det = ours.model.bijection.inverse(x)
        their_z, their_log_det = theirs.model(x.roll(3, 1), rev=True)
    assert torch.allclose(their_z.roll(3, 1), z, atol=1e-4) and torch.allclose(their_log_det, log_det, atol=1e-4)


@needs_peers
@pytest.mark.parametrize("kind, per_coordinate", [("affine", 2), ("spline", 25), ("MAF", 2)])
def test_flowjax_has_networks_of_the_same_size(common, kind, per_coordinate):
    pytest.importorskip("flowjax", reason="not installed: requirements-bench.txt")
    import equinox
    import jax

    if kind == "MAF":
        rival, inputs, outputs = common.autoregressive("flowjax", 4, 2, (8, 8)), 4, 4 * per_coordinate
    else:
        rival, inputs, outputs = common.coupling("flowjax", kind, 4, 2, (8, 8)), 2, 2 * per_coordinate
    sizes = [inputs, 8, 8, outputs]
    expected = 2 * sum((a + 1) * b for a, b in zip(sizes[:-1], sizes[1:], strict=True))
    for flow in rival.flows:
        leaves = jax.tree.leaves(equinox.filter(flow, equinox.is_inexact_array))
        assert sum(leaf.size for leaf in leaves) == expected


def test_regress_judges_by_the_interval(smoke):
    """One cell, timed against itself by workers that pretend: as fast, then a tenth slower."""
    regress = importlib.import_module("regress")
    args = regress.argparse.Namespace(seconds=1.0, blocks=2, rounds=(2, 4), width=0.02, limit=1.03)

    class Pretend:
        def __init__(self, cost):
            self.cost = cost

        def say(self, message):
            pass

        def block(self, times):
            return times * self.cost

    noise = [0.999, 1.0, 1.001]
    for slower, holds in ((1.0, True), (1.1, False)):
        row = regress.compare([(Pretend(1.0), Pretend(slower * n)) for n in noise], "MAF D=2 sample", args)
        assert row["low"] < slower < row["high"] and row["holds"] is holds and row["rounds"] == 2


@pytest.mark.parametrize("name", NAMES)
def test_stored_file_tells_how_it_was_measured(name):
    stored = json.loads((RESULTS / f"bench_{name}.json").read_text("utf8"))
    assert stored["benchmark"] == name and stored["seconds"] > 0
    assert {"cpu", "cores", "threads", "system", "date", "versions"} <= set(stored["machine"])
    assert {"python", "torch", *PEERS} <= set(stored["machine"]["versions"])
    assert stored["settings"]["seeds"]


def test_tables_are_those_of_the_stored_figures(page):
    for name, text in page.pages(page.load()).items():
        assert (RESULTS / name).read_text("utf8") == text, f"{name} is old: run scripts/bench_page.py"


def test_page_shows_every_table(page):
    text = PAGE.read_text("utf8")
    assert set(re.findall(r"\{include\} results/(\S+)", text)) == set(page.pages(page.load()))


def test_quality_is_compared_at_equal_size():
    results = json.loads((RESULTS / "bench_quality.json").read_text("utf8"))["results"]
    for row in results.values():
        assert len({row[name]["parameters"] for name in ("ours", *PEERS)}) == 1
        assert {len(row[name]["nll"]) for name in ("ours", *PEERS)} == {5}


def test_goals_are_judged_from_the_figures(page):
    """Make one figure after the other bad: its goal, and no other, is missed."""
    reached = judged(page, page.load())
    spoil = {
        "log-density at most 1.45": ("autoregressive", ["D=2 log_prob", "ours"], 1.46),
        "sampling": ("autoregressive", ["D=64 sample", "ours"], 1e6),
        "faster than every eager peer's": ("spline", ["time", "D=16 training step", "ours"], 1e6),
        "compiled": ("spline", ["time", "D=16 training step", "ours_compiled"], 2.21),
        "data to base and back": ("spline", ["precision", "ours 20", "worst_over_floor"], 4.1),
        "slopes are bounded": ("spline", ["precision", "ours 5", "worst_bounded"], 2e-3),
        "never NaN": ("spline", ["precision", "ours 5", "nan"], 1),
        "gradients": ("spline", ["precision", "ours 5", "bad_gradients"], 1),
        "affine layers": ("depth", ["lr=0.01", "ours", "last_step"], 3),
        "moons, MAF": ("quality", ["moons, MAF", "ours", "mean"], 1e6),
        "bits per dimension": ("image", ["ours", "bits_per_dim"], {"0.001": [99.0]}),
        "Glow: training step": ("image", ["ours", "training step ms"], 1e6),
    }
    for words, (name, keys, value) in spoil.items():
        files = page.load()
        place = files[name]["results"]
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        now = judged(page, files)
        changed = [goal for goal in now if now[goal] != reached[goal]]
        assert [goal for goal in now if words in goal and not now[goal]], words
        assert all(words in goal for goal in changed), changed


def judged(page, files):
    """Goal -> reached."""
    rows = [line.strip("| ").split(" | ") for line in page.goals(files).splitlines()[2:]]
    return {row[0]: row[-1] == "yes" for row in rows}
