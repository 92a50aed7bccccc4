"""Every form of check on invented results whose truth is known: true, false, and not to be decided."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.errors import UserError
from reports.claimfile import check_claims, parse_claims
from reports.claims import CONTRADICTED, INCONCLUSIVE, SUPPORTED, Evidence, decide
from reports.reduction import Place

EPOCHS, BATCHES = [100, 200, 400], [256, 8192]
AXES = {"epochs": EPOCHS, "batch": BATCHES}
POINTS = [{"epochs": epochs, "batch": batch} for epochs in EPOCHS for batch in BATCHES]
TRUTH = {256: (57, 62, 65), 8192: (65, 67, 68)}
"""Accuracy by batch and epochs: longer and larger are better, and the gap shrinks from 8 to 5 to 3."""
SMALL, LARGE = {"batch": 256}, {"batch": 8192}
PUBLISHED = {"weak method": {"top1": 62.0}, "strong method": {"top1": 71.0}, "other metric": {"loss": 999.0}}


def evidence(seeds: int = 4, spread: float = 0.2, truth: dict[int, tuple] = TRUTH, noise: int = 0) -> Evidence:
    """Noisy results; the second metric is the negative of the first, the paper's numbers are the truth."""
    true_C = np.array([truth[point["batch"]][EPOCHS.index(point["epochs"])] for point in POINTS], dtype=float)
    noise_CS = np.random.default_rng(noise).normal(scale=spread, size=(len(POINTS), seeds))
    own = {"top1": true_C[:, None] + noise_CS, "loss": -true_C[:, None] - noise_CS}
    paper_C = np.array([TRUTH[point["batch"]][EPOCHS.index(point["epochs"])] for point in POINTS], dtype=float)
    places = [Place(point, cell, "top1") for cell, point in enumerate(POINTS)]
    runs = [[str(cell)] for cell in range(len(POINTS))]
    return Evidence(places, AXES, own, {"top1": paper_C}, runs, published=PUBLISHED)


def verdict(check: dict[str, Any], found: Evidence) -> str:
    claims = [{"id": "a", "sentence": "s", "section": "1", "check": check}]
    check_claims(claims, POINTS, AXES, ["top1", "loss"], PUBLISHED)
    return decide(parse_claims(claims), found)[0].verdict


BEST = {"epochs": 400, "batch": 8192}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "largest": (
        {"form": "largest", "cells": BEST},
        {"form": "largest", "cells": {"epochs": 100}},
    ),
    "smallest": (
        {"form": "smallest", "cells": {"epochs": 100, "batch": 256}},
        {"form": "smallest", "cells": {"epochs": 400}},
    ),
    "above_published": (
        {"form": "above_published", "cells": LARGE, "methods": ["weak method"]},
        {"form": "above_published"},
    ),
    "difference": (
        {"form": "difference", "of": {"cells": LARGE}, "minus": {"cells": SMALL}, "margin": 4},
        {"form": "difference", "of": {"cells": LARGE}, "minus": {"cells": SMALL}, "margin": 7},
    ),
    "equal": (
        {"form": "equal", "of": {"cells": LARGE}, "minus": {"cells": SMALL}, "within": 7},
        {"form": "equal", "of": {"cells": LARGE}, "minus": {"cells": SMALL}, "within": 4},
    ),
    "below": (
        {"form": "below", "cells": SMALL, "bound": 68},
        {"form": "below", "cells": LARGE, "bound": 64},
    ),
    "range": (
        {"form": "range", "cells": LARGE, "within": 5},
        {"form": "range", "cells": SMALL, "within": 5},
    ),
    "monotone": (
        {"form": "monotone", "along": "epochs"},
        {"form": "monotone", "along": "epochs", "direction": "decreasing"},
    ),
    "monotone at each": (
        {"form": "monotone", "along": "epochs", "at_each": {"batch": "*"}},
        {"form": "monotone", "along": "batch", "direction": "decreasing", "at_each": {"epochs": [100, 400]}},
    ),
    "gap_shrinks": (
        {"form": "gap_shrinks", "along": "epochs", "of": {"cells": LARGE}, "minus": {"cells": SMALL}},
        {"form": "gap_shrinks", "along": "epochs", "of": {"cells": SMALL}, "minus": {"cells": LARGE}},
    ),
    "all": (
        {"form": "all", "checks": [{"form": "largest", "cells": BEST}, {"form": "monotone", "along": "epochs"}]},
        {"form": "all", "checks": [{"form": "largest", "cells": BEST}, {"form": "range", "cells": {}, "within": 2}]},
    ),
    "another metric": (
        {"form": "smallest", "cells": BEST, "metric": "loss"},
        {"form": "largest", "cells": BEST, "metric": "loss"},
    ),
    "two metrics": (
        {"form": "difference", "of": {"cells": LARGE}, "minus": {"cells": LARGE, "metric": "loss"}},
        {"form": "difference", "of": {"cells": LARGE, "metric": "loss"}, "minus": {"cells": LARGE}},
    ),
    "correlation": (
        {"form": "correlation", "above": 0.8},
        {"form": "correlation", "above": 0.8},
    ),
}
REVERSED = {batch: tuple(120 - value for value in values) for batch, values in TRUTH.items()}


@pytest.mark.parametrize("form", CASES)
def test_what_is_true_is_supported_and_what_is_false_contradicted(form):
    true, false = CASES[form]
    assert verdict(true, evidence()) == SUPPORTED
    against = evidence(truth=REVERSED) if form == "correlation" else evidence()
    assert verdict(false, against) == CONTRADICTED


