"""Break what a check computes, one wrong formula at a time, and see whether the check notices.

Usage: ``python scripts/mutants.py [chapters/03_change_of_variables.ipynb ...]`` runs all chapters, or those named, and
stores what happened in book/results/mutants.json. ``--check`` runs nothing: it compares that file with the chapters and
the package. Both exit with 1 if anything is wrong.

A code cell tagged ``check-thm-...`` lists its mutants in its metadata::

    "mutants": [{"belief": "the Jacobian of $f$ will do", "old": "jacrev(deflate))(x)", "new": "jacrev(inflate))(x)"}]

``old`` is a text that occurs once in the cell, outside of every ``check.`` call that judges. With
``"in": "nfcourse.bijections.linear:PLU.forward"`` it is in the body of that function instead, with ``"in": "deflate"``
in that of a function from an earlier cell. Nothing else of the chapter runs but the cells tagged ``setup`` (where no
cell is, all that come before), in a copy of the chapter's folder and of what stands beside it, but for what is hidden
or large.

A mutant is *killed* if an untouched ``check.`` call of the cell raises CheckFailed and misses by three tolerances or
more, or has no tolerance to miss; *too close* if it misses by less; *survived* if the cell runs through; anything else
is a *fault* of the mutant, so too one that changes nothing, or nothing that runs, or nothing but a tolerance.

A claim without a tolerance is missed with *no margin*, be it by a hair. So each theorem, but for the chapters of
``FIRST_EDITION``, has a mutant that is killed with one, or that says ``"exact": true``: what it gets wrong has no size.

A mutant may carry ``"weaker": "check.close(...)"``: one call that a reader might have thought enough, that looks at a
name of the chapter, and that does not see this mutant. It is run on the names that the mutated cell left behind, and on
those of the cell as it is: it must pass both times, and say so, else the mutant is a fault. What it prints is stored,
for the page to show beside the real check.
"""

import argparse
import ast
import builtins
import copy
import functools
import hashlib
import importlib
import inspect
import io
import itertools
import json
import linecache
import math
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
RESULTS = ROOT / "book" / "results" / "mutants.json"

#: chapters that are not yet in their second edition; in all others every theorem's check must have a mutant, and the
#: cells that it needs must be tagged setup. A name is taken out when its chapter is ready, and never put in.
FIRST_EDITION: list[str] = [
    "08_simple_flows",
    "09_coupling",
    "10_autoregressive",
    "11_images",
]

#: a failed claim must miss by so many tolerances, else another seed or machine might let the mutant pass
MISS = 3.0
#: seconds that a cell may take
LIMIT = 120.0
#: bytes of a folder beside a chapter's that is copied with it, at most
LARGE = 2**24
#: what stands under ``check`` and judges nothing
HELPERS = {"randomize", "draw_inputs", "answer", "validate"}
#: the modules of the checks
JUDGES = ("nfcourse.check", "nfcourse.contracts", "nfcourse.values")
#: the arguments of a judge that say how much it allows
TOLERANCES = ("tol", "rtol", "by", "errors")
#: what a mutant must say
REQUIRED = ("belief", "old", "new")
#: the name of the code of a check cell, by which tracebacks find it
CHECKED = "<check cell>"


class Fault(Exception):
    """A mutant that proves nothing."""


@dataclass(frozen=True)
class Cell:
    """A code cell of a chapter."""

    id: str
    source: str
    tags: tuple[str, ...]
    mutants: tuple[dict, ...]

    @property
    def theorem(self) -> str | None:
        """The label of the theorem that this cell checks, if it does."""
        return next((tag.removeprefix("check-") for tag in self.tags if tag.startswith("check-thm-")), None)


def read(path: Path) -> list[Cell]:
    """Return the code cells of a notebook."""
    cells = [c for c in json.loads(path.read_text("utf8"))["cells"] if c["cell_type"] == "code"]
    metas = [c["metadata"] for c in cells]
    return [
        Cell(c["id"], "".join(c["source"]), tuple(meta.get("tags", ())), tuple(meta.get("mutants", ())))
        for c, meta in zip(cells, metas, strict=True)
    ]


