"""Checks can fail: each mutant of each chapter is killed, and scripts/mutants.py tells a killed one from all others.

The script runs in processes of its own, because it forks.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "mutants.py"
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def load_script():
    spec = importlib.util.spec_from_file_location("mutants", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mutants = load_script()


def run(*arguments, folder):
    """Run the script with a file of its own; return what it printed, its exit status, and the file."""
    file = folder / "mutants.json"
    command = [sys.executable, str(SCRIPT), *map(str, arguments), "--json", str(file)]
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert file.is_file(), done.stderr
    return done.stdout, done.returncode, json.loads(file.read_text("utf8"))


# The chapters.


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A function from a chapter to the entries of a run, made once."""
    runs = {}

    def entries(path):
        if path not in runs:
            runs[path] = run(path, folder=tmp_path_factory.mktemp("mutants"))[2][path.stem]
        return runs[path]

    return entries


def verdicts(entries):
    return {theorem: [(m["belief"], m["verdict"]) for m in entry["mutants"]] for theorem, entry in entries.items()}


with_mutants = pytest.mark.parametrize("path", [p for p in CHAPTERS if mutants.plan(p)], ids=lambda p: p.stem)


@needs_fork
@with_mutants
def test_every_mutant_is_killed(path, live):
    assert not mutants.alive([path], {path.stem: live(path)}), mutants.report(path.stem, live(path))


@needs_fork
@with_mutants
def test_stored_verdicts_are_those_of_a_run(path, live):
    stored = mutants.load().get(path.stem, {})
    assert verdicts(stored) == verdicts(live(path)), "run `make mutants`"


def test_stored_file_is_fresh():
    assert not mutants.stale(), "run `make mutants`"
    assert mutants.load().keys() <= {p.stem for p in CHAPTERS}, "run `make mutants`"


def test_second_edition_has_mutants_for_every_theorem():
    assert set(mutants.SECOND_EDITION) <= {p.stem for p in CHAPTERS}
    assert not mutants.gaps(CHAPTERS)


# The script, on a small chapter. Its package is a module with every kind of function.
MODULE = '''
import functools


def logged(f):
    @functools.wraps(f)
    def g(*args):
        return f(*args)
    return g


def double(x):
    return 2 * x


class Base:
    def __init__(self, side):
        self.side = side


class Square(Base):
    def __init__(self, side):
        """A square."""
        super().__init__(side)
        self.__corners = 4

    @property
    def area(self):
        return self.side**2

    @staticmethod
    def corners():
        return 4

    @logged
    def outline(self):
        return self.__corners * self.side
'''

SETUP = """
import os
import numpy as np
import torch
from made_up import Square, double  # before any mutant
from nfcourse import check

rng, seen = np.random.default_rng(0), []
torch.manual_seed(0)
state = torch.get_rng_state()
first = np.random.default_rng(0).random(), torch.rand(()).item()
torch.set_rng_state(state)


def half(x):
    return x / 2


def claim(x):
    check.close("x", x, 1.0, tol=0.1)
"""

ONE = 'x = 1.0\ncheck.close("x", x, 1.0, tol=0.1)'
SQUARE = 's = Square(3)\ncheck.close("it", {}, {}, tol=0)'
UNTOUCHED = """
seen.append(1)
draws = rng.random(), torch.rand(()).item()
check.close("draws", draws, first, tol=0)
check.close("times that this cell ran", len(seen), 1, tol=0)
x, unused = double(0.5), 0
check.close("x", x, 1.0, tol=0.1)
"""
LAST = """
check.close("x of an earlier cell", x, 1.0, tol=0.1)
check.close("torch's seed", torch.initial_seed(), 0, tol=0)
check.close("numpy's seed", np.random.get_state()[1][0], np.random.RandomState(0).get_state()[1][0], tol=0)
y = 1
"""


def changed(old, new, where=None):
    return {"belief": f"{old} is {new}", "old": old, "new": new} | ({"in": where} if where else {})


