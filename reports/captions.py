"""The sentences that stand under a figure and in a report: what the numbers are and what they are not.

Each number is said with its n and the kind of its interval; what is missing is said as such.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any

import pandas as pd

from reports.collect import STATES
from reports.manifest import Manifest
from reports.statistics import OVER_SEEDS, TEST_SAMPLE, Agreement, Interval

_WORDS = {"pending": "missing", "trained": "not yet\nevaluated", "running": "running", "failed": "failed"}


@dataclass(frozen=True)
class ReferenceLine:
    """A reference run beside the grid."""

    label: str
    interval: Interval
    state: str

    @property
    def text(self) -> str:
        if not self.interval.n:
            return f"{self.label}: {_one_line(self.state)}"
        return f"{self.label} {number_with_interval(self.interval)}"


def _one_line(state: str) -> str:
    return _WORDS[state].replace("\n", " ")


def number_with_interval(interval: Interval) -> str:
    if isnan(interval.low):
        return f"{interval.mean:.1f}"
    return f"{interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def interval_of(line: Mapping[Any, Any]) -> Interval:
    """The interval in a line of the table."""
    return Interval(line["mean"], line["low"], line["high"], int(line["n"]), line["interval"])


def reference_lines(manifest: Manifest, table: pd.DataFrame) -> list[ReferenceLine]:
    lines = table[table["kind"] == "reference"].to_dict("records")
    labels = {reference.name: reference.label for reference in manifest.references}
    return [ReferenceLine(labels[line["name"]], interval_of(line), line["state"]) for line in lines]


def word_of(line: Mapping[Any, Any]) -> str:
    """Why a cell has no number, in a word that fits into it."""
    if line["state"] == "failed" and line["cause"]:
        return line["cause"].split(", ")[0].replace(" of ", " of\n").replace("bad ", "bad\n")
    return _WORDS.get(line["state"], line["state"])


def caption_lines(manifest: Manifest, table: pd.DataFrame, agreement: Agreement | None, mark: str = "") -> list[str]:
    """What stands under a figure or table, one sentence or two per line; `mark`: how references are shown."""
    cells = table[table["kind"] == "cell"]
    lines = [f"Numbers: {manifest.metric_label}. {seeds_sentence(manifest, cells)}"]
    references = reference_lines(manifest, table)
    if references:
        lines.append(f"Beside the grid{mark}: " + "; ".join(reference.text for reference in references) + ".")
    if coverage := coverage_sentence(cells):
        lines.append(coverage)
    if agreement:
        lines.append(agreement_sentence(agreement))
    if manifest.study.paper and manifest.study.paper.what:
        lines.append(f"The paper: {manifest.study.paper.what}.")
    if manifest.overrides:
        lines.append("Changed on the command line: " + ", ".join(manifest.overrides) + ".")
    return lines


def seeds_sentence(manifest: Manifest, cells: pd.DataFrame) -> str:
    """How many seeds, and what the intervals cover."""
    asked = len(manifest.seeds)
    seeds = "1 seed" if asked == 1 else f"{asked} seeds"
    if (cells["interval"] == OVER_SEEDS).any():
        return f"{seeds}; 95% intervals are Student's t over the seeds."
    sampled = cells[cells["interval"] == TEST_SAMPLE]
    if len(sampled):
        widest = ((sampled["high"] - sampled["low"]) / 2).max()
        return (
            f"{seeds}; 95% intervals are of the test sample alone (Wilson), at most ±{widest:.1f}: "
            "the chance of training again is not in them."
        )
    return f"{seeds}."


def coverage_sentence(cells: pd.DataFrame) -> str:
    """What is not there; empty when all is."""
    counts = cells["state"].value_counts()
    rest = [f"{counts[state]} {_one_line(state)}" for state in STATES[1:] if state in counts]
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
