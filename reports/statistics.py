"""Intervals and agreement: what the reported numbers can be trusted to mean.

All intervals are two-sided at 95%. A standard deviation over seeds uses ddof=1. Nothing here draws
from a global random state: the same numbers give the same intervals.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import isnan, nan, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

Numbers = Sequence[float] | np.ndarray

LEVEL = 0.95
RESAMPLES = 2000
FEWEST_CELLS = 4
"""For a rank correlation."""

TEST_SAMPLE = "test sample, one seed"
OVER_SEEDS = "Student's t over seeds"
NONE = "none"


@dataclass(frozen=True)
class Interval:
    """A mean over `n` seeds with its 95% interval and what the interval covers."""

    mean: float
    low: float
    high: float
    n: int
    kind: str


NO_INTERVAL = Interval(nan, nan, nan, 0, NONE)


def summarize(values: list[float], test_pictures: int | None) -> Interval:
    """The mean of one value per seed and the best interval that these values allow.

    With one seed only the chance of the test sample is known (Wilson), not that of training again;
    `test_pictures` is None where the metric is not a share of test pictures in percent.
    """
    if not values:
        return NO_INTERVAL
    if len(values) > 1:
        low, high = student(values)
        return Interval(float(np.mean(values)), low, high, len(values), OVER_SEEDS)
    if test_pictures is None:
        return Interval(values[0], nan, nan, 1, NONE)
    low, high = wilson(values[0], test_pictures)
    return Interval(values[0], low, high, 1, TEST_SAMPLE)


def wilson(percent: float, n: int) -> tuple[float, float]:
    """Wilson's score interval, in percent, of a share of `n` test pictures (Wilson 1927)."""
    p = percent / 100
    z2_n = _normal_quantile() ** 2 / n
    centre = p + z2_n / 2
    half = sqrt(z2_n * (p * (1 - p) + z2_n / 4))
    low, high = (centre - half) / (1 + z2_n), (centre + half) / (1 + z2_n)
    # Rounding may put the ends of 0% and 100% a hair outside the range or beside the share itself.
    return 100 * max(0.0, min(low, p)), 100 * min(1.0, max(high, p))


def student(values: Numbers) -> tuple[float, float]:
    """Student's t interval of the mean of at least two values."""
    half = _t_quantile(np.size(values) - 1) * standard_error(values)
    mean = float(np.mean(values))
    return mean - half, mean + half


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Interval:
    """Mean of first - second over the seeds that both have (seed to value), with its t interval."""
    differences = [first[seed] - second[seed] for seed in first if seed in second]
    return summarize(differences, test_pictures=None)


def standard_error(values: Numbers) -> float:
    return float(np.std(values, ddof=1)) / sqrt(np.size(values))


def p_greater(values: Numbers) -> float:
    """One-sided p value of Student's t test that the mean of at least two values is above zero."""
    mean, error = float(np.mean(values)), standard_error(values)
    if error == 0:
        return 0.0 if mean > 0 else 1.0
    return float(scipy_special().stdtr(np.size(values) - 1, -mean / error))


def holm(p_values: Numbers) -> list[float]:
    """p values corrected for their number (Holm 1979), in the order given."""
    order = np.argsort(p_values)
    corrected = np.empty(np.size(p_values))
    corrected[order] = np.maximum.accumulate(np.sort(p_values) * np.arange(np.size(p_values), 0, -1))
    return np.minimum(corrected, 1.0).tolist()


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its bootstrap interval over cells."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """How far our ranking of `n` cells is the paper's."""

    spearman: Correlation
    kendall: Correlation
    n: int
    resamples: int


def agreement(own: Numbers, paper: Numbers) -> Agreement | None:
    """Rank agreement over the cells that both have (NaN elsewhere).

    None for fewer than four of them, or where one side is constant.
    """
    both = np.array([own, paper], dtype=float)
    both = both[:, ~np.isnan(both).any(axis=0)]
    n = both.shape[1]
    if n < FEWEST_CELLS or isnan(spearman(*both)):
        return None
    samples = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    return Agreement(_bootstrap(both, samples, spearman), _bootstrap(both, samples, _kendall), n, RESAMPLES)


def _bootstrap(
    both: np.ndarray, samples: np.ndarray, statistic: Callable[[np.ndarray, np.ndarray], float]
) -> Correlation:
    # A resample of few cells can be constant on one side, where no correlation is defined.
    resampled = [statistic(*both[:, index]) for index in samples]
    low, high = np.nanpercentile(resampled, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Correlation(statistic(*both), float(low), float(high))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation; NaN where one side is constant."""
    ranks = np.stack([_ranks(x), _ranks(y)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    spread = sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    return float(ranks[0] @ ranks[1]) / spread if spread else nan


def _kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's tau-b."""
    upper = np.triu_indices(len(x), k=1)
    x_signs = np.sign(np.subtract.outer(x, x)[upper])
    y_signs = np.sign(np.subtract.outer(y, y)[upper])
    spread = sqrt(np.count_nonzero(x_signs) * np.count_nonzero(y_signs))
    return float(x_signs @ y_signs) / spread if spread else nan


def _ranks(x: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing the mean of theirs."""
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]


@cache
def scipy_special() -> Any:
    """scipy.special, only when a number is asked for: importing it takes a fifth of a second."""
    from scipy import special

    return special


@cache
def _normal_quantile() -> float:
    return NormalDist().inv_cdf((1 + LEVEL) / 2)


@cache
def _t_quantile(degrees: int) -> float:
    return float(scipy_special().stdtrit(degrees, (1 + LEVEL) / 2))
