"""The picture of a study: one function per report kind, and how pictures are saved.

Pictures are drawn with matplotlib's object interface, without global state, and the same numbers give the
same bytes. Text from a study is never read as TeX. To add a report kind: a class
in spec.py and a function in `KINDS`.
"""

import io
from typing import Any, Protocol

import matplotlib as mpl
from matplotlib.figure import Figure

from reports.bars import draw_bars
from reports.heatmap import draw_heatmap
from reports.lines import draw_lines
from reports.panels import draw_panel
from reports.scatter import draw_scatter
from reports.shown import Shown
from reports.spec import Bars, Heatmap, Lines, Panel, Scatter, Table
from reports.statistics import Agreement
from reports.tablefigure import draw_table

STYLE: Any = {
    "svg.hashsalt": "reports",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,
    "hatch.linewidth": 0.6,
    "axes.linewidth": 0.8,
}
DPI = 150


class Kind(Protocol):
    """Draws a study as its report shows it."""

    def __call__(self, shown: Shown, agreement: Agreement | None) -> Figure: ...


KINDS: dict[type, Kind] = {
    Heatmap: draw_heatmap,
    Table: draw_table,
    Bars: draw_bars,
    Lines: draw_lines,
    Scatter: draw_scatter,
    Panel: draw_panel,
}


def draw(shown: Shown, agreement: Agreement | None = None) -> Figure:
    """The figure of a study."""
    with mpl.rc_context(STYLE):
        return KINDS[type(shown.spec)](shown, agreement)


def png(figure: Figure) -> bytes:
    with mpl.rc_context(STYLE):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    with mpl.rc_context(STYLE):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()
