"""Subsets: balanced, nested, and a matter of names alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.data.subset import subset

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def names(labels: list[int]) -> list[str]:
    return [f"train/{label}/{number}.jpg" for number, label in enumerate(labels)]


@given(LABELS, st.integers(1, 70))
def test_classes_are_as_equal_as_they_can_be(labels, size):
    labels_N = np.array(labels)
    chosen = subset(names(labels), labels_N, size)
    assert len(chosen) == len(set(chosen)) == min(size, len(labels))
    counts = np.bincount(labels_N[chosen], minlength=5)
    exhausted = counts == np.bincount(labels_N, minlength=5)
    assert counts[~exhausted].size == 0 or counts.max() <= counts[~exhausted].min() + 1


@given(LABELS, st.integers(1, 60), st.integers(1, 60))
def test_a_smaller_subset_is_part_of_a_larger_one(labels, one, other):
    small, large = sorted((one, other))
    labels_N = np.array(labels)
    assert set(subset(names(labels), labels_N, small)) <= set(subset(names(labels), labels_N, large))


@given(st.randoms(use_true_random=False))
def test_the_order_of_the_files_does_not_matter(random):
    labels = [0, 1, 2] * 20
    files = list(zip(names(labels), labels, strict=True))
    before = {files[row][0] for row in subset(names(labels), np.array(labels), 20)}
    random.shuffle(files)
    after = {files[row][0] for row in subset([f for f, _ in files], np.array([label for _, label in files]), 20)}
    assert after == before


def test_the_choice_is_the_same_on_every_machine():
    labels = [0, 1] * 10
    assert subset(names(labels), np.array(labels), 6).tolist() == [0, 1, 3, 5, 8, 10]


def test_zero_is_all():
    assert subset(["a", "b"], np.array([0, 1]), 0).tolist() == [0, 1]
