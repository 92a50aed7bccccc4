"""From a request to its cells and runs: pure, the same for a dry run and the real one.

A run's config is built from, in this order: the defaults of core/config.py, the data group, the scale's
base, the study's base and the cell's axis values (both in the paper's values, mapped by the scale), and what
the user set on the command line (taken as it is).
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from core.config import EVALUATIONS, DataConfig, RunConfig, as_dict, flatten, known_keys, parse, run_config, unflatten
from core.data import DatasetInfo
from core.errors import InvalidValue, UserError, unknown_name
from core.identity import evaluation_id, is_machine_key, run_id_of
from sweeps.request import ABLATIONS, Request
from sweeps.study import PaperTable, Scale


@dataclass(frozen=True)
class PlannedRun:
    """One run that should exist, with the evaluations asked of it."""

    id: str
    config: RunConfig
    evaluations: dict[str, dict[str, Any]]
    """Kind to full config."""
    evaluation_ids: dict[str, str]
    """Kind to evaluation id."""


@dataclass(frozen=True)
class Cell:
    """One point of the grid, or a reference beside it, over all seeds."""

    values: dict[str, Any]
    """Axis key to the study's (the paper's) value."""
    paper: float | None
    runs: tuple[PlannedRun, ...]
    """In the order of the request's seeds."""
    reference: str = ""


@dataclass(frozen=True)
class Grid:
    request: Request
    info: DatasetInfo
    cells: tuple[Cell, ...]
    references: tuple[Cell, ...]
    mapped: tuple[dict[str, Any], ...]
    """Where scale and paper differ: {"key", "paper", "own"}."""

    def runs(self) -> dict[str, PlannedRun]:
        """Every run once, by id, in the order in which they should start."""
        # The references first: they are the shortest, and every report shows them.
        return {run.id: run for cell in (*self.references, *self.cells) for run in cell.runs}

    def machine(self) -> dict[str, Any]:
        """The machine-only keys of this request, which replace those that a run directory remembers."""
        run = next(iter(self.runs().values()))
        return {key: value for key, value in flatten(as_dict(run.config)) if is_machine_key(key)}


def data_config(request: Request) -> DataConfig:
    """The data section that all runs of the request share."""
    layers = {**request.data, **request.study.base, **request.scale.base, **request.overrides}
    flat = {key: value for key, value in layers.items() if key.startswith("data.")}
    flat.setdefault("data.cache_dir", str(request.output / "data"))
    return parse(DataConfig, unflatten(flat).get("data", {}), prefix="data.")


def expand(request: Request, info: DatasetInfo) -> Grid:
    """All cells and runs of a request. Raises: UserError for what is wrong with any of them."""
    base = _base(request, info)
    paper_numbers = _paper_numbers(request)
    evaluations = _evaluations(request)
    mapped: dict[str, dict[str, Any]] = {}
    keys = list(request.axes)
    cells = []
    for values in itertools.product(*request.axes.values()):
        chosen = dict(zip(keys, values, strict=True))
        flat = _resolve(base, chosen, request, mapped)
        paper = paper_numbers.get(values) if paper_numbers else None
        cells.append(Cell(chosen, paper, _runs(flat, request, evaluations)))
    references = []
    for name, reference in request.study.references.items():
        flat = _resolve(base, reference.set, request, mapped)
        references.append(Cell({}, None, _runs(flat, request, evaluations), reference=name))
    _check(request, info, cells)
    return Grid(request, info, tuple(cells), tuple(references), tuple(mapped.values()))


def _base(request: Request, info: DatasetInfo) -> dict[str, Any]:
    keys = known_keys(RunConfig)
    run_base = {key: value for key, value in request.scale.base.items() if not key.startswith("evaluate.")}
    flat = dict(keys)
    for where, layer in (("data", request.data), (f"scale {request.scale.name}", run_base)):
        for key, value in layer.items():
            if key not in keys:
                raise unknown_name(f"key in {where}", key, keys)
            flat[key] = value
    flat["data.fingerprint"] = info.fingerprint
    flat["data.cache_dir"] = str(request.output / "data")
    return flat


