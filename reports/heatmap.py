"""Report kind `heatmap`: two axes as a grid of coloured cells, the paper's grid beside it (Figure 5).

A number is printed in every cell, so that colour is never its only carrier; a cell without a number is
hatched and says why. Both grids have a colour scale of their own, with its range written above.
"""

from math import ceil, isnan, nan
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reports.canvas import Canvas
from reports.captions import caption_lines, paper_name, reference_lines, word_of
from reports.manifest import plain
from reports.shown import Point, Shown
from reports.statistics import OVER_SEEDS, Agreement

COLOURS = colormaps["viridis"]

_CELL_INCHES = (0.62, 0.50)
_LARGEST_GRID_INCHES = (10.0, 8.0)
_MOST_PRINTED = 16  # Of more rows or columns, cells become too small for their numbers.
_MOST_TICKS = 20
_AVERAGE_GAP = 0.4  # in widths of a cell
_LONG_NAME = 9
_TITLE_INCHES = 0.5  # above a grid: its name and its colour scale
_GREY, _RED = "#333333", "#8f1d1d"


def draw_heatmap(shown: Shown, agreement: Agreement | None) -> Figure:
    """The study's grid, and the paper's where the study has its numbers."""
    manifest, spec = shown.manifest, shown.spec
    own = _Grid(shown, is_own=True)
    grids = [own, _Grid(shown, is_own=False)] if shown.has_paper else [own]
    width, height = (
        min(n * inches, largest)
        for n, inches, largest in zip((own.width, len(own.row_names)), _CELL_INCHES, _LARGEST_GRID_INCHES, strict=True)
    )
    left = 0.6 + 0.075 * max(map(len, own.row_names))
    panel = width + left + 0.75
    slanted = max((len(name) for name in own.column_names if len(name) > _LONG_NAME), default=0)
    body = _TITLE_INCHES + height + 0.62 + 0.04 * slanted
    canvas = Canvas(manifest, _caption(shown, agreement), len(grids) * panel + 0.1, body)
    for number, grid in enumerate(grids):
        axes = canvas.axes(left + number * panel, _TITLE_INCHES, width, height)
        marks = _reference_means(shown) if grid is own else []
        limits = grid.limits(marks)
        _draw_grid(axes, grid, _norm(limits))
        _draw_names(axes, grid)
        axes.set_xlabel(manifest.label(spec.columns))
        if grid is own:
            axes.set_ylabel(manifest.label(spec.rows))
        name = "This study" if grid is own else paper_name(manifest)
        axes.set_title(name, loc="left", fontsize=10, fontweight="bold", pad=18)
        scale = f"colour scale {limits[0]:.1f} to {limits[1]:.1f}" if limits else "no cell is finished"
        place: dict[str, Any] = {"xycoords": "axes fraction", "xytext": (0, 5), "textcoords": "offset points"}
        axes.annotate(scale, (0, 1), **place, fontsize=8, color="#444444")
        if limits:
            _draw_bar(canvas.axes(left + number * panel + width + 0.25, _TITLE_INCHES, 0.14, height), limits, marks)
    return canvas.figure


def _caption(shown: Shown, agreement: Agreement | None) -> list[str]:
    lines = caption_lines(shown, agreement, mark=" (marked on the colour bar)")
    if any(point.interval.kind == OVER_SEEDS for point in shown.points):
        lines[0] += " ± is half of one."
    if shown.spec.average:
        lines.append("Average is the mean of a row's cells as shown.")
    return lines


def _reference_means(shown: Shown) -> list[float]:
    lines = reference_lines(shown.manifest, shown.table)
    return [line.interval.mean for line in lines if line.interval.n]


class _Grid:
    """Our numbers or the paper's by row and column of the picture; NaN where there is none."""

    def __init__(self, shown: Shown, is_own: bool):
        self.is_own = is_own
        self.average = shown.spec.average
        rows, columns = shown.spec.rows, shown.spec.columns
        self.row_names = [shown.label(rows, value) for value in shown.axes[rows]]
        self.column_names = [shown.label(columns, value) for value in shown.axes[columns]]
        self.values_RC = np.full((len(self.row_names), len(self.column_names)), nan)
        self.points: dict[tuple[int, int], Point] = {}
        row_of = {plain(value): number for number, value in enumerate(shown.axes[rows])}
        column_of = {plain(value): number for number, value in enumerate(shown.axes[columns])}
        for (row, column), point in shown.at([rows, columns]).items():
            place = row_of[row], column_of[column]
            self.values_RC[place] = point.interval.mean if is_own else point.paper
            self.points[place] = point

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
    for (row, column), point in grid.points.items():
        value = grid.values_RC[row, column]
        if not isnan(value):
            _print(axes, column, row, value, norm, _small_text(point) if grid.is_own else "")
        elif grid.is_own:
            colour = _RED if point.state == "failed" else _GREY
            _draw_missing(axes, column, row, word_of(point.state, point.cause), colour)
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


def _small_text(point: Point) -> str:
    """Second line of a cell: half the interval over seeds, or how many seeds are in if some are not."""
    interval = point.interval
    if interval.n < point.asked:
        return f"{interval.n} of {point.asked}"
    if interval.kind == OVER_SEEDS:
        return f"±{(interval.high - interval.low) / 2:.1f}"
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
