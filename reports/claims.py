"""Claims of the paper, decided by machine from a study's cells.

A claim is data: {id, sentence, section, kind, check}; checks.py turns the check into numbers per seed that are
above zero where the claim holds. Here: Student's t test over the seeds in both directions, Holm's
correction for the number of claims, the verdict. One seed never supports or contradicts a claim.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from reports.checks import Axes, Needed, Values
from reports.claimfile import Claim, parts
from reports.measurement import Measurement, NotMeasurable, least
from reports.reduction import Place, axes_of_places, places
from reports.selections import select
from reports.shown import Shown
from reports.statistics import holm, p_greater, student

ALPHA = 0.05
SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"


@dataclass(frozen=True)
class Evidence:
    """The places of a study: where they are in the grid, and their numbers per seed (NaN: not there).

    axes: their values in order. own: cells x seeds per metric. paper: the paper's number per cell, per metric.
    runs: ids per cell. exact: the numbers have no uncertainty, as the paper's own when the claims are tested on them.
    published: other methods' {metric: number} by label, where the setting is the paper's.
    """

    places: Sequence[Place]
    axes: Axes
    own: Mapping[str, np.ndarray]
    paper: Mapping[str, np.ndarray]
    runs: Sequence[Sequence[str]]
    exact: bool = False
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def values(self, needed: Needed) -> tuple[list[int], Values]:
        """(numbers of the places, what is known of them)."""
        found = self._places(needed)
        own = [self._own(needed.metric or place.metric, place.cell) for place in found.values()]
        paper = [self._paper(needed.metric or place.metric, place.cell) for place in found.values()]
        points = [place.values for place in found.values()]
        of = {needed.metric or place.metric for place in found.values()}
        published = {
            label: numbers[metric]
            for label, numbers in self.published.items()
            for metric in of
            if len(of) == 1 and metric in numbers
        }
        return list(found), Values(points, self.axes, np.array(own), np.array(paper), published)

    def _places(self, needed: Needed) -> dict[int, Place]:
        selected = select([place.values for place in self.places], needed.cells)
        found = {row: self.places[row] for row in selected}
        if needed.metric and found:
            # A metric that is named is one number per cell, however many places the cell has.
            has_places = any(place.metric == needed.metric for place in self.places)
            of = needed.metric if has_places else next(iter(found.values())).metric
            found = {row: place for row, place in found.items() if place.metric == of}
        if needed.printed:
            metric = needed.metric
            found = {
                row: place
                for row, place in found.items()
                if not np.isnan(self._paper(metric or place.metric, place.cell))
            }
        return found

    def _own(self, metric: str, cell: int) -> np.ndarray:
        """Per seed; NaN for a metric that no run has."""
        some = next(iter(self.own.values()))
        return self.own[metric][cell] if metric in self.own else np.full_like(some[cell], np.nan)

    def _paper(self, metric: str, cell: int) -> float:
        return float(self.paper[metric][cell]) if metric in self.paper else np.nan


def own_evidence(shown: Shown) -> Evidence:
    """The study's results, as its report shows them."""
    metric = shown.manifest.study.metric
    ids = [[run for row in rows for run in shown.table["runs"][row].split()] for rows in shown.rows]
    axes = {axis.key: axis.values for axis in shown.manifest.axes}
    manifest = shown.manifest
    return Evidence(
        places(shown.cells, shown.spec, metric),
        axes_of_places(axes, shown.spec, metric),
        shown.own,
        shown.paper,
        ids,
        published=manifest.published if manifest.is_paper_setting else {},
    )


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
    kind: str
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

    @property
    def is_of_paper(self) -> bool:
        """Not a common reading of it."""
        return self.kind == "paper"

    @property
    def stated(self) -> str:
        """The sentence, and whose it is where it is not the paper's."""
        return self.sentence if self.is_of_paper else f"{self.sentence} (a common reading)"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for claims.json, numbers with the digits that mean something."""
        numbers = {name: getattr(self, name) for name in ("estimate", "low", "high", "p")}
        short = {name: None if value is None else float(f"{value:.4g}") for name, value in numbers.items()}
        return {**asdict(self), **short}


def decide(claims: Sequence[Claim], evidence: Evidence) -> list[Verdict]:
    """The verdict on every claim; the number of claims is what p values are corrected for."""
    measured = [_measure(claim, evidence) for claim in claims]
    p_values = holm([_p_two_sided(measurement) for _, measurement, _ in measured])
    return [
        _verdict(claim, evidence, *looked_at, p) for claim, looked_at, p in zip(claims, measured, p_values, strict=True)
    ]


def _measure(claim: Claim, evidence: Evidence) -> tuple[list[int], Measurement | None, str]:
    """(cells looked at, the claim as numbers, why there are none)."""
    found = [
        (part.form, [evidence.values(needed) for needed in part.needed]) for part in parts(claim.check, evidence.axes)
    ]
    selected = [of_side for _, of_part in found for of_side in of_part]
    cells = sorted({row for rows, _ in selected for row in rows})
    if not all(rows for rows, _ in selected):
        return cells, None, "the study as it was run has no such cells"
    there_CS = ~np.isnan(np.concatenate([values.own_CS for _, values in selected]))
    common = np.flatnonzero(there_CS.all(axis=0))
    if len(common) == 0:
        missing = {row for rows, values in selected for row in np.array(rows)[np.isnan(values.own_CS).all(axis=1)]}
        if missing:
            return cells, None, f"{len(missing)} of {len(cells)} cells are missing"
        return cells, None, f"no seed is finished in all {len(cells)} cells"
    try:
        measured = [
            form.measure([replace(values, own_CS=values.own_CS[:, common]) for _, values in of_part])
            for form, of_part in found
        ]
    except NotMeasurable as reason:
        return cells, None, str(reason)
    return cells, least(measured), ""


def _p_two_sided(measurement: Measurement | None) -> float:
    """For the direction in which the estimate points."""
    if measurement is None or len(measurement.high_S) < 2:
        return 1.0
    if measurement.estimate > 0:
        # A claim of several parts holds only where each of them does: its p is the weakest part's (Berger 1982).
        return min(1.0, 2 * max(p_greater(part_S) for part_S in measurement.low_KS))
    return min(1.0, 2 * p_greater(-measurement.high_S))


def _verdict(
    claim: Claim, evidence: Evidence, cells: list[int], measurement: Measurement | None, reason: str, p: float
) -> Verdict:
    verdict, leaning, estimate, n_seeds = INCONCLUSIVE, None, None, 0
    low = high = corrected = None
    if measurement is not None:
        estimate, n_seeds = measurement.estimate, len(measurement.high_S)
        leaning = "for" if estimate > 0 else "against"
        decided = SUPPORTED if leaning == "for" else CONTRADICTED
        if evidence.exact:
            verdict, reason = decided, "values taken as exact"
        elif n_seeds == 1:
            reason = "one seed cannot decide a claim"
        else:
            corrected = p
            low = min(student(part_S)[0] for part_S in measurement.low_KS)
            high = student(measurement.high_S)[1]
            verdict = decided if p < ALPHA else INCONCLUSIVE
            reason = f"p = {p:.2g} after Holm's correction, {n_seeds} seeds"
    return Verdict(
        id=claim.id,
        sentence=claim.sentence,
        section=claim.section,
        kind=claim.kind,
        verdict=verdict,
        leaning=leaning,
        estimate=estimate,
        low=low,
        high=high,
        p=corrected,
        n_seeds=n_seeds,
        reason=reason,
        cells=[dict(evidence.places[row].values) for row in cells],
        run_ids=list(dict.fromkeys(run for row in cells for run in evidence.runs[evidence.places[row].cell])),
    )
