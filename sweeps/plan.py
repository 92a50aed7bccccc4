"""What to do: a pure comparison of the grid with the states of its runs, and what it will cost."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core.config import RunConfig
from core.cost import multiply_adds, parameters
from core.data import DatasetInfo
from core.errors import Cause
from core.states import RunState, State
from sweeps.grid import Grid
from sweeps.planned import PlannedRun


@dataclass(frozen=True)
class Plan:
    train: tuple[PlannedRun, ...]
    """Not trained yet, in the order in which they should start."""
    evaluate: tuple[PlannedRun, ...]
    """Trained; only evaluations are missing."""
    done: tuple[PlannedRun, ...]
    running: tuple[PlannedRun, ...]
    """Executed by a worker of another sweep just now."""
    queued: tuple[PlannedRun, ...]
    """Waiting in a cluster's queue."""
    hopeless: tuple[PlannedRun, ...]
    """Diverged: by invariant 1 they would diverge again."""

    @property
    def to_do(self) -> tuple[PlannedRun, ...]:
        return (*self.evaluate, *self.train)


def plan(runs: Iterable[PlannedRun], states: Mapping[str, RunState]) -> Plan:
    """Sort the runs by what is to be done with each."""
    groups: dict[str, list[PlannedRun]] = {
        "train": [],
        "evaluate": [],
        "done": [],
        "running": [],
        "queued": [],
        "hopeless": [],
    }
    for run in runs:
        groups[_group(states[run.id])].append(run)
    return Plan(**{name: tuple(group) for name, group in groups.items()})


def _group(state: RunState) -> str:
    if state.state == State.FAILED and state.trained:
        return "evaluate"
    if state.state == State.FAILED and state.cause == Cause.DIVERGED:
        return "hopeless"
    by_state = {State.DONE: "done", State.TRAINED: "evaluate", State.RUNNING: "running", State.QUEUED: "queued"}
    return by_state.get(state.state, "train")


def samples(config: RunConfig, train_count: int) -> int:
    """Pictures that the training sees; a last partial batch of an epoch is left out."""
    return train_count // config.train.batch_size * config.train.batch_size * config.train.epochs


def work(config: RunConfig, train_count: int) -> float:
    """Multiply-adds of a training: forward and backward (twice the forward) of every view."""
    return work_on(config, samples(config, train_count))


def work_on(config: RunConfig, seen: int) -> float:
    """The same of a training that sees so many pictures."""
    views = 2 if config.train.objective == "contrastive" else 1
    return 3 * views * seen * multiply_adds(config.encoder, config.data.image_size)


def evaluation_work(config: RunConfig, evaluations: Iterable[Mapping[str, Any]], info: DatasetInfo) -> float:
    """Multiply-adds of evaluations, {"kind": kind, **config} each, in the encoder.

    One pass over the pictures for all that read their features; the classifiers themselves, and the features of
    transfer sets, are left out.
    """
    evaluations = list(evaluations)
    passes = 0.0
    if {"linear", "knn"} & {tree["kind"] for tree in evaluations}:
        passes += info.train_count + info.test_count
    for tree in evaluations:
        if tree["kind"] == "finetune":
            passes += 3 * tree["labels"] * info.train_count * tree["epochs"] + info.test_count
        elif tree["kind"] == "probe":
            passes += 2 * min(tree["pictures"] or info.train_count, info.train_count)
        elif tree["kind"] == "transfer" and tree["protocol"] == "finetune":
            steps = tree["steps"] if config.train.epochs else tree["scratch_steps"]
            tried = tree["lr_values"] * tree["weight_decay_values"] + 1  # and once more with the best
            passes += 3 * tried * steps * tree["batch_size"]
    return passes * multiply_adds(config.encoder, config.data.image_size)


def disk_bytes(config: RunConfig) -> int:
    """Estimated size of a run directory: encoder, two checkpoints of weights and optimizer state, journal."""
    slots = 2 if config.optimizer.name == "adamw" else 1
    return 4 * parameters(config.encoder) * (1 + 2 * (1 + slots)) + 100_000


def grid_disk_bytes(grid: Grid, plan_: Plan) -> int:
    """What the plan will still write, the decoded data set included."""
    cache = 0 if grid.info.cached else grid.info.bytes
    return cache + sum(disk_bytes(run.config) for run in plan_.train)