# name -> the check cell, its mutants with their verdicts and what the entry says
CASES = {
    "formula": (ONE, [(changed("x = 1.0", "x = 2.0"), "killed", "measured 2")]),
    "in-several-lines": (
        'x = 1.0\ncheck.holds(\n    "é",\n    check.close(\n        "x", x, 1.0, tol=0.1\n    ) == 1,\n)',
        [(changed("x = 1.0", "x = 2.0"), "killed", "measured 2")],
    ),
    "survivor": ("unused = 0\n" + ONE, [(changed("unused = 0", "unused = 1"), "survived", None)]),
    "too-close": (
        ONE,
        [
            (changed("x = 1.0", "x = 1.29"), "too close", "measured 1.29"),
            (changed("x = 1.0", "x = 1.31"), "killed", "measured 1.31"),
        ],
    ),
    "crash": (ONE, [(changed("x = 1.0", "x = 1 / 0"), "fault", "ZeroDivisionError")]),
    "no-python": (ONE, [(changed("x = 1.0", "x = = 1"), "fault", "SyntaxError")]),
    "other-assertion": (
        "x = 1.0\nassert x == 1\n" + 'check.close("x", x, 1.0, tol=0.1)',
        [(changed("x = 1.0", "x = 2.0"), "fault", "AssertionError")],
    ),
    "check-call": (
        ONE,
        [
            (changed("x, 1.0", "x, 2.0"), "fault", "the check call itself"),
            (changed("tol=0.1", "tol=-1"), "fault", "the check call itself"),
        ],
    ),
    "helper-call": (
        "m = check.randomize(torch.nn.Linear(1, 1), scale=0.0)\n"
        'check.close("parameters", sum(p.numel() for p in m.parameters()), 2, tol=0)',
        [(changed("Linear(1, 1)", "Linear(2, 1)"), "killed", "measured 3")],
    ),
    "check-left-out": (
        'x = 1.0\nif x == 1:\n    check.close("x", x, 1.0, tol=0.1)',
        [(changed('check.close("x", x, 1.0, tol=0.1)', "pass"), "fault", "the check call itself")],
    ),
    "check-elsewhere": (
        "x = 1.0\nclaim(x)",
        [(changed("x = 1.0", "x = 2.0"), "fault", "not from a check call of this cell")],
    ),
    "the-checks": (ONE, [(changed("tol", "-tol", "nfcourse.check:close"), "fault", "what judges")]),
    "not-once": (
        "y = x = 1.0\n" + ONE,
        [
            (changed("x = 1.0", "x = 2.0"), "fault", "2 times"),
            (changed("absent", ""), "fault", "0 times"),
            (changed("absent", "", "made_up:double"), "fault", "0 times"),
        ],
    ),
    "fails-as-it-is": ("x = 2.0\n" + ONE[8:], [(changed("2.0", "1.0"), "fault", "fails as it is: ")]),
    "endless": (ONE, [(changed("x = 1.0", "while True: pass"), "fault", "no result after 4 s")]),
    "dies": (ONE, [(changed("x = 1.0", "os._exit(0)"), "fault", "died")]),
    "leaves-nothing": (
        UNTOUCHED,
        [
            (changed("2 * x", "3 * x", "made_up:double"), "killed", "x: measured 1.5"),
            (changed("unused = double(0.5), 0", "unused = double(0.5), 1"), "survived", None),
            (changed("double(0.5)", "double(0.6) + 1"), "killed", "x: measured 2.2"),
        ],
    ),
    "earlier-cell": (
        'x = half(2.0)\ncheck.close("x", x, 1.0, tol=0.1)',
        [(changed("x / 2", "x / 4", "half"), "killed", "x: measured 0.5")],
    ),
    "super": (
        SQUARE.format("s.side", 3),
        [(changed("super().__init__(side)", "super().__init__(-side)", "made_up:Square.__init__"), "killed", "-3")],
    ),
    "property": (
        SQUARE.format("s.area", 9),
        [(changed("self.side**2", "self.side * 4", "made_up:Square.area"), "killed", "measured 12")],
    ),
    "static": (
        SQUARE.format("s.corners()", 4),
        [(changed("return 4", "return 5", "made_up:Square.corners"), "killed", "measured 5")],
    ),
    "wrapped": (
        SQUARE.format("s.outline()", 12),
        [(changed("corners * self", "corners / self", "made_up:Square.outline"), "killed", "measured 1.33")],
    ),
}


