"""Report kind `heatmap`: two axes as a grid of coloured cells, the paper's grid beside it (Figure 5).

A number is printed in every cell, so that colour is never its only carrier; a cell without a number is
hatched and says why. Both grids have a colour scale of their own, with its range written above.
"""

import textwrap
from collections.abc import Mapping
from math import ceil, isnan, nan
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from core.errors import unknown_name
from reports.captions import caption_lines, reference_lines, word_of
from reports.manifest import Axis, Manifest, plain
from reports.statistics import OVER_SEEDS, Agreement

COLOURS = colormaps["viridis"]

_CELL_INCHES = (0.62, 0.50)
_LARGEST_GRID_INCHES = (10.0, 8.0)
_MOST_PRINTED = 16  # Of more rows or columns, cells become too small for their numbers.
_MOST_TICKS = 20
_AVERAGE_GAP = 0.4  # in widths of a cell
_LONG_NAME = 9
_GREY, _RED = "#333333", "#8f1d1d"


def draw_heatmap(manifest: Manifest, table: pd.DataFrame, agreement: Agreement | None) -> Figure:
    """The study's grid, and the paper's where the study has its numbers.

    Raises: UserError if rows or columns of the report are no axis of the study.
    """
    cells = table[table["kind"] == "cell"]
    rows, columns = (_axis(manifest, manifest.study.report.get(place)) for place in ("rows", "columns"))
    average = bool(manifest.study.report.get("average"))
    own = _Grid(manifest, cells, rows, columns, "mean", average)
    paper = _Grid(manifest, cells, rows, columns, "paper", average)
    grids = [own, paper] if np.isfinite(paper.values_RC).any() else [own]
    canvas = _Canvas(own, len(grids), _caption(manifest, table, agreement))
    for number, grid in enumerate(grids):
        axes = canvas.axes(number)
        marks = _reference_means(manifest, table) if grid is own else []
        limits = grid.limits(marks)
        _draw_grid(axes, grid, _norm(limits))
        _draw_names(axes, grid)
        axes.set_xlabel(manifest.label(columns.key))
        if grid is own:
            axes.set_ylabel(manifest.label(rows.key))
        axes.set_title(_name(manifest, grid), loc="left", fontsize=10, fontweight="bold", pad=18)
        scale = f"colour scale {limits[0]:.1f} to {limits[1]:.1f}" if limits else "no cell is finished"
        place: dict[str, Any] = {"xycoords": "axes fraction", "xytext": (0, 5), "textcoords": "offset points"}
        axes.annotate(scale, (0, 1), **place, fontsize=8, color="#444444")
        if limits:
            _draw_bar(canvas.bar(number), limits, marks)
    canvas.title(manifest.study.title or manifest.study.name, manifest.setting)
    return canvas.figure


def _axis(manifest: Manifest, key: str | None) -> Axis:
    for axis in manifest.axes:
        if axis.key == key:
            return axis
    raise unknown_name("axis in report", str(key), [axis.key for axis in manifest.axes])


def _caption(manifest: Manifest, table: pd.DataFrame, agreement: Agreement | None) -> list[str]:
    lines = caption_lines(manifest, table, agreement, mark=" (marked on the colour bar)")
    if (table.loc[table["kind"] == "cell", "interval"] == OVER_SEEDS).any():
        lines[0] += " ± is half of one."
    if manifest.study.report.get("average"):
        lines.append("Average is the mean of a row's cells as shown.")
    return lines


def _reference_means(manifest: Manifest, table: pd.DataFrame) -> list[float]:
    return [line.interval.mean for line in reference_lines(manifest, table) if line.interval.n]


def _name(manifest: Manifest, grid: "_Grid") -> str:
    if grid.is_own:
        return "This study"
    where = manifest.study.paper.where if manifest.study.paper else ""
    return f"The paper, {where}" if where else "The paper"


