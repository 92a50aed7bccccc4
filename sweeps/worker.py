"""A worker process: imports torch once, then executes the runs that its parent names, one after another.

    python -m sweeps.worker <processes per run>

Protocol, one JSON object per line: the parent writes {"run", "runs_dir", "evaluations", "machine"} to stdin,
the worker answers {"run", "outcome", "cause", "message"} on stdout. What a run prints goes to log.txt in its
run directory. SIGTERM, and the end of stdin (the parent is gone), stop the current run after its step, with
its state saved.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.attempts import Outcome
from core.distributed import Group
from core.execute import execute
from core.rundir import GROUP_MODE, RunDirectory

stopping = threading.Event()


def main(processes: int) -> None:
    for number in (signal.SIGTERM, signal.SIGUSR2):  # SLURM sends the latter to all processes of a job
        signal.signal(number, lambda *_: stopping.set())
    # Only answers may reach the parent: whatever a library prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    group = None
    if processes > 1:
        from sweeps.ranks import lead

        group = lead(processes)
    for request in _requests():
        outcome = _execute(request, group) if not stopping.is_set() else Outcome("stopped")
        answers.write(json.dumps({"run": request["run"], **asdict(outcome)}) + "\n")
        answers.flush()
        if stopping.is_set():
            break  # the parent starts another worker if it has more to do
    if group is not None:
        group.announce(None)


def _execute(request: dict[str, Any], group: Group | None) -> Outcome:
    """One attempt at the run that the parent named, its output kept in its run directory."""
    directory = RunDirectory(Path(request["runs_dir"]), request["run"])
    with output_to(directory.log_file):
        return execute(directory, request["evaluations"], request["machine"], stopping.is_set, group)


def _requests() -> Iterator[dict[str, Any]]:
    """The parent's requests. A thread reads them, so that the parent's end is noticed during a run."""
    requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            requests.put(line)
        stopping.set()
        requests.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (line := requests.get()) is not None:
        yield json.loads(line)


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Send what this process writes, C libraries included, to the end of a file."""
    kept = os.dup(1), os.dup(2)
    try:
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, GROUP_MODE)
    except OSError:  # a full disk is reported by the run itself
        log = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (log, *kept):
            os.close(descriptor)


if __name__ == "__main__":
    main(int(sys.argv[1]))
