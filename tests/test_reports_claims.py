"""Claims on results whose truth is known: for, against, undecidable, and the paper's own numbers."""

import copy
import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml

from core.errors import UserError
from reports.build import load
from reports.claimfile import check_claims, parse_claims
from reports.claims import Evidence, decide, own_evidence
from reports.reduction import Place
from sweeps.request import load_study
from tests.claims_on_paper import NOT_PRINTED
from tests.reports_fixture import CLAIMS, FIRST, NAMES, ROOT, SECOND, Outputs, fig5

AXES = {FIRST: NAMES, SECOND: NAMES}
METRIC = "linear.top1"
POINTS = [{FIRST: first, SECOND: second} for first in NAMES for second in NAMES]
PLACES = [Place(point, cell, METRIC) for cell, point in enumerate(POINTS)]


def evidence(values, exact=False) -> Evidence:
    """`values`: cells x seeds, or one value per cell."""
    values_CS = np.array(values, dtype=float).reshape(len(POINTS), -1)
    own = {METRIC: values_CS}
    return Evidence(PLACES, AXES, own, {}, [[str(cell)] for cell in range(len(POINTS))], exact)


def paper_values() -> list[float]:
    paper = fig5()
    return [paper[point[FIRST], point[SECOND]] for point in POINTS]


def noisy(values, seeds: int, spread: float, seed: int = 0) -> Evidence:
    noise = np.random.default_rng(seed).normal(scale=spread, size=(len(POINTS), seeds))
    return evidence(np.array(values)[:, None] + noise)


def verdicts(found: Evidence, claims=CLAIMS) -> list[str]:
    return [verdict.verdict for verdict in decide(parse_claims(claims), found)]


def test_the_paper_numbers_support_every_claim():
    assert verdicts(evidence(paper_values(), exact=True)) == ["supported"] * len(CLAIMS)


def studies() -> list[Path]:
    return sorted((ROOT / "ablations" / "study").glob("*.yaml"))


@pytest.mark.parametrize("path", studies(), ids=lambda path: path.stem)
def test_studies_and_their_claims_are_well_formed(path):
    assert load_study(path.stem).name == path.stem


def test_claims_of_augment_pairs_hold_on_the_paper_numbers():
    claims = yaml.safe_load((ROOT / "ablations/study/augment_pairs.yaml").read_text())["claims"]
    claims = [claim for claim in claims if ("augment_pairs", claim["id"]) not in NOT_PRINTED]
    assert set(verdicts(evidence(paper_values(), exact=True), claims)) <= {"supported"}


def test_shuffled_paper_numbers_seldom_support():
    supported = 0
    for seed in range(100):
        values = paper_values()
        random.Random(seed).shuffle(values)
        # That some pair beats all singles is likely by chance, with 42 pairs; the other claims name cells.
        supported += verdicts(evidence(values, exact=True))[1:].count("supported")
    assert supported < 20


def test_clear_truth_is_found_in_both_directions():
    values = paper_values()
    assert verdicts(noisy(values, seeds=3, spread=0.5)) == ["supported"] * 3
    opposite = [-value for value in values]
    assert verdicts(noisy(opposite, seeds=3, spread=0.5)) == ["contradicted"] * 3


def test_one_seed_never_decides_but_says_what_it_leans_to():
    for values, leaning in ((paper_values(), "for"), ([-value for value in paper_values()], "against")):
        for verdict in decide(parse_claims(CLAIMS), evidence(values)):
            assert (verdict.verdict, verdict.leaning, verdict.n_seeds) == ("inconclusive", leaning, 1)
            assert verdict.p is verdict.low is None


def test_equal_cells_are_not_decided_by_the_luck_of_the_best_of_many():
    decided = [0, 0, 0]
    for seed in range(200):
        for number, verdict in enumerate(verdicts(noisy([50.0] * 49, seeds=3, spread=1.0, seed=seed))):
            decided[number] += verdict == "supported"
    # 42 pairs against 7 singles: their best is larger by luck alone in nearly every seed.
    assert decided[0] <= 6
    assert decided[1] <= 6
    assert decided[2] <= 6


def test_interval_holds_the_true_difference():
    truth = max(fig5()[p[FIRST], p[SECOND]] for p in POINTS if p[FIRST] != p[SECOND]) - 33.1
    held = 0
    for seed in range(100):
        verdict = decide(parse_claims(CLAIMS[:1]), noisy(paper_values(), seeds=3, spread=2.0, seed=seed))[0]
        held += verdict.low <= truth <= verdict.high
    assert held >= 88


def test_seeds_are_paired():
    """A seed that is better everywhere by 20 points hides nothing."""
    by_seed = np.array([0.0, 20.0, 40.0])
    found = noisy(paper_values(), seeds=3, spread=0.3)
    shifted = evidence(found.own[METRIC] + by_seed)
    assert verdicts(shifted) == ["supported"] * 3


def test_holm_asks_more_of_many_claims():
    claim = CLAIMS[2]
    found = noisy([55.0 if point == {FIRST: "crop", SECOND: "color"} else 50.0 for point in POINTS], 3, 0.9, seed=1)
    alone = decide(parse_claims([claim]), found)[0]
    many = [{**copy.deepcopy(claim), "id": f"claim{number}"} for number in range(30)]
    assert alone.verdict == "supported"
    assert decide(parse_claims(many), found)[0].verdict == "inconclusive"


