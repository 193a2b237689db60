"""Build the HTML with warnings as errors, and say where to open it.

Nothing changed: nothing is built. Anything changed, of the sources or of what was built: everything is, from an empty
folder. A build of single pages would leave old titles in the side bars of the others, pages of removed chapters, and
references that broke without a warning; the whole book takes seconds. The new pages take the place of the old ones
when they are complete. Of two builds at once the second waits, and mostly finds that nothing is left to do.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock, Timeout

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
HTML = BUILD / "html"
STAMP = BUILD / "digest"
NEW = BUILD / "new"
LOCK = BUILD / "lock"
SOURCES = ("_config.yml", "_toc.yml", "requirements.txt", "pyproject.toml", "LICENSE*", "scripts/build_book.py",
           "book/**/*", "chapters/**/*", "nfcourse/**/*.py", "nfcourse/assets/*.json", "nfcourse/assets/live/*",
           "scripts/mutants.py", "plain/*.ipynb")  # fmt: skip
CAUSE = re.compile(r"\b(?:WARNING|ERROR|CRITICAL)\b|\w(?:Error|Exception): ")


def digest(root, patterns):
    """Return one SHA-256 over the names and contents of the files of a folder that fit the patterns."""
    files = {p for pattern in patterns for p in root.glob(pattern) if p.is_file()}
    total = hashlib.sha256()
    for path in sorted(files):
        if not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts):
            content = hashlib.sha256(path.read_bytes()).digest()
            total.update(path.relative_to(root).as_posix().encode() + b"\0" + content)
    return total.hexdigest()


def built():
    """Return the digest of the pages that are there: contents, as 40 MB take a fifth of a second."""
    return digest(HTML, ("**/*",)) if (HTML / "index.html").is_file() else ""


def build():
    """Build into an empty folder, and let it take the place of the old pages; else end, and say what failed."""
    shutil.rmtree(NEW, ignore_errors=True)
    jupyter_book = str(Path(sys.executable).parent / "jupyter-book")
    command = [jupyter_book, "build", str(ROOT), "--path-output", str(NEW), "--all", "-W", "--keep-going", "-q"]
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace")  # fmt: skip
    made = NEW / "_build" / "html"
    if done.returncode or not (made / "index.html").is_file():
        lines = [re.sub(r"\x1b\[[\d;]*m", "", line).strip() for line in done.stdout.splitlines()]
        causes = list(dict.fromkeys(line for line in lines if CAUSE.search(line)))[:20]
        causes = causes or [line for line in lines if line][-5:] or [f"Jupyter Book ended with {done.returncode}"]
        sys.exit("\n".join([done.stdout, "The book was not built. What failed:", *(f"  {line}" for line in causes)]))
    shutil.rmtree(HTML, ignore_errors=True)
    made.rename(HTML)
    shutil.rmtree(NEW)


def main():
    """Run Jupyter Book if anything changed."""
    BUILD.mkdir(exist_ok=True)
    lock = FileLock(LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("Another build is at work: waiting for it.", flush=True)
        lock.acquire()
    try:
        now = digest(ROOT, SOURCES)
        known = STAMP.read_text() if STAMP.is_file() else ""
        if known != f"{now} {built()}":
            STAMP.unlink(missing_ok=True)  # a build that fails is never taken for a finished one
            build()
            STAMP.write_text(f"{now} {built()}")
    finally:
        lock.release()
    print(f"The book is built. Open {(HTML / 'index.html').as_uri()}")


if __name__ == "__main__":
    main()
