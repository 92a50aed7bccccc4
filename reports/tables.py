"""The study's table for people: Markdown, LaTeX (booktabs) and HTML, from one printed form.

Text from a study is escaped for each of them, so that a name is always shown as it is written.
"""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import NamedTuple

import pandas as pd

from reports.captions import format_number, metrics_phrase, reference_lines, text_of
from reports.manifest import plain
from reports.permutation import as_good_as_the_best, place_of
from reports.shown import Point, Shown
from reports.spec import Table, parse_report

_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: "\\" + character for character in "&%$#_"},
}


_MOST_PAIRED = 3
"""Columns that can have the paper's beside them; of more, the paper's numbers are lines below ours."""
_MOST_LONG = 6
"""Columns whose intervals are printed in full."""

_Head = tuple[str, ...]


class Bold(str):
    """A text of the table that is printed bold."""


class _Line(NamedTuple):
    """A line of the table: its names, our texts and the paper's by column."""

    names: list[str]
    own: Mapping[_Head, str]
    paper: Mapping[_Head, str]


def printed(shown: Shown) -> pd.DataFrame:
    """The table as texts: our numbers, the paper's beside or below them, then references and published rows.

    A report of kind table says which axes are rows and which columns; any other has a row per cell.
    """
    rows, columns = layout(shown)
    points = shown.at([*rows, *columns])
    heads = _in_order(shown, columns, (place[len(rows) :] for place in points))
    lines = _lines(shown, rows, columns, points, heads) + _beside(shown, rows, columns, points)
    titles = [shown.manifest.label(key) for key in rows] or [""]
    has_paper = any(line.paper for line in lines)
    if has_paper and len(heads) > _MOST_PAIRED:
        lines = [one for line in lines for one in _below_each_other(line)]
    texts = {title: [line.names[number] for line in lines] for number, title in enumerate(titles)}
    for head in heads:
        title = ", ".join(map(shown.label, columns, head)) or metrics_phrase(shown)
        texts[title] = [line.own.get(head, "") for line in lines]
        paper = [line.paper.get(head, "") for line in lines]
        if any(paper) and len(heads) <= _MOST_PAIRED:
            texts["paper" if len(heads) == 1 else f"{title}, paper"] = paper
    return pd.DataFrame(texts, dtype=object)


def _in_order(shown: Shown, axes: Sequence[str], places: Iterable[_Head]) -> list[_Head]:
    """Each place once, in the order of the axes' values."""
    order = {key: [plain(value) for value in shown.axes[key]] for key in axes}
    distinct = dict.fromkeys(places)
    return sorted(distinct, key=lambda place: [order[key].index(text) for key, text in zip(axes, place, strict=True)])


def _lines(
    shown: Shown, rows: Sequence[str], columns: Sequence[str], points: Mapping[_Head, Point], heads: Sequence[_Head]
) -> list[_Line]:
    lines = []
    bold = as_good_as_the_best(shown) if isinstance(shown.spec, Table) and shown.spec.bold else set()
    for name in _in_order(shown, rows, (place[: len(rows)] for place in points)):
        cells = {head: points[(*name, *head)] for head in heads if (*name, *head) in points}
        own = {head: text_of(point, short=len(heads) > _MOST_LONG) for head, point in cells.items()}
        own |= {head: Bold(own[head]) for head, point in cells.items() if place_of(point) in bold}
        paper = {head: format_number(point.paper) for head, point in cells.items() if not isnan(point.paper)}
        lines.append(_Line(list(map(shown.label, rows, name)) or ["this study"], own, paper))
    return lines


def _below_each_other(line: _Line) -> list[_Line]:
    if not line.paper:
        return [line]
    if not line.own:
        return [_Line(line.names, line.paper, {})]
    return [line, _Line([f"{line.names[0]}, paper", *line.names[1:]], line.paper, {})]


def layout(shown: Shown) -> tuple[list[str], list[str]]:
    """The axes of the rows and of the columns."""
    metric = shown.manifest.study.metric
    is_table = isinstance(shown.spec, Table)
    spec = shown.spec if is_table else parse_report({"kind": "table", "metrics": shown.spec.metric_axes(metric)})
    places = spec.layout(shown.axes, metric)
    return places["rows"], places["columns"]


def _beside(shown: Shown, rows: Sequence[str], columns: Sequence[str], points: Mapping[_Head, Point]) -> list[_Line]:
    """References and published rows, which fit where the columns are metrics alone."""
    manifest = shown.manifest
    if any(axis.key in columns for axis in manifest.axes):
        return []
    metric_of = {place[len(rows) :]: point.metric for place, point in points.items()}
    blank = [""] * (len(rows) - 1)
    by_metric = {metric: reference_lines(manifest, shown.table, metric) for metric in shown.metrics}
    lines = [
        _Line(
            [reference.label, *blank],
            {head: by_metric[metric][number].value for head, metric in metric_of.items()},
            {},
        )
        for number, reference in enumerate(manifest.references)
    ]
    for other in manifest.study.paper.others if manifest.study.paper else ():
        found = {head: other.metrics[metric] for head, metric in metric_of.items() if metric in other.metrics}
        lines.append(_Line([other.label, *blank], {}, {head: format_number(value) for head, value in found.items()}))
    return lines


def markdown(frame: pd.DataFrame, caption: Sequence[str] = ()) -> str:
    lines = [_markdown_row(frame.columns), "|" + " --- |" * len(frame.columns)]
    lines += [_markdown_row(row) for row in frame.to_numpy().tolist()]
    lines += [f"\n{_markdown_text(line)}" for line in caption]
    return "\n".join(lines) + "\n"


def _markdown_row(texts: Iterable[str]) -> str:
    return "| " + " | ".join(map(_markdown_text, texts)) + " |"


def latex(frame: pd.DataFrame, caption: Sequence[str] = ()) -> str:
    """A table environment for `\\usepackage{booktabs}`."""
    lines = [r"\begin{table}", r"  \centering", f"  \\begin{{tabular}}{{{'l' * len(frame.columns)}}}"]
    lines += [r"    \toprule", "    " + _latex_row(frame.columns), r"    \midrule"]
    lines += ["    " + _latex_row(row) for row in frame.to_numpy().tolist()]
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    if caption:
        lines.append("  \\caption{" + " ".join(map(_latex_text, caption)) + "}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _latex_row(texts: Iterable[str]) -> str:
    return " & ".join(map(_latex_text, texts)) + r" \\"


def _latex_text(text: str) -> str:
    escaped = "".join(_TEX.get(character, character) for character in str(text).replace("\n", " "))
    return f"\\textbf{{{escaped}}}" if isinstance(text, Bold) else escaped


def _markdown_text(text: str) -> str:
    flat = html.escape(str(text).replace("\n", " "), quote=False)
    escaped = re.sub(r"([\\`*_|~]|^[#+-]|\](?=[(\[:]))", r"\\\1", flat)
    return f"**{escaped}**" if isinstance(text, Bold) else escaped
