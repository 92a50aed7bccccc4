"""Claims of the paper, decided by machine from a study's cells.

A claim is data: {id, sentence, section, check}; checks.py turns the check into one number per seed that is
above zero where the claim holds. Here: Student's t test over the seeds in both directions, Holm's
correction for the number of claims, the verdict. One seed never supports or contradicts a claim.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.checks import Measurement, select
from reports.claimfile import Claim
from reports.manifest import Manifest
from reports.statistics import holm, p_greater, student

ALPHA = 0.05
SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"


@dataclass(frozen=True)
class Evidence:
    """The cells of a study: where they are in the grid, and their values per seed (NaN: not there).

    points: {axis key: value} per cell. values_CS: cells x seeds. runs: ids per cell. exact: the values have
    no uncertainty, as the paper's own numbers when the claims are tested on them.
    """

    points: Sequence[Mapping[str, Any]]
    values_CS: np.ndarray
    runs: Sequence[Sequence[str]]
    exact: bool = False


@dataclass(frozen=True)
class Verdict:
    """How a claim stands: one entry of claims.json.

    estimate, low, high: the number that is above zero where the claim holds, with its 95% interval. p: two
    sided, corrected for the number of claims. All None where they are not known. leaning: what the
    estimate alone says.
    """

    id: str
    sentence: str
    section: str
    verdict: str
    leaning: str | None
    estimate: float | None
    low: float | None
    high: float | None
    p: float | None
    n_seeds: int
    reason: str
    cells: list[dict[str, Any]]
    run_ids: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for claims.json, numbers with the digits that mean something."""
        numbers = {name: getattr(self, name) for name in ("estimate", "low", "high", "p")}
        short = {name: None if value is None else float(f"{value:.4g}") for name, value in numbers.items()}
        return {**asdict(self), **short}


def own_evidence(manifest: Manifest, runs: pd.DataFrame) -> Evidence:
    """The study's results; `runs` as from collect.read_runs."""
    column = {seed: number for number, seed in enumerate(sorted(runs["seed"].unique()))}
    values_CS = np.full((len(manifest.cells), len(column)), np.nan)
    for row, seed, value in zip(runs["row"], runs["seed"], runs["value"], strict=True):
        if row < len(manifest.cells) and value is not None:
            values_CS[row, column[seed]] = value
    ids = [[planned.run for planned in cell.runs] for cell in manifest.cells]
    return Evidence([cell.values for cell in manifest.cells], values_CS, ids)


def paper_evidence(manifest: Manifest) -> Evidence:
    """The paper's own numbers, taken as exact."""
    values = [np.nan if cell.paper is None else cell.paper for cell in manifest.cells]
    points = [cell.values for cell in manifest.cells]
    return Evidence(points, np.array(values)[:, None], [[] for _ in points], exact=True)


def decide(claims: Sequence[Claim], evidence: Evidence) -> list[Verdict]:
    """The verdict on every claim; the number of claims is what p values are corrected for."""
    measured = [_measure(claim, evidence) for claim in claims]
    p_values = holm([_p_two_sided(measurement) for _, measurement, _ in measured])
    return [
        _verdict(claim, evidence, *looked_at, p) for claim, looked_at, p in zip(claims, measured, p_values, strict=True)
    ]


def _measure(claim: Claim, evidence: Evidence) -> tuple[list[int], Measurement | None, str]:
    """(cells looked at, the claim as numbers, why there are none)."""
    selected = [select(evidence.points, selection) for selection in claim.check.selections()]
    cells = sorted({cell for selection in selected for cell in selection})
    if not all(selected):
        return cells, None, "the study as it was run has no such cells"
    there_CS = ~np.isnan(evidence.values_CS[cells])
    common = np.flatnonzero(there_CS.all(axis=0))
    if len(common) == 0:
        missing = int((~there_CS.any(axis=1)).sum())
        if missing:
            return cells, None, f"{missing} of {len(cells)} cells are missing"
        return cells, None, f"no seed is finished in all {len(cells)} cells"
    return cells, claim.check.measure([evidence.values_CS[rows][:, common] for rows in selected]), ""


def _p_two_sided(measurement: Measurement | None) -> float:
    if measurement is None or len(measurement.low_S) < 2:
        return 1.0
    return min(1.0, 2 * min(p_greater(measurement.low_S), p_greater(-measurement.high_S)))


def _verdict(
    claim: Claim, evidence: Evidence, cells: list[int], measurement: Measurement | None, reason: str, p: float
) -> Verdict:
    verdict, leaning, estimate, n_seeds = INCONCLUSIVE, None, None, 0
    low = high = corrected = None
    if measurement is not None:
        estimate, n_seeds = measurement.estimate, len(measurement.low_S)
        leaning = "for" if estimate > 0 else "against"
        decided = SUPPORTED if leaning == "for" else CONTRADICTED
        if evidence.exact:
            verdict, reason = decided, "values taken as exact"
        elif n_seeds == 1:
            reason = "one seed cannot decide a claim"
        else:
            corrected = p
            low, high = student(measurement.low_S)[0], student(measurement.high_S)[1]
            verdict = decided if p < ALPHA else INCONCLUSIVE
            reason = f"p = {p:.2g} after Holm's correction, {n_seeds} seeds"
    return Verdict(
        id=claim.id,
        sentence=claim.sentence,
        section=claim.section,
        verdict=verdict,
        leaning=leaning,
        estimate=estimate,
        low=low,
        high=high,
        p=corrected,
        n_seeds=n_seeds,
        reason=reason,
        cells=[dict(evidence.points[cell]) for cell in cells],
        run_ids=list(dict.fromkeys(run for cell in cells for run in evidence.runs[cell])),
    )
