"""The journal of a run: `journal.jsonl`, one JSON object per line, append-only.

Every line has `event` and `time` (seconds since 1970). Events:

    {"event": "step",  "step", "epoch", "samples", "loss", "accuracy", "lr", "images_per_s", "memory_mb", "time"}
    {"event": "epoch", "step", "epoch", "samples", "loss", "accuracy", "entropy", "seconds", "time"}

`accuracy` is the contrastive (or, when supervised, the classification) accuracy of the training
batch in percent, `entropy` that of the softmax behind it in nats; `samples` counts the pictures seen by all
processes; `memory_mb` is the process's peak.
A checkpoint stores the journal's length, and a resumed run cuts the journal back to it: apart from times,
speeds and memory a journal does not tell how often its run was killed. Attempts and failures are therefore
kept apart, in attempts.jsonl, and evaluations in their own files.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """Appends lines to a journal file, after cutting it back to `length` bytes."""

    def __init__(self, path: Path, length: int = 0):
        self._file = open(path, "ab")  # noqa: SIM115 - lives as long as the training
        self._file.truncate(length)
        self._file.seek(length)

    def write(self, event: str, **values: Any) -> None:
        line = json.dumps({"event": event, **values, "time": round(time.time(), 3)}, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def sync(self) -> int:
        """Bytes written so far, safe on disk: what a checkpoint stores."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


def read_lines(path: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """The whole lines of a JSON-lines file from byte `start`; what a crash left half-written is skipped."""
    try:
        with open(path, "rb") as file:
            file.seek(start)
            for line in file:
                with contextlib.suppress(ValueError):  # no JSON, or not even text
                    yield json.loads(line)
    except FileNotFoundError:
        return
