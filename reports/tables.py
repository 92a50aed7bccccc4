"""The study's table for people: Markdown, LaTeX (booktabs) and HTML, from one printed form.

Text from a study is escaped for each of them, so that a name is always shown as it is written.
"""

import html
import re
from collections.abc import Iterable, Sequence

import pandas as pd

from reports.captions import interval_of, number_with_interval, reference_lines, word_of
from reports.manifest import Manifest

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


def printed(manifest: Manifest, table: pd.DataFrame) -> pd.DataFrame:
    """The table as texts: axis values, number with interval, seeds, the paper's number; references last."""
    references = iter(reference_lines(manifest, table))
    lines = []
    for line in table.to_dict("records"):
        interval = interval_of(line)
        own = number_with_interval(interval) if interval.n else word_of(line).replace("\n", " ")
        paper = "" if line["paper"] != line["paper"] else f"{line['paper']:.1f}"
        names = [manifest.label(line[axis.key]) for axis in manifest.axes]
        if line["kind"] == "reference":
            label = next(references).label
            names = [label, *names[1:]] if names else [label]
        lines.append([*names, own, str(interval.n), paper])
    columns = [manifest.label(axis.key) for axis in manifest.axes] or ["reference"]
    return pd.DataFrame(lines, columns=[*columns, manifest.metric_label, "seeds", "paper"])


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
