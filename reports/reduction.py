"""The cells that a report shows: the study's, less the axes that are tuned or averaged away.

Every cell of the study belongs to one shown cell. Of a tuned axis the cell that is best by another metric
(of a validation split, never of the test pictures) stands for all; along an averaged axis, the mean does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

import numpy as np

from reports.manifest import plain
from reports.spec import Spec

Numbers = Mapping[str, np.ndarray]
"""Metric to an array with a row per cell."""


@dataclass(frozen=True)
class Group:
    """A shown cell: its values on the axes left, and its candidates, each the cells that are averaged."""

    values: dict[str, Any]
    candidates: list[list[int]]


@dataclass(frozen=True)
class Place:
    """Where a claim can look: a shown cell and one metric of it; values: on the cell's and the metric's axes."""

    values: dict[str, Any]
    cell: int
    metric: str


def places(cells: Sequence[Mapping[str, Any]], spec: Spec, metric: str) -> list[Place]:
    """The places of the shown cells {axis key: value}: several per cell where metrics have axes of their own."""
    return [
        Place({**values, **of_metric}, cell, name)
        for cell, values in enumerate(cells)
        for name, of_metric in spec.comparable(metric).items()
    ]


def axes_of_places(axes: Mapping[str, Sequence[Any]], spec: Spec, metric: str) -> dict[str, list[Any]]:
    """The axes of a study's places, with their values in the order of the study file."""
    left = {key: list(values) for key, values in axes.items() if key not in spec.away()}
    for of_metric in spec.comparable(metric).values():
        for key, value in of_metric.items():
            left[key] = list(dict.fromkeys([*left.get(key, []), value]))
    return left


def groups(points: Sequence[Mapping[str, Any]], spec: Spec) -> list[Group]:
    """The shown cells of a study's cells {axis key: value}, in their order."""
    away, tuned = spec.away(), spec.tuned()
    found: dict[tuple[str, ...], tuple[dict[str, Any], dict[tuple[str, ...], list[int]]]] = {}
    for number, point in enumerate(points):
        left = {key: value for key, value in point.items() if key not in away}
        _, candidates = found.setdefault(tuple(map(plain, left.values())), (left, {}))
        candidates.setdefault(tuple(plain(point[key]) for key in tuned), []).append(number)
    return [Group(values, list(candidates.values())) for values, candidates in found.values()]


def choose(group: Group, by: np.ndarray | None) -> list[int]:
    """The candidate that is best by these numbers (a row per cell, any columns); the first where none has one."""
    if by is None or len(group.candidates) == 1:
        return group.candidates[0]
    means = [_mean(by[rows]) for rows in group.candidates]
    return group.candidates[int(np.nanargmax(means))] if not all(map(isnan, means)) else group.candidates[0]


def averaged(numbers: Numbers, chosen: Sequence[list[int]]) -> dict[str, np.ndarray]:
    """The mean of the chosen cells' rows; NaN where one of them is NaN."""
    return {name: np.stack([values[rows].mean(axis=0) for rows in chosen]) for name, values in numbers.items()}


def paper_cells(
    points: Sequence[Mapping[str, Any]], numbers: Sequence[Mapping[str, float]], spec: Spec, metric: str
) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
    """(values of the shown cells, the paper's numbers of each): the best of tuned ones, the mean of averaged ones."""
    names = list(dict.fromkeys([metric, *(name for found in numbers for name in found)]))
    printed = {name: np.array([found.get(name, nan) for found in numbers], dtype=float) for name in names}
    shown = groups(points, spec)
    means = averaged(printed, [choose(group, printed[metric]) for group in shown]) if shown else {}
    per_cell = [
        {name: float(values[cell]) for name, values in means.items() if not isnan(values[cell])}
        for cell in range(len(shown))
    ]
    return [group.values for group in shown], per_cell


def _mean(values: np.ndarray) -> float:
    """Of the numbers that are there."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else nan