def _resolve(
    base: dict[str, Any], own: Mapping[str, Any], request: Request, mapped: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The flat config of one cell: base, then the study's base, the user's settings, and the cell's `own`."""
    flat = dict(base)
    where = f"study {request.study.name}"

    def take(key: str, value: Any) -> None:
        scaled = _map(request.scale, key, value)
        if scaled != value:
            mapped.setdefault(f"{key}={value}", {"key": key, "paper": value, "own": scaled})
        assign(flat, key, scaled, where)

    for key, value in request.study.base.items():
        if key.startswith("evaluate."):
            continue
        # A key that the scale sets outright is out of the study's base's hands.
        if key not in request.scale.base and key not in request.overrides and key not in own:
            take(key, value)
        else:
            assign(dict(flat), key, value, where)  # refuse a misspelt key even where it is not used
    for key, value in request.overrides.items():
        if not key.startswith("evaluate."):
            assign(flat, key, value, "command line")
    for key, value in own.items():
        take(key, value)
    return flat


def assign(flat: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a dotted key; `augment.transforms.0` is the first item of the list `augment.transforms`.

    Raises: UserError for a key that does not exist.
    """
    if key in flat:
        flat[key] = value
        return
    parent, _, place = key.rpartition(".")
    items = flat.get(parent)
    if not isinstance(items, (list, tuple)) or not place.isdigit():
        raise unknown_name(f"key in {where}", key, flat)
    if int(place) >= len(items):
        raise InvalidValue(key, value, f"{where}: {parent} has {len(items)} items, numbered from 0")
    flat[parent] = [value if index == int(place) else item for index, item in enumerate(items)]


def _map(scale: Scale, key: str, value: Any) -> Any:
    if key not in scale.map or not isinstance(value, (int, float)) or value == 0:
        return value
    return max(1, round(value * scale.map[key].factor))


def _evaluations(request: Request) -> dict[str, dict[str, Any]]:
    """Kind to full config of the evaluations that the study asks for."""
    known = {f"evaluate.{kind}.{key}" for kind, config in EVALUATIONS.items() for key in known_keys(config)}
    layers = {**request.study.base, **request.scale.base, **request.overrides}
    asked: dict[str, dict[str, Any]] = {kind: {} for kind in request.study.evaluations}
    for key, value in layers.items():
        if not key.startswith("evaluate."):
            continue
        if key not in known:
            raise unknown_name("key", key, known)
        _, kind, name = key.split(".")
        if kind in asked:
            asked[kind][name] = value
        elif key in request.overrides:
            raise InvalidValue(key, value, f"study {request.study.name} does not ask for the evaluation {kind}")
    full = {}
    for kind, values in asked.items():
        config = parse(EVALUATIONS[kind], values, prefix=f"evaluate.{kind}.")
        for name in sorted(config.without_effect()):
            key = f"evaluate.{kind}.{name}"
            if key in request.overrides:
                raise InvalidValue(key, request.overrides[key], "has no effect on any cell of this study")
        full[kind] = as_dict(config)
    return full


def _runs(flat: dict[str, Any], request: Request, evaluations: dict[str, dict[str, Any]]) -> tuple[PlannedRun, ...]:
    planned = []
    for seed in request.seeds:
        config = run_config(unflatten({**flat, "seed": seed}))
        identity = run_id_of(dict(flatten(as_dict(config))))
        ids = {kind: evaluation_id(identity, kind, settings) for kind, settings in evaluations.items()}
        planned.append(PlannedRun(identity, config, evaluations, ids))
    return tuple(planned)


def _check(request: Request, info: DatasetInfo, cells: Sequence[Cell]) -> None:
    seen: dict[str, Cell] = {}
    without_effect = {key for key in request.overrides if not key.startswith("evaluate.")}
    for cell in cells:
        run = cell.runs[0]
        if run.id in seen:
            raise UserError(
                f"study {request.study.name}: duplicate cells at scale {request.scale.name}: "
                f"{_text(cell.values)} and {_text(seen[run.id].values)} are the same run"
            )
        seen[run.id] = cell
        without_effect &= run.config.without_effect()
        if run.config.train.batch_size > info.train_count:
            allowed = f"at most the {info.train_count} training pictures of {run.config.data.name}"
            raise InvalidValue("train.batch_size", run.config.train.batch_size, allowed)
    if len(info.bad) > request.overrides.get("data.max_bad", 0):
        raise InvalidValue(
            "data.max_bad",
            request.overrides.get("data.max_bad", 0),
            f"{len(info.bad)} picture(s) cannot be decoded, the first is {info.bad[0]}",
        )
    if request.study.metric.endswith(".top5") and len(info.classes) <= 5:
        raise InvalidValue("metric", request.study.metric, f"top-5 needs more than {len(info.classes)} classes")
    _check_processes(request, cells)
    for key in request.study.axes:
        if key.startswith("data."):
            raise UserError(f"study {request.study.name}: axis {key}: the cells of a study share one data set")
    if without_effect:
        key = min(without_effect)
        raise InvalidValue(key, request.overrides[key], "has no effect on any cell of this study")


def _check_processes(request: Request, cells: Iterable[Cell]) -> None:
    """Raises: InvalidValue where the processes that share a run would not get the same number of pictures."""
    for key in ("processes_per_run", "tasks"):
        processes = getattr(request.launcher, key, 1)
        for cell in cells:
            batch_size = cell.runs[0].config.train.batch_size
            if batch_size % processes:
                raise InvalidValue(f"launcher.{key}", processes, f"must divide train.batch_size ({batch_size})")


def _text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _paper_numbers(request: Request) -> dict[tuple[Any, ...], float]:
    """The paper's number of each cell, by the cell's axis values in the order of the axes."""
    table = request.study.paper
    if table is None:
        return {}
    block = load_paper().get(table.source)
    if block is None:
        raise unknown_name(f"paper.source in study {request.study.name}", table.source, load_paper())
    for axis in (table.rows, table.columns):
        if axis.key not in request.study.axes:
            raise InvalidValue("paper", axis.key, f"study {request.study.name}: one of the study's axes")
    return _two_axes(table, block, list(request.axes))


def _two_axes(table: PaperTable, block: dict[str, Any], keys: list[str]) -> dict[tuple[Any, ...], float]:
    numbers = {}
    for row, row_name in table.rows.names.items():
        for column, column_name in table.columns.names.items():
            values = {table.rows.key: row, table.columns.key: column}
            number = block[row_name][block["cols"].index(column_name)]
            numbers[tuple(values[key] for key in keys)] = number
    return numbers


def load_paper() -> dict[str, Any]:
    """The paper's numbers, ablations/paper/simclr.yaml."""
    return yaml.load((ABLATIONS / "paper" / "simclr.yaml").read_text(), Loader=yaml.CSafeLoader)


def manifest(grid: Grid) -> dict[str, Any]:
    """What the report and the mirror need to know, as documented in docs/design.md."""
    request, study = grid.request, grid.request.study
    first = next(iter(grid.runs().values())).config
    source = load_paper()[study.paper.source] if study.paper else {}
    paper = study.paper and {
        "source": study.paper.source,
        "where": study.paper.where,
        "what": source.get("what", ""),
    }
    return {
        "schema": 1,
        "study": {
            "name": study.name,
            "title": study.title,
            "summary": study.summary,
            "metric": study.metric,
            "labels": study.labels,
            "report": study.report,
            "claims": study.claims,
            "paper": paper,
        },
        "scale": {
            "name": request.scale.name,
            "is_paper": request.scale.is_paper,
            "mapped": list(grid.mapped),
        },
        "data": {"name": first.data.name, "image_size": first.data.image_size},
        "overrides": list(request.changes),
        "seeds": list(request.seeds),
        "axes": [{"key": key, "values": values} for key, values in request.axes.items()],
        "cells": [{"values": cell.values, "paper": cell.paper, "runs": _run_records(cell)} for cell in grid.cells],
        "references": [
            {
                "name": cell.reference,
                "label": study.references[cell.reference].label,
                "runs": _run_records(cell),
            }
            for cell in grid.references
        ],
        "runs_dir": str(Path("..", "..", "runs")),
        "tracking_uri": request.tracking_uri if request.settings.tracking.enabled else "",
    }


def _run_records(cell: Cell) -> list[dict[str, Any]]:
    return [{"seed": run.config.seed, "run": run.id, "evaluations": run.evaluation_ids} for run in cell.runs]
