"""Report kind `scatter`: one metric against another, such as accuracy against parameters (Figures 1 and 7)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from reports.canvas import GREY
from reports.manifest import plain
from reports.plots import OUTLINED, Frame, draw_frames, marked, tuple_of
from reports.shown import Point, Shown
from reports.spec import METRIC, keys
from reports.statistics import Agreement

_OFFSETS = ((5, 3), (5, -9), (-5, 3), (-5, -9), (0, 8), (0, -14), (12, 0), (-12, 0), (14, 12), (-14, 12))
_MOST_NAMED = 8
_NAME: dict[str, Any] = {"fontsize": 7.5, "gid": "name", "path_effects": OUTLINED}


def draw_scatter(shown: Shown, agreement: Agreement | None) -> Figure:
    """The study's points, and the paper's where the study has its numbers."""
    hue = shown.spec.hue
    style_of, legend = marked(shown, markersize=6, linestyle="")
    figure = draw_frames(
        shown,
        agreement,
        lambda axes, part: _draw(axes, part, style_of),
        6.2,
        legend,
        shown.manifest.label(hue) if hue else "",
        "Vertical lines at the points are 95% intervals.",
    )
    _place_names(figure)
    return figure


def _draw(axes: Axes, part: Frame, style_of: Mapping[str, Mapping[str, Any]]) -> None:
    shown, spec = part.shown, part.shown.spec
    hue, along = spec.hue, [key for key in shown.axes if key != METRIC]
    across = {tuple_of(point, *along): part.number(point) for point in part.points if point.metric == spec.x}
    ours = [point for point in part.points if point.metric == shown.manifest.study.metric]
    places: list[float] = []
    missing = []
    for key, style in style_of.items():
        line = []
        for point in ours:
            if hue and plain(point.values[hue]) != key:
                continue
            x, y = across[tuple_of(point, *along)], part.number(point)
            if x == x and y == y:
                line.append((x, y, point))
            elif part.missing(point):
                missing.append(f"{_name(shown, point)} ({part.missing(point)})")
        axes.plot([x for x, _, _ in line], [y for _, y, _ in line], **style)
        for x, y, point in line:
            places.append(x)
            if error := part.error(point):
                axes.errorbar(x, y, [[error[0]], [error[1]]], color=style["color"], linewidth=0.9, capsize=2.5)
            axes.annotate(_name(shown, point), (x, y), _OFFSETS[0], textcoords="offset points", **_NAME)
    if places and min(places) > 0 and max(places) / min(places) > 8:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.12, 0.12)
    axes.set_xlabel(shown.manifest.label_of_metric(spec.x))
    if missing:
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        text = "no number yet:\n" + "\n".join(missing[:_MOST_NAMED]) + more
        axes.text(0.99, 0.02, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=7, color=GREY)


def _name(shown: Shown, point: Point) -> str:
    named = keys(shown.spec.names)
    return " ".join(shown.label(key, point.values[key]) for key in named)


def _place_names(figure: Figure) -> None:
    """Move each point's name to where it covers no other name or point, if there is such a place."""
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes:
        points = [xy for line in axes.lines for xy in axes.transData.transform(np.asarray(line.get_xydata()))]
        taken = [Bbox.from_extents(x - 3, y - 3, x + 3, y + 3) for x, y in points]
        for name in axes.texts:
            if name.get_gid() != "name" or not name.get_text():
                continue
            costs = [_overlap(_box(name, offset, renderer), taken) for offset in _OFFSETS]
            taken.append(_box(name, _OFFSETS[costs.index(min(costs))], renderer))


def _box(name: Any, offset: tuple[int, int], renderer: Any) -> Bbox:
    name.set_position(offset)
    name.set_ha("left" if offset[0] > 0 else "right" if offset[0] < 0 else "center")
    return name.get_window_extent(renderer)


def _overlap(box: Bbox, taken: list[Bbox]) -> float:
    """The area of a box that is taken already."""
    shared = (Bbox.intersection(box, other) for other in taken)
    return sum(both.width * both.height for both in shared if both is not None)
