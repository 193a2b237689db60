"""Re-run chapters, store their outputs, and note run times and peak memory.

Usage: ``python scripts/execute.py chapters/01_measures.ipynb ...`` (``make execute`` passes all of them). The file
book/status.json, from which every page takes its times, keeps the rows of chapters that were not run this time.
"""

import json
import platform
import re
import sys
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "book" / "status.json"


def measure(path):
    """Execute one notebook in place; return processor seconds and peak memory in GB of its kernel.

    Processor time, because wall time says more about what else the machine is doing.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,
        coalesce_streams=True,  # else the same text is cut at random points
        resources={"metadata": {"path": path.parent}},
    )
    peak, seconds = 0, 0.0
    with client.setup_kernel():
        kernel = psutil.Process(client.km.provisioner.pid)
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
            memory = kernel.memory_info()
            peak = max(peak, getattr(memory, "peak_wset", 0) or _peak(kernel) or memory.rss)
        seconds = sum(kernel.cpu_times()[:2])
        client.set_widgets_metadata()
    notebook.metadata.pop("widgets", None)
    fold(notebook)
    seconds, gigabytes = round(seconds, 1), round(peak / 1e9, 2)
    state(notebook, seconds, gigabytes)  # the rounded ones: the header is compared with the table
    nbformat.write(notebook, path)
    return seconds, gigabytes


def fold(notebook):
    """Fold in JupyterLab what the book folds: it does not know the tags, only metadata of its own."""
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        hidden = {
            "source_hidden": bool({"hide-input", "remove-input"} & set(tags)),
            "outputs_hidden": "hide-output" in tags,
        }
        cell.metadata.pop("jupyter", None)
        if any(hidden.values()):
            cell.metadata["jupyter"] = {key: True for key, on in hidden.items() if on}


def state(notebook, seconds, gigabytes):
    """Write into the header what the run took."""
    line = f"Run time: about {seconds:.0f} s on one core; peak memory: {gigabytes:.1f} GB."
    header = notebook.cells[0]
    header.source, found = re.subn(r"^Run time: .*$", line, header.source, flags=re.MULTILINE)
    if found != 1:
        raise SystemExit(f"expected one line in the header that begins with 'Run time: ', found {found}.")


def _peak(process):
    """Return the kernel's own record of the peak, in bytes, where the system keeps one (Linux)."""
    try:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 0


def main():
    """Execute what the command line names, and note what they took."""
    rows = json.loads(TABLE.read_text()) if TABLE.is_file() else {}
    for name in sys.argv[1:]:
        path = Path(name).resolve()
        seconds, memory = measure(path)
        rows[path.stem] = {"seconds": seconds, "memory_gb": memory, "python": platform.python_version()}
        print(f"{path.stem}: {seconds} s, {memory} GB")
        TABLE.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
