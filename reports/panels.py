"""Report kind `panel`: figures of their own, drawn from the `data` of an evaluation (Figure 6, Table 2).

The data is that of the first finished run of the study; its format is said where the evaluation makes it,
core/histograms.py and core/loss_gradients.py. To add a figure: its name in
spec.py and a function in `FIGURES`.
"""

import textwrap
from collections.abc import Callable
from math import nan
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.rundir import RunDirectory
from reports.canvas import COLOURS, GREY, INK, Canvas
from reports.captions import caption_lines
from reports.collect import read_record
from reports.shown import Shown
from reports.statistics import Agreement

_LINE_INCHES = 0.2
_KINDS = {"easy": "easy", "semi_hard": "semi-hard", "hard": "hard"}
_DASHES: tuple[Any, ...] = ("-", "--", ":")


def draw_panel(shown: Shown, agreement: Agreement | None) -> Figure:
    """The figure that the report names."""
    caption = caption_lines(shown, agreement)
    data = data_of(shown)
    if data is None:
        canvas = Canvas(shown.manifest, caption, 7.5, 1.0)
        canvas.put(0.2, 0.4, "no run is evaluated yet: nothing to draw")
        return canvas.figure
    return FIGURES[shown.spec.figure](shown, caption, data)


def data_of(shown: Shown) -> Any:
    """The `data` of the evaluation that the report names, of the first run that has it; None where none has."""
    for cell in shown.manifest.cells:
        for run in cell.runs:
            identity = run.evaluations.get(shown.spec.evaluation)
            record = identity and read_record(
                RunDirectory(shown.manifest.runs_folder, run.run).evaluation_file(identity)
            )
            if record and record.get("data") is not None:
                return record["data"]
    return None


def draw_histograms(shown: Shown, caption: list[str], data: dict[str, Any]) -> Figure:
    """Fig. 6: a row of intensity histograms per picture, one per crop, without and with colour distortion."""
    pictures, crops = len(data["pictures"]), len(data["crops"][0])
    canvas = Canvas(shown.manifest, caption, 2 * crops * 1.7 + 0.6, pictures * 1.55 + 0.5)
    canvas.arrange()
    blocks: Any = canvas.figure.subfigures(1, 2, wspace=0.05)
    titles = {"crops": "Random crops", "distorted": "Random crops with colour distortion"}
    highest = max(share for name in titles for picture in data[name] for crop in picture for share in crop)
    for block, (name, title) in zip(blocks, titles.items(), strict=True):
        block.suptitle(title, fontsize=10, fontweight="bold", x=0.02, ha="left")
        grid = block.subplots(pictures, crops, sharex=True, sharey=True, squeeze=False)
        for row, picture in enumerate(data["pictures"]):
            for column in range(crops):
                axes = grid[row][column]
                shares = data[name][row][column]
                places = [(number + 0.5) / data["bins"] for number in range(data["bins"])]
                axes.bar(places, shares, 1 / data["bins"], color=COLOURS[row % len(COLOURS)])
                axes.set_ylim(0, 1.05 * highest)
                axes.set_yticks([])
                axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=7.5)
                _bare(axes, ("top", "right", "left"))
                if row == pictures - 1:
                    axes.set_xlabel("intensity", fontsize=8)
                if column == 0:
                    axes.set_ylabel(f"picture {row + 1}\n({picture['class']})", fontsize=8.5)
    return canvas.figure


def draw_loss_gradients(shown: Shown, caption: list[str], data: dict[str, Any]) -> Figure:
    """Table 2: how much each loss weighs a negative of a given similarity, and the losses as formulas."""
    texts = [_formula(loss) for loss in data["losses"]]
    height = max(3.6, _LINE_INCHES * (1 + sum(len(lines) + 1 for lines in texts)))
    canvas = Canvas(shown.manifest, caption, 11.7, height)
    axes = canvas.axes(1.15, 0.3, 4.55, height - 0.85)
    _draw_weights(axes, data)
    y = 0.35
    for lines in texts:
        for place, line in enumerate(lines):
            canvas.put(6.2, y, line, size=9 if place == 0 else 8, weight="bold" if place == 0 else "normal")
            y += _LINE_INCHES
        y += 0.6 * _LINE_INCHES
    return canvas.figure


def _draw_weights(axes: Axes, data: dict[str, Any]) -> None:
    similarity, floor = data["similarity"], 1e-3
    for number, loss in enumerate(data["losses"]):
        curve = [weight if weight > 0 else nan for weight in loss["curve"]]
        dashes = _DASHES[number % len(_DASHES)]
        style: dict[str, Any] = {"color": COLOURS[number], "linestyle": dashes, "linewidth": 1.8}
        axes.plot(similarity, curve, **style, label=loss["title"])
        steps = [place for place in range(1, len(curve)) if (curve[place] > 0) != (curve[place - 1] > 0)]
        for step in steps:
            axes.vlines(similarity[step], floor, 1, **style)
    axes.set_yscale("log")
    axes.set_ylim(floor, None)
    axes.set_xlim(-1, 1)
    axes.axvline(data["positive"], color=GREY, linewidth=0.9)
    beside = axes.get_xaxis_transform()
    above: dict[str, Any] = {"transform": beside, "ha": "center", "va": "bottom", "fontsize": 8, "color": GREY}
    axes.text(data["positive"], 1.01, "the positive", **above)
    for kind, word in _KINDS.items():
        own = [value for value, found in zip(similarity, data["kind"], strict=True) if found == kind]
        if own:
            if kind == "semi_hard":
                axes.axvspan(min(own), max(own), color="#f0f0f0", zorder=0)
            style = {"ha": "center", "fontsize": 8, "color": INK}
            axes.text((min(own) + max(own)) / 2, 0.95, word, transform=beside, **style)
    axes.set_xlabel("similarity of the negative to the anchor (cosine)")
    axes.set_ylabel("its weight in the gradient,\none as similar as the positive: 1")
    axes.legend(frameon=False, fontsize=8.5, loc="lower right")
    axes.yaxis.set_major_formatter("{x:g}")
    _bare(axes, ("top", "right"))


def _formula(loss: dict[str, Any]) -> list[str]:
    lines = [loss["title"]]
    for name in ("negative_loss", "gradient"):
        text = f"{'loss to maximise' if name == 'negative_loss' else 'gradient for u'}:  {loss[name]}"
        lines += textwrap.wrap(text, 78, subsequent_indent="      ")
    lines.append(f"differs from autograd by {loss['autograd_difference']:.1e} of its length")
    return lines


def _bare(axes: Axes, sides: tuple[str, ...]) -> None:
    for side in sides:
        axes.spines[side].set_visible(False)


FIGURES: dict[str, Callable[[Shown, list[str], Any], Figure]] = {
    "histograms": draw_histograms,
    "loss_gradients": draw_loss_gradients,
}
