"""The state of a run, derived from its directory and never stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from core.attempts import last_line
from core.errors import Cause
from core.lease import holder
from core.rundir import RunDirectory


class State(StrEnum):
    DONE = "done"
    """Trained, and every evaluation asked for is there."""
    TRAINED = "trained"
    """Trained; an evaluation asked for is missing."""
    RUNNING = "running"
    QUEUED = "queued"
    """Waiting in a cluster's queue; only the cluster knows (sweeps/cluster.py)."""
    FAILED = "failed"
    PENDING = "pending"


@dataclass(frozen=True)
class RunState:
    state: State
    cause: str = ""
    message: str = ""
    owner: Mapping[str, Any] | None = None


def observe(runs: Path, run: str, evaluation_ids: Mapping[str, str]) -> RunState:
    """The state of one run, from a few file look-ups. Raises: UserError if a newer program wrote it."""
    directory = RunDirectory(runs, run)
    directory.check_schema()
    trained = directory.result_file.exists()
    if trained and all(directory.evaluation_file(identity).exists() for identity in evaluation_ids.values()):
        return RunState(State.DONE)
    return observe_unfinished(directory, trained)


def observe_unfinished(directory: RunDirectory, trained: bool) -> RunState:
    """The state of a run that lacks its result or an evaluation."""
    owner = holder(directory.lease_file)
    if owner is not None:
        return RunState(State.RUNNING, owner=owner)
    last = last_line(directory.attempts_file)
    if last.get("outcome") == "failed":
        return RunState(State.FAILED, last.get("cause", ""), last.get("message", ""))
    if last.get("event") == "start":
        return RunState(State.TRAINED if trained else State.PENDING, Cause.KILLED, "its process ended without a word")
    return RunState(State.TRAINED if trained else State.PENDING)
