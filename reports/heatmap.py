"""Report kind `heatmap`: two axes as a grid of coloured cells, the paper's grid beside it (Figure 5).

A number is printed in every cell, so that colour is never its only carrier; a cell without a number is
hatched and says why. Both grids have a colour scale of their own, with its range written above.
"""

import textwrap
from collections.abc import Mapping
from math import isnan, nan
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
_MOST_TICKS = 40
_AVERAGE_GAP = 0.4  # in widths of a cell
_LONG_NAME = 9


def draw_heatmap(manifest: Manifest, table: pd.DataFrame, agreement: Agreement | None) -> Figure:
    """The study's grid, and the paper's where the study has its numbers."""
    cells = table[table["kind"] == "cell"]
    rows, columns = (_axis(manifest, manifest.study.report[place]) for place in ("rows", "columns"))
    own = _Grid(cells, rows, columns, "mean")
    paper = _Grid(cells, rows, columns, "paper")
    average = bool(manifest.study.report.get("average"))
    panels = [own, paper] if np.isfinite(paper.values_RC).any() else [own]

    lines = caption_lines(manifest, table, agreement, mark=" (marked on the colour bar)")
    if (cells["interval"] == OVER_SEEDS).any():
        lines[0] += " ± is half of one."
    if average:
        lines.append("Average is the mean of a row's cells as shown.")
    names = (
        [manifest.label(value) for value in rows.values],
        [manifest.label(value) for value in columns.values],
    )
    canvas = _Canvas(names, average, len(panels), lines)
    references = reference_lines(manifest, table)
    for number, grid in enumerate(panels):
        marks = [reference.interval.mean for reference in references if grid is own and reference.interval.n]
        limits = _limits(grid.values_RC, marks)
        axes = canvas.axes(number)
        _draw_grid(axes, grid, manifest, limits, average, show_seeds=grid is own)
        if number == 0:
            axes.set_ylabel(manifest.label(rows.key))
        axes.set_xlabel(manifest.label(columns.key))
        where = manifest.study.paper.where if manifest.study.paper else ""
        name = "This study" if grid is own else f"The paper, {where}" if where else "The paper"
        scale = f"colour scale {limits[0]:.1f} to {limits[1]:.1f}" if limits else "no value yet"
        axes.set_title(name, loc="left", fontsize=10, fontweight="bold", pad=18)
        axes.text(0, 1.02, scale, transform=axes.transAxes, fontsize=8, color="#444444", va="bottom")
        if limits:
            _draw_bar(canvas, number, limits, marks)
    canvas.title(manifest.study.title or manifest.study.name, manifest.setting)
    return canvas.figure


def _axis(manifest: Manifest, key: str) -> Axis:
    for axis in manifest.axes:
        if axis.key == key:
            return axis
    raise unknown_name("axis in report", str(key), [axis.key for axis in manifest.axes])


class _Grid:
    """One column of the table by row and column value; NaN where there is no number."""

    def __init__(self, cells: pd.DataFrame, rows: Axis, columns: Axis, name: str):
        self.rows, self.columns = rows.values, columns.values
        self.values_RC = np.full((len(rows.values), len(columns.values)), nan)
        self.lines: dict[tuple[int, int], Any] = {}
        row_of = {plain(value): number for number, value in enumerate(rows.values)}
        column_of = {plain(value): number for number, value in enumerate(columns.values)}
        for line in cells.to_dict("records"):
            place = row_of[line[rows.key]], column_of[line[columns.key]]
            self.values_RC[place] = line[name]
            self.lines[place] = line


class _Canvas:
    """A figure laid out in inches, so that cells and text keep their sizes whatever the grid's."""

    def __init__(self, names: tuple[list[str], list[str]], average: bool, n_panels: int, caption: list[str]):
        rows, columns = names
        n_columns = len(columns) + (1 + _AVERAGE_GAP if average else 0)
        self._grid = tuple(
            min(n * inches, largest)
            for n, inches, largest in zip(
                (n_columns, len(rows)), _CELL_INCHES, _LARGEST_GRID_INCHES, strict=True
            )
        )
        self._left = 0.6 + 0.075 * max(map(len, rows))
        self._panel = self._grid[0] + self._left + 0.75
        width = max(n_panels * self._panel + 0.1, 7.5)
        wrapped = [part for line in caption for part in textwrap.wrap(line, int(width * 13.5))]
        below_grid = 0.72 + 0.04 * max((len(name) for name in columns if len(name) > _LONG_NAME), default=0)
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
        total = self._size
        return self.figure.add_axes(
            (x / total[0], self._bottom / total[1], width / total[0], self._grid[1] / total[1])
        )


