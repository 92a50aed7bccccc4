"""From a request to its cells and runs: pure, the same for a dry run and the real one.

A run's config is built from, in this order: the defaults of core/config.py, the data group, the scale's
base, the study's base and the cell's axis values (both in the paper's values, mapped by the scale), and what
the user set on the command line (taken as it is).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from core.config import (
    EVALUATIONS,
    DataConfig,
    RunConfig,
    as_dict,
    evaluation_config,
    flatten,
    known_keys,
    parse,
    run_config,
    unflatten,
    with_seed,
)
from core.data import DatasetInfo
from core.errors import InvalidValue, UserError, unknown_name
from core.feasible import check_evaluation
from core.identity import evaluation_ids, is_machine_key, run_ids
from reports.manifest import plain
from sweeps import evaluations
from sweeps.keys import assign, split
from sweeps.paper import load_paper, others
from sweeps.request import Request
from sweeps.study import Scale


@dataclass(frozen=True)
class PlannedRun:
    """One run that should exist, with the evaluations asked of it."""

    id: str
    config: RunConfig
    evaluations: dict[str, dict[str, Any]]
    """Name to {"kind": kind, **full config}."""
    evaluation_ids: dict[str, str]
    """Name to evaluation id."""

    def with_evaluations_of(self, other: "PlannedRun") -> "PlannedRun":
        """The same run with the other's evaluations as well; those of one name with other settings get new names."""
        settings, ids = dict(self.evaluations), dict(self.evaluation_ids)
        for name, identity in other.evaluation_ids.items():
            if identity not in ids.values():
                free = name if name not in ids else f"{name}-{identity}"
                settings[free], ids[free] = other.evaluations[name], identity
        return self if len(ids) == len(self.evaluation_ids) else replace(self, evaluations=settings, evaluation_ids=ids)


@dataclass(frozen=True)
class Cell:
    """One point of the grid, or a reference beside it, over all seeds."""

    values: dict[str, Any]
    """Axis key to the study's (the paper's) value."""
    paper: dict[str, float]
    """The paper's numbers by metric."""
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
    together: Mapping[str, PlannedRun] = field(default_factory=dict)
    """Runs by id with what other studies, handled at the same time, ask of them as well."""

    @cached_property
    def _runs(self) -> dict[str, PlannedRun]:
        # The references first: they are the shortest, and every report shows them.
        own = merged(run for cell in (*self.references, *self.cells) for run in cell.runs)
        return {identity: self.together.get(identity, run) for identity, run in own.items()}

    def runs(self) -> dict[str, PlannedRun]:
        """Every run once, by id, in the order in which they should start, with all its evaluations."""
        return self._runs

    def machine(self) -> dict[str, Any]:
        """The machine-only keys of this request, which replace those that a run directory remembers."""
        run = next(iter(self.runs().values()))
        return {key: value for key, value in flatten(as_dict(run.config)) if is_machine_key(key)}


def merged(runs: Iterable[PlannedRun]) -> dict[str, PlannedRun]:
    """Every run once, by id, with the evaluations that any cell, or any study, asks of it."""
    found: dict[str, PlannedRun] = {}
    for run in runs:
        known = found.setdefault(run.id, run)
        if known is not run:
            found[run.id] = known.with_evaluations_of(run)
    return found


def data_config(request: Request) -> DataConfig:
    """The data section that all runs of the request share."""
    layers = {**request.data, **request.study.base, **request.scale.base, **request.overrides}
    flat = {key: value for key, value in layers.items() if key.startswith("data.")}
    flat.setdefault("data.cache_dir", str(request.output / "data"))
    return parse(DataConfig, unflatten(flat).get("data", {}), prefix="data.")


def expand(request: Request, info: DatasetInfo) -> Grid:
    """All cells and runs of a request. Raises: UserError for what is wrong with any of them."""
    grid, idle = expand_leniently(request, info)
    if idle:
        raise InvalidValue(min(idle), request.overrides[min(idle)], "has no effect on any cell of this study")
    return grid


