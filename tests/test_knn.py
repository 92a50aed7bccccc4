import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core import knn
from core.config import KnnConfig
from core.knn import knn_scores


def _problem(train: int, test: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.randint(classes, (train,), generator=generator)
    return torch.randn(train, 5, generator=generator), labels_N, torch.randn(test, 5, generator=generator)


def _brute_force(
    train_ND: torch.Tensor, labels_N: torch.Tensor, test_MD: torch.Tensor, classes: int, config: KnnConfig
) -> list[list[float]]:
    scores = []
    for test in test_MD.tolist():
        cosines = []
        for row, label in zip(train_ND.tolist(), labels_N.tolist(), strict=True):
            product = sum(a * b for a, b in zip(row, test, strict=True))
            cosines.append((product / (math.hypot(*row) * math.hypot(*test)), label))
        votes = [0.0] * classes
        for cosine, label in sorted(cosines, reverse=True)[: config.k]:
            votes[label] += math.exp(cosine / config.temperature)
        scores.append([vote / sum(votes) for vote in votes])
    return scores


@settings(max_examples=40)
@given(
    train=st.integers(1, 30),
    test=st.integers(1, 8),
    classes=st.integers(2, 7),
    k=st.integers(1, 40),
    seed=st.integers(0, 2**32),
)
def test_is_the_brute_force_vote(train, test, classes, k, seed):
    problem = _problem(train, test, classes, seed)
    config = KnnConfig(k=k, temperature=0.3)
    expected = torch.tensor(_brute_force(*problem, classes, config))
    torch.testing.assert_close(knn_scores(*problem, classes, config), expected, atol=1e-4, rtol=1e-4)


def test_the_nearest_neighbour_decides_at_a_tiny_temperature():
    train_ND, labels_N, test_MD = _problem(50, 20, 4, seed=0)
    sharp = knn_scores(train_ND, labels_N, test_MD, 4, KnnConfig(k=50, temperature=1e-4))
    nearest = knn_scores(train_ND, labels_N, test_MD, 4, KnnConfig(k=1))
    assert torch.equal(sharp.argmax(1), nearest.argmax(1))


def test_a_training_picture_finds_itself():
    train_ND, labels_N, _ = _problem(50, 1, 4, seed=0)
    assert torch.equal(knn_scores(train_ND, labels_N, train_ND, 4, KnnConfig(k=1)).argmax(1), labels_N)


@pytest.mark.parametrize("at_once", [1, 50 * 7])
def test_does_not_depend_on_how_it_is_batched(monkeypatch, at_once):
    problem = _problem(50, 20, 4, seed=0)
    whole = knn_scores(*problem, 4, KnnConfig(k=9))
    monkeypatch.setattr(knn, "_SIMILARITIES_AT_ONCE", at_once)
    torch.testing.assert_close(knn_scores(*problem, 4, KnnConfig(k=9)), whole)
