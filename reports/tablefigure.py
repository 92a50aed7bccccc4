"""Report kind `table`: the cells as a printed table, the paper's numbers in a column of their own."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.captions import caption_lines
from reports.manifest import Manifest
from reports.statistics import Agreement
from reports.tables import printed

MOST_LINES = 60
_LINE_INCHES = 0.26
_LETTER_INCHES = 0.085


def draw_table(manifest: Manifest, table: pd.DataFrame, agreement: Agreement | None) -> Figure:
    """The first lines of the table as a picture, with the booktabs look of table.tex."""
    whole = printed(manifest, table)
    shown = whole.head(MOST_LINES)
    widths = [_LETTER_INCHES * (3 + max(len(str(text)) for text in (name, *shown[name]))) for name in shown.columns]
    caption = caption_lines(manifest, table, agreement)
    if len(shown) < len(whole):
        caption.insert(0, f"The first {len(shown)} of {len(whole)} lines; all are in table.csv.")
    width = max(sum(widths) + 0.4, 9.0)
    height = 1.25 + _LINE_INCHES * (len(shown) + 1) + 0.18 * len(caption) + 0.2
    figure = Figure(figsize=(width, height), facecolor="white")

    def put(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x / width, 1 - y / height, text, va="center", **style)

    put(0.2, 0.3, manifest.study.title or manifest.study.name, fontsize=13, fontweight="bold")
    put(0.2, 0.6, manifest.setting, fontsize=10, color="#444444")
    y = 1.05
    for number, name in enumerate(shown.columns):
        x = 0.2 + sum(widths[:number])
        put(x, y, name, fontweight="bold")
        for number_of_line, text in enumerate(shown[name], start=1):
            put(x, y + number_of_line * _LINE_INCHES, text)
    right = 0.2 + sum(widths)
    for rule, weight in ((y - 0.16, 1.2), (y + 0.13, 0.6), (y + _LINE_INCHES * (len(shown) + 0.55), 1.2)):
        figure.add_artist(_rule(0.2 / width, right / width, 1 - rule / height, weight))
    for number, line in enumerate(caption):
        put(0.2, y + _LINE_INCHES * (len(shown) + 1.2) + 0.18 * number, line, fontsize=8, color="#222222")
    return figure


def _rule(left: float, right: float, y: float, weight: float) -> Line2D:
    return Line2D([left, right], [y, y], color="black", linewidth=weight)
