"""The script that builds the book: what it takes for fresh, two builds at once, a build that fails."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from browsing import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import build_book  # noqa: E402

# The script in a folder of its own, with a stand-in for Jupyter Book that counts how often it was called.
DRIVER = """import subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
import build_book as b
b.ROOT = Path(sys.argv[2])
b.BUILD = b.ROOT / "_build"
b.HTML, b.STAMP, b.NEW, b.LOCK = (b.BUILD / n for n in ("html", "digest", "new", "lock"))
def run(command, **options):
    assert command[1] == "build"
    with (b.ROOT / "calls").open("a") as calls: calls.write("x")
    made = b.NEW / "_build" / "html"
    made.mkdir(parents=True)
    time.sleep(float(sys.argv[3]))
    (made / "index.html").write_text("new")
    (made / "other.html").write_text("pages")
    return SimpleNamespace(returncode=0, stdout="")
subprocess.run = run
b.main()
"""


@pytest.fixture
def start(tmp_path):
    """Start a build in a folder of its own."""

    def start(seconds=0):
        (tmp_path / "driver.py").write_text(DRIVER)
        command = [sys.executable, str(tmp_path / "driver.py"), str(ROOT / "scripts"), str(tmp_path), str(seconds)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    (tmp_path / "_toc.yml").write_text("root: a")
    return start


def calls(folder):
    return (folder / "calls").read_text().count("x")


def finished(process):
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 0, told
    return told


def test_of_two_builds_at_once_the_second_waits(start, tmp_path):
    told = [finished(process) for process in [start(2), start(2)]]
    assert calls(tmp_path) == 1
    assert all("The book is built." in text for text in told)
    assert sum("waiting" in text for text in told) == 1


@pytest.mark.parametrize("change", ["altered", "removed", "added", "a source"])
def test_what_was_altered_is_built_anew(start, tmp_path, change):
    """A page that somebody changed, as much as a source: the same length, the same time, other letters."""
    finished(start())
    finished(start())
    assert calls(tmp_path) == 1
    html = tmp_path / "_build" / "html"
    if change == "altered":
        (html / "other.html").write_text("paged")
    elif change == "removed":
        (html / "other.html").unlink()
    elif change == "added":
        (html / "third.html").write_text("")
    else:
        (tmp_path / "_toc.yml").write_text("root: b")
    finished(start())
    assert calls(tmp_path) == 2
    assert sorted(p.name for p in html.iterdir()) == ["index.html", "other.html"]
    assert (html / "other.html").read_text() == "pages"


@pytest.mark.parametrize(
    "file",
    ["_toc.yml", "LICENSE-TEXT", "pyproject.toml", "nfcourse/assets/answers.json", "nfcourse/assets/live/core.js",
     "book/start.md", "plain/01_measures.ipynb"],
)  # fmt: skip
def test_what_the_book_is_made_of(file):
    assert ROOT / file in {path for pattern in build_book.SOURCES for path in ROOT.glob(pattern)}


@pytest.mark.parametrize(
    ("out", "code", "cause"),
    [
        ("much\n\x1b[91m/x/a.md:3: WARNING: no label: 'q'\x1b[0m\nmore", 1, "/x/a.md:3: WARNING: no label: 'q'\n"),
        ("Traceback\nKeyError: 'x'\nend", 2, "KeyError: 'x'"),
        ("killed", -9, "killed"),
        ("", -9, "Jupyter Book ended with -9"),
        ("fine, but no pages", 0, "no pages"),
    ],
    ids=["warning", "exception", "last lines", "silent", "no pages"],
)  # fmt: skip
def test_a_failed_build_says_what_failed_and_keeps_the_pages(monkeypatch, tmp_path, out, code, cause):
    html = tmp_path / "html"
    html.mkdir()
    (html / "index.html").write_text("old")
    for name, path in (("ROOT", tmp_path), ("BUILD", tmp_path), ("HTML", html), ("NEW", tmp_path / "new"),
                       ("STAMP", tmp_path / "digest"), ("LOCK", tmp_path / "lock")):  # fmt: skip
        monkeypatch.setattr(build_book, name, path)
    done = SimpleNamespace(returncode=code, stdout=out)
    monkeypatch.setattr(build_book.subprocess, "run", lambda *args, **options: done)
    for _ in range(2):  # the lock is free again
        with pytest.raises(SystemExit) as failed:
            build_book.main()
        text = str(failed.value)
        assert text.startswith(out) and cause in text.partition("What failed:")[2] + "\n"
    assert (html / "index.html").read_text() == "old" and not build_book.STAMP.exists()