def plan(path: Path) -> dict[str, tuple[Cell, list[Cell]]]:
    """Return, by theorem, the cell with mutants and the cells before it that it needs.

    Raises:
        ValueError: If mutants stand in a cell that checks no theorem, or in two cells for one, or say too little, or
            too much.
    """
    cells, found = read(path), {}
    tagged = any("setup" in cell.tags for cell in cells)
    for k, cell in enumerate(cells):
        if cell.mutants:
            at = f"{path.stem}, cell {cell.id}"
            if cell.theorem is None or cell.theorem in found:
                raise ValueError(f"{at}: mutants need a tag check-thm-... of their own.")
            for number, mutant in enumerate(cell.mutants, 1):
                if lacks := [key for key in REQUIRED if not isinstance(mutant.get(key), str)]:
                    raise ValueError(f"{at}: mutant {number} has no text {', '.join(lacks)}.")
                if "weaker" in mutant and not _one_call(mutant["weaker"]):
                    raise ValueError(f"{at}: mutant {number} needs one check call as weaker.")
                if "weaker" in mutant and not _looks(mutant["weaker"]):
                    raise ValueError(f"{at}: the weaker check of mutant {number} looks at nothing of the chapter.")
            found[cell.theorem] = (cell, [c for c in cells[:k] if "setup" in c.tags or not tagged])
    return found


def _one_call(source: object) -> bool:
    """Whether a text is one ``check.`` call that judges, and nothing else."""
    try:
        body = ast.parse(source).body if isinstance(source, str) else []
    except SyntaxError:
        return False
    calls = check_calls(source) if len(body) == 1 and isinstance(body[0], ast.Expr) else []
    return len(calls) == 1 and ast.dump(body[0].value) == ast.dump(calls[0])


def _looks(source: str) -> bool:
    """Whether a call has a name of the chapter in its arguments, and not constants alone."""
    nodes = list(ast.walk(ast.parse(source)))
    own = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    own |= {n.arg for n in nodes if isinstance(n, ast.arg)} | {"check", *dir(builtins)}
    return any(isinstance(n, ast.Name) and n.id not in own for n in nodes)


def gaps(paths: list[Path], editions: list[str] | None = None, stored: dict | None = None) -> list[str]:
    """Say what chapters lack, themselves and in what is stored of them.

    Args:
        paths: The notebooks.
        editions: Names of chapters that may lack everything; default ``FIRST_EDITION``.
        stored: What is stored; default the file.
    """
    stored, lacks = load() if stored is None else stored, []
    for path in paths:
        if path.stem not in (FIRST_EDITION if editions is None else editions):
            cells, with_mutants, entries = read(path), plan(path), stored.get(path.stem, {})
            theorems = sorted({c.theorem for c in cells if c.theorem})
            for theorem in theorems:
                if theorem not in with_mutants:
                    lacks.append(f"{path.stem}, {theorem}: no mutant")
                elif not any(map(_measured, entries.get(theorem, {}).get("mutants", ()))):
                    lacks.append(f"{path.stem}, {theorem}: no mutant is killed with a margin, and none is exact")
            if theorems and not any("setup" in cell.tags for cell in cells):
                lacks.append(f"{path.stem}: no cell is tagged setup")
    return lacks


def _measured(mutant: dict) -> bool:
    return mutant["verdict"] == "killed" and (mutant["miss"] is not None or mutant.get("exact", False))


# What is stored is as old as the sources that it came from.


def _hash(texts) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def package_hash() -> str:
    """Hash the sources of the package, but for drawings and long experiments, which no check calls, and ``MISS``."""
    folder, apart = ROOT / "nfcourse", {"plot.py", "schematic", "widgets.py", "live", "experiments"}
    files = [p for p in sorted(folder.rglob("*.py")) if p.relative_to(folder).parts[0] not in apart]
    return _hash([str(MISS), *(t for p in files for t in (p.relative_to(folder).as_posix(), p.read_text("utf8")))])


