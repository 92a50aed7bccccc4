"""What an evaluation gives back, and the accuracy measures of Table 8 that are not plain top-1 accuracy.

Without torch, so that reports can use them on the stored predictions.

Legend: N pictures, C classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Measured:
    """The outcome of one evaluation, as it goes into its record."""

    metrics: dict[str, float]
    count: int
    """Test pictures on which the metrics rest; 0 where there are none."""
    data: Any = None
    """Plain lists and dicts that a figure or a test needs beyond the metrics."""


def mean_per_class(correct_N: np.ndarray, labels_N: np.ndarray) -> float:
    """The mean over classes of the share of correct pictures, in percent; classes without pictures do not count."""
    counts_C = np.bincount(labels_N)
    hits_C = np.bincount(labels_N, weights=correct_N)
    there_C = counts_C > 0
    return float(100 * (hits_C[there_C] / counts_C[there_C]).mean())


def mean_average_precision(scores_NC: np.ndarray, present_NC: np.ndarray) -> float:
    """The mean over classes of the 11-point interpolated average precision, in percent, as in VOC 2007.

    The average over recalls 0, 0.1 ... 1 of the largest precision at that recall or beyond (Everingham et al.
    2010, Eq. 1 and 2). Classes that no picture has do not count. Ties are ranked in the order of the pictures.
    """
    averages = []
    for scores_N, present_N in zip(scores_NC.T, present_NC.T.astype(bool), strict=True):
        if not present_N.any():
            continue
        hits_N = present_N[np.argsort(-scores_N, kind="stable")].cumsum()
        precision_N = hits_N / np.arange(1, len(hits_N) + 1)
        best_from_N = np.maximum.accumulate(precision_N[::-1])[::-1]
        # In whole numbers: hits / present >= tenth / 10.
        first = [np.argmax(10 * hits_N >= tenth * hits_N[-1]) for tenth in range(11)]
        averages.append(best_from_N[first].mean())
    return float(100 * np.mean(averages))
