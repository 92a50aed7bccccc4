"""The command line on real processes, and what can be seen of its runs from outside."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RUN = [sys.executable, str(ROOT / "sweeps" / "run.py")]
TWO_CELLS = ["study=augment_pairs", "scale=smoke", "augment.transforms.0=crop,color", "augment.transforms.1=crop"]
QUICK = [*TWO_CELLS, "tracking.enabled=false"]
LONG = [*QUICK, "train.epochs=24", "machine.log_steps=1"]
"""Cells that take seconds, so that something can happen to them."""


def call(where: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([*RUN, *arguments], cwd=where, capture_output=True, text=True, timeout=240)


def assert_refused(done: subprocess.CompletedProcess, said: str) -> None:
    """A command ended as one with bad input does: exit code 2, and one line that has `said` in it."""
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def begin(where: Path, *arguments: str) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*RUN, *arguments], cwd=where, start_new_session=True, **pipes)


def eventually(look: Callable[[], Any], seconds: float = 120, what: str = "it") -> Any:
    """What `look` finds, as soon as it finds something. Raises: TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError(f"{what}: not seen in {seconds:.0f} s")


def runs(where: Path) -> list[Path]:
    folder = where / "outputs" / "runs"
    return sorted(folder.iterdir()) if folder.exists() else []


def training(where: Path) -> Path | None:
    """A run directory in which training has begun and not ended."""
    for run in runs(where):
        journal = run / "journal.jsonl"
        if journal.exists() and journal.stat().st_size and not (run / "result.json").exists():
            return run
    return None


def weights(where: Path) -> dict[str, bytes]:
    return {run.name: (run / "encoder.safetensors").read_bytes() for run in runs(where)}
