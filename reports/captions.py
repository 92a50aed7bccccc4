"""The sentences that stand under a figure and in a report: what the numbers are and what they are not.

Each number is said with its n and the kind of its interval; what is missing is said as such.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any

import pandas as pd

from reports.collect import STATES
from reports.manifest import METRIC_WORDS, Manifest
from reports.shown import Point, Shown
from reports.spec import Table, keys
from reports.statistics import OVER_SEEDS, TEST_SAMPLE, Agreement, Interval

_WORDS = {
    "pending": "missing",
    "trained": "not yet\nevaluated",
    "running": "running",
    "failed": "failed",
    "done": "not\nmeasured",
}


@dataclass(frozen=True)
class ReferenceLine:
    """A reference run beside the grid."""

    label: str
    interval: Interval
    state: str

    @property
    def value(self) -> str:
        return number_with_interval(self.interval) if self.interval.n else one_line(_WORDS[self.state])

    @property
    def text(self) -> str:
        return f"{self.label}{' ' if self.interval.n else ': '}{self.value}"


def one_line(word: str) -> str:
    """A word that is broken to fit into a cell, in one line."""
    return word.replace("\n", " ")


def format_number(value: float) -> str:
    """One digit behind the point, as in the paper; two that count for small numbers."""
    return f"{value:.2g}" if 0 < abs(value) < 1 else f"{value:.1f}"


def number_with_interval(interval: Interval) -> str:
    if isnan(interval.low):
        return format_number(interval.mean)
    return f"{format_number(interval.mean)} [{format_number(interval.low)}, {format_number(interval.high)}]"


def text_of(point: Point, short: bool = False) -> str:
    """A number of ours with its interval and what it lacks, or why there is none.

    short: the interval over seeds as its half width, that of one seed left out.
    """
    if not point.is_there:
        return one_line(word_of(point.state, point.cause))
    of_seeds = f" ({point.interval.n} of {point.asked})" if point.interval.n < point.asked else ""
    if not short:
        return number_with_interval(point.interval) + of_seeds
    interval = point.interval
    half = f" ±{format_number((interval.high - interval.low) / 2)}" if interval.kind == OVER_SEEDS else ""
    return format_number(interval.mean) + half + of_seeds


def interval_of(line: Mapping[Any, Any], metric: str = "") -> Interval:
    """The interval in a line of the table: of the study's metric, or of another that has columns of its own."""
    names = (metric, f"{metric}.low", f"{metric}.high") if metric in line else ("mean", "low", "high")
    mean, low, high = (line[name] for name in names)
    return Interval(mean, low, high, 0 if isnan(mean) else int(line["n"]), line["interval"])


def reference_lines(manifest: Manifest, table: pd.DataFrame, metric: str = "") -> list[ReferenceLine]:
    lines = table[table["kind"] == "reference"].to_dict("records")
    labels = {reference.name: reference.label for reference in manifest.references}
    return [ReferenceLine(labels[line["name"]], interval_of(line, metric), line["state"]) for line in lines]


def word_of(state: str, cause: str) -> str:
    """Why there is no number, in a word that fits into a cell."""
    if state == "failed" and cause:
        return cause.split(", ")[0].replace(" of ", " of\n").replace("bad ", "bad\n")
    return _WORDS[state]


def paper_name(manifest: Manifest) -> str:
    """The paper, and where in it the study's numbers stand."""
    where = manifest.study.paper.where if manifest.study.paper else ""
    return f"The paper, {where}" if where else "The paper"


