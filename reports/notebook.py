"""The report as a notebook: written, executed in a fresh kernel, and turned into one HTML page.

The notebook's source is the same for every study; all that it shows comes from its outputs, where
show.py escapes it. The kernel is the interpreter that runs this program, whatever kernels are installed.
It needs only its folder and the run directories: a copy of the manifest travels in its metadata.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from core.rundir import read_json
from reports.manifest import MANIFEST_FILE

TIMEOUT_SECONDS = 300

_COMPARED = (
    "## Two cells compared\n\nThe two best, paired by seed. Put in other lines of the table above.",
    "best, second = report.best(2)\nshow.difference(report, best, second)",
)
"""Left out where a study has one cell."""

_CELLS = [
    """\
from pathlib import Path

import pandas as pd

from reports import show
from reports.build import load

report = load(Path("."))
show.heading(report)""",
    "show.figure(report)",
    "## Claims\n\nWhat the paper says, decided by machine from these cells; docs/reports.md says how.",
    "show.claims(report)",
    "## Agreement with the paper",
    "show.agreement(report)",
    "## Setting\n\nWhat the paper used and what was used here.",
    "show.setting(report)",
    "## What is missing",
    "show.failures(report)",
    "## Learning curves",
    "show.curves(report)",
    "## Cells\n\nEvery number with its interval, the paper's, the state of its runs and their ids.",
    "show.cells(report)",
    *_COMPARED,
    "## One run, closer\n\nA run of the best cell. Put in any run id of the table above.",
    "(best,) = report.best(1)\nshow.run(report, report.runs_of(best)[0])",
    "## Where it ran, and with what",
    "show.environments(report)",
    "## The numbers, to work with\n\nThe first lines of table.csv.",
    'table = pd.read_csv("table.csv")\ntable.head()',
]


def source(manifest: dict[str, Any]) -> nbformat.NotebookNode:
    """The notebook without outputs. `manifest`: the plain values of study.json."""
    cells = []
    several = len(manifest["cells"]) > 1
    for number, text in enumerate(text for text in _CELLS if several or text not in _COMPARED):
        make = new_markdown_cell if text.startswith("#") else new_code_cell
        cells.append(make(text, id=f"cell-{number}"))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "study_manifest": manifest})


def executed(folder: Path) -> nbformat.NotebookNode:
    """The executed notebook of the report folder, which has its manifest and table. As `execute`."""
    return execute(source(read_json(folder / MANIFEST_FILE)), folder)


def text(notebook: nbformat.NotebookNode) -> str:
    """The content of the .ipynb file."""
    return nbformat.writes(notebook) + "\n"


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Run all cells in a fresh kernel with `folder` as its working directory.

    Not for the main thread, whose SIGINT and SIGTERM nbclient takes over and does not give back.
    Raises: nbclient.exceptions.CellExecutionError if a cell fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        manager = AsyncKernelManager(kernel_spec_manager=_ThisInterpreter(scratch), kernel_name="python3")
        manager.connection_file = str(Path(scratch) / "connection.json")
        # Sockets in a folder of our own: no port that another user of the machine can reach.
        manager.transport, manager.ip = "ipc", str(Path(scratch) / "kernel")
        client = NotebookClient(
            notebook,
            km=manager,
            timeout=TIMEOUT_SECONDS,
            startup_timeout=TIMEOUT_SECONDS,
            record_timing=False,
            resources={"metadata": {"path": str(folder)}},
        )
        return asyncio.run(client.async_execute(cleanup_kc=True))


class _ThisInterpreter(KernelSpecManager):
    """Offers one kernel: this interpreter, with the user's own start-up files left out."""

    def __init__(self, scratch: str):
        super().__init__()
        self._scratch = scratch

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        root = str(Path(__file__).resolve().parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        return KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            display_name="Python 3",
            language="python",
            env={
                "IPYTHONDIR": self._scratch,
                "MPLBACKEND": "module://matplotlib_inline.backend_inline",
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(paths),
            },
        )
