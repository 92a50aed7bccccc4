"""Report kind `lines`: a metric against the values of an axis, a line per value of another (Figure B.5)."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.manifest import plain
from reports.plots import Frame, by_place, draw_frames, is_number, log_base, marked
from reports.shown import Shown
from reports.statistics import Agreement


def draw_lines(shown: Shown, agreement: Agreement | None) -> Figure:
    """The study's lines, and the paper's where the study has its numbers."""
    hue = shown.spec.hue
    style_of, keys = marked(shown, markersize=5, linewidth=1.4)
    return draw_frames(
        shown,
        agreement,
        lambda axes, part: _draw(axes, part, style_of),
        5.2,
        keys,
        shown.manifest.label(hue) if hue else "",
        "Vertical lines at the points are 95% intervals; a cross below marks a number that is missing.",
    )


def _draw(axes: Axes, part: Frame, style_of: dict[str, dict[str, Any]]) -> None:
    x, hue = part.shown.spec.x, part.shown.spec.hue
    values = part.shown.axes[x]
    places = values if all(map(is_number, values)) else list(range(len(values)))
    at = by_place(part.points, x, hue) if hue else {(*place, ""): p for place, p in by_place(part.points, x).items()}
    for number, (key, style) in enumerate(style_of.items()):
        line = [(place, at.get((plain(value), key))) for place, value in zip(places, values, strict=True)]
        there = [(place, point) for place, point in line if point and part.number(point) == part.number(point)]
        axes.plot([place for place, _ in there], [part.number(point) for _, point in there], **style)
        for place, point in there:
            if error := part.error(point):
                spread = [[error[0]], [error[1]]]
                axes.errorbar(place, part.number(point), spread, color=style["color"], linewidth=0.9, capsize=2.5)
        gone = [place for place, point in line if point and part.missing(point)]
        at_bottom = {"transform": axes.get_xaxis_transform(), "color": style["color"], "markersize": 5}
        crosses = axes.plot(gone, [0.03 + 0.05 * number] * len(gone), "x", **at_bottom)
        crosses[0].set_in_layout(False)
    base = log_base(places) if places is values else 0
    if base:
        axes.set_xscale("log", base=base)
        axes.minorticks_off()
    shown_ticks = _sparse(places, base)
    names = [part.shown.label(x, values[places.index(place)]) for place in shown_ticks]
    slanted = sum(map(len, names)) > 48
    axes.set_xticks(shown_ticks, names, rotation=25 if slanted else 0, ha="right" if slanted else "center")
    axes.set_xlabel(part.shown.manifest.label(x))


def _sparse(places: list[Any], base: int) -> list[Any]:
    """Ticks that are far enough apart for their texts on a linear scale."""
    if base or len(places) < 3:
        return places
    least = (max(places) - min(places)) / 14
    kept = [places[0]]
    for place in places[1:]:
        if abs(place - kept[-1]) >= least:
            kept.append(place)
    return kept
