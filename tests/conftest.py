"""Shapes in signatures are enforced; notebooks that run under nbval are timed and weighed.

Every shape that ``nfcourse`` annotates is checked at each call (see shapes.py), because the import hook is set before
any test imports the package. Where `torch.compile` runs it is left out, as it cannot be traced: in tests whose name
says so, and in processes with ``NFCOURSE_NO_TYPECHECK=1``.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import browsing
import psutil
import pytest
from bs4 import BeautifulSoup

if os.environ.get("NFCOURSE_NO_TYPECHECK") != "1":
    from jaxtyping import install_import_hook

    if "nfcourse" in sys.modules:
        raise RuntimeError("nfcourse was imported before its annotations could be checked.")
    install_import_hook("nfcourse", "shapes.checker")


@pytest.fixture(autouse=True)
def untraced(request):
    """Switch the checks off where a graph is traced."""
    import jaxtyping

    off = "compile" in request.node.name
    jaxtyping.config.update("jaxtyping_disable", off)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


ROOT = Path(__file__).resolve().parents[1]
STATUS = ROOT / "_build" / "status.json"

# What a chapter may take. Continuous integration shares its machine: it gets twice the time.
SECONDS = 60.0 * (2 if os.environ.get("CI") else 1)
GIGABYTES = 2.0

PAGES = {*browsing.PAGES, *browsing.EXTRA}


def _peak_bytes(pid):
    """Return the peak memory of a process: the kernel's own record on Linux, else what it holds now."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return psutil.Process(pid).memory_info().rss


def _is_chapter_cell(item):
    return type(item).__name__ == "IPyNbCell" and item.path.parent == ROOT / "chapters"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item, nextitem):
    """After a chapter's last cell, while its kernel still lives: note time and memory, and hold them to the limits."""
    if not _is_chapter_cell(item) or (nextitem is not None and nextitem.parent is item.parent):
        return
    pid = item.parent.kernel.km.provisioner.pid
    # processor time: wall time says more about what else the machine is doing
    seconds = round(sum(psutil.Process(pid).cpu_times()[:2]), 1)
    memory = round(_peak_bytes(pid) / 1e9, 2)
    item.user_properties.append(("chapter", {"name": item.path.stem, "seconds": seconds, "memory_gb": memory}))
    if seconds > SECONDS:
        pytest.fail(f"{item.path.stem} took {seconds} s; the limit is {SECONDS:.0f} s", pytrace=False)
    if memory > GIGABYTES:
        pytest.fail(f"{item.path.stem} took {memory} GB; the limit is {GIGABYTES} GB", pytrace=False)


class _Status:
    """Collect what the workers measured into _build/status.json (in the one process that sees all reports)."""

    def __init__(self):
        self.rows, self.bijections = {}, []

    def pytest_runtest_logreport(self, report):
        if report.when == "teardown":
            for key, value in report.user_properties:
                if key == "bijection":
                    self.bijections.append(value)
                if key == "chapter":
                    self.rows[value["name"]] = {k: v for k, v in value.items() if k != "name"}

    def pytest_sessionfinish(self, session):
        if self.rows:
            STATUS.parent.mkdir(exist_ok=True)
            old = json.loads(STATUS.read_text()) if STATUS.is_file() else {}
            STATUS.write_text(json.dumps({**old, **self.rows}, indent=1, sort_keys=True) + "\n")

    def pytest_terminal_summary(self, terminalreporter):
        for name, row in sorted(self.rows.items()):
            terminalreporter.write_line(f"{name}: {row['seconds']} s, {row['memory_gb']} GB")
        if self.bijections:
            head = f"{'check_bijection':44} {'measure':9} {'directions':17} round trip  log-det (float32)"
            terminalreporter.write_line(head)
        for name, measure, directions, trip, log_det in sorted(self.bijections):
            terminalreporter.write_line(f"{name:44} {measure:9} {directions:17} {trip:10.1e}  {log_det:.1e}")


class _Minutes:
    """Add up where the core-minutes of a run go: planned are 15 to 20 for 20 chapters on two cores."""

    def __init__(self):
        self.seconds = dict.fromkeys(KINDS.values(), 0.0)

    def pytest_runtest_logreport(self, report):
        self.seconds[_kind(report.nodeid)] += report.duration

    def pytest_terminal_summary(self, terminalreporter):
        total = sum(self.seconds.values())
        if total > 60:
            for kind, seconds in self.seconds.items():
                terminalreporter.write_line(f"{kind:12} {seconds / 60:5.1f} core-minutes")
            terminalreporter.write_line(f"{'all':12} {total / 60:5.1f} core-minutes")


# The first that fits a test's address says its kind.
KINDS = {
    r"^chapters/": "notebooks",
    r"test_mutants|test_badges": "mutants",
    r"test_(book|page_fit|live|search|figures|lab|pdf|pages)\b": "browser",
    r"assignments|grad": "assignments",
    r"": "package",
}


def _kind(nodeid):
    return next(kind for pattern, kind in KINDS.items() if re.search(pattern, nodeid.split("::")[0]))


@pytest.hookimpl(tryfirst=True)  # before the plugin that reads the marks
def pytest_collection_modifyitems(items):
    """Let one worker have all cells of a chapter, all tests of a file, but of the browser's tests those of one page.

    A page's tests stand together, so that it is opened once.
    """
    places = {}
    for item in items:
        group = item.path.name
        if "browser" in getattr(item, "fixturenames", ()):
            parameters = getattr(getattr(item, "callspec", None), "params", {})
            page = next((v for v in parameters.values() if v in PAGES), "")
            group = f"page:{page}" if page else group
        item.add_marker(pytest.mark.xdist_group(group))
        places[item] = (1, group) if group.startswith("page:") else (0, "")
    items.sort(key=places.get)


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Status(), "nfcourse-status")
        config.pluginmanager.register(_Minutes(), "nfcourse-minutes")


@pytest.fixture(scope="session")
def book():
    """Build the book as ``make book`` does; nothing happens if it is fresh."""
    build = [sys.executable, str(ROOT / "scripts" / "build_book.py")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return browsing.HTML


@pytest.fixture(scope="session")
def pages(book):
    """Every HTML page, parsed."""
    return {
        p.relative_to(book).as_posix(): BeautifulSoup(p.read_text("utf8"), "html.parser")
        for p in sorted(book.rglob("*.html"))
        if "_static" not in p.parts
    }


@pytest.fixture(scope="session")
def browser(book, tmp_path_factory):
    """A headless Chromium that resolves no name and records what it asks for."""
    chromium = browsing.find("chromium", "chromium-browser", "google-chrome")
    driver = browsing.find("chromedriver", "/usr/lib/chromium/chromedriver", "/usr/lib/chromium-browser/chromedriver")
    if not (chromium and driver):
        reason = f"the browser tests need Chromium and its driver; found {chromium} and {driver}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run "
        "--disable-background-networking --disable-component-update --disable-sync --hide-scrollbars"
    ).split():
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    chrome.set_page_load_timeout(180)
    chrome.set_script_timeout(180)
    chrome.execute_cdp_cmd("Network.enable", {})
    yield chrome
    chrome.quit()
