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
from reports.shown import Shown
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


class _Beside(NamedTuple):
    """A row that is no cell: a reference of ours, or numbers that the paper gives for comparison."""

    label: str
    own: Mapping[str, str]
    paper: Mapping[str, str]


def printed(shown: Shown) -> pd.DataFrame:
    """The table as texts: columns of ours, each followed by the paper's where there are any; references last.

    A report of kind table says which axes are rows and which columns; any other has a row per cell.
    """
    rows, columns = layout(shown)
    points = shown.at([*rows, *columns])
    names = list(dict.fromkeys(place[: len(rows)] for place in points))
    heads = list(dict.fromkeys(place[len(rows) :] for place in points))
    beside = _beside(shown, columns)
    texts = {
        shown.manifest.label(key): [shown.label(key, name[number]) for name in names] for number, key in enumerate(rows)
    } or {"": ["this study"] * len(names)}
    for number, column in enumerate(texts.values()):
        column += [line.label if number == 0 else "" for line in beside]
    for head in heads:
        cells = [points.get((*name, *head)) for name in names]
        metric = next(point.metric for point in cells if point)
        title = ", ".join(map(shown.label, columns, head)) or metrics_phrase(shown)
        texts[title] = [text_of(point) if point else "" for point in cells]
        texts[title] += [line.own.get(metric, "") for line in beside]
        paper = ["" if point is None or isnan(point.paper) else format_number(point.paper) for point in cells]
        paper += [line.paper.get(metric, "") for line in beside]
        if any(paper):
            texts["paper" if len(heads) == 1 else f"{title}, paper"] = paper
    return pd.DataFrame(texts)


def layout(shown: Shown) -> tuple[list[str], list[str]]:
    """The axes of the rows and of the columns."""
    metric = shown.manifest.study.metric
    is_table = isinstance(shown.spec, Table)
    spec = shown.spec if is_table else parse_report({"kind": "table", "metrics": shown.spec.metric_axes(metric)})
    places = spec.layout(shown.axes, metric)
    return places["rows"], places["columns"]


def _beside(shown: Shown, columns: Sequence[str]) -> list[_Beside]:
    """References and published rows, which fit where the columns are metrics alone."""
    manifest = shown.manifest
    if any(axis.key in columns for axis in manifest.axes):
        return []
    by_metric = {metric: reference_lines(manifest, shown.table, metric) for metric in shown.metrics}
    lines = [
        _Beside(reference.label, {metric: found[number].value for metric, found in by_metric.items()}, {})
        for number, reference in enumerate(manifest.references)
    ]
    for other in manifest.study.paper.others if manifest.study.paper else ():
        lines.append(
            _Beside(other.label, {}, {metric: format_number(value) for metric, value in other.metrics.items()})
        )
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
    return "".join(_TEX.get(character, character) for character in str(text).replace("\n", " "))


def _markdown_text(text: str) -> str:
    flat = html.escape(str(text).replace("\n", " "), quote=False)
    return re.sub(r"([\\`*_|~]|^[#+-]|\](?=[(\[:]))", r"\\\1", flat)