def hashes(cell: Cell, needed: list[Cell], package: str) -> dict[str, str]:
    """Return what the verdicts on a cell depend on."""
    return {"cell": _hash(c.source for c in [*needed, cell]), "package": package}


def _seal(mutants: list[dict]) -> str:
    """Hash the verdicts: what was changed by hand afterwards, or was cut, does not count."""
    return _hash([json.dumps(mutants, sort_keys=True)])


def load(file: Path = RESULTS) -> dict:
    """Return what is stored.

    Raises:
        ValueError: If the file is cut or broken.
    """
    try:
        return json.loads(file.read_text("utf8")) if file.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{file} cannot be read ({error}): run `make mutants`") from error


def save(stored: dict, file: Path) -> None:
    """Store it, whole or not at all."""
    part = file.with_name(f"{file.name}.{os.getpid()}")
    part.write_text(json.dumps(stored, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf8")
    os.replace(part, file)


def stale(paths: list[Path] = CHAPTERS, stored: dict | None = None) -> list[str]:
    """Say which stored entries are not those of the chapters as they are; nothing is run."""
    stored, package, old = load() if stored is None else stored, package_hash(), []
    for stem in _gone(paths, stored):
        old.append(f"{stem}: is stored, but there is no such chapter")
    for path in paths:
        entries, cells = stored.get(path.stem, {}), plan(path)
        for theorem in sorted(entries.keys() | cells.keys()):
            entry = entries.get(theorem, {})
            if theorem not in cells:
                what = "is stored, but has no mutants"
            elif theorem not in entries:
                what = "is not stored"
            elif [_asked(m) for m in entry["mutants"]] != [_asked(m) for m in cells[theorem][0].mutants]:
                what = "has other mutants"
            else:
                new = hashes(*cells[theorem], package) | {"verdicts": _seal(entry["mutants"])}
                changed = [key for key in new if new[key] != entry.get(key)]
                what = f"has changed ({', '.join(changed)})" if changed else ""
            if what:
                old.append(f"{path.stem}, {theorem}: {what}")
    return old


def _gone(paths: list[Path], stored: dict) -> list[str]:
    folders = {ROOT / "chapters", *(path.parent for path in paths)}
    return sorted(stored.keys() - {path.stem for folder in folders for path in folder.glob("*.ipynb")})


def _asked(mutant: dict) -> dict:
    asked = {key: mutant[key] for key in (*REQUIRED, "in", "exact", "weaker") if key in mutant}
    if isinstance(asked.get("weaker"), dict):  # as it is stored, with what came of it
        asked["weaker"] = asked["weaker"]["source"]
    return asked


# One mutant.


def check_calls(source: str) -> list[ast.Call]:
    """Return the calls ``check.name(...)`` that judge."""
    return [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "check"
        and node.func.attr not in HELPERS
    ]


def replace(text: str, mutant: dict) -> str:
    """Return the text with ``old`` replaced by ``new``."""
    if (times := text.count(mutant["old"])) != 1:
        raise Fault(f"the old text occurs {times} times, not once")
    return text.replace(mutant["old"], mutant["new"])


def mutated(source: str, mutant: dict) -> str:
    """Return the cell with the mutant; its checks are judges and stay as they are."""
    changed = replace(source, mutant)
    if ast.dump(ast.parse(source)) == ast.dump(ast.parse(changed)):
        raise Fault("it changes nothing")
    before, after = (sorted(map(ast.unparse, check_calls(text))) for text in (source, changed))
    if before != after:
        raise Fault("the check call itself is changed: compute outside of it")
    return changed


def definition(source: str, name: str) -> ast.FunctionDef | None:
    """Return the syntax tree of a function; its source may be indented."""
    tree = ast.parse("if True:\n" + source if source[0].isspace() else source)
    return next((n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == name), None)


def patch(mutant: dict, names: dict) -> dict:
    """Replace the code of a function in place: whoever has imported it, or built an object, gets the mutant.

    Returns:
        A dictionary that is empty until the new code runs.
    """
    module, _, path = mutant["in"].rpartition(":")
    found = importlib.import_module(module) if module else SimpleNamespace(**names)
    for part in path.split("."):
        found = inspect.getattr_static(found, part)
    function = inspect.unwrap(getattr(found, "fget", found))  # what a property or a decorator wraps
    if getattr(function, "__module__", None) in JUDGES:  # wherever it was found: chapters import it
        raise Fault("what judges is no place for a mutant")
    name = function.__name__ if isinstance(function, FunctionType) else ""
    source = inspect.getsource(function) if name else ""
    if not name or (old := definition(source, name)) is None:
        raise Fault(f"{path} is no plain function")
    new = definition(replace(source, mutant), name)
    # decorators, defaults and annotations have run when the function was made: new ones would change nothing
    if new is None or _head(old) != _head(new):
        raise Fault("it changes more than the body of the function, and only that can be replaced")
    if ast.dump(old) == ast.dump(new):
        raise Fault("it changes nothing")
    new.body[:0] = ast.parse("__mutant_ran__['yes'] = True").body
    # in a class, else super() without arguments does not compile; in one of that name, for the sake of self.__names
    shell = ast.parse(f"class {['_', *function.__qualname__.split('.')][-2]}: pass")
    shell.body[0].body = [new]
    body = next(c for c in compile(shell, "<mutant>", "exec").co_consts if isinstance(c, CodeType))
    function.__code__ = next(c for c in body.co_consts if getattr(c, "co_name", "") == name)
    return function.__globals__.setdefault("__mutant_ran__", {})


def _head(function: ast.FunctionDef) -> str:
    bare = copy.copy(function)
    bare.body = []
    return ast.dump(bare)


def execute(source: str, filename: str, names: dict) -> None:
    """Run a cell; tracebacks and ``inspect.getsource`` find its text."""
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    with redirect_stdout(io.StringIO()):
        exec(compile(source, filename, "exec"), names)


def call_at(place: tuple, source: str) -> ast.Call | None:
    """Return the ``check.`` call of the cell that spans first and last line, first and last column."""
    calls = check_calls(source)
    return next((c for c in calls if (c.lineno, c.end_lineno, c.col_offset, c.end_col_offset) == place), None)


def failed_call(error: Exception, source: str) -> ast.Call:
    """Return the ``check.`` call of the cell from which an error came."""
    frame = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == CHECKED][-1]
    call = call_at((frame.lineno, frame.end_lineno, frame.colno, frame.end_colno), source)
    if call is None:
        raise Fault("CheckFailed, but not from a check call of this cell")
    return call


class Listener:
    """Hears what the calls of a check cell allow, each time they run.

    Attributes:
        heard: Tolerances by the text of the call, one dictionary for each time.
        last: Text, judge and arguments of the last call.
    """

    def __init__(self, source: str):
        from nfcourse import check

        self.source, self.heard, self.last = source, {}, ("", None, {})
        for name in set(check.__all__) - HELPERS:
            judge = getattr(check, name)
            if inspect.isfunction(judge) and set(TOLERANCES) & inspect.signature(judge).parameters.keys():
                setattr(check, name, self._listened(judge))

    def _listened(self, judge):
        import torch

        signature = inspect.signature(judge)

        @functools.wraps(judge)
        def listened(*args, **kwargs):
            frame = sys._getframe(1)
            if frame.f_code.co_filename == CHECKED:
                bound = signature.bind(*args, **kwargs)
                bound.apply_defaults()
                call = call_at(tuple(inspect.getframeinfo(frame, context=0).positions), self.source)
                self.last = (ast.unparse(call) if call else "", judge, bound.arguments)
                allowed = {key: bound.arguments[key] for key in TOLERANCES if key in bound.arguments}
                allowed = {key: torch.as_tensor(v, dtype=torch.float64).tolist() for key, v in allowed.items()}
                self.heard.setdefault(self.last[0], []).append(allowed)
            return judge(*args, **kwargs)

        return listened

    def miss_before(self, call: ast.Call, plain: dict[str, list[dict]]) -> float:
        """Return by how much the last call misses what it allowed before the mutant.

        Args:
            call: The call that failed.
            plain: What was heard without the mutant.

        Returns:
            The miss in tolerances; infinite where the mutant has changed none.

        Raises:
            Fault: If the claim holds then.
        """
        from nfcourse.check import CheckFailed

        text, judge, arguments = self.last
        if text != ast.unparse(call) or text not in plain:
            return math.inf
        times, known = len(self.heard[text]), plain[text]
        before = known[min(times, len(known)) - 1]
        if before == self.heard[text][-1]:
            return math.inf
        try:
            with redirect_stdout(io.StringIO()):
                judge(**{**arguments, **before})
        except CheckFailed as error:
            return error.miss
        raise Fault("the check fails only because the mutant changes its tolerance")


def weaker_check(source: str, names: dict) -> dict:
    """Run a weaker check on the names that a cell left behind; return its line, and whether it missed the mutant."""
    from nfcourse.check import CheckFailed

    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            exec(compile(source, "<weaker check>", "exec"), names)
    except CheckFailed as error:
        return {"source": source, "line": str(error), "missed": False}
    line = printed.getvalue().strip() or "(it prints nothing)"
    return {"source": source, "line": line, "missed": line.startswith("✓ ")}


def attempt(cell: Cell, mutant: dict | None, names: dict, plain: dict[str, list[dict]] | None = None) -> dict:
    """Run a check cell, with a mutant or as it is, and return the verdict; leaves a mess, so call it in a fork.

    Args:
        cell: The cell.
        mutant: The mutant, or ``None``.
        names: The names that the cell finds.
        plain: The tolerances that were heard without the mutant.

    Returns:
        The verdict and what it rests on, with what became of a weaker check; of a cell without a mutant, the
        tolerances and the faults of its weaker checks.
    """
    verdict = _attempt(cell, mutant, names, plain)
    if mutant is None and verdict["verdict"] == "survived":
        return verdict | {"weaker": _weaker_faults(cell, names)}
    if mutant is None or "weaker" not in mutant or verdict["verdict"] == "fault":
        return verdict
    try:
        found = weaker_check(mutant["weaker"], names)
    except Exception as error:
        return _fault(f"the weaker check does not run: {_words(error)}")
    if not found["missed"]:
        return _fault(f"the weaker check does not miss it: {found['line']}") | {"weaker": found}
    return verdict | {"weaker": found}


def _weaker_faults(cell: Cell, names: dict) -> dict[str, str]:
    """Say which weaker checks do not pass although nothing is wrong: to miss a mutant would mean nothing then."""
    faults = {}
    for source in (m["weaker"] for m in cell.mutants if "weaker" in m):
        try:
            found = weaker_check(source, names)
        except Exception as error:
            faults[source] = f"the weaker check does not run on the cell as it is: {_words(error)}"
        else:
            if not found["missed"]:
                faults[source] = f"the weaker check rejects the cell as it is: {found['line']}"
    return faults


def _attempt(cell: Cell, mutant: dict | None, names: dict, plain: dict[str, list[dict]] | None) -> dict:
    from nfcourse.check import CheckFailed

    source, ran, failed = cell.source, {"yes": True}, None
    try:
        if mutant and "in" in mutant:
            ran = patch(mutant, names)
        elif mutant:
            source = mutated(source, mutant)
        listener = Listener(source)
        try:
            execute(source, CHECKED, names)
        except CheckFailed as error:
            failed = error
        if not ran:  # as under a cache that an earlier cell has filled
            raise Fault("the new code never ran")
        if failed:
            call = failed_call(failed, source)
            miss = min(getattr(failed, "miss", math.inf), listener.miss_before(call, plain or {}))
            return {
                "verdict": "killed" if miss >= MISS else "too close",
                "check": call.func.attr,
                "claim": str(failed),
                "miss": float(f"{miss:.2g}") if math.isfinite(miss) else None,  # JSON has no infinity
            }
    except Exception as error:
        return _fault(_words(error))
    return {"verdict": "survived"} | ({} if mutant else {"heard": listener.heard})


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, Fault) else f"{type(error).__name__}: {error}"