def expand_leniently(request: Request, info: DatasetInfo) -> tuple[Grid, set[str]]:
    """The same, and those of the user's settings that have no effect on any cell."""
    study = request.study
    base = _base(request, info)
    printed = study.paper_numbers()
    maker = _Maker(request, base)
    cells = []
    for values in study.cells(request.axes):
        own = {key: value for axis, chosen in values.items() for key, value in study.sets(axis, chosen).items()}
        paper = printed.get(tuple(map(plain, values.values())), {})
        cells.append(Cell(values, paper, maker.runs(own)))
    if not cells:
        raise UserError(f"study {study.name}: the command line leaves no cell: {' '.join(request.changes)}")
    references = [Cell({}, {}, maker.runs(one.set), reference=name) for name, one in study.references.items()]
    _check(request, info, cells)
    mapped = (*_narrowed(request), *maker.mapped.values())
    grid = Grid(request, info, tuple(cells), tuple(references), mapped)
    return grid, _without_effect(request, cells)


def _narrowed(request: Request) -> list[dict[str, Any]]:
    """The axes of which the scale keeps some values, unless the user chose others, as entries of `mapped`."""
    study = request.study
    return [
        {"key": key, "paper": study.values[key], "own": kept}
        for key, kept in study.narrowed(request.scale.name).items()
        if request.axes[key] == kept
    ]


def _base(request: Request, info: DatasetInfo) -> dict[str, Any]:
    """Dotted run keys below everything that the study and the user say."""
    keys = known_keys(RunConfig)
    run_base, _ = split(request.scale.base)
    flat = dict(keys)
    scale = f"scale {request.scale.name}"
    for where, layer in (("data", request.data), (scale, run_base)):
        for key, value in layer.items():
            if key not in keys:
                raise unknown_name(f"key in {where}", key, keys)
            flat[key] = value
    mappable = [*keys, *evaluations.evaluation_keys({})]
    for key in request.scale.map:
        if key not in mappable:
            raise unknown_name(f"key in map of {scale}", key, mappable)
    flat["data.fingerprint"] = info.fingerprint
    flat["data.cache_dir"] = str(request.output / "data")
    return flat


