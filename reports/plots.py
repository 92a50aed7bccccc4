"""What bars, lines and scatter plots share: frames of ours and of the paper's numbers, colours, scales, legends.

Ours and the paper's stand in frames of their own with the same layout and, like all pictures here, scales of
their own: small experiments are compared with the paper's by their pattern. Nothing is told by colour alone:
lines and points have markers, bars stand in the order of the legend.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import isnan, log
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from reports.canvas import GREY, INK, NARROWEST_INCHES, Canvas, colours
from reports.captions import caption_lines, metrics_phrase, one_line, paper_name, reference_lines, word_of
from reports.manifest import plain
from reports.shown import Point, Shown
from reports.spec import Scatter
from reports.statistics import Agreement

_MARKERS = "os^Dv*PX"
_WIDEST_ROW_INCHES = 13.0
_SEVERAL = 3  # From so many on, numbers in order get shades of one colour.


@dataclass(frozen=True)
class Frame:
    """One part of a figure: our numbers or the paper's, at one value of each axis of the panels."""

    shown: Shown
    is_own: bool
    points: Sequence[Point]
    title: str

    def number(self, point: Point) -> float:
        """NaN where there is none."""
        return point.interval.mean if self.is_own else point.paper

    def error(self, point: Point) -> tuple[float, float] | None:
        """How far the interval reaches below and above our number."""
        interval = point.interval
        if not self.is_own or isnan(interval.low):
            return None
        return max(0.0, interval.mean - interval.low), max(0.0, interval.high - interval.mean)

    def missing(self, point: Point) -> str:
        """Why there is no number; empty where there is one, or where the paper prints none."""
        return "" if point.is_there or not self.is_own else one_line(word_of(point.state, point.cause))

    @property
    def metric(self) -> str:
        """The metric of all points; the study's where they are of several."""
        metrics = {point.metric for point in self.points}
        return metrics.pop() if len(metrics) == 1 else self.shown.manifest.study.metric

    @property
    def numbers(self) -> list[float]:
        return [number for point in self.points if not isnan(number := self.number(point))]


def frames(shown: Shown) -> list[Frame]:
    """For each value of the panels' axes ours, then the paper's where there are any; none where no cell is."""
    keys = shown.layout.get("panels", [])
    found = []
    for values in product(*(shown.axes[key] for key in keys)):
        wanted = dict(zip(keys, map(plain, values), strict=True))
        points = [p for p in shown.points if all(plain(p.values[key]) == value for key, value in wanted.items())]
        if not points and shown.points:
            continue
        names = [shown.label(key, value) for key, value in zip(keys, values, strict=True)]
        name = f": {', '.join(names)}" if names else ""
        found.append(Frame(shown, True, points, f"This study{name}"))
        if shown.has_paper:
            found.append(Frame(shown, False, points, f"{paper_name(shown.manifest)}{name}"))
    return found


def draw_frames(
    shown: Shown,
    agreement: Agreement | None,
    draw: Callable[[Axes, Frame], None],
    width: float,
    keys: Sequence[Line2D] = (),
    key_title: str = "",
    note: str = "",
) -> Figure:
    """The figure of all frames, each `width` inches wide and drawn by `draw`; `keys`: the legend."""
    parts = frames(shown)
    columns = 2 if shown.has_paper and 2 * width <= _WIDEST_ROW_INCHES else 1
    rows = len(parts) // columns
    width = columns * max(width, NARROWEST_INCHES / columns)
    lines = [*keys, *_references(shown)]
    needed = [0.65 + 0.078 * len(str(line.get_label())) for line in lines]
    is_one_row = sum(needed) < width - 0.4
    legend_rows = 1 if is_one_row else -(-len(lines) // max(1, int(width / max(needed))))
    strip = 0.24 * (legend_rows + bool(key_title)) + 0.12 if lines else 0.05
    caption = caption_lines(shown, agreement)
    if note:
        caption.insert(1, note)
    height = rows * 3.1 + strip
    canvas = Canvas(shown.manifest, caption, width, height)
    canvas.arrange(below=strip)
    for number, part in enumerate(parts, start=1):
        axes = canvas.figure.add_subplot(rows, columns, number)
        finish(axes, part, width / columns)
        if part.numbers:
            draw(axes, part)
        else:
            empty(axes, part)
    if lines:
        legend = canvas.figure.legend(
            handles=lines,
            loc="upper left",
            bbox_to_anchor=(0.15 / canvas.width, canvas.height_of(height - strip)),
            ncols=-(-len(lines) // legend_rows),
            title=key_title or None,
            alignment="left",
            frameon=False,
            fontsize=8.5,
            title_fontsize=8.5,
            columnspacing=1.4,
        )
        legend.set_in_layout(False)
    return canvas.figure


def finish(axes: Axes, part: Frame, width: float) -> None:
    """Title, grid, references and the name of what is measured; `width`: of the frame in inches."""
    axes.set_title(textwrap.fill(part.title, int((width - 0.8) * 9)), loc="left", fontsize=10, fontweight="bold")
    axes.set_ylabel(_y_label(part), color=INK)
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if part.is_own and part.numbers:
        for number, line in enumerate(reference_lines(part.shown.manifest, part.shown.table, part.metric)):
            if line.interval.n:
                axes.axhline(line.interval.mean, color=GREY, linewidth=1.1, linestyle=_DASHES[number % len(_DASHES)])


def empty(axes: Axes, part: Frame) -> None:
    """A frame without any number says so."""
    text = "no cell has a number yet" if part.is_own else "no number of the paper's"
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])