def _fault(why: str) -> dict:
    return {"verdict": "fault", "why": why}


# One chapter.


def forked(function, *arguments, limit: float | None = None):
    """Return what a function returns in a copy of this process, which keeps all that it does to itself.

    Raises:
        TimeoutError: If it takes more than ``limit`` seconds.
        ChildProcessError: If the copy dies.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(function(*arguments)))
    child.start()
    sender.close()
    try:
        if not receiver.poll(limit):
            raise TimeoutError(f"no result after {limit:g} s")
        return receiver.recv()
    except EOFError:
        raise ChildProcessError("the process died") from None
    finally:
        child.kill()
        child.join()
        receiver.close()


def copied(folder: Path, to: Path) -> Path:
    """Copy a folder and what stands beside it, but for what is hidden, a link or large, and return the copy.

    In it a cell's files are nobody else's, and can be undone; ``../book`` is found as ever.
    """
    for beside in folder.parent.iterdir():
        if beside.is_symlink() or beside.name.startswith(".") or beside == folder or not _small(beside):
            continue
        if beside.is_dir():
            shutil.copytree(beside, to / beside.name, symlinks=True)
        else:
            shutil.copy2(beside, to / beside.name)
    return Path(shutil.copytree(folder, to / folder.name))


def _small(path: Path) -> bool:
    files = (p for p in itertools.chain([path], path.rglob("*")) if not p.is_dir())
    sizes = itertools.accumulate(p.lstat().st_size for p in files)
    return all(size <= LARGE for size in sizes)


def listing(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return sizes and times of all that is in a folder and beside it."""
    paths = (path for path in folder.parent.rglob("*") if path != folder)
    return {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths}