def caption_lines(shown: Shown, agreement: Agreement | None, mark: str = "") -> list[str]:
    """What stands under a figure or table, one sentence or two per line; `mark`: how references are shown."""
    manifest = shown.manifest
    lines = [f"Numbers: {metrics_phrase(shown)}. {seeds_sentence(shown)}", *reduction_sentences(shown)]
    references = reference_lines(manifest, shown.table)
    if references:
        lines.append(f"Beside the grid{mark}: " + "; ".join(reference.text for reference in references) + ".")
    if coverage := coverage_sentence(shown.table[shown.table["kind"] == "cell"]):
        lines.append(coverage)
    if agreement:
        lines.append(agreement_sentence(agreement))
    if manifest.study.paper and manifest.study.paper.what:
        lines.append(f"The paper: {manifest.study.paper.what}.")
    if manifest.data.skipped:
        lines.append(f"{manifest.data.skipped} picture(s) that cannot be decoded were left out.")
    if manifest.overrides:
        lines.append("Changed on the command line: " + ", ".join(manifest.overrides) + ".")
    return lines


def metrics_phrase(shown: Shown) -> str:
    """What is measured, in words: the metric, or what several have in common."""
    labels = [shown.manifest.label_of_metric(metric) for metric in shown.metrics]
    if len(labels) == 1:
        return labels[0]
    kinds = list(dict.fromkeys(METRIC_WORDS.get(metric.rpartition(".")[2], "") for metric in shown.metrics))
    if len(kinds) == 1 and kinds[0]:
        return kinds[0]
    return "; ".join(labels) if len(labels) <= 4 else f"{len(labels)} metrics, named in the table"


def reduction_sentences(shown: Shown) -> list[str]:
    """What became of axes that are tuned or averaged away."""
    manifest, spec = shown.manifest, shown.spec
    values = {axis.key: len(axis.values) for axis in manifest.axes}
    sentences = []
    if spec.best:
        tuned = " and ".join(manifest.label(key) for key in spec.tuned())
        by = manifest.label_of_metric(spec.best.by)
        sentences.append(f"Tuned for each cell: {tuned}, chosen by {by} among the finished ones.")
    if spec.mean_over:
        over = " and ".join(f"{manifest.label(key)} ({values[key]} values)" for key in keys(spec.mean_over))
        sentences.append(f"Each number is the mean over {over}.")
    if isinstance(spec, Table) and spec.bold:
        along = " and ".join(map(manifest.label, keys(spec.bold)))
        sentences.append(f"Bold: not significantly worse than the best by {along} (p > 0.05, paired permutation test).")
    return sentences


def seeds_sentence(shown: Shown) -> str:
    """How many seeds, and what the intervals cover."""
    asked = len(shown.manifest.seeds)
    seeds = "1 seed" if asked == 1 else f"{asked} seeds"
    intervals = [point.interval for point in shown.points]
    if any(interval.kind == OVER_SEEDS for interval in intervals):
        return f"{seeds}; 95% intervals are Student's t over the seeds."
    half_widths = [(interval.high - interval.low) / 2 for interval in intervals if interval.kind == TEST_SAMPLE]
    if half_widths:
        return (
            f"{seeds}; 95% intervals are of the test sample alone (Wilson), at most ±{max(half_widths):.1f}: "
            "the chance of training again is not in them."
        )
    return f"{seeds}."


def coverage_sentence(cells: pd.DataFrame) -> str:
    """What is not there; empty when all is."""
    counts = cells["state"].value_counts()
    rest = [f"{counts[state]} {one_line(_WORDS[state])}" for state in STATES[1:] if state in counts]
    if not rest:
        return ""
    return f"{counts.get('done', 0)} of {len(cells)} cells are finished; " + ", ".join(rest) + "."


def agreement_sentence(agreement: Agreement) -> str:
    spearman, kendall = agreement.spearman, agreement.kendall
    return (
        f"Rank agreement with the paper over {agreement.n} cells: "
        f"Spearman {spearman.value:.2f} [{spearman.low:.2f}, {spearman.high:.2f}], "
        f"Kendall {kendall.value:.2f} [{kendall.low:.2f}, {kendall.high:.2f}] "
        f"(95% bootstrap intervals over cells, {agreement.resamples} resamples)."
    )