_DASHES: tuple[Any, ...] = ("--", ":", "-.")


def _references(shown: Shown) -> list[Line2D]:
    lines = [line for line in reference_lines(shown.manifest, shown.table) if line.interval.n]
    return [
        Line2D([], [], color=GREY, linewidth=1.1, linestyle=_DASHES[number % len(_DASHES)], label=line.label)
        for number, line in enumerate(lines)
    ]


def _y_label(part: Frame) -> str:
    several = len({point.metric for point in part.points}) > 1 and not isinstance(part.shown.spec, Scatter)
    text = metrics_phrase(part.shown) if several else part.shown.manifest.label_of_metric(part.metric)
    return text.replace(", ", ",\n", 1) if len(text) > 34 else text


def palette(shown: Shown, key: str) -> dict[str, Any]:
    """A colour for each value of an axis: shades in order for numbers, colours well apart for anything else."""
    values = shown.axes[key]
    if len(values) >= _SEVERAL and all(is_number(value) for value in values):
        shades = [colormaps["viridis"](0.92 * place / (len(values) - 1)) for place in range(len(values))]
        return dict(zip(map(plain, values), shades, strict=True))
    return dict(zip(map(plain, values), colours(len(values)), strict=True))


def marked(shown: Shown, **style: Any) -> tuple[dict[str, dict[str, Any]], list[Line2D]]:
    """How points are drawn, per value of the spec's `hue` ("" without one), and the legend's keys (none without)."""
    hue = shown.spec.hue
    if not hue:
        return {"": {"color": colours(1)[0], "marker": _MARKERS[0], **style}}, []
    style_of = {
        key: {"color": colour, "marker": _MARKERS[number % len(_MARKERS)], **style}
        for number, (key, colour) in enumerate(palette(shown, hue).items())
    }
    names = [shown.label(hue, value) for value in shown.axes[hue]]
    return style_of, [Line2D([], [], **own, label=name) for own, name in zip(style_of.values(), names, strict=True)]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def log_base(values: Sequence[float]) -> int:
    """2 or 10 for values that are powers of it times the first, 10 for wide ranges; else 0: a linear scale."""
    if len(values) < _SEVERAL or min(values) <= 0:
        return 0
    for base in (2, 10):
        steps = [log(value / values[0], base) for value in values]
        if all(abs(step - round(step)) < 1e-9 for step in steps):
            return base
    return 10 if max(values) / min(values) >= 50 else 0


OUTLINED = [withStroke(linewidth=2, foreground="white")]
"""For small texts that may lie over bars and lines."""


def tuple_of(point: Point, *keys: str) -> tuple[str, ...]:
    return tuple(plain(point.values[key]) for key in keys)


def by_place(points: Sequence[Point], *keys: str) -> Mapping[tuple[str, ...], Point]:
    """The points by the texts of their values."""
    return {tuple_of(point, *keys): point for point in points}