class _Grid:
    """One column of the table by row and column of the picture; NaN where there is no number."""

    def __init__(self, manifest: Manifest, cells: pd.DataFrame, rows: Axis, columns: Axis, name: str, average: bool):
        self.is_own = name == "mean"
        self.average = average
        self.row_names = [manifest.label(value) for value in rows.values]
        self.column_names = [manifest.label(value) for value in columns.values]
        self.values_RC = np.full((len(rows.values), len(columns.values)), nan)
        self.lines: dict[tuple[int, int], Mapping[Any, Any]] = {}
        row_of = {plain(value): number for number, value in enumerate(rows.values)}
        column_of = {plain(value): number for number, value in enumerate(columns.values)}
        for line in cells.to_dict("records"):
            place = row_of[line[rows.key]], column_of[line[columns.key]]
            self.values_RC[place] = line[name]
            self.lines[place] = line

    @property
    def is_printed(self) -> bool:
        return max(self.values_RC.shape) <= _MOST_PRINTED

    @property
    def width(self) -> float:
        """In widths of a cell."""
        return len(self.column_names) + (1 + _AVERAGE_GAP if self.average else 0)

    def limits(self, marks: list[float]) -> tuple[float, float] | None:
        """The range of the colour scale, which includes the marks; None before the first cell."""
        finished = self.values_RC[np.isfinite(self.values_RC)].tolist()
        return (min(finished + marks), max(finished + marks)) if finished else None


class _Canvas:
    """A figure laid out in inches, so that cells and text keep their sizes whatever the grid's."""

    def __init__(self, grid: _Grid, n_grids: int, caption: list[str]):
        sizes = zip((grid.width, len(grid.row_names)), _CELL_INCHES, _LARGEST_GRID_INCHES, strict=True)
        self._grid = tuple(min(n * inches, largest) for n, inches, largest in sizes)
        self._left = 0.6 + 0.075 * max(map(len, grid.row_names))
        self._panel = self._grid[0] + self._left + 0.75
        width = max(n_grids * self._panel + 0.1, 7.5)
        wrapped = [part for line in caption for part in textwrap.wrap(line, int(width * 14.5))]
        slanted = [len(name) for name in grid.column_names if len(name) > _LONG_NAME]
        below_grid = 0.72 + 0.04 * max(slanted, default=0)
        self._bottom = below_grid + 0.17 * len(wrapped)
        self._size = width, 1.25 + self._grid[1] + self._bottom
        self.figure = Figure(figsize=self._size, facecolor="white")
        for number, line in enumerate(wrapped):
            y = self._bottom - below_grid + 0.06 - 0.17 * number
            self.figure.text(0.2 / width, y / self._size[1], line, fontsize=8, color="#222222", va="top")

    def title(self, title: str, setting: str) -> None:
        width, height = self._size
        self.figure.text(0.2 / width, 1 - 0.18 / height, title, fontsize=13, fontweight="bold", va="top")
        self.figure.text(0.2 / width, 1 - 0.47 / height, setting, fontsize=10, color="#444444", va="top")

    def axes(self, number: int) -> Axes:
        return self._add(self._left + number * self._panel, self._grid[0])

    def bar(self, number: int) -> Axes:
        return self._add(self._left + number * self._panel + self._grid[0] + 0.25, 0.14)

    def _add(self, x: float, width: float) -> Axes:
        total_width, total_height = self._size
        bottom, height = self._bottom / total_height, self._grid[1] / total_height
        return self.figure.add_axes((x / total_width, bottom, width / total_width, height))


def _norm(limits: tuple[float, float] | None) -> Normalize:
    low, high = limits or (0.0, 1.0)
    return Normalize(low, high if high > low else low + 1)