class _Maker:
    """Makes runs from the keys that a cell sets; remembers what the scale made of the paper's values."""

    def __init__(self, request: Request, base: Mapping[str, Any]):
        self._request = request
        self._flat = base
        self._base, self._base_of_evaluations = split(request.study.base)
        self._overrides, self._overrides_of_evaluations = split(request.overrides)
        self._scale_of_evaluations = split(request.scale.base)[1]
        self._asked: dict[str, dict[str, dict[str, Any]]] = {}
        self.mapped: dict[str, dict[str, Any]] = {}

    def runs(self, own: Mapping[str, Any]) -> tuple[PlannedRun, ...]:
        """A run per seed; `own`: dotted keys of runs and evaluations, in the paper's values."""
        of_run, of_evaluations = split(own)
        flat = self._resolve(of_run)
        asked = self._evaluations(of_evaluations)
        seeds = self._request.seeds
        config = run_config(unflatten({**flat, "seed": seeds[0]}))
        ids = run_ids(config, seeds)
        ids_of_evaluations = [
            evaluation_ids(ids, tree["kind"], {key: value for key, value in tree.items() if key != "kind"})
            for tree in asked.values()
        ]
        return tuple(
            PlannedRun(identity, with_seed(config, seed), asked, dict(zip(asked, of_run, strict=True)))
            for seed, identity, *of_run in zip(seeds, ids, *ids_of_evaluations, strict=True)
        )

    def _evaluations(self, own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The evaluations of one cell; the same object for all cells that ask for the same."""
        text = plain(own)
        if text not in self._asked:
            self._asked[text] = evaluations.resolve(
                self._request.study.asked,
                self._base_of_evaluations,
                self._scale_of_evaluations,
                own,
                self._overrides_of_evaluations,
                self._scaled,
            )
        return self._asked[text]

    def _resolve(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """The flat config of one cell: base, then the study's base, the user's settings, and the cell's `own`."""
        flat = dict(self._flat)
        where = f"study {self._request.study.name}"
        for key, value in self._base.items():
            # A key that the scale sets outright is out of the study's base's hands.
            if key not in self._request.scale.base and key not in self._overrides and key not in own:
                assign(flat, key, self._scaled(key, value), where)
            else:
                assign(dict(flat), key, value, where)  # refuse a misspelt key even where it is not used
        for key, value in self._overrides.items():
            assign(flat, key, value, "command line")
        for key, value in own.items():
            assign(flat, key, self._scaled(key, value), where)
        return flat

    def _scaled(self, key: str, value: Any) -> Any:
        scaled = _map(self._request.scale, key, value, whole=key in _WHOLE)
        if scaled != value:
            self.mapped.setdefault(f"{key}={value}", {"key": key, "paper": value, "own": scaled})
        return scaled


_WHOLE = {key for key, default in known_keys(RunConfig).items() if isinstance(default, int)} | {
    f"{evaluations.PREFIX}{kind}.{key}"
    for kind, config in EVALUATIONS.items()
    for key, default in known_keys(config).items()
    if isinstance(default, int)
}
"""The keys that take whole numbers."""


def _map(scale: Scale, key: str, value: Any, whole: bool) -> Any:
    if key not in scale.map or not isinstance(value, (int, float)) or value == 0:
        return value
    return scale.map[key].own(value, whole)


def _check(request: Request, info: DatasetInfo, cells: Sequence[Cell]) -> None:
    where = f"study {request.study.name}"
    seen: dict[tuple[str, ...], Cell] = {}
    configs: dict[int, dict[str, Any]] = {}  # of the evaluations, which many cells share
    for cell in cells:
        run = cell.runs[0]
        identity = (run.id, *run.evaluation_ids.values())
        if identity in seen:
            raise UserError(
                f"{where}: duplicate cells at scale {request.scale.name}: "
                f"{_text(cell.values)} and {_text(seen[identity].values)} are the same run"
            )
        seen[identity] = cell
        if run.config.train.batch_size > info.train_count:
            allowed = f"at most the {info.train_count} training pictures of {run.config.data.name}"
            raise InvalidValue("train.batch_size", run.config.train.batch_size, allowed)
        if id(run.evaluations) not in configs:
            typed = {name: evaluation_config(tree)[1] for name, tree in run.evaluations.items()}
            _check_metric(request.study.metric, typed, info)
            configs[id(run.evaluations)] = typed
        for name, config in configs[id(run.evaluations)].items():
            check_evaluation(name, config, run.config, info)
    if len(info.bad) > request.overrides.get("data.max_bad", 0):
        raise InvalidValue(
            "data.max_bad",
            request.overrides.get("data.max_bad", 0),
            f"{len(info.bad)} picture(s) cannot be decoded, the first is {info.bad[0]}",
        )
    _check_processes(request, cells)
    for axis, values in request.axes.items():
        for value in values:
            for key in request.study.sets(axis, value):
                if key.startswith("data."):
                    raise UserError(f"{where}: axis {axis}: the cells of a study share one data set, not {key}")


def _check_metric(wanted: str, evaluation_of: Mapping[str, Any], info: DatasetInfo) -> None:
    """Raises: InvalidValue for a metric that these settings or these pictures do not give."""
    name, _, metric = wanted.partition(".")
    if metric == "top5" and len(info.classes) <= 5:
        raise InvalidValue("metric", wanted, f"top-5 needs more than {len(info.classes)} classes")
    if name != "train" and metric not in evaluation_of[name].metrics():
        raise InvalidValue("metric", wanted, f"with these settings one of {', '.join(evaluation_of[name].metrics())}")


def _without_effect(request: Request, cells: Sequence[Cell]) -> set[str]:
    """Those of the user's settings that change nothing in any cell."""
    of_runs, of_evaluations = split(request.overrides)
    idle, idle_evaluations = set(of_runs), set(of_evaluations)
    for cell in cells:
        if not idle and not idle_evaluations:
            break
        run = cell.runs[0]
        idle &= run.config.without_effect()
        if idle_evaluations:
            idle_evaluations &= evaluations.without_effect(of_evaluations, run.evaluations)
    return idle | idle_evaluations


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


def manifest(grid: Grid) -> dict[str, Any]:
    """What the report and the mirror need to know, as documented in docs/design.md."""
    request, study = grid.request, grid.request.study
    first = next(iter(grid.runs().values())).config
    source = load_paper()[study.paper.source] if study.paper else {}
    paper = study.paper and {
        "source": study.paper.source,
        "where": study.paper.where,
        "what": source.get("what", ""),
        "others": others(study.paper),
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
        "cells": [
            {
                "values": cell.values,
                "paper": cell.paper.get(study.metric),
                "paper_metrics": cell.paper,
                "runs": _run_records(cell),
            }
            for cell in grid.cells
        ],
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
