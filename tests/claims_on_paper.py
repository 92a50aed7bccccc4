"""The claims of all studies, decided on the paper's own numbers taken as exact, and on the same numbers shuffled.

`python -m tests.claims_on_paper` prints both. Claims that say what the paper says hold on its numbers, and seldom
on numbers that say nothing.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from core.errors import UserError
from reports.checks import Axes
from reports.claimfile import Claim, parse_claims
from reports.claims import SUPPORTED, Evidence, Verdict, decide
from reports.manifest import Published, plain, published
from reports.reduction import Place, axes_of_places, paper_cells, places
from reports.spec import parse_report
from sweeps.paper import others
from sweeps.request import load_study, study_names
from sweeps.study import Study

SHUFFLES = 100
NOT_PRINTED = {
    ("augment_pairs", "composing_is_harder_and_better"),
    ("augment_pairs", "single_is_easy_but_not_enough"),
    ("color_histograms", "histograms_give_pictures_away"),
    ("color_histograms", "distortion_hides_the_picture"),
    ("head", "h_beats_z_by_10"),
    ("loss_gradients", "gradients_are_those_of_table_2"),
    ("loss_gradients", "nt_xent_weighs_by_hardness"),
    ("loss_gradients", "the_others_do_not"),
}
"""(study, claim): what the paper says in words, formulas or pictures without numbers for the cells."""


class Decided(NamedTuple):
    """A study's claims of the paper with their verdicts on its numbers, and how often each holds when shuffled."""

    study: str
    claims: Sequence[Claim]
    verdicts: Sequence[Verdict]
    shuffled_supported: Sequence[int]


def exact_evidence(
    found: Sequence[Place],
    axes: Axes,
    numbers: Sequence[Mapping[str, float]],
    published: Mapping[str, Mapping[str, float]],
) -> Evidence:
    """The paper's own {metric: number} of each cell, and of other methods, taken as exact results."""
    names = {*(place.metric for place in found), *(name for of_cell in numbers for name in of_cell)}
    paper = {name: np.array([of_cell.get(name, np.nan) for of_cell in numbers], dtype=float) for name in names}
    own = {name: values[:, None] for name, values in paper.items()}
    return Evidence(found, axes, own, paper, [[] for _ in numbers], exact=True, published=published)


def shuffled(evidence: Evidence, seed: int) -> Evidence:
    """The same numbers dealt out anew over all cells, methods and metrics: what a claim says when nothing is true."""
    names, labels = sorted(evidence.own), list(evidence.published)
    published_ML = [[evidence.published[label].get(name, np.nan) for label in labels] for name in names]
    own_MC = np.stack([evidence.own[name][:, 0] for name in names])
    values_MR = np.concatenate([own_MC, np.array(published_ML, dtype=float)], axis=1)
    there = ~np.isnan(values_MR)
    values_MR[there] = np.random.default_rng(seed).permutation(values_MR[there])
    rows = dict(zip(names, values_MR, strict=True))
    cells = own_MC.shape[1]
    return replace(
        evidence,
        own={name: row[:cells, None] for name, row in rows.items()},
        published={
            label: {name: float(rows[name][cells + number]) for name in evidence.published[label]}
            for number, label in enumerate(labels)
        },
    )


def paper_evidence(study: Study) -> Evidence:
    """The paper's numbers for a study's cells, as the study file looks them up."""
    spec, printed = parse_report(study.report), study.paper_numbers()
    own = list(study.cells(study.values))
    numbers = [printed.get(tuple(map(plain, cell.values())), {}) for cell in own]
    cells, per_cell = paper_cells(own, numbers, spec, study.metric)
    rows = [Published(**row) for row in others(study.paper)] if study.paper else []
    axes = axes_of_places(study.values, spec, study.metric)
    return exact_evidence(places(cells, spec, study.metric), axes, per_cell, published(rows))


def decide_all() -> Iterator[Decided]:
    """For every study with claims of the paper."""
    for name in study_names():
        study = load_study(name)
        claims = [claim for claim in parse_claims(study.claims) if claim.kind == "paper"]
        if not claims:
            continue
        evidence = paper_evidence(study)
        counts = [0] * len(claims)
        for seed in range(SHUFFLES):
            for number, verdict in enumerate(decide(claims, shuffled(evidence, seed))):
                counts[number] += verdict.verdict == SUPPORTED
        yield Decided(name, claims, decide(claims, evidence), counts)


class Summary(NamedTuple):
    """How many claims can be decided on the paper's numbers, how many hold, and what share does when shuffled."""

    claims: int
    hold: int
    shuffled_percent: float


def summarize(found: Sequence[Decided]) -> Summary:
    held, shuffled_held = [], []
    for decided in found:
        for claim, verdict, count in zip(decided.claims, decided.verdicts, decided.shuffled_supported, strict=True):
            if (decided.study, claim.id) not in NOT_PRINTED:
                held.append(verdict.verdict == SUPPORTED)
                shuffled_held.append(count)
    return Summary(len(held), sum(held), 100 * sum(shuffled_held) / (SHUFFLES * len(held)))


def main() -> int:
    found = list(decide_all())
    for decided in found:
        for claim, verdict, count in zip(decided.claims, decided.verdicts, decided.shuffled_supported, strict=True):
            is_printed = (decided.study, claim.id) not in NOT_PRINTED
            word = verdict.verdict if is_printed else "no numbers"
            print(f"{decided.study:20} {claim.id:50} {word:12} {count:3} of {SHUFFLES} shuffled")
            if is_printed and verdict.verdict != SUPPORTED:
                print(f"    {verdict.reason}: estimate {verdict.estimate}")
    summary = summarize(found)
    print(
        f"{summary.hold} of {summary.claims} claims hold on the paper's numbers, {summary.shuffled_percent:.1f}% of "
        f"them when the numbers are shuffled; for {len(NOT_PRINTED)} more the paper prints none"
    )
    return 0 if summary.hold == summary.claims and summary.shuffled_percent < 10 else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
