"""The attempts at a run: `attempts.jsonl`, one line at the start and one at the end of each, and one more where a SLURM
job was told to end.

    {"event": "start", "attempt", "host", "pid", "job", "restart", "commit", "dirty", "time"}
    {"event": "end", "attempt", "outcome", "cause", "message", "time"}
    {"event": "stop", "attempt", "cause", "message", "time"}

A start without an end is an attempt that is under way, or whose process was killed. A stop says why the job was told
to end, which it learns from SLURM when its worker has saved the run.
"""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from core.environment import source_version
from core.errors import Cause
from core.journal import read_lines
from core.lease import slurm_job
from core.rundir import RunDirectory


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended; `held`: it did not begin, because another living worker has the run."""

    outcome: Literal["done", "failed", "stopped", "held"]
    cause: str = ""
    message: str = ""


class Attempt:
    """One attempt, by its number from 1."""

    def __init__(self, directory: RunDirectory, number: int):
        self._path = directory.attempts_file
        self._number = number

    @classmethod
    def start(cls, directory: RunDirectory) -> "Attempt":
        starts = [line["attempt"] for line in read_lines(directory.attempts_file) if line["event"] == "start"]
        attempt = cls(directory, max(starts, default=0) + 1)
        commit, dirty = source_version()
        job, restart = slurm_job()
        process = {"host": socket.gethostname(), "pid": os.getpid(), "job": job, "restart": restart}
        attempt._write(event="start", **process, commit=commit, dirty=dirty)
        return attempt

    @classmethod
    def newest_of_this_job(cls, directory: RunDirectory) -> "Attempt | None":
        """The newest attempt, if it is one of this SLURM job, since its last restart, and did not end by itself."""
        lines = list(read_lines(directory.attempts_file))
        starts = [line for line in lines if line["event"] == "start"]
        if not starts or (starts[-1].get("job"), starts[-1].get("restart")) != slurm_job():
            return None
        is_stopped = lines[-1]["event"] == "start" or lines[-1].get("outcome") == "stopped"
        return cls(directory, starts[-1]["attempt"]) if is_stopped else None

    def end(self, outcome: Outcome) -> None:
        self._write(event="end", **asdict(outcome))

    def stopped_for(self, cause: Cause, message: str) -> None:
        self._write(event="stop", cause=cause, message=message)

    def _write(self, **values: Any) -> None:
        event = {
            "event": values.pop("event"),
            "attempt": self._number,
            **values,
            "time": round(time.time(), 3),
        }
        with open(self._path, "a+b") as file:
            # A half line left by a crash is closed first, so that it spoils no other.
            start = b"\n" if file.tell() and _last_byte(self._path) != b"\n" else b""
            file.write(start + json.dumps(event).encode() + b"\n")


def last_line(path: Path) -> dict[str, Any]:
    """The newest record of attempts.jsonl; empty where there is none."""
    last: dict[str, Any] = {}
    for line in read_lines(path):
        last = line
    return last


def _last_byte(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read()
