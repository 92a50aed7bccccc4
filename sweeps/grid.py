"""From a request to its cells and runs: pure, the same for a dry run and the real one."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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
    unflatten,
)
from core.data import DatasetInfo
from core.errors import InvalidValue, UserError
from core.feasible import check_evaluation
from core.identity import is_machine_key
from reports.manifest import plain
from sweeps import evaluations
from sweeps.devices import gpus
from sweeps.keys import PREFIX, split
from sweeps.planned import PlannedRun, RunMaker, merged
from sweeps.request import Request
from sweeps.study import Study

_FOLDERS = ("data.root", "data.transfer_root")


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

    @property
    def config(self) -> RunConfig:
        """That of the first run, for what all of them share."""
        return next(iter(self.runs().values())).config

    def machine(self) -> dict[str, Any]:
        """The machine-only keys of this request, which replace those that a run directory remembers."""
        found = {key: value for key, value in flatten(as_dict(self.config)) if is_machine_key(key)}
        # A job does not run where the user typed the command.
        folders = {key: os.path.abspath(os.path.expanduser(found[key])) for key in _FOLDERS if found[key]}
        return {**found, **folders}


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
    printed = study.paper_numbers()
    maker = RunMaker(request, info)
    cells = []
    for values in study.cells(request.axes):
        own = {key: value for axis, chosen in values.items() for key, value in study.sets(axis, chosen).items()}
        paper = printed.get(tuple(map(plain, values.values())), {})
        cells.append(Cell(values, paper, maker.runs(own)))
    if not cells:
        raise UserError(f"study {study.name}: the command line leaves no cell: {' '.join(request.changes)}")
    references = [Cell({}, {}, maker.runs(one.set), reference=name) for name, one in study.references.items()]
    _check(request, info, cells)
    mapped = (*_narrowed(request), *_set_by_scale(request, cells), *maker.mapped.values())
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


def _set_by_scale(request: Request, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """What the scale's own values are in some cell, where the paper's differ, as entries of `mapped`.

    Not what has no effect there. Of the data, the pictures' size only: reports name the data set anyway.
    """
    study, scale = request.study, request.scale
    if scale.is_paper:
        return []
    # What every value of an axis sets, or the user, is out of the scale's hands.
    by_axes = [set.intersection(*({*study.sets(axis, value)} for value in study.values[axis])) for axis in study.values]
    taken = {*request.overrides}.union(*by_axes)
    ends = [cells[0].runs[0].config, cells[-1].runs[0].config]
    without_effect = set.intersection(*(set(config.without_effect()) for config in ends))
    asked = cells[0].runs[0].evaluations
    idle_of = {name: evaluation_config(tree)[1].without_effect() for name, tree in asked.items()}
    paper = {**known_keys(RunConfig), **study.base}
    found = []
    for key, own in scale.base.items():
        _, kind, rest = key.split(".", 2) if key.startswith(PREFIX) else ("", "", "")
        if rest:
            if not any(
                one["kind"] == kind
                and rest not in one
                and rest not in idle_of[name]
                and f"{PREFIX}{name}.{rest}" not in taken
                for name, one in study.asked.items()
            ):
                continue
            of_paper = study.base.get(key, known_keys(EVALUATIONS[kind])[rest])
        elif key in without_effect or (key.startswith("data.") and key != "data.image_size"):
            continue
        else:
            of_paper = paper[key]
        if key not in taken and plain(own) != plain(of_paper):
            found.append({"key": key, "paper": of_paper, "own": own})
    return found


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
            configs[id(run.evaluations)] = typed
        for name, config in configs[id(run.evaluations)].items():
            check_evaluation(name, config, run.config, info)
    _check_metrics(request.study, list(configs.values()), info)
    max_bad = data_config(request).max_bad
    if len(info.bad) > max_bad:
        found = f"{len(info.bad)} picture(s) cannot be decoded, the first is {info.bad[0]}"
        raise InvalidValue("data.max_bad", max_bad, found)
    _check_processes(request, cells)
    _check_gpus(request, cells[0].runs[0].config)
    for axis, values in request.axes.items():
        for value in values:
            for key in request.study.sets(axis, value):
                if key.startswith("data."):
                    raise UserError(f"{where}: axis {axis}: the cells of a study share one data set, not {key}")


def _check_metrics(study: Study, evaluations_of: Sequence[Mapping[str, Any]], info: DatasetInfo) -> None:
    """Raises: InvalidValue for a metric that these settings give in no cell, or for top-5 of five classes or fewer."""
    if study.metric.endswith(".top5") and len(info.classes) <= 5:
        raise InvalidValue("metric", study.metric, f"top-5 needs more than {len(info.classes)} classes")
    for wanted, where in sorted(study.named_metrics.items()):
        name, _, metric = wanted.partition(".")
        if name != "train":
            given = dict.fromkeys(given for evaluation_of in evaluations_of for given in evaluation_of[name].metrics())
            if metric not in given:
                raise InvalidValue(where, wanted, f"with these settings one of {', '.join(given)}")


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


def _check_gpus(request: Request, config: RunConfig) -> None:
    """Raises: InvalidValue where processes that share a run would share a GPU of this machine, which NCCL refuses."""
    processes = getattr(request.launcher, "processes_per_run", 1)
    # What is only looked at may have been trained on another machine.
    if processes == 1 or config.machine.device == "cpu" or request.settings.action not in ("run", "plan"):
        return
    here = len(gpus())
    if 0 < here < processes:
        allowed = f"at most {here}, as this machine has {here} GPU(s); as many as you like with machine.device=cpu"
        raise InvalidValue("launcher.processes_per_run", processes, allowed)


def _text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())
