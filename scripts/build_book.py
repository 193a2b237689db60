"""Build the HTML with warnings as errors, and say where to open it.

The build is incremental: pages whose text did not change are not written again. When something changed that every page
depends on (configuration, table of contents, styles, extensions, the package whose docstrings and sources are shown)
all pages are written; the digest of those files lies beside the built pages.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
STAMP = ROOT / "_build" / "digest"


def sources(*patterns):
    """Return the files that match, sorted."""
    return sorted(p for pattern in patterns for p in ROOT.glob(pattern) if p.is_file() and "__pycache__" not in p.parts)


def digest(files):
    """Return one SHA-256 over names and contents."""
    total = hashlib.sha256()
    for path in files:
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def main():
    """Run Jupyter Book if anything changed."""
    shared = digest(sources("_config.yml", "_toc.yml", "requirements.txt", "book/ext/*", "book/_static/**/*",
                            "nfcourse/**/*.py", "book/references.bib"))  # fmt: skip
    every = shared + digest(sources("book/**/*.md", "book/**/*.svg", "book/**/*.png", "chapters/**/*.ipynb"))
    known = STAMP.read_text() if STAMP.is_file() else ""
    index = HTML / "index.html"
    if known != every or not index.is_file():
        STAMP.unlink(missing_ok=True)
        command = [str(Path(sys.executable).parent / "jupyter-book"), "build", str(ROOT), "-W", "--keep-going", "-q"]
        if not known.startswith(shared) or not index.is_file():
            command.append("--all")
        environment = {**os.environ, "MPLBACKEND": "Agg", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        if subprocess.run(command, cwd=ROOT, env=environment).returncode:
            sys.exit("The book was not built: see the warnings above.")
        STAMP.write_text(every)
    print(f"The book is built. Open {index.as_uri()}")


if __name__ == "__main__":
    main()