def write(path, *cells):
    """Write a notebook of cells (source, tags, mutants)."""
    made = [
        nbformat.v4.new_code_cell(source, id=f"cell-{k}", metadata={"tags": tags, "mutants": found})
        for k, (source, tags, found) in enumerate(cells)
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


def check_cells():
    return [(cell, [f"check-thm-00-{name}"], [m for m, _, _ in found]) for name, (cell, found) in CASES.items()]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two small chapters, one with a setup cell and one without, and a run of both."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "made_up.py").write_text(MODULE)
    tagged = write(
        folder / "tagged.ipynb", (SETUP, ["setup"], []), ("raise RuntimeError('no setup cell')", [], []), *check_cells()
    )
    untagged = write(
        folder / "untagged.ipynb",
        ("import numpy as np\nimport torch\nfrom nfcourse import check", [], []),
        (ONE, ["check-thm-00-earlier"], []),
        (LAST, ["check-thm-00-last"], [changed("y = 1", "y = 2")]),
    )
    printed, status, stored = run(tagged, untagged, "--limit", "4", folder=folder)
    return tagged, untagged, printed, status, stored


@needs_fork
@pytest.mark.parametrize("name", CASES)
def test_verdict(name, small):
    entry = small[-1]["tagged"][f"thm-00-{name}"]
    for (asked, verdict, words), got in zip(CASES[name][1], entry["mutants"], strict=True):
        assert got["verdict"] == verdict, got
        assert words is None or words in got.get("claim", "") + got.get("why", "")
        assert asked.items() <= got.items()
        if verdict == "killed":
            assert got["check"] == "close"


@needs_fork
def test_chapter_without_setup_cells_runs_what_comes_before(small):
    """And its generators are seeded, although no cell does so."""
    assert small[-1]["untagged"]["thm-00-last"]["mutants"][0]["verdict"] == "survived"


@needs_fork
def test_survivor_is_reported(small):
    _, _, printed, status, _ = small
    assert status == 1
    expected = [
        "survived   thm-00-survivor: unused = 0 is unused = 1",
        "- unused = 0",
        "+ unused = 1",
        "no check in this",
    ]
    lines = [line.strip() for line in printed.splitlines()]
    at = lines.index(expected[0])
    assert all(line.startswith(words) for line, words in zip(lines[at:], expected, strict=False))


@needs_fork
def test_miss_is_stored_in_tolerances(small):
    close, far = small[-1]["tagged"]["thm-00-too-close"]["mutants"]
    assert (close["miss"], far["miss"]) == (2.9, 3.1)


@needs_fork
def test_what_is_stored_is_checked(small, tmp_path, capsys):
    """Fresh at first; then one thing after the other is changed, and named."""
    tagged, untagged, _, _, stored = small
    name = "thm-00-formula"
    assert not mutants.stale([tagged, untagged], stored)

    def now(*cells, package=None):
        path = write(tmp_path / "tagged.ipynb", (SETUP, ["setup"], []), *cells)
        with pytest.MonkeyPatch.context() as patch:
            if package:
                patch.setattr(mutants, "package_hash", lambda: package)
            return mutants.stale([path], {"tagged": {name: stored["tagged"][name]}})

    (cell, tags, found), other = check_cells()[0], check_cells()[1]
    assert now((cell, tags, found)) == []
    assert now(("y = 0", [], []), (cell, tags, found)) == []
    assert now((cell + "\n", tags, found)) == [f"tagged, {name}: has changed (cell)"]
    assert now(("y = 0", ["setup"], []), (cell, tags, found)) == [f"tagged, {name}: has changed (cell)"]
    assert now((cell, tags, found), package="new") == [f"tagged, {name}: has changed (package)"]
    assert now((cell, tags, [changed("x = 1.0", "x = 3.0")])) == [f"tagged, {name}: has other mutants"]
    assert now((cell, tags, [])) == [f"tagged, {name}: is stored, but has no mutants"]
    assert now((cell, tags, found), other) == ["tagged, thm-00-in-several-lines: is not stored"]

    # of the fresh file, --check names what is not killed, and only that
    file = tagged.with_name("mutants.json")
    assert mutants.main([str(tagged), "--check", "--json", str(file)]) == 1
    expected = [v for _, found in CASES.values() for _, v, _ in found if v != "killed"]
    assert sorted(line.split(": ")[1] for line in capsys.readouterr().out.splitlines()) == sorted(expected)
    write(tmp_path / "tagged.ipynb", (SETUP, ["setup"], []), (cell, tags, found))
    file = tmp_path / "one.json"
    file.write_text(json.dumps({"tagged": {name: stored["tagged"][name]}}))
    assert mutants.main([str(tmp_path / "tagged.ipynb"), "--check", "--json", str(file)]) == 0


def test_package_hash_sees_sources(tmp_path, monkeypatch):
    """A change in a source or in its name is seen; drawings and experiments are left out."""
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    folder = tmp_path / "nfcourse"
    (folder / "experiments").mkdir(parents=True)
    (folder / "flow.py").write_text("a = 1")
    first = mutants.package_hash()
    for name in ("plot.py", "experiments/long.py"):
        (folder / name).write_text("b = 2")
        assert mutants.package_hash() == first
    (folder / "flow.py").rename(folder / "flows.py")
    second = mutants.package_hash()
    (folder / "flows.py").write_text("a = 2")
    assert len({first, second, mutants.package_hash()}) == 3


def test_second_edition_bites(tmp_path):
    """A chapter of the first edition may lack everything, one of the second may not."""
    mutant = [changed("x = 1.0", "x = 2.0")]
    bare = write(tmp_path / "bare.ipynb", (ONE, ["check-thm-00-a"], mutant), (ONE, ["check-thm-00-b"], []))
    full = write(tmp_path / "full.ipynb", ("", ["setup"], []), (ONE, ["check-thm-00-a"], mutant))
    assert mutants.gaps([bare, full], editions=[]) == []
    assert mutants.gaps([bare, full], editions=["bare", "full"]) == [
        "bare, thm-00-b: no mutant",
        "bare: no cell is tagged setup",
    ]


@pytest.mark.parametrize("tags", [["check-other"], ["check-thm-00-a"]], ids=["no theorem", "the same theorem"])
def test_mutants_need_a_theorem_of_their_own(tags, tmp_path):
    mutant = [changed("x = 1.0", "x = 2.0")]
    path = write(tmp_path / "chapter.ipynb", (ONE, ["check-thm-00-a"], mutant), (ONE, tags, mutant))
    with pytest.raises(ValueError, match="of their own"):
        mutants.plan(path)