def alone(folder: Path, *arguments, limit: float) -> dict:
    """Attempt in a fork, and see to it that it leaves all copies as they were for the next one."""
    before = listing(folder)
    with tempfile.TemporaryDirectory() as kept:
        shutil.copytree(folder.parent, kept, symlinks=True, dirs_exist_ok=True)
        try:
            verdict = forked(attempt, *arguments, limit=limit)
        except (TimeoutError, ChildProcessError) as error:
            verdict = _fault(str(error))
        after = listing(folder)
        if before == after:
            return verdict
        touched = sorted(path for path, _ in before.items() ^ after.items())
        for path in touched:  # never the folder itself, in which this process works
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        shutil.copytree(kept, folder.parent, symlinks=True, dirs_exist_ok=True)
    names = sorted({os.path.relpath(path, folder) for path in touched})
    return _fault(f"the cell writes files: mutants would meet each other's ({', '.join(names)})")


def entry(cell: Cell, needed: list[Cell], package: str, verdicts: list[dict]) -> dict:
    """Return what is stored of a theorem."""
    mutants = [_asked(m) | v for m, v in zip(cell.mutants, verdicts, strict=True)]
    return hashes(cell, needed, package) | {"mutants": mutants, "verdicts": _seal(mutants)}


def run(path: Path, top: str, limit: float = LIMIT) -> dict:
    """Run a chapter's setup cells, and each check cell in forks; return the entries by theorem.

    Args:
        path: The notebook.
        top: An empty folder, in which a copy of the notebook's folder is made.
        limit: Seconds that a check cell may take.
    """
    os.environ.update(NFCOURSE_STATIC="1", MPLBACKEND="Agg", TQDM_DISABLE="1")
    # one thread, and none for a GPU: a fork has no other than the one that forks
    os.environ.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    sys.dont_write_bytecode = True  # a file that no cell has written
    import numpy
    import torch

    torch.set_num_threads(1)
    # the cell that would seed them may not be a setup cell
    torch.manual_seed(0)
    numpy.random.seed(0)
    names, done, entries, package, broken = {"__name__": "__main__"}, 0, {}, package_hash(), None
    folder = copied(path.parent, Path(top))
    os.chdir(folder)
    for theorem, (cell, needed) in plan(path).items():
        for earlier in needed[done:] if broken is None else []:
            try:
                execute(earlier.source, f"<cell {earlier.id}>", names)
            except Exception as error:  # all later theorems need this cell too
                broken = _fault(f"cell {earlier.id}, which comes before, fails: {_words(error)}")
                break
        done = len(needed)
        wrong = broken
        if wrong is None:
            plain = alone(folder, cell, None, names, limit=limit)
            if plain["verdict"] != "survived":
                wrong = _fault(f"the cell fails as it is: {plain.get('why') or plain.get('claim')}")
        verdicts = []
        for m in cell.mutants:
            why = None if wrong else plain["weaker"].get(m.get("weaker"))
            verdicts.append(
                wrong or (_fault(why) if why else alone(folder, cell, m, names, plain["heard"], limit=limit))
            )
        entries[theorem] = entry(cell, needed, package, verdicts)
    return entries


