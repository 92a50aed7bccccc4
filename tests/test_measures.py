import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, recall_score

from core.measures import mean_average_precision, mean_per_class


def test_mean_per_class_by_hand():
    """Three of four, none of one and one of one: 75, 0 and 100 percent; class 2 has no pictures."""
    labels_N = np.array([0, 0, 0, 0, 1, 3])
    correct_N = np.array([1, 1, 1, 0, 0, 1])
    assert mean_per_class(correct_N, labels_N) == pytest.approx(175 / 3)


def test_mean_per_class_is_scikit_learns_macro_recall():
    random = np.random.default_rng(0)
    labels_N, predicted_N = random.integers(0, 6, (2, 200))
    expected = 100 * recall_score(labels_N, predicted_N, average="macro")
    assert mean_per_class(labels_N == predicted_N, labels_N) == pytest.approx(expected)


def test_mean_average_precision_by_hand():
    """Present are the first and the third of four: precision 1 up to recall 1/2, then 2/3; of 11 recalls 6 and 5."""
    scores_NC = np.array([[0.9], [0.8], [0.7], [0.1]])
    present_NC = np.array([[1], [0], [1], [0]])
    assert mean_average_precision(scores_NC, present_NC) == pytest.approx(100 * (6 * 1 + 5 * 2 / 3) / 11)


def test_mean_average_precision_agrees_with_scikit_learns_curve():
    random = np.random.default_rng(1)
    present_NC = random.random((300, 5)) < 0.1
    scores_NC = present_NC + random.normal(0, 0.7, (300, 5))
    expected = []
    for scores_N, present_N in zip(scores_NC.T, present_NC.T, strict=True):
        precision, recall, _ = precision_recall_curve(present_N, scores_N)
        # The curve's last point is precision 1 at recall 0, which no threshold reaches.
        precision, recall = precision[:-1], recall[:-1]
        expected.append(np.mean([precision[recall >= tenth / 10 - 1e-12].max() for tenth in range(11)]))
    assert mean_average_precision(scores_NC, present_NC) == pytest.approx(100 * np.mean(expected))


def test_a_perfect_ranking_scores_100_and_classes_without_pictures_do_not_count():
    present_NC = np.array([[1, 0], [1, 0], [0, 0]])
    assert mean_average_precision(present_NC.astype(float), present_NC) == 100
