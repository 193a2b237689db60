"""Break what a check computes, one wrong formula at a time, and see whether the check notices.

Usage: ``python scripts/mutants.py [chapters/03_change_of_variables.ipynb ...]`` runs all chapters, or those named, and
stores what happened in book/results/mutants.json. ``--check`` runs nothing: it compares that file with the chapters and
the package. Both exit with 1 if anything is wrong.

A code cell tagged ``check-thm-...`` lists its mutants in its metadata::

    "mutants": [{"belief": "the Jacobian of $f$ will do", "old": "jacrev(deflate))(x)", "new": "jacrev(inflate))(x)"}]

``old`` is a text that occurs once in the cell, outside of every ``check.`` call that judges. With
``"in": "nfcourse.bijections.linear:PLU.forward"`` it is in the body of that function instead, with ``"in": "deflate"``
in that of a function from an earlier cell. Nothing else of the chapter runs but the cells tagged ``setup`` (where no
cell is, all that come before).

A mutant is *killed* if an untouched ``check.`` call of the cell raises CheckFailed and misses by three tolerances or
more; *too close* if it misses by less; *survived* if the cell runs through; anything else is a *fault* of the mutant.
"""

import argparse
import ast
import hashlib
import importlib
import inspect
import io
import json
import linecache
import math
import multiprocessing
import os
import sys
import time
import traceback
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
RESULTS = ROOT / "book" / "results" / "mutants.json"

#: chapters in which every theorem's check must have a mutant, and tagged setup cells
SECOND_EDITION: list[str] = []