def _draw_grid(axes: Axes, grid: _Grid, norm: Normalize) -> None:
    n_rows, n_columns = grid.values_RC.shape
    rows, columns = np.arange(n_rows + 1), np.arange(n_columns + 1)
    style: dict[str, Any] = {"cmap": COLOURS, "norm": norm}
    if grid.is_printed:
        style |= {"edgecolors": "white", "linewidth": 1.0}
    else:
        axes.set_facecolor("#d8d8d8")
    axes.pcolormesh(columns, rows, np.ma.masked_invalid(grid.values_RC), **style)
    means = grid.values_RC.mean(axis=1)
    x = n_columns + _AVERAGE_GAP
    if grid.average:
        axes.add_patch(Rectangle((n_columns, 0), _AVERAGE_GAP, n_rows, color="white", linewidth=0))
        axes.pcolormesh([x, x + 1], rows, np.ma.masked_invalid(means)[:, None], **style)
    if not grid.is_printed:
        return
    for (row, column), line in grid.lines.items():
        value = grid.values_RC[row, column]
        if not isnan(value):
            _print(axes, column, row, value, norm, _small_text(line) if grid.is_own else "")
        elif grid.is_own:
            _draw_missing(axes, column, row, word_of(line), _RED if line["state"] == "failed" else _GREY)
        else:
            _draw_missing(axes, column, row, "not\nprinted", _GREY)
    for row, mean in enumerate(means if grid.average else []):
        if isnan(mean):
            _draw_missing(axes, x, row, "row not\ncomplete", _GREY)
        else:
            _print(axes, x, row, mean, norm, "")


def _draw_names(axes: Axes, grid: _Grid) -> None:
    every = ceil(len(grid.column_names) / _MOST_TICKS)
    ticks = [column + 0.5 for column in range(0, len(grid.column_names), every)]
    names = grid.column_names[::every]
    if grid.average:
        ticks.append(grid.width - 0.5)
        names.append("Average")
    slanted = max(map(len, names)) > _LONG_NAME
    axes.set_xticks(ticks, names, rotation=30 if slanted else 0, ha="right" if slanted else "center")
    every = ceil(len(grid.row_names) / _MOST_TICKS)
    axes.set_yticks(np.arange(0, len(grid.row_names), every) + 0.5, grid.row_names[::every])
    axes.set_xlim(0, grid.width)
    axes.set_ylim(len(grid.row_names), 0)
    axes.tick_params(length=0, pad=5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _print(axes: Axes, x: float, y: float, value: float, norm: Normalize, small: str) -> None:
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": _ink(COLOURS(norm(value)))}
    axes.text(x + 0.5, y + (0.42 if small else 0.5), f"{value:.1f}", **style)
    if small:
        axes.text(x + 0.5, y + 0.77, small, fontsize=6.5, **style)


def _draw_missing(axes: Axes, x: float, y: float, word: str, colour: str) -> None:
    style: dict[str, Any] = {"facecolor": "#ececec", "edgecolor": "#bdbdbd", "hatch": "////", "linewidth": 0}
    axes.add_patch(Rectangle((x, y), 1, 1, **style))
    axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor="white", linewidth=1))
    box = {"facecolor": "#ececec", "edgecolor": "none", "pad": 0.8}
    axes.text(x + 0.5, y + 0.5, word, ha="center", va="center", fontsize=7, color=colour, bbox=box)


def _small_text(line: Mapping[Any, Any]) -> str:
    """Second line of a cell: half the interval over seeds, or how many seeds are in if some are not."""
    asked = len(line["runs"].split())
    if line["n"] < asked:
        return f"{line['n']} of {asked}"
    if line["interval"] == OVER_SEEDS:
        return f"±{(line['high'] - line['low']) / 2:.1f}"
    return ""


def _ink(rgba: tuple[float, ...]) -> str:
    """Black or white, whichever has the higher contrast on a colour (WCAG 2 relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if luminance > 0.179 else "white"


def _draw_bar(axes: Axes, limits: tuple[float, float], marks: list[float]) -> None:
    bar = axes.figure.colorbar(ScalarMappable(_norm(limits), COLOURS), cax=axes)
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=8, length=2)
    beside = axes.get_yaxis_transform()
    for mark in marks:
        axes.axhline(mark, color="white", linewidth=2.4)
        axes.axhline(mark, color="black", linewidth=1.2)
        axes.plot([-0.45], [mark], ">", color="black", markersize=5, clip_on=False, transform=beside)
