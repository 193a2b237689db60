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

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "tests" / "benchmarks"
RESULTS = ROOT / "book" / "results"
PAGE = ROOT / "book" / "benchmarks.md"
PEERS = ("zuko", "nflows", "normflows")
NAMES = ("coupling", "autoregressive", "spline", "depth", "quality", "image")

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
    """The keys of a nested structure, without the lengths of lists."""
    return {k: shape(v) for k, v in value.items()} if isinstance(value, dict) else None


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
    ours, theirs = shape(stored), shape(new)
    for file in (ours, theirs):
        for key in list(file["results"].get("time", {})):
            file["results"]["time"][key] = None  # compiled or not: that depends on the machine
    assert ours == theirs
    assert all(math.isfinite(v) for v in leaves(stored["results"]) if name not in ("depth", "quality"))


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
        "faster than that of all three": ("spline", ["time", "D=16 training step", "ours"], 1e6),
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