@pytest.mark.parametrize("form", CASES)
def test_one_seed_decides_nothing(form):
    for check in CASES[form]:
        assert verdict(check, evidence(seeds=1)) == INCONCLUSIVE


@pytest.mark.parametrize("form", [form for form in CASES if form != "correlation"])
def test_noisy_results_seldom_decide_against_the_truth(form):
    """Not for a correlation, which noise truly lowers."""
    true, false = CASES[form]
    noisy = [evidence(seeds=3, spread=8, noise=noise) for noise in range(60)]
    wrong = sum(verdict(true, found) == CONTRADICTED for found in noisy)
    wrong += sum(verdict(false, found) == SUPPORTED for found in noisy)
    assert wrong <= 0.05 * 2 * len(noisy)


def test_a_small_step_back_is_let_go_where_the_claim_says_so():
    dip = {256: (57, 62, 61.5), 8192: (65, 67, 66.5)}
    check = {"form": "monotone", "along": "epochs"}
    assert verdict(check, evidence(truth=dip, spread=0.05)) == CONTRADICTED
    assert verdict({**check, "tolerance": 1}, evidence(truth=dip, spread=0.05)) == SUPPORTED


def test_other_methods_do_not_compare_with_another_setting():
    """Where the setting is not the paper's, the evidence has no published numbers."""
    check = {"form": "above_published", "methods": ["weak method"]}
    claims = parse_claims([{"id": "a", "sentence": "s", "section": "1", "check": check}])
    (undecided,) = decide(claims, replace(evidence(), published={}))
    assert (undecided.verdict, undecided.leaning) == (INCONCLUSIVE, None)
    assert undecided.reason == "other methods' numbers compare with those of the paper's own setting only"


@pytest.mark.parametrize(
    ("methods", "known", "line"),
    [
        (["weak metod"], PUBLISHED, "claims.0.check.methods 'weak metod': did you mean 'weak method'?"),
        ([], {}, "claims.0.check.form=above_published: "),
    ],
)
def test_a_method_that_the_paper_does_not_print_is_refused(methods, known, line):
    check = {"form": "above_published", "methods": methods}
    with pytest.raises(UserError) as refused:
        check_claims([{"id": "a", "sentence": "s", "section": "1", "check": check}], POINTS, AXES, ["top1"], known)
    assert line in str(refused.value)


def test_a_method_without_a_number_of_this_metric_is_not_passed_over():
    check = {"form": "above_published", "methods": ["weak method", "other metric"]}
    claims = parse_claims([{"id": "a", "sentence": "s", "section": "1", "check": check}])
    (undecided,) = decide(claims, evidence())
    assert (undecided.verdict, undecided.reason) == (INCONCLUSIVE, "the paper prints no such number of other metric")


def test_a_gap_needs_both_sides_at_the_same_values():
    of, minus = {"cells": {**LARGE, "epochs": [100, 200]}}, {"cells": {**SMALL, "epochs": [200, 400]}}
    check = {"form": "gap_shrinks", "along": "epochs", "of": of, "minus": minus}
    claims = parse_claims([{"id": "a", "sentence": "s", "section": "1", "check": check}])
    (undecided,) = decide(claims, evidence())
    assert undecided.reason == "both sides need cells at the same values of epochs"


def test_an_axis_taken_value_by_value_is_not_named_inside():
    inside = {"form": "largest", "cells": BEST}
    check = {"form": "all", "checks": [inside], "at_each": {"batch": "*"}}
    with pytest.raises(UserError, match=r"claims.0.check.checks.0.at_each=batch: an axis that the check does not name"):
        check_claims([{"id": "a", "sentence": "s", "section": "1", "check": check}], POINTS, AXES, ["top1"])


def test_a_gap_that_grows_contradicts_that_it_shrinks():
    grows = {256: (57, 58, 59), 8192: (59, 63, 68)}
    check = {"form": "gap_shrinks", "along": "epochs", "of": {"cells": LARGE}, "minus": {"cells": SMALL}}
    assert verdict(check, evidence(truth=grows)) == CONTRADICTED


def test_metrics_with_axes_of_their_own_are_places():
    """Two metrics on the axis `labels`, of cells that the axis `width` names."""
    places = [Place({"width": w, "labels": n}, cell, n) for cell, w in enumerate([1, 2]) for n in ("1%", "10%")]
    own = {"1%": np.array([[40.0, 41], [50, 52]]), "10%": np.array([[60.0, 61.5], [60.2, 60.9]])}
    found = Evidence(places, {"width": [1, 2], "labels": ["1%", "10%"]}, own, {}, [["a"], ["b"]])
    points = [place.values for place in places]
    wide, narrow = {"cells": {"width": 2}}, {"cells": {"width": 1}}
    of_each = {"form": "difference", "of": wide, "minus": narrow, "at_each": {"labels": "*"}}
    gain = {"form": "gap_shrinks", "along": "labels", "of": wide, "minus": narrow}
    claims = [
        {"id": name, "sentence": "s", "section": "1", "check": check}
        for name, check in (("each", of_each), ("gain", gain), ("one", {**of_each, "at_each": {"labels": "1%"}}))
    ]
    check_claims(claims, points, found.axes, ["1%", "10%"])
    each, shrinks, one = decide(parse_claims(claims), found)
    assert one.estimate == pytest.approx(10.5)
    assert each.estimate == pytest.approx(-0.2)
    assert shrinks.leaning == "for"
    assert {tuple(cell.items()) for cell in one.cells} == {(("width", w), ("labels", "1%")) for w in (1, 2)}
