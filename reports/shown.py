"""What a report shows: one point per shown cell and metric, on the axes that its figure and tables have.

Between the table (a line per cell that was run) and everything drawn, printed or claimed, so that all of
them see the same tuned and averaged cells.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from reports.collect import common_state, interval_of_runs
from reports.manifest import Manifest, plain
from reports.reduction import averaged, choose, groups, paper_cells
from reports.spec import METRIC, parse_report
from reports.statistics import Interval, summarize


@dataclass(frozen=True)
class Point:
    """One number of ours with the paper's (NaN: none) beside it.

    values: on the axes of the report. state and cause: of the runs behind it; asked: how many seeds it should have;
    cell: its number among the shown cells.
    """

    values: dict[str, Any]
    metric: str
    interval: Interval
    paper: float
    state: str
    cause: str
    asked: int
    cell: int

    @property
    def is_there(self) -> bool:
        return self.interval.n > 0


@dataclass(frozen=True)
class Shown:
    """A study as its report shows it.

    cells: {axis key: value} of each shown cell; own (cells x seeds) and paper (cells) per metric; rows: of the table,
    per cell; axes: those of the cells and those that tell metrics apart, with their values.
    """

    manifest: Manifest
    table: pd.DataFrame
    spec: Any
    axes: dict[str, list[Any]]
    cells: list[dict[str, Any]]
    rows: list[list[int]]
    own: dict[str, np.ndarray]
    paper: dict[str, np.ndarray]
    points: list[Point]

    @property
    def has_paper(self) -> bool:
        return any(point.paper == point.paper for point in self.points)

    @property
    def layout(self) -> dict[str, list[str]]:
        """Place of the figure to its axes."""
        return self.spec.layout(self.axes, self.manifest.study.metric)

    @property
    def compared(self) -> list[Point]:
        """The points that the paper's are compared with: of one quantity, under one or several conditions."""
        return [point for point in self.points if point.metric in self.spec.comparable(self.manifest.study.metric)]

    @property
    def metrics(self) -> list[str]:
        """What the points are of, each once."""
        return list(self.spec.metric_axes(self.manifest.study.metric))

    def at(self, axes: Sequence[str]) -> dict[tuple[str, ...], Point]:
        """The points by the texts of their values on these axes."""
        return {tuple(plain(point.values[key]) for key in axes): point for point in self.points}

    def label(self, key: str, value: Any) -> str:
        """A value of an axis in words."""
        return self.manifest.label_of_metric(value) if key == METRIC else self.manifest.label_on(key, value)


def show(manifest: Manifest, runs: pd.DataFrame, table: pd.DataFrame) -> Shown:
    """`runs` and `table` as from collect.py. Raises: UserError for a report section that is malformed."""
    spec = parse_report(manifest.study.report)
    metric = manifest.study.metric
    of_metrics = spec.metric_axes(metric)
    raw = [{axis.key: cell.values[axis.key] for axis in manifest.axes} for cell in manifest.cells]
    by_row: list[list[Any]] = [[] for _ in raw]
    for row, run in zip(runs["row"].tolist(), runs.itertuples(), strict=True):
        if row < len(raw):
            by_row[row].append(run)
    cells, printed = paper_cells(raw, [cell.printed(metric) for cell in manifest.cells], spec, metric)
    found = [name for row in by_row for run in row for name in run.metrics]
    names = list(dict.fromkeys([metric, *of_metrics, *(name for one in printed for name in one), *found]))
    numbers = {name: _by_cell_and_seed(by_row, manifest.seeds, name) for name in names}
    by = numbers.get(spec.best.by) if spec.best else None
    rows = [choose(group, by) for group in groups(raw, spec)]
    own = averaged(numbers, rows) if rows else numbers
    paper = {name: np.array([one.get(name, nan) for one in printed]) for name in names}
    points = []
    for cell, values in enumerate(cells):
        group = [run for row in rows[cell] for run in by_row[row]]
        states = Counter(run.state for run in group)
        causes = ", ".join(dict.fromkeys(run.cause for run in group if run.cause))
        for name, on_axes in of_metrics.items():
            interval = interval_of_runs(group, name) if len(rows[cell]) == 1 else _interval(own[name][cell])
            paper_number = float(paper[name][cell])
            place = {**values, **on_axes}
            state = common_state(states)
            points.append(Point(place, name, interval, paper_number, state, causes, len(manifest.seeds), cell))
    axes = {axis.key: list(axis.values) for axis in manifest.axes if axis.key not in spec.away()}
    for on_axes in of_metrics.values():
        for key, value in on_axes.items():
            axes[key] = list(dict.fromkeys([*axes.get(key, []), value]))
    return Shown(manifest, table, spec, axes, cells, rows, own, paper, points)


def _by_cell_and_seed(by_row: list[list[Any]], seeds: Sequence[int], metric: str) -> np.ndarray:
    """cells x seeds; NaN where there is no number."""
    values_CS = np.full((len(by_row), len(seeds)), nan)
    for cell, row in enumerate(by_row):
        for run in row:
            if metric in run.metrics:
                values_CS[cell, seeds.index(run.seed)] = run.metrics[metric]
    return values_CS


def _interval(values_S: np.ndarray) -> Interval:
    return summarize(values_S[~np.isnan(values_S)].tolist(), None)
