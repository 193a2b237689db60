"""Shapes in signatures are enforced; notebooks that run under nbval are timed and weighed.

Every shape that ``nfcourse`` annotates is checked at each call (see shapes.py), because the import hook is set before
any test imports the package. Where `torch.compile` runs it is left out, as it cannot be traced: in tests whose name
says so, and in processes with ``NFCOURSE_NO_TYPECHECK=1``.
"""

import json
import os
import sys
from pathlib import Path

import psutil
import pytest

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


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Status(), "nfcourse-status")
