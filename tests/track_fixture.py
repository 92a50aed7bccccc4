"""An invented study for the tests of the mirror: a manifest and run directories in any state.

Times are fixed numbers, so that two stores mirrored from the same tree can be compared.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.config import run_config
from core.identity import evaluation_id
from core.lease import this_process
from core.rundir import RunDirectory, write_json

FIRST, SECOND = "augment.transforms.0", "augment.transforms.1"
BEGIN = 1_750_000_000.0
STEPS_PER_EPOCH = 10
ENVIRONMENT = {"commit": "0123456789abcdef", "dirty": False, "hostname": "node1", "device": "cpu"}


@dataclass
class InventedStudy:
    """`root/reports/<name>/study.json` and `root/runs/`: a grid of pairs of transformations."""

    root: Path
    names: Sequence[str] = ("crop", "color")
    seeds: Sequence[int] = (0,)
    name: str = "pairs"
    axes: dict[str, Any] = field(default_factory=dict)
    """Further axis values that every cell shows, by key."""

    def __post_init__(self) -> None:
        self.pairs = [(first, second) for first in self.names for second in self.names]
        self.write_manifest()

    @property
    def manifest(self) -> Path:
        return self.root / "reports" / self.name / "study.json"

    def run(self, first: str, second: str, seed: int = 0) -> RunDirectory:
        config = {"seed": seed, "augment": {"transforms": [first, second]}, "data": {"root": "/pictures"}}
        return RunDirectory.create(self.root / "runs", run_config(config))

    def write_manifest(self, **changes: Any) -> None:
        study = {
            "name": self.name,
            "title": "Pairs of augmentations",
            "summary": "Which transformations does contrastive learning need?",
            "metric": "linear.top1",
            "labels": {"noise": "Gaussian noise"},
            "report": {"kind": "heatmap", "rows": FIRST, "columns": SECOND, "average": True},
            "claims": [],
            "paper": {"source": "fig5", "what": "linear evaluation", "where": "Figure 5"},
        }
        cells = [
            {
                "values": {FIRST: first, SECOND: second, **self.axes},
                "paper": 50.0,
                "runs": [self._planned(first, second, seed) for seed in self.seeds],
            }
            for first, second in self.pairs
        ]
        manifest = {
            "schema": 1,
            "study": study,
            "scale": {"name": "mini", "is_paper": False, "mapped": []},
            "data": {"name": "synthetic", "image_size": 32},
            "overrides": [],
            "seeds": list(self.seeds),
            "axes": [{"key": key, "values": list(self.names)} for key in (FIRST, SECOND)],
            "cells": cells,
            "references": [],
            "runs_dir": "../../runs",
            "tracking_uri": "",
            **changes,
        }
        write_json(self.manifest, manifest)

    def start(self, first: str, second: str, seed: int = 0, alive: bool = True) -> RunDirectory:
        """A run that has begun; `alive`: this process executes it."""
        directory = self.run(first, second, seed)
        source = {"commit": ENVIRONMENT["commit"], "dirty": True}
        append(
            directory.attempts_file,
            {"event": "start", "attempt": 1, "host": "node1", "pid": 7, **source, "time": BEGIN},
        )
        if alive:
            write_json(directory.lease_file, this_process())
        return directory

    def finish(self, first: str, second: str, seed: int = 0, epochs: int = 3, top1: float = 50.0) -> RunDirectory:
        """A run that is done, with its learning curve."""
        directory = self.start(first, second, seed, alive=False)
        steps = epochs * STEPS_PER_EPOCH
        log_steps(directory, range(10, steps + 1, 10))
        finished = BEGIN + steps
        result = {
            "schema": 1,
            "run": directory.id,
            "metrics": {"loss": 3.0, "accuracy": 70.0},
            "samples": steps * 256,
            "steps": steps,
            "compute_seconds": 28.5,
            "parameters": 1000,
            "environment": ENVIRONMENT,
            "finished": finished,
        }
        write_json(directory.result_file, result)
        self.evaluate(directory, "linear", {"top1": top1, "top5": 90.0}, finished)
        self.evaluate(directory, "knn", {"top1": top1 - 5}, finished)
        end(directory, "done", time=finished + 1)
        return directory

    def evaluate(self, directory: RunDirectory, kind: str, metrics: dict[str, Any], time: float) -> None:
        file = directory.evaluation_file(evaluation_id(directory.id, kind, {}))
        write_json(file, {"schema": 1, "run": directory.id, "kind": kind, "metrics": metrics, "n": 2000})
        os.utime(file, (time, time))

    def _planned(self, first: str, second: str, seed: int) -> dict[str, Any]:
        run = self.run(first, second, seed).id
        evaluations = {kind: evaluation_id(run, kind, {}) for kind in ("linear", "knn")}
        return {"seed": seed, "run": run, "evaluations": evaluations}


def end(directory: RunDirectory, outcome: str, cause: str = "", message: str = "", time: float = BEGIN + 60) -> None:
    """The run is no longer executed."""
    event = {
        "event": "end",
        "attempt": 1,
        "outcome": outcome,
        "cause": cause,
        "message": message,
        "time": time,
    }
    append(directory.attempts_file, event)
    directory.lease_file.unlink(missing_ok=True)


def log_steps(directory: RunDirectory, steps: Sequence[int], late: float = 0.0) -> None:
    """Journal lines; `late`: seconds by which a repeated attempt writes them later."""
    for step in steps:
        values = {
            "step": step,
            "epoch": step / STEPS_PER_EPOCH,
            "samples": step * 256,
            "loss": 6.0 / (1 + step / 50),
            "accuracy": 100 - 90 / (1 + step / 50),
            "lr": 0.5 / step,
            "images_per_s": 2000.0 + late,
            "memory_mb": 600,
            "time": BEGIN + step + late,
        }
        append(directory.journal_file, {"event": "step", **values})
        if step % STEPS_PER_EPOCH == 0:
            append(directory.journal_file, {**values, "event": "epoch", "seconds": 1.0})


def append(file: Path, value: dict[str, Any]) -> None:
    with open(file, "a") as stream:
        stream.write(json.dumps(value) + "\n")


def contents(uri: str, experiment: str = "pairs") -> dict[str, dict[str, Any]]:
    """All that MLflow shows of a study, by run name, apart from its own ids."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}
    assert len(set(names.values())) == len(runs), "a run is there twice"
    shown = {}
    for run in runs:
        tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.mirrored"}
        tags["parent"] = names.get(tags.pop("mlflow.parentRunId", ""), "")
        curves = {
            key: [
                (point.step, point.value, point.timestamp) for point in client.get_metric_history(run.info.run_id, key)
            ]
            for key in run.data.metrics
        }
        shown[names[run.info.run_id]] = {
            "status": run.info.status,
            "times": (run.info.start_time, run.info.end_time),
            "params": run.data.params,
            "tags": tags,
            "curves": curves,
            "artifacts": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
        }
    return shown
