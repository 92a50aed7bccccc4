"""Report kind `bars`: groups of bars, such as accuracy by projection head and dimension (Figures 8 and 9)."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.canvas import colours
from reports.captions import format_number
from reports.manifest import plain
from reports.plots import OUTLINED, Frame, by_place, draw_frames, palette
from reports.shown import Shown
from reports.statistics import Agreement

_NARROWEST_PRINTED_INCHES = 0.24  # Numbers do not fit above narrower bars.
_GROUP = 0.82  # of the distance between groups
_BAR_INCHES, _GAP_INCHES = 0.13, 0.22
_RED, _GREY = "#8f1d1d", "#444444"
_SMALL: dict[str, Any] = {"ha": "center", "fontsize": 7, "path_effects": OUTLINED}
_HATCHED: dict[str, Any] = {"facecolor": "#ececec", "edgecolor": "#bdbdbd", "hatch": "////", "linewidth": 0}


def draw_bars(shown: Shown, agreement: Agreement | None) -> Figure:
    """The study's bars, and the paper's where the study has its numbers."""
    x, hue = shown.spec.x, shown.spec.hue
    colour_of = palette(shown, hue) if hue else {"": colours(1)[0]}
    width = 1.2 + len(shown.axes[x]) * (len(colour_of) * _BAR_INCHES + _GAP_INCHES)
    names = 0.095 * sum(len(shown.label(x, value)) + 2 for value in shown.axes[x])
    keys = [
        Line2D([], [], marker="s", linestyle="", markersize=8, color=colour, label=label)
        for colour, label in zip(colour_of.values(), _labels(shown, hue), strict=True)
        if hue
    ]
    width = min(12.0, max(4.5, width, min(names, 8.0)))
    return draw_frames(
        shown,
        agreement,
        lambda axes, part: _draw(axes, part, x, hue, colour_of, width - 0.9),
        width,
        keys,
        shown.manifest.label(hue) if hue else "",
        "The vertical axes need not start at zero. Lines on the bars are 95% intervals.",
    )


def _labels(shown: Shown, hue: str) -> list[str]:
    return [shown.label(hue, value) for value in shown.axes[hue]] if hue else [""]


def _draw(axes: Axes, part: Frame, x: str, hue: str, colour_of: dict[str, Any], inches: float) -> None:
    groups = part.shown.axes[x]
    at = by_place(part.points, x, hue) if hue else {(*place, ""): p for place, p in by_place(part.points, x).items()}
    low, high = _limits(part)
    width = _GROUP / len(colour_of)
    is_printed = width * inches / len(groups) >= _NARROWEST_PRINTED_INCHES
    for group, value in enumerate(groups):
        for number, (name, colour) in enumerate(colour_of.items()):
            point = at.get((plain(value), name))
            if point is None:
                continue
            place = group - _GROUP / 2 + (number + 0.5) * width
            height = part.number(point)
            if height == height:
                axes.bar(place, height - low, width * 0.92, bottom=low, color=colour)
                error = part.error(point)
                if error:
                    bars = [[error[0]], [error[1]]]
                    axes.errorbar(place, height, bars, color="black", linewidth=0.9, capsize=min(2.5, 14 * width))
                if is_printed:
                    top = height + (error[1] if error else 0)
                    text = format_number(height)
                    axes.annotate(text, (place, top), (0, 2), textcoords="offset points", **_SMALL)
            elif word := part.missing(point):
                axes.bar(place, 0.05 * (high - low), width * 0.92, bottom=low, **_HATCHED)
                colour = _RED if point.state == "failed" else _GREY
                where = (place, low + 0.06 * (high - low))
                axes.annotate(word, where, va="bottom", rotation=90, color=colour, **_SMALL)
    axes.set_ylim(low, high)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    names = [part.shown.label(x, value) for value in groups]
    slanted = sum(map(len, names)) > 60 or max(map(len, names)) > 16
    axes.set_xticks(range(len(groups)), names, rotation=25 if slanted else 0, ha="right" if slanted else "center")
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel(part.shown.manifest.label(x))


def _limits(part: Frame) -> tuple[float, float]:
    """From a little below the lowest number to above the highest interval; from zero where that is near."""
    lows, highs = [], []
    for point in part.points:
        number = part.number(point)
        if number == number:
            below, above = part.error(point) or (0.0, 0.0)
            lows.append(number - below)
            highs.append(number + above)
    low, high = min(lows), max(highs)
    room = (high - low) or abs(high) or 1.0
    floor = low - 0.25 * room
    return (0.0 if low >= 0 and floor < 0.3 * high else floor), high + 0.12 * room
