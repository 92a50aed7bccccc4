"""The ends of a run's journal and log, read without their beginnings: they may have millions of lines."""

import contextlib
import json
import os
from typing import Any

from core.rundir import RunDirectory

TAIL_BYTES = 4096


def last_step(directory: RunDirectory) -> dict[str, Any]:
    """The newest `step` line of a run's journal; empty where there is none."""
    for line in reversed(_end_of(directory.journal_file).splitlines()):
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if record["event"] == "step":
                return record
    return {}


def last_lines(directory: RunDirectory, count: int) -> list[str]:
    """The last lines of what a run's processes printed."""
    return _end_of(directory.log_file).decode(errors="replace").splitlines()[-count:]


def _end_of(path: os.PathLike[str]) -> bytes:
    """Nothing for a file that is not there or, as happens on network disks, cannot be read just now."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            return file.read()
    except OSError:
        return b""
