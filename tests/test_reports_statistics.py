"""Intervals, p values and rank agreement against scipy and against what must hold for any numbers."""

from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.statistics import (
    NONE,
    OVER_SEEDS,
    TEST_SAMPLE,
    agreement,
    holm,
    p_greater,
    paired_difference,
    student,
    summarize,
    wilson,
)

percents = st.floats(0, 100, allow_nan=False)
samples = st.lists(percents, min_size=2, max_size=8)


@given(st.integers(1, 20000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts):
    right, n = counts
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(100 * right / n, n) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-6)


@given(percents, st.integers(1, 100000))
def test_wilson_holds_the_share_and_stays_within_0_and_100(percent, n):
    low, high = wilson(percent, n)
    assert 0 <= low <= percent + 1e-9
    assert percent - 1e-9 <= high <= 100


@given(samples)
def test_student_is_scipys(values):
    low, high = student(values)
    error = stats.sem(values)
    if error < 1e-9:
        assert low == pytest.approx(high)
    else:
        expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
        assert (low, high) == pytest.approx(expected, rel=1e-6)


@given(samples)
def test_p_of_one_side_is_scipys(values):
    shifted = np.array(values) - 50
    if np.std(shifted) > 1e-6:
        expected = stats.ttest_1samp(shifted, 0, alternative="greater").pvalue
        assert p_greater(shifted) == pytest.approx(expected, abs=1e-9)


def test_p_without_spread_is_sure():
    assert p_greater([1.0, 1.0, 1.0]) == 0
    assert p_greater([-1.0, -1.0]) == 1
    assert p_greater([0.0, 0.0]) == 1


def test_summary_says_what_its_interval_covers():
    assert summarize([50.0], 2000).kind == TEST_SAMPLE
    assert summarize([50.0, 52.0], 2000).kind == OVER_SEEDS
    no_sample = summarize([0.7], None)
    assert no_sample.kind == NONE
    assert isnan(no_sample.low)
    assert summarize([], 2000).n == 0


def test_paired_difference_uses_the_seeds_that_both_have():
    interval = paired_difference({0: 50.0, 1: 60.0, 2: 70.0}, {1: 58.0, 2: 67.0, 3: 0.0})
    assert (interval.mean, interval.n) == (2.5, 2)
    # Pairing removes what the seeds have in common: the spread is that of 2 and 3, not of 60 and 70.
    assert interval.high - interval.low == pytest.approx(2 * 12.706 * 0.5, rel=1e-3)


def test_holm_on_a_known_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_never_lowers_p_and_keeps_the_order(p_values):
    corrected = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))
    assert corrected[np.argmin(p_values)] == pytest.approx(min(1, min(p_values) * len(p_values)))
    assert np.all(np.diff(np.array(corrected)[np.argsort(p_values)]) >= 0)


@settings(max_examples=4)
@given(st.integers(0, 2**32 - 1), st.integers(8, 20))
def test_agreement_is_scipys_and_the_same_every_time(seed, n):
    random = np.random.default_rng(seed)
    own = random.normal(size=n).round(1)
    paper = own + random.normal(size=n).round(1)
    found = agreement(own, paper)
    assert found.spearman.value == pytest.approx(stats.spearmanr(own, paper).statistic)
    assert found.kendall.value == pytest.approx(stats.kendalltau(own, paper).statistic)
    assert found.spearman.low <= found.spearman.value <= found.spearman.high
    assert found == agreement(own, paper)


def test_agreement_knows_same_and_opposite_order():
    own = list(range(12))
    assert agreement(own, [x**3 for x in own]).spearman.value == pytest.approx(1)
    assert agreement(own, [-x for x in own]).kendall.value == pytest.approx(-1)


def test_agreement_needs_cells_with_both_numbers():
    own = [1.0, 2.0, nan, 4.0, 5.0, 6.0]
    assert agreement(own, [1.0, 2.0, 3.0, nan, 5.0, 6.0]).n == 4
    assert agreement(own[:4], [1.0, 2.0, 3.0, 4.0]) is None
    assert agreement([5.0] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) is None
