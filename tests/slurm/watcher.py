"""Watches runs while they are disturbed: work that is done again, and a run that two processes execute at once."""

import contextlib
import json
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from core.journal import read_lines
from core.rundir import RunDirectory

LOOK_SECONDS = 0.2


@dataclass
class Seen:
    """What was read of one journal so far."""

    bytes_: int = 0
    last_line: bytes = b""
    steps: dict[int, float] = field(default_factory=dict)
    """Seconds that each step took."""


class Watcher(threading.Thread):
    """Reads the run directories of `runs` several times a second until `ended` is set."""

    def __init__(self, runs: Path):
        super().__init__(daemon=True)
        self._runs = runs
        self._seen: dict[str, Seen] = {}
        self._struck: dict[str, str] = {}
        self.repeated: list[tuple[str, float]] = []
        """(kind of fault, seconds of steps thrown away) of every resumption that went back."""
        self.twice: set[str] = set()
        self.ended = threading.Event()

    def strike(self, kind: str, runs: Iterable[str]) -> None:
        """Take note that a fault hit these runs: what they repeat from now on is its work."""
        self._struck.update(dict.fromkeys(runs, kind))

    def run(self) -> None:
        while not self.ended.wait(LOOK_SECONDS):
            for path in self._runs.glob("*"):
                if not (path / "result.json").exists():
                    with contextlib.suppress(OSError, ValueError, KeyError):
                        self._look(RunDirectory(self._runs, path.name))

    def _look(self, directory: RunDirectory) -> None:
        seen = self._seen.setdefault(directory.id, Seen())
        self._follow(directory, seen)
        pids = {line["pid"] for line in read_lines(directory.attempts_file) if line["event"] == "start"}
        if sum(_executes(pid, directory) for pid in pids) > 1:
            self.twice.add(directory.id)

    def _follow(self, directory: RunDirectory, seen: Seen) -> None:
        """Read what the journal has more; where it was cut back, count what was thrown away."""
        with open(directory.journal_file, "rb") as file:
            file.seek(max(0, seen.bytes_ - len(seen.last_line)))
            if file.read(len(seen.last_line)) != seen.last_line:
                file.seek(0)
                kept = _steps(file.read())
                lost = {step: seconds for step, seconds in seen.steps.items() if kept.get(step) != seconds}
                self.repeated.append((self._struck.get(directory.id, "none"), sum(lost.values())))
                seen.bytes_, seen.last_line, seen.steps = 0, b"", {}
                file.seek(0)
            more = file.read()
        whole = more[: more.rfind(b"\n") + 1]
        if whole:
            seen.steps.update(_steps(whole))
            seen.bytes_ += len(whole)
            seen.last_line = whole[whole.rfind(b"\n", 0, -1) + 1 :]


def _steps(lines: bytes) -> dict[int, float]:
    """Step to seconds, of journal lines."""
    found = {}
    for line in lines.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            record = json.loads(line)
            if record["event"] == "step":
                found[record["step"]] = record["samples"] / record["step"] / record["images_per_s"]
    return found


def _executes(pid: int, directory: RunDirectory) -> bool:
    """Whether a process has the run in hand now: it then prints to the run's log."""
    try:
        return os.readlink(f"/proc/{pid}/fd/1") == str(directory.log_file)
    except OSError:
        return False
