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
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "PYTHONHASHSEED": "0"}
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


#: all that the list of the first edition may ever name
FIRST = {
    "08_simple_flows",
    "09_coupling",
    "10_autoregressive",
    "11_images",
}


def test_list_of_the_first_edition_only_shrinks():
    """A new chapter is bound from its first day, and a name without a chapter would bind nobody."""
    assert set(mutants.FIRST_EDITION) <= FIRST
    assert len(set(mutants.FIRST_EDITION)) == len(mutants.FIRST_EDITION)
    assert set(mutants.FIRST_EDITION) <= {p.stem for p in CHAPTERS}


def test_second_edition_has_mutants_for_every_theorem():
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


@functools.cache
def constant():
    return 1.0


def power(x, n=1):
    return x**n


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

    @functools.cached_property
    def half(self):
        return self.side / 2

    def grown(self, k):
        return self.side * k
'''

SETUP = """
import os
import numpy as np
import torch
from made_up import Square, constant, double, power  # before any mutant
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


def times(k):
    def f(x):
        return k * x
    return f


once, twice, grown, one = times(1), lambda x: 2 * x, Square(1).grown, constant()
check.silent = silent = lambda x: None
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
FILES = """
seen, unused = 0, 0
left = os.path.exists('left')
x = 2.0 if left else 1.0
check.close("x", x, 1.0, tol=0.1)
"""
WIDE = """
p, q, n = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.0, 2.0), 100_000
check.integral_mc(p.log_prob, q, n=n, tol=0.02)
"""
LOOP = """
for x, tol in [(1.05, 0.1), (1.0, 0.0001)]:
    check.close("x", x, 1.0, tol=tol)
"""
LAST = """
check.close("x of an earlier cell", x, 1.0, tol=0.1)
check.close("torch's seed", torch.initial_seed(), 0, tol=0)
check.close("numpy's seed", np.random.get_state()[1][0], np.random.RandomState(0).get_state()[1][0], tol=0)
y = 1
"""


def changed(old, new, where=None):
    return {"belief": f"{old} is {new}", "old": old, "new": new} | ({"in": where} if where else {})


def weak(source, old="x = 1.0", new="x = 2.0"):
    return changed(old, new) | {"weaker": source}


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
    "the-checks": (
        ONE,
        [
            (changed("tol", "-tol", where), "fault", "what judges")
            for where in ("nfcourse.check:close", "check.close", "nfcourse:check.close", "check.validate")
        ],
    ),
    "changes-nothing": (
        ONE + "  # one",
        [
            (changed("x = 1.0", "x  =  1.0"), "fault", "changes nothing"),
            (changed("# one", "# two"), "fault", "changes nothing"),
            (changed("2 * x", "(2 * x)  # twice", "made_up:double"), "fault", "changes nothing"),
        ],
    ),
    "more-than-a-body": (
        SQUARE.format("power(3) + Square(3).outline()", 15),
        [
            (changed("n=1", "n=2", "made_up:power"), "fault", "more than the body"),
            (changed("x, n=1", "x: float, n=1", "made_up:power"), "fault", "more than the body"),
            (changed("@logged", "@functools.cache", "made_up:Square.outline"), "fault", "more than the body"),
            (changed("power", "root", "made_up:power"), "fault", "more than the body"),
            (changed("x**n", "2 * x**n", "made_up:power"), "killed", "measured 18"),
        ],
    ),
    "never-ran": (
        'check.close("x", once(constant()), 1.0, tol=0.1)',
        [
            (changed("1.0", "2.0", "made_up:constant"), "fault", "never ran"),
            (changed("k * x", "k + x", "times"), "fault", "never ran"),
        ],
    ),
    "no-plain-function": (
        ONE,
        [
            (changed("2 * x", "3 * x", "twice"), "fault", "twice is no plain function"),
            (changed("/ 2", "/ 3", "made_up:Square.half"), "fault", "Square.half is no plain function"),
            (changed("* k", "+ k", "grown"), "fault", "grown is no plain function"),
            (changed("x", "y", "np.add"), "fault", "np.add is no plain function"),
        ],
    ),
    "no-margin": ('x = 1\ncheck.close("x", x, 1, tol=0)', [(changed("x = 1", "x = 2"), "killed", "measured 2")]),
    "statement": ('x = 1\ncheck.holds("x", x < 2)', [(changed("x = 1", "x = 2"), "killed", "✗ x")]),
    "tolerance-alone": (
        'x, tol = 1.05, 0.1\ncheck.close("x", x, 1.0, tol=tol)',
        [(changed("0.1", "0.001"), "fault", "changes its tolerance")],
    ),
    "difference-alone": (
        'by = 0.5\ncheck.differs("x", 1.0, 0.0, by)',
        [(changed("0.5", "5"), "fault", "changes its tolerance")],
    ),
    "tolerances-in-a-loop": (
        LOOP,
        [
            (changed("1.05, 0.1", "1.05, 0.01"), "fault", "changes its tolerance"),
            (changed("(1.0,", "(1.1,"), "killed", "measured 1.1"),
        ],
    ),
    "tolerance-too": (  # a mutant counts by the smaller of both, 2.5 in the third
        'k = 1.0\nx, noise = k, 0.1 * k\ncheck.close("x", x, 1.0, tol=noise)',
        [
            (changed("k = 1.0", "k = 2.0"), "killed", "measured 2"),
            (changed("k = 1.0", "k = 1.31"), "too close", "measured 1.31"),
            (changed("k = 1.0", "k = 0.75"), "too close", "measured 0.75"),
        ],
    ),
    "not-measured": (WIDE, [(changed("100_000", "10"), "too close", "below three standard errors")]),
    "files": (
        FILES,
        [
            (changed("seen", "os.mkdir('left'); open('left/a', 'w').close(); seen"), "fault", "(left, left/a)"),
            (changed("unused = 0, 0", "unused = 0, 1"), "survived", None),
            (changed("seen", "open('beside.txt', 'a').write('2'); seen"), "fault", "(beside.txt)"),
        ],
    ),
    "files-beside": (
        'unused = 0\nread = open("../book/one.txt").read()\nx = float(read)\n' + ONE[8:],
        [
            (changed("unused = 0", "open('../book/one.txt', 'w').write('2')"), "fault", "(../book/one.txt)"),
            (changed("unused = 0", "os.remove('../book/one.txt'); read = 2"), "fault", "(../book, ../book/one.txt)"),
            (changed("unused = 0", "unused = 1"), "survived", None),
            (changed("unused = 0", "os.mkdir('../new')"), "fault", "(../new)"),
            (changed("unused = 0", "unused = os.path.exists('../new')"), "survived", None),
            (changed("float(read)", "float(read) + os.path.exists('../.hidden')"), "survived", None),
        ],
    ),
    "files-as-it-is": (
        "x = 1.0\nopen('left', 'w').close()\n" + ONE[8:],
        [(changed("x = 1.0", "x = 2.0"), "fault", "fails as it is: the cell writes files")],
    ),
    "reads-what-stands-beside": (
        'x = float(open("../book/one.txt").read()) * float(open("beside.txt").read())\n' + ONE[8:],
        [(changed("x = ", "x = 1 + "), "killed", "measured 2")],
    ),
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
    "weaker": (
        "y = 0\nx = 1.0\ny = x\n" + ONE[8:],
        [
            (weak('check.holds("positive", y > 0)'), "killed", "measured 2"),
            (weak('check.close("y", y, 1.0, tol=0.1)'), "fault", "does not miss it: ✗ y: measured 2"),
            (weak('check.holds("positive", absent > 0)'), "fault", "does not run on the cell as it is: NameError"),
            (weak('check.holds("negative", y < 0)'), "fault", "rejects the cell as it is: ✗ negative"),
            (weak('check.holds("x", 1 / (x - 2) < 0)'), "fault", "does not run: ZeroDivisionError"),
            (weak('check.holds("positive", y > 0)', "y = 0", "y = -1"), "survived", None),
            (weak('check.close("y", y, 1.0, tol=np.inf)'), "fault", "does not run on the cell as it is: ValueError"),
            (weak("check.silent(y)"), "fault", "rejects the cell as it is: (it prints nothing)"),
        ],
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
    folder = tmp_path_factory.mktemp("small") / "chapters"
    for path in (folder / "beside.txt", folder.parent / "book" / "one.txt", folder.parent / ".hidden" / "one.txt"):
        path.parent.mkdir()
        path.write_text("1")
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
        assert {key: got[key] for key in asked if key != "weaker"} == {k: v for k, v in asked.items() if k != "weaker"}
        if verdict == "killed":
            assert f"check.{got['check']}(" in CASES[name][0]


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
def test_weaker_check_is_stored(small):
    """With its line, for the page; one that sees the mutant says so, and is a fault."""
    found = [m.get("weaker") for m in small[-1]["tagged"]["thm-00-weaker"]["mutants"]]
    asked = [m["weaker"] for m, _, _ in CASES["weaker"][1]]
    assert found[0] == {"source": asked[0], "line": "✓ positive", "missed": True}
    assert found[1]["line"].startswith("✗ y: measured 2") and found[1]["missed"] is False
    assert found[2:5] == asked[2:5]  # nothing came of these
    assert "missed by a weaker check: ✓ positive" in small[2]
    assert not mutants.stale([small[0]], small[-1])


@needs_fork
def test_margins_are_seen(small):
    """Missed by a hair or by a mile: a claim without a tolerance does not say."""
    _, _, printed, _, stored = small
    kinds = {name: stored["tagged"][f"thm-00-{name}"]["mutants"] for name in ("no-margin", "statement", "not-measured")}
    assert [m["miss"] for found in kinds.values() for m in found] == [None, None, 0.0]
    assert "thm-00-no-margin: x = 1 is x = 2  [close, no margin]" in printed
    assert "thm-00-statement: x = 1 is x = 2  [holds, no margin]" in printed
    assert "[integral_mc by 0 tolerances]" in printed
    assert [m["miss"] for m in stored["tagged"]["thm-00-tolerance-too"]["mutants"]] == [5.0, 2.4, 2.5]


@needs_fork
def test_folder_is_left_as_it_was(small):
    folder = small[0].parent
    assert (folder / "beside.txt").read_text() == "1"
    assert (folder.parent / "book" / "one.txt").read_text() == "1"
    assert {p.name for p in folder.parent.iterdir()} == {"chapters", "book", ".hidden"}
    names = {"beside.txt", "made_up.py", "tagged.ipynb", "untagged.ipynb", "mutants.json"}
    assert {p.name for p in folder.iterdir()} - {"__pycache__"} == names


@needs_fork
def test_bad_chapters_lose_nothing_else(tmp_path):
    """A setup cell that raises, one that ends the process: their mutants are faults, all others are judged."""
    mutant = [changed("x = 1.0", "x = 2.0")]
    (folder := tmp_path / "chapters").mkdir()
    start = ("from nfcourse import check", ["setup"], [])
    paths = [
        write(
            folder / f"{name}.ipynb",
            start,
            (ONE, ["check-thm-00-a"], mutant),
            (source, ["setup"], []),
            (ONE, ["check-thm-00-b"], mutant),
            (ONE, ["check-thm-00-c"], mutant),
        )
        for name, source in {"raises": "int('six')", "ends": "import os\nos._exit(1)", "good": "y = 1"}.items()
    ]
    printed, status, stored = run(*paths, folder=folder)
    got = {name: [m["verdict"] for e in entries.values() for m in e["mutants"]] for name, entries in stored.items()}
    assert got == {"raises": ["killed", "fault", "fault"], "ends": ["fault"] * 3, "good": ["killed"] * 3}
    assert status == 1
    assert printed.count("cell cell-2, which comes before, fails: ValueError: invalid literal for int()") == 2
    assert printed.count("the chapter does not run: the process died") == 3
    assert not mutants.stale(paths, stored)


def test_results_are_stored_after_each_chapter(tmp_path, monkeypatch):
    """And whole or not at all."""
    mutant = [changed("x = 1.0", "x = 2.0")]
    paths = [write(tmp_path / f"{name}.ipynb", (ONE, ["check-thm-00-a"], mutant)) for name in ("first", "second")]

    def forked(function, path, *arguments):
        if path == paths[1]:
            raise KeyboardInterrupt
        return {"thm-00-a": {"mutants": [mutant[0] | {"verdict": "killed", "check": "close", "miss": 3.1}]}}

    monkeypatch.setattr(mutants, "forked", forked)
    file = tmp_path / "mutants.json"
    with pytest.raises(KeyboardInterrupt):
        mutants.main([*map(str, paths), "--json", str(file)])
    stored = file.read_text("utf8")
    assert json.loads(stored).keys() == {"first"}

    def interrupted(path, *arguments):
        open(path, "w").close()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mutants.main([str(paths[0]), "--json", str(file)])
    assert file.read_text("utf8") == stored


@needs_fork
def test_what_is_stored_is_checked(small, tmp_path, capsys, monkeypatch):
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

    # of the fresh file, --check names what is not killed, and in the first edition only that
    monkeypatch.setattr(mutants, "FIRST_EDITION", ["tagged"])
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
    for name in ("experiments", "schematic"):
        (folder / name).mkdir(parents=True)
    (folder / "flow.py").write_text("a = 1")
    first = mutants.package_hash()
    for name in ("plot.py", "schematic/drawing.py", "widgets.py", "live/frame.py", "experiments/long.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("b = 2")
        assert mutants.package_hash() == first
        assert (ROOT / "nfcourse" / name).parent.is_dir(), "what is left out has moved"
    with monkeypatch.context() as patch:
        patch.setattr(mutants, "MISS", 4.0)
        assert mutants.package_hash() != first
    (folder / "flow.py").rename(folder / "flows.py")
    second = mutants.package_hash()
    (folder / "flows.py").write_text("a = 2")
    assert len({first, second, mutants.package_hash()}) == 3


def test_second_edition_bites(tmp_path):
    """A chapter of the first edition may lack everything, one of the second may not."""
    mutant = [changed("x = 1.0", "x = 2.0")]
    bare = write(tmp_path / "bare.ipynb", (ONE, ["check-thm-00-a"], mutant), (ONE, ["check-thm-00-b"], []))
    full = write(tmp_path / "full.ipynb", ("", ["setup"], []), (ONE, ["check-thm-00-a"], mutant))
    killed = {"thm-00-a": {"mutants": [{"verdict": "killed", "miss": 3.0}]}}
    stored = {"bare": killed, "full": killed}
    assert mutants.gaps([bare, full], editions=["bare", "full"], stored=stored) == []
    expected = ["bare, thm-00-b: no mutant", "bare: no cell is tagged setup"]
    assert mutants.gaps([bare, full], editions=[], stored=stored) == expected
    assert mutants.gaps([bare, full], stored=stored) == expected  # a chapter that no list names is bound
    plain = write(tmp_path / "plain.ipynb", (ONE, [], []))
    assert mutants.gaps([plain], editions=[], stored={}) == []  # no theorem, nothing to set up


@pytest.mark.parametrize(
    ("found", "lacks"),
    [
        ([{"verdict": "killed", "miss": None}], True),
        ([{"verdict": "killed", "miss": None}, {"verdict": "too close", "miss": 2.0}], True),
        ([{"verdict": "survived", "exact": True}], True),
        ([{"verdict": "killed", "miss": None}, {"verdict": "killed", "miss": 3.0}], False),
        ([{"verdict": "killed", "miss": None, "exact": True}], False),
    ],
)
def test_second_edition_kills_with_a_margin(found, lacks, tmp_path):
    """One mutant a theorem, unless it says that what it gets wrong has no size."""
    mutant = [changed("x = 1.0", "x = 2.0")]
    path = write(tmp_path / "full.ipynb", ("", ["setup"], []), (ONE, ["check-thm-00-a"], mutant))
    stored = {"full": {"thm-00-a": {"mutants": found}}}
    expected = ["full, thm-00-a: no mutant is killed with a margin, and none is exact"] if lacks else []
    assert mutants.gaps([path], editions=[], stored=stored) == expected


def test_exact_is_stored(tmp_path):
    """And a change of mind is seen."""
    mutant = changed("x = 1.0", "x = 2.0")
    path = write(tmp_path / "a.ipynb", (ONE, ["check-thm-00-a"], [mutant | {"exact": True}]))
    (cell, needed) = mutants.plan(path)["thm-00-a"]
    entry = mutants.entry(cell, needed, mutants.package_hash(), [{"verdict": "killed", "miss": None}])
    assert entry["mutants"][0]["exact"] is True
    assert not mutants.stale([path], {"a": {"thm-00-a": entry}})
    write(path, (ONE, ["check-thm-00-a"], [mutant]))
    assert mutants.stale([path], {"a": {"thm-00-a": entry}}) == ["a, thm-00-a: has other mutants"]


def test_weaker_check_is_part_of_what_is_stored(tmp_path):
    mutant = weak('check.holds("positive", x > 0)')
    path = write(tmp_path / "a.ipynb", (ONE, ["check-thm-00-a"], [mutant]))
    (cell, needed) = mutants.plan(path)["thm-00-a"]
    found = {"source": mutant["weaker"], "line": "✓ positive", "missed": True}
    entry = mutants.entry(cell, needed, mutants.package_hash(), [{"verdict": "killed", "miss": None, "weaker": found}])
    assert not mutants.stale([path], {"a": {"thm-00-a": entry}})
    write(path, (ONE, ["check-thm-00-a"], [weak('check.holds("not negative", x >= 0)')]))
    assert mutants.stale([path], {"a": {"thm-00-a": entry}}) == ["a, thm-00-a: has other mutants"]


@pytest.mark.parametrize(
    "source",
    ["x > 0", "y = check.holds('x', True)", "check.holds('x', True); y = 1", "check.randomize(x)", "check.close(", 3,
     "check.close('x', check.mass(x), 1)", "print(check.holds('x', True))", "check.answer('ex-03-mistake', x)",
     "check.validate(x)", "check.draw_inputs(x, (1,))"],
)  # fmt: skip
def test_weaker_check_is_one_call(source, tmp_path):
    path = write(tmp_path / "a.ipynb", (ONE, ["check-thm-00-a"], [weak(source)]))
    with pytest.raises(ValueError, match="a, cell cell-0: mutant 1 needs one check call as weaker"):
        mutants.plan(path)


@pytest.mark.parametrize(
    "source",
    ["check.holds('w', True)", "check.close('w', 3, 3)", "check.close('w', int(3), 3)",
     "check.holds('w', check is check)", "check.close('w', [q for q in [3]], 3)",
     "check.holds('w', (lambda q: q)(True))"],
)  # fmt: skip
def test_weaker_check_looks_at_the_chapter(source, tmp_path):
    path = write(tmp_path / "a.ipynb", (ONE, ["check-thm-00-a"], [weak(source)]))
    with pytest.raises(ValueError, match="a, cell cell-0: the weaker check of mutant 1 looks at nothing"):
        mutants.plan(path)


def test_verdicts_are_sealed(tmp_path):
    """What is changed by hand, or lost, is seen; so is a chapter that is gone."""
    path = write(tmp_path / "a.ipynb", (ONE, ["check-thm-00-a"], [changed("x = 1.0", "x = 2.0")]))
    (cell, needed) = mutants.plan(path)["thm-00-a"]
    found = {"verdict": "too close", "check": "close", "claim": "✗ x: measured 1.29", "miss": 2.9}
    entry = mutants.entry(cell, needed, mutants.package_hash(), [found])
    entry = json.loads(json.dumps(entry, ensure_ascii=False))
    assert not mutants.stale([path], {"a": {"thm-00-a": entry}})
    for key, value in {"verdict": "killed", "claim": "✗ x: measured 5", "miss": None}.items():
        forged = entry | {"mutants": [entry["mutants"][0] | {key: value}]}
        assert mutants.stale([path], {"a": {"thm-00-a": forged}}) == ["a, thm-00-a: has changed (verdicts)"]
    unsealed = {k: v for k, v in entry.items() if k != "verdicts"}
    assert mutants.stale([path], {"a": {"thm-00-a": unsealed}}) == ["a, thm-00-a: has changed (verdicts)"]
    gone = {"a": {"thm-00-a": entry}, "99_gone": {}, CHAPTERS[0].stem: {}}
    assert mutants.stale([path], gone) == ["99_gone: is stored, but there is no such chapter"]


def test_a_run_forgets_chapters_that_are_gone(tmp_path, monkeypatch):
    path = write(tmp_path / "first.ipynb", (ONE, ["check-thm-00-a"], [changed("x = 1.0", "x = 2.0")]))
    monkeypatch.setattr(mutants, "run_apart", lambda *arguments: {})
    monkeypatch.setattr(mutants, "gaps", lambda *arguments, **options: [])
    file = tmp_path / "mutants.json"
    file.write_text(json.dumps({"99_gone": {}, CHAPTERS[0].stem: {}}))
    mutants.main([str(path), "--json", str(file)])
    assert mutants.load(file).keys() == {"first", CHAPTERS[0].stem}


def test_a_broken_file_is_named(tmp_path, monkeypatch):
    """And a run of all chapters, which needs nothing of it, replaces it."""
    (file := tmp_path / "mutants.json").write_text('{"a": {"thm')
    for options in (["--check"], [str(tmp_path / "a.ipynb")]):
        with pytest.raises(ValueError, match=r"mutants.json cannot be read .*: run `make mutants`"):
            mutants.main([*options, "--json", str(file)])
    monkeypatch.setattr(mutants, "CHAPTERS", [write(tmp_path / "a.ipynb", (ONE, [], []))])
    assert mutants.main(["--json", str(file)]) == 0 and mutants.load(file) == {}


def test_what_is_large_hidden_or_linked_is_not_copied(tmp_path, monkeypatch):
    """A cell that writes there would write into the real one."""
    monkeypatch.setattr(mutants, "LARGE", 3)
    for name, text in {"chapters/a": "aaaa", "book/b": "bbb", "_build/c": "cccc", ".venv/d": "d", "e": "e"}.items():
        path = tmp_path / "from" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "from" / "link").symlink_to(tmp_path)
    (to := tmp_path / "to").mkdir()
    assert mutants.copied(tmp_path / "from" / "chapters", to) == to / "chapters"
    assert {p.name for p in to.rglob("*")} == {"chapters", "a", "book", "b", "e"}


@pytest.mark.parametrize("tags", [["check-other"], ["check-thm-00-a"]], ids=["no theorem", "the same theorem"])
def test_mutants_need_a_theorem_of_their_own(tags, tmp_path):
    mutant = [changed("x = 1.0", "x = 2.0")]
    path = write(tmp_path / "chapter.ipynb", (ONE, ["check-thm-00-a"], mutant), (ONE, tags, mutant))
    with pytest.raises(ValueError, match="of their own"):
        mutants.plan(path)


@pytest.mark.parametrize("key", ["belief", "old", "new"])
def test_mutants_say_what_they_are(key, tmp_path):
    """Or nothing runs, not even the chapters before."""
    good = changed("x = 1.0", "x = 2.0")
    bad = {k: v for k, v in good.items() if k != key}
    first = write(tmp_path / "first.ipynb", (ONE, ["check-thm-00-a"], [good]))
    path = write(tmp_path / "chapter.ipynb", (ONE, ["check-thm-00-a"], [good, bad]))
    file = tmp_path / "mutants.json"
    with pytest.raises(ValueError, match=f"chapter, cell cell-0: mutant 2 has no text {key}"):
        mutants.main([str(first), str(path), "--json", str(file)])
    assert not file.exists()