def test_missing_cells_make_a_claim_inconclusive_with_the_reason():
    values = paper_values()
    values[NAMES.index("rotate") * 7] = np.nan
    pair, best, crop = decide(parse_claims(CLAIMS), evidence(values))
    assert (pair.verdict, pair.leaning, pair.reason) == ("inconclusive", None, "1 of 49 cells are missing")
    assert best.reason == "1 of 42 cells are missing"
    assert crop.leaning == "for"


def test_only_seeds_finished_in_all_cells_count():
    found = noisy(paper_values(), seeds=4, spread=0.3)
    values_CS = found.own[METRIC]
    values_CS[3, 0] = values_CS[40, 1] = np.nan
    pair, _, crop = decide(parse_claims(CLAIMS), found)
    assert (pair.n_seeds, crop.n_seeds) == (2, 3)
    values_CS[5, 2] = values_CS[6, 3] = np.nan
    assert decide(parse_claims(CLAIMS), found)[0].reason == "no seed is finished in all 49 cells"


def test_margin_is_part_of_the_claim():
    claim = copy.deepcopy(CLAIMS[0])
    assert decide(parse_claims([claim]), evidence(paper_values(), exact=True))[0].estimate == pytest.approx(23.2)
    claim["check"]["margin"] = 23.3
    assert verdicts(evidence(paper_values(), exact=True), [claim]) == ["contradicted"]


def test_cells_can_be_left_out_of_a_selection():
    check = {"form": "largest", "cells": {FIRST: "crop", SECOND: "sobel"}, "among": {FIRST: "crop"}}
    claim = {"id": "a", "sentence": "s", "section": "1", "check": check}
    assert verdicts(evidence(paper_values(), exact=True), [claim]) == ["contradicted"]
    check["among"]["not"] = {SECOND: "color"}
    assert verdicts(evidence(paper_values(), exact=True), [claim]) == ["supported"]


def test_mean_and_min_reduce_selections():
    check = {
        "form": "difference",
        "of": {"cells": {FIRST: "crop", SECOND: "*"}, "reduce": "mean"},
        "minus": {"cells": {FIRST: ["blur", "rotate"]}, "reduce": "min"},
    }
    claim = {"id": "a", "sentence": "s", "section": "1", "check": check}
    verdict = decide(parse_claims([claim]), evidence(paper_values(), exact=True))[0]
    assert verdict.estimate == pytest.approx(39.2 - 2.6, abs=0.05)
    assert len(verdict.cells) == 21


def test_evidence_from_run_directories(tmp_path):
    def value(first, second, seed):
        return 10.0 + seed if (first, second) == ("crop", "color") else None

    outputs = Outputs(tmp_path, value, seeds=[3, 5])
    folder = outputs.write()
    own = own_evidence(load(folder).shown)
    assert own.own[METRIC][2].tolist() == [13.0, 15.0]
    assert np.isnan(own.own[METRIC]).sum() == 96
    assert len(own.runs[2]) == 2


def test_a_study_narrowed_by_the_user_leaves_claims_open(tmp_path):
    outputs = Outputs(tmp_path, lambda *_: 50.0, names=["blur", "noise"], claims=CLAIMS)
    found = decide(parse_claims(CLAIMS), own_evidence(load(outputs.write()).shown))
    assert found[2].reason == "the study as it was run has no such cells"


def bad(change) -> list:
    claims = copy.deepcopy(CLAIMS)
    change(claims)
    return claims


def set_at(path, value):
    def change(claims):
        node = claims
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at([0, "check", "form"], "diference"), "claims.0.check.form.*did you mean 'difference'"),
        (set_at([0, "check", "form"], "zzz"), "allowed: above_published, all, below, correlation"),
        (set_at([0, "check"], "largest"), "claims.0.check.*difference, largest"),
        (set_at([0, "check", "margin"], "much"), "claims.0.check.margin=much"),
        (set_at([0, "check", "of", "reduce"], "median"), "claims.0.check.of.reduce=median.*max.*mean.*min"),
        (set_at([1, "check", "among"], {"augment.transform.1": "crop"}), "did you mean 'augment.transforms.1'"),
        (set_at([2, "check", "among", FIRST], "crops"), "claims.2.check.*did you mean 'crop'"),
        (set_at([1, "check", "among", "diagonal"], "no"), "diagonal=no: true or false"),
        (set_at([1, "check", "among", "not"], "crop"), "not=crop: a selection"),
        (set_at([0, "sentense"], "x"), "unknown key 'claims.0.sentense'"),
        (set_at([0, "check", "of", "cell"], {}), "unknown key 'claims.0.check.of.cell'"),
        (set_at([1, "id"], "pair_beats_single"), "claims.1.id=pair_beats_single"),
        (lambda claims: claims[0].pop("section"), "claims.0.section: missing"),
    ],
)
def test_bad_claims_are_one_line_with_key_and_what_is_allowed(change, message):
    with pytest.raises(UserError, match=message) as error:
        check_claims(bad(change), POINTS, AXES, [METRIC])
    assert "\n" not in str(error.value)


def test_diagonal_needs_two_like_axes():
    axes = {FIRST: NAMES, "loss.temperature": [0.1, 0.5]}
    points = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    with pytest.raises(UserError, match="two axes with values in common"):
        check_claims(CLAIMS[:1], points, axes, [METRIC])