def _limits(values_RC: np.ndarray, marks: list[float]) -> tuple[float, float] | None:
    known = [*values_RC[np.isfinite(values_RC)], *marks]
    return (min(known), max(known)) if known else None


def _draw_grid(
    axes: Axes,
    grid: _Grid,
    manifest: Manifest,
    limits: tuple[float, float] | None,
    average: bool,
    show_seeds: bool,
) -> None:
    n_rows, n_columns = grid.values_RC.shape
    norm = _norm(limits)
    printed = max(n_rows, n_columns) <= _MOST_PRINTED
    axes.set_facecolor("white" if printed else "#d8d8d8")
    masked = np.ma.masked_invalid(grid.values_RC)
    style: dict[str, Any] = {
        "cmap": COLOURS,
        "norm": norm,
        "edgecolors": "white",
        "linewidth": 1.0 if printed else 0,
    }
    axes.pcolormesh(np.arange(n_columns + 1), np.arange(n_rows + 1), masked, **style)
    for (row, column), line in grid.lines.items():
        value = grid.values_RC[row, column]
        if not printed:
            continue
        if isnan(value):
            failed = show_seeds and line["state"] == "failed"
            word = word_of(line) if show_seeds else "not\nprinted"
            _draw_missing(axes, column, row, word, "#8f1d1d" if failed else "#333333")
        else:
            _print(axes, column, row, value, norm, _small_text(line) if show_seeds else "")
    every = max(1, n_columns // _MOST_TICKS)
    ticks = [column + 0.5 for column in range(0, n_columns, every)]
    names = [manifest.label(value) for value in grid.columns[::every]]
    if average:
        x = n_columns + _AVERAGE_GAP
        axes.add_patch(Rectangle((n_columns, 0), _AVERAGE_GAP, n_rows, color="white", linewidth=0))
        means = grid.values_RC.mean(axis=1)
        axes.pcolormesh([x, x + 1], np.arange(n_rows + 1), np.ma.masked_invalid(means)[:, None], **style)
        for row, mean in enumerate(means):
            if isnan(mean) and printed:
                _draw_missing(axes, x, row, "row not\ncomplete", "#333333")
            elif printed:
                _print(axes, x, row, mean, norm, "")
        ticks.append(x + 0.5)
        names.append("Average")
    axes.set_xlim(0, n_columns + (1 + _AVERAGE_GAP if average else 0))
    axes.set_ylim(n_rows, 0)
    is_long = max(map(len, names)) > _LONG_NAME
    axes.set_xticks(ticks, names, rotation=30 if is_long else 0, ha="right" if is_long else "center")
    every = max(1, n_rows // _MOST_TICKS)
    axes.set_yticks(
        np.arange(0, n_rows, every) + 0.5, [manifest.label(value) for value in grid.rows[::every]]
    )
    axes.tick_params(length=0, pad=5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _norm(limits: tuple[float, float] | None) -> Normalize:
    low, high = limits or (0.0, 1.0)
    return Normalize(low, high if high > low else low + 1)


def _print(axes: Axes, x: float, y: float, value: float, norm: Normalize, small: str) -> None:
    colour = _ink(COLOURS(norm(value)))
    axes.text(x + 0.5, y + (0.42 if small else 0.5), f"{value:.1f}", ha="center", va="center", color=colour)
    if small:
        axes.text(x + 0.5, y + 0.77, small, ha="center", va="center", color=colour, fontsize=6.5)


def _draw_missing(axes: Axes, x: float, y: float, word: str, colour: str) -> None:
    axes.add_patch(
        Rectangle((x, y), 1, 1, facecolor="#ececec", edgecolor="#bdbdbd", hatch="////", linewidth=0)
    )
    axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor="white", linewidth=1))
    box = {"facecolor": "#ececec", "edgecolor": "none", "pad": 0.8}
    axes.text(x + 0.5, y + 0.5, word, ha="center", va="center", fontsize=7, color=colour, bbox=box)


def _small_text(line: Mapping[str, Any]) -> str:
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


def _draw_bar(canvas: _Canvas, number: int, limits: tuple[float, float], marks: list[float]) -> None:
    axes = canvas.bar(number)
    bar = canvas.figure.colorbar(ScalarMappable(_norm(limits), COLOURS), cax=axes)
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=8, length=2)
    for mark in marks:
        axes.axhline(mark, color="white", linewidth=2.4)
        axes.axhline(mark, color="black", linewidth=1.2)
        axes.plot([-0.45], [mark], marker=">", color="black", markersize=5, clip_on=False,
                  transform=axes.get_yaxis_transform())  # fmt: skip
