"""Build the HTML with warnings as errors, and say where to open it.

Nothing changed: nothing is built. Anything changed: everything is, from an empty folder. A build of single pages would
leave old titles in the side bars of the others, pages of removed chapters, and references that broke without a warning;
the whole book takes seconds. The new pages take the place of the old ones when they are complete.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
HTML = BUILD / "html"
STAMP = BUILD / "digest"
NEW = BUILD / "new"
SOURCES = ("_config.yml", "_toc.yml", "requirements.txt", "scripts/build_book.py", "book/**/*", "chapters/**/*",
           "nfcourse/**/*.py", "nfcourse/assets/live/*", "scripts/mutants.py", "plain/*.ipynb")  # fmt: skip


def digest():
    """Return one SHA-256 over the names and contents of all that the book is made of."""
    files = {p for pattern in SOURCES for p in ROOT.glob(pattern) if p.is_file()}
    total = hashlib.sha256()
    for path in sorted(files):
        if not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts):
            content = hashlib.sha256(path.read_bytes()).digest()
            total.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + content)
    return total.hexdigest()


def main():
    """Run Jupyter Book if anything changed."""
    now, index = digest(), HTML / "index.html"
    known = STAMP.read_text() if STAMP.is_file() else ""
    if known != now or not index.is_file():
        STAMP.unlink(missing_ok=True)  # a build that fails is never taken for a finished one
        shutil.rmtree(NEW, ignore_errors=True)
        jupyter_book = str(Path(sys.executable).parent / "jupyter-book")
        command = [jupyter_book, "build", str(ROOT), "--path-output", str(NEW), "--all", "-W", "--keep-going", "-q"]
        environment = {**os.environ, "MPLBACKEND": "Agg", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{done.stdout}\nThe book was not built: see the warnings above.")
        shutil.rmtree(HTML, ignore_errors=True)
        (NEW / "_build" / "html").rename(HTML)
        shutil.rmtree(NEW)
        STAMP.write_text(now)
    print(f"The book is built. Open {index.as_uri()}")


if __name__ == "__main__":
    main()
