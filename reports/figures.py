"""The picture of a study: one function per report kind, and how pictures are saved.

Pictures are drawn with matplotlib's object interface, without global state, and the same numbers give the
same bytes. Text from a study is never read as TeX. To add a report kind: a function in `KINDS`.
"""

import io
from typing import Any, Protocol

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from core.errors import unknown_name
from reports.heatmap import draw_heatmap
from reports.manifest import Manifest
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
    """Draws a study's table as from collect.tabulate."""

    def __call__(self, manifest: Manifest, table: pd.DataFrame, agreement: Agreement | None) -> Figure: ...


KINDS: dict[str, Kind] = {"heatmap": draw_heatmap, "table": draw_table}


def draw(manifest: Manifest, table: pd.DataFrame, agreement: Agreement | None = None) -> Figure:
    """The figure of a study. Raises: UserError if the manifest names an unknown report kind."""
    kind = manifest.study.report.get("kind", "table")
    if kind not in KINDS:
        raise unknown_name("report.kind", str(kind), KINDS)
    with mpl.rc_context(STYLE):
        return KINDS[kind](manifest, table, agreement)


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
