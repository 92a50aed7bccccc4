"""A claim as numbers: what the forms of checks compute with.

The numbers are above zero where the claim holds. Arrays end with _CS (cells x seeds), _KS (parts x seeds) or _S.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Reduction = Literal["max", "mean", "min"]


class NotMeasurable(Exception):
    """The cells of the study as it was run cannot decide the claim; the text says why."""


@dataclass(frozen=True)
class Measurement:
    """A claim as numbers: it holds where the true value of every part is above zero.

    estimate: the least part, from the means over seeds. low_KS (parts x seeds) is in expectation never above the
    parts' true values, high_S never below the least of them: where a form picks the best of noisy cells, the
    choice flatters no side.
    """

    estimate: float
    low_KS: np.ndarray
    high_S: np.ndarray

    def plus(self, tolerance: float) -> "Measurement":
        return Measurement(self.estimate + tolerance, self.low_KS + tolerance, self.high_S + tolerance)


def least(parts: Sequence[Measurement]) -> Measurement:
    """Several measurements as one that is above zero where all are. Raises: NotMeasurable for none."""
    if not parts:
        raise NotMeasurable("the study as it was run has fewer than two values of this axis")
    return Measurement(
        estimate=min(part.estimate for part in parts),
        low_KS=np.concatenate([part.low_KS for part in parts]),
        high_S=_never_below(np.stack([part.high_S for part in parts]), "min"),
    )


def single(part_S: np.ndarray) -> Measurement:
    """A part that picks nothing."""
    return Measurement(float(part_S.mean()), part_S[None], part_S)


def above_all(own_CS: np.ndarray, others_CS: np.ndarray) -> Measurement:
    """The largest of `own_CS` less each of `others_CS`."""
    largest = difference(own_CS, others_CS, "max", "max")
    low_KS = _never_above(own_CS, "max") - others_CS
    return Measurement(largest.estimate, low_KS, largest.high_S)


def difference(of_CS: np.ndarray, minus_CS: np.ndarray, of: Reduction, minus: Reduction) -> Measurement:
    estimate = _reduce(of_CS.mean(axis=1), of) - _reduce(minus_CS.mean(axis=1), minus)
    return Measurement(
        estimate=float(estimate),
        low_KS=(_never_above(of_CS, of) - _never_below(minus_CS, minus))[None],
        high_S=_never_below(of_CS, of) - _never_above(minus_CS, minus),
    )


def _reduce(values: np.ndarray, how: Reduction) -> np.ndarray:
    return getattr(np, how)(values, axis=0)


def _never_above(values_CS: np.ndarray, how: Reduction) -> np.ndarray:
    """Per seed, a reduction whose expectation is not above that of the true cell means."""
    return _chosen_on_other_seeds(values_CS, np.argmax) if how == "max" else _reduce(values_CS, how)


def _never_below(values_CS: np.ndarray, how: Reduction) -> np.ndarray:
    return _chosen_on_other_seeds(values_CS, np.argmin) if how == "min" else _reduce(values_CS, how)


def _chosen_on_other_seeds(values_CS: np.ndarray, choose: Callable[..., Any]) -> np.ndarray:
    """Per seed, the value of the cell that is extreme on average over the other seeds.

    The largest of many noisy cells is large partly by luck; luck does not carry over to another seed.
    """
    n_seeds = values_CS.shape[1]
    if n_seeds == 1:
        return values_CS[choose(values_CS[:, 0])]
    others_CS = values_CS.sum(axis=1, keepdims=True) - values_CS
    return values_CS[choose(others_CS, axis=0), np.arange(n_seeds)]