def run_apart(path: Path, limit: float = LIMIT) -> dict:
    """Run a chapter in a fork; if that dies, so have all mutants."""
    try:
        with tempfile.TemporaryDirectory() as top:  # made here, so that it goes even if the fork dies
            return forked(run, path, top, limit)
    except ChildProcessError as error:
        dead = _fault(f"the chapter does not run: {error}")
        package = package_hash()
        return {name: entry(*cells, package, [dead] * len(cells[0].mutants)) for name, cells in plan(path).items()}


def report(stem: str, entries: dict) -> str:
    """Return a table of verdicts; those that are not killed say what to look at."""
    lines = [stem]
    for theorem, entry in entries.items():
        for m in entry["mutants"]:
            missed = ", no margin" if m.get("miss") is None else f" by {m['miss']:g} tolerances"
            how = f"  [{m['check']}{missed}]" if "check" in m else ""
            lines.append(f"  {m['verdict']:9}  {theorem}: {m['belief']}{how}")
            if isinstance(m.get("weaker"), dict) and m["weaker"]["missed"]:
                lines.append(f"             missed by a weaker check: {m['weaker']['line']}")
            if m["verdict"] != "killed":
                where = [f"in {m['in']}:"] if "in" in m else []
                diff = [f"{sign} {line}" for sign, key in (("-", "old"), ("+", "new")) for line in m[key].splitlines()]
                why = m.get("why") or m.get("claim") or "no check in this cell noticed"
                lines += [f"             {line}" for line in [*where, *diff, why]]
    return "\n".join(lines)


