"""Invented results for any study: its manifest as the planner writes it, and run directories with numbers of ours."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from core.config import evaluation_config
from sweeps import request
from sweeps.grid import Grid, expand
from sweeps.manifest import manifest
from tests.pictures import pictures
from tests.reports_fixture import ENVIRONMENT, write_result

INFO = pictures(16384)
Value = Callable[[dict[str, Any], str, int], float | None]
"""A cell's values, a metric and a seed to a number; None leaves the run out."""


def study_grid(folder: Path, study: dict[str, Any], *arguments: str) -> Grid:
    """The grid of a study given as the content of its file; everything is written below `folder`."""
    (folder / "study").mkdir(parents=True, exist_ok=True)
    tree = {"name": "own", "title": "A study", "summary": "s", **study}
    (folder / "study" / f"{tree['name']}.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return named_grid(folder, tree["name"], *arguments, folders=[folder])


def named_grid(folder: Path, name: str, *arguments: str, folders: list[Path] | None = None) -> Grid:
    """The grid of a study of the project."""
    (asked,) = request.read([f"study={name}", f"output_dir={folder / 'outputs'}", *arguments], folders or [])
    return expand(asked, INFO)


def invent(grid: Grid, value: Value, data: Any = None) -> Path:
    """Write the manifest and the results of all runs; returns the report folder. `data`: of every evaluation."""
    for cell in (*grid.cells, *grid.references):
        for run in cell.runs:
            numbers = {"loss": 4.2, "accuracy": 61.0, "entropy": 2.0}
            numbers = {name: value(cell.values, f"train.{name}", run.config.seed) for name in numbers}
            if any(number is None for number in numbers.values()):
                continue
            folder = grid.request.runs / run.id
            if not (folder / "result.json").exists():
                write_result(folder, run.id)
            record = json.loads((folder / "result.json").read_text())
            parameters = value(cell.values, "train.parameters", run.config.seed)
            result = {**record, "metrics": numbers, "parameters": round((parameters or 0) * 1e6)}
            (folder / "result.json").write_text(json.dumps(result))
            for name, tree in run.evaluations.items():
                kind, config = evaluation_config(tree)
                found = {metric: value(cell.values, f"{name}.{metric}", run.config.seed) for metric in config.metrics()}
                if all(number is not None for number in found.values()):
                    record = {
                        "schema": 1,
                        "run": run.id,
                        "evaluation": run.evaluation_ids[name],
                        "kind": kind,
                        "config": tree,
                        "metrics": found,
                        "n": 2000,
                        "seconds": 0.4,
                        "environment": ENVIRONMENT,
                        **({"data": data} if data is not None else {}),
                    }
                    target = folder / "evaluations" / f"{run.evaluation_ids[name]}.json"
                    target.parent.mkdir(exist_ok=True)
                    target.write_text(json.dumps(record))
    folder = grid.request.report_dir
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(manifest(grid)))
    return folder


def near_the_paper(grid: Grid, spread: float = 0.3, shift: float = -20.0) -> Value:
    """Numbers like the paper's, some points lower, different in every seed; 50 where it prints none."""

    def value(values: dict[str, Any], metric: str, seed: int) -> float:
        paper = next((cell.paper.get(metric) for cell in grid.cells if cell.values == values), None)
        noise = spread * (((hash_of(values, metric) + 7 * seed) % 11) / 5 - 1)
        return (50.0 if paper is None else paper) + shift + noise

    return value


def hash_of(values: dict[str, Any], metric: str) -> int:
    return sum(map(ord, json.dumps([values, metric], sort_keys=True)))
