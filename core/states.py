"""The state of a run, derived from its directory and never stored."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from core.attempts import last_line
from core.errors import Cause
from core.lease import holder
from core.rundir import RunDirectory, check_schema


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
    trained: bool = False
    """Whether the run has its result, where the state does not say so."""
    owner: Mapping[str, Any] | None = None


def observe(runs: Path, run: str, evaluation_ids: Mapping[str, str]) -> RunState:
    """The state of one run, from a few file look-ups. Raises: UserError if a newer program wrote it."""
    folder = f"{runs}/{run}"  # plain text: a status looks at thousands of runs, and would spend its time in pathlib
    there = _names(folder)
    if "config.yaml" in there:
        check_schema(f"{folder}/config.yaml")
    trained = "result.json" in there
    if trained:
        evaluated = _names(f"{folder}/evaluations") if "evaluations" in there else set()
        if all(f"{identity}.json" in evaluated for identity in evaluation_ids.values()):
            return RunState(State.DONE)
    if there.isdisjoint(("lease.json", "attempts.jsonl")):
        return RunState(State.TRAINED if trained else State.PENDING)
    return observe_unfinished(RunDirectory(runs, run), trained)


def _names(folder: str) -> set[str]:
    """What is in a folder: one question instead of one per file, of which a shared file system feels each."""
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def observe_all(runs: Path, evaluation_ids: Mapping[str, Mapping[str, str]]) -> dict[str, RunState]:
    """The states of many runs, by id; one without a directory costs no look-up of its own.

    evaluation_ids: for every run. Raises: UserError as `observe`.
    """
    there = set(os.listdir(runs)) if runs.exists() else set()
    pending = RunState(State.PENDING)
    return {run: observe(runs, run, ids) if run in there else pending for run, ids in evaluation_ids.items()}


def observe_unfinished(directory: RunDirectory, trained: bool) -> RunState:
    """The state of a run that lacks its result or an evaluation."""
    owner = holder(directory.lease_file)
    return observe_abandoned(directory, trained) if owner is None else RunState(State.RUNNING, owner=owner)


def observe_abandoned(directory: RunDirectory, trained: bool) -> RunState:
    """The same where nobody executes it, whatever its lease says."""
    last = last_line(directory.attempts_file)
    if last.get("outcome") == "failed":
        return RunState(State.FAILED, last.get("cause", ""), last.get("message", ""), trained)
    state = State.TRAINED if trained else State.PENDING
    if last.get("event") == "start":
        return RunState(state, Cause.KILLED, "its process ended without a word")
    return RunState(state, last.get("cause", ""), last.get("message", ""))