def alive(paths: list[Path], stored: dict) -> list[str]:
    """Say which mutants are not killed."""
    return [
        f"{path.stem}, {theorem}: {m['verdict']}: {m['belief']}"
        for path in paths
        for theorem, entry in stored.get(path.stem, {}).items()
        for m in entry["mutants"]
        if m["verdict"] != "killed"
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", type=Path, help="notebooks; default all chapters")
    parser.add_argument("--check", action="store_true", help="run nothing, compare the stored file with the chapters")
    parser.add_argument("--json", type=Path, default=RESULTS, help="the file")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds that a cell may take")
    options = parser.parse_args(arguments)
    paths = [p.resolve() for p in options.chapters] or CHAPTERS
    try:
        stored = load(options.json)
    except ValueError:
        if options.check or options.chapters:
            raise
        stored = {}  # all is run anew
    if options.check:
        problems = [f"{line}: run `make mutants`" for line in stale(paths, stored)] + alive(paths, stored)
        problems += gaps(paths, stored=stored)
        print("\n".join(problems) or "all mutants are killed, and what is stored is of today")
        return bool(problems)
    plans = {path: plan(path) for path in paths}  # what is written wrongly is said before anything runs
    for stem in _gone(paths, stored):
        del stored[stem]
    for path in paths:
        stored.pop(path.stem, None)
        if plans[path]:
            start = time.perf_counter()
            stored[path.stem] = run_apart(path, options.limit)
            print(report(path.stem, stored[path.stem]))
            print(f"  {time.perf_counter() - start:.0f} s", flush=True)
        save(stored, options.json)
    return bool(alive(paths, stored))


if __name__ == "__main__":
    sys.exit(main())