#: a failed claim must miss by so many tolerances, else another seed or machine might let the mutant pass
MISS = 3.0
#: seconds that a cell may take
LIMIT = 120.0
#: what stands under ``check`` and judges nothing
HELPERS = {"randomize", "draw_inputs"}
#: the modules of the checks
JUDGES = ("nfcourse.check", "nfcourse.contracts")
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
        ValueError: If mutants stand in a cell that checks no theorem, or in two cells for one.
    """
    cells, found = read(path), {}
    tagged = any("setup" in cell.tags for cell in cells)
    for k, cell in enumerate(cells):
        if cell.mutants:
            if cell.theorem is None or cell.theorem in found:
                raise ValueError(f"{path.stem}, cell {cell.id}: mutants need a tag check-thm-... of their own.")
            found[cell.theorem] = (cell, [c for c in cells[:k] if "setup" in c.tags or not tagged])
    return found


def gaps(paths: list[Path], editions: list[str] | None = None) -> list[str]:
    """Say what the chapters of the second edition lack."""
    lacks = []
    for path in paths:
        if path.stem in (SECOND_EDITION if editions is None else editions):
            cells, with_mutants = read(path), plan(path)
            theorems = {c.theorem for c in cells if c.theorem}
            lacks += [f"{path.stem}, {theorem}: no mutant" for theorem in sorted(theorems - with_mutants.keys())]
            if not any("setup" in cell.tags for cell in cells):
                lacks.append(f"{path.stem}: no cell is tagged setup")
    return lacks


# What is stored is as old as the sources that it came from.


def _hash(texts) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def package_hash() -> str:
    """Hash the sources of the package, but for drawings and long experiments, which no check calls."""
    folder, apart = ROOT / "nfcourse", {"plot.py", "widgets.py", "experiments"}
    files = [p for p in sorted(folder.rglob("*.py")) if p.relative_to(folder).parts[0] not in apart]
    return _hash(text for p in files for text in (p.relative_to(folder).as_posix(), p.read_text("utf8")))


def hashes(cell: Cell, needed: list[Cell], package: str) -> dict[str, str]:
    """Return what the verdicts on a cell depend on."""
    return {"cell": _hash(c.source for c in [*needed, cell]), "package": package}


def load(file: Path = RESULTS) -> dict:
    """Return what is stored."""
    return json.loads(file.read_text("utf8")) if file.is_file() else {}


def stale(paths: list[Path] = CHAPTERS, stored: dict | None = None) -> list[str]:
    """Say which stored entries are not those of the chapters as they are; nothing is run."""
    stored, package, old = load() if stored is None else stored, package_hash(), []
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
                new = hashes(*cells[theorem], package)
                changed = [key for key in new if new[key] != entry[key]]
                what = f"has changed ({', '.join(changed)})" if changed else ""
            if what:
                old.append(f"{path.stem}, {theorem}: {what}")
    return old


def _asked(mutant: dict) -> dict:
    return {key: mutant[key] for key in ("belief", "old", "new", "in") if key in mutant}


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
    before, after = (sorted(map(ast.unparse, check_calls(text))) for text in (source, changed))
    if before != after:
        raise Fault("the check call itself is changed: compute outside of it")
    return changed


def patch(mutant: dict, names: dict) -> None:
    """Replace the code of a function in place: whoever has imported it, or built an object, gets the mutant."""
    module, _, path = mutant["in"].rpartition(":")
    if module in JUDGES:
        raise Fault("what judges is no place for a mutant")
    found = importlib.import_module(module) if module else SimpleNamespace(**names)
    for part in path.split("."):
        found = inspect.getattr_static(found, part)
    function = inspect.unwrap(getattr(found, "fget", found))  # what a property or a decorator wraps
    source = replace(inspect.getsource(function), mutant)
    tree = ast.parse("if True:\n" + source if source[0].isspace() else source)
    is_it = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == function.__name__)
    # in a class, else super() without arguments does not compile; in one of that name, for the sake of self.__names
    shell = ast.parse(f"class {['_', *function.__qualname__.split('.')][-2]}: pass")
    shell.body[0].body = [next(is_it)]
    body = next(c for c in compile(shell, "<mutant>", "exec").co_consts if isinstance(c, CodeType))
    function.__code__ = next(c for c in body.co_consts if getattr(c, "co_name", "") == function.__name__)


def execute(source: str, filename: str, names: dict) -> None:
    """Run a cell; tracebacks and ``inspect.getsource`` find its text."""
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    with redirect_stdout(io.StringIO()):
        exec(compile(source, filename, "exec"), names)


def failed_call(error: Exception, source: str) -> ast.Call:
    """Return the ``check.`` call of the cell from which an error came."""
    frame = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == CHECKED][-1]
    place = (frame.lineno, frame.end_lineno, frame.colno, frame.end_colno)
    for call in check_calls(source):
        if (call.lineno, call.end_lineno, call.col_offset, call.end_col_offset) == place:
            return call
    raise Fault("CheckFailed, but not from a check call of this cell")


def attempt(cell: Cell, mutant: dict | None, names: dict) -> dict:
    """Run a check cell, with a mutant or as it is, and return the verdict; leaves a mess, so call it in a fork."""
    from nfcourse.check import CheckFailed

    source = cell.source
    try:
        if mutant and "in" in mutant:
            patch(mutant, names)
        elif mutant:
            source = mutated(source, mutant)
        try:
            execute(source, CHECKED, names)
        except CheckFailed as error:
            call, miss = failed_call(error, source), getattr(error, "miss", math.inf)
            return {
                "verdict": "killed" if miss >= MISS else "too close",
                "check": call.func.attr,
                "claim": str(error),
                "miss": float(f"{miss:.2g}") if math.isfinite(miss) else None,  # JSON has no infinity
            }
    except Exception as error:
        return _fault(str(error) if isinstance(error, Fault) else f"{type(error).__name__}: {error}")
    return {"verdict": "survived"}


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


def run(path: Path, limit: float = LIMIT) -> dict:
    """Run a chapter's setup cells, and each check cell in forks; return the entries by theorem."""
    os.environ.update(NFCOURSE_STATIC="1", MPLBACKEND="Agg", TQDM_DISABLE="1")
    # one thread, and none for a GPU: a fork has no other than the one that forks
    os.environ.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    os.chdir(path.parent)
    import numpy
    import torch

    torch.set_num_threads(1)
    # the cell that would seed them may not be a setup cell
    torch.manual_seed(0)
    numpy.random.seed(0)
    names, done, entries, package = {"__name__": "__main__"}, 0, {}, package_hash()

    def verdict(cell, mutant):
        try:
            return forked(attempt, cell, mutant, names, limit=limit)
        except (TimeoutError, ChildProcessError) as error:
            return _fault(str(error))

    for theorem, (cell, needed) in plan(path).items():
        for earlier in needed[done:]:
            execute(earlier.source, f"<cell {earlier.id}>", names)
        done = len(needed)
        plain = verdict(cell, None)
        broken = _fault(f"the cell fails as it is: {plain.get('why') or plain.get('claim')}")
        verdicts = [verdict(cell, m) if plain["verdict"] == "survived" else broken for m in cell.mutants]
        mutants = [_asked(m) | v for m, v in zip(cell.mutants, verdicts, strict=True)]
        entries[theorem] = hashes(cell, needed, package) | {"mutants": mutants}
    return entries


def report(stem: str, entries: dict) -> str:
    """Return a table of verdicts; those that are not killed say what to look at."""
    lines = [stem]
    for theorem, entry in entries.items():
        for m in entry["mutants"]:
            missed = f" by {m['miss']:g} tolerances" if m.get("miss") else ""
            how = f"  [{m['check']}{missed}]" if "check" in m else ""
            lines.append(f"  {m['verdict']:9}  {theorem}: {m['belief']}{how}")
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
    paths, stored = [p.resolve() for p in options.chapters] or CHAPTERS, load(options.json)
    if options.check:
        problems = [f"{line}: run `make mutants`" for line in stale(paths, stored)] + alive(paths, stored) + gaps(paths)
        print("\n".join(problems) or "all mutants are killed, and what is stored is of today")
        return bool(problems)
    for path in paths:
        stored.pop(path.stem, None)
        if plan(path):
            start = time.perf_counter()
            stored[path.stem] = forked(run, path, options.limit)
            print(report(path.stem, stored[path.stem]))
            print(f"  {time.perf_counter() - start:.0f} s", flush=True)
    options.json.write_text(json.dumps(stored, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf8")
    return bool(alive(paths, stored))


if __name__ == "__main__":
    sys.exit(main())
