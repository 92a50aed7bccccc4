"""The ends of journals and logs, read without their beginnings: they may have millions of lines."""

import contextlib
import json
import os
from typing import Any

from core.rundir import RunDirectory

TAIL_BYTES = 4096


def last_step(directory: RunDirectory) -> dict[str, Any]:
    """The newest `step` line of a run's journal; empty where there is none."""
    for line in reversed(end_of(directory.journal_file).splitlines()):
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if record["event"] == "step":
                return record
    return {}


def last_lines(log: os.PathLike[str], count: int) -> list[str]:
    """The last lines of what processes printed."""
    return end_of(log).decode(errors="replace").splitlines()[-count:]


def end_of(path: os.PathLike[str]) -> bytes:
    """Nothing for a file that is not there or, as happens on network disks, cannot be read just now."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            return file.read()
    except OSError:
        return b""
