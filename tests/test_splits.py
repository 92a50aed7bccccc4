import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.randomness import generator
from core.splits import balanced_order, held_out

_labels = st.lists(st.integers(0, 5), min_size=1, max_size=60).map(torch.tensor)


@settings(max_examples=60)
@given(_labels, st.integers(0, 100), st.data())
def test_every_beginning_of_a_balanced_order_is_as_balanced_as_it_can_be(labels_N, seed, data):
    order_N = balanced_order(labels_N, generator(seed, "test"))
    assert sorted(order_N.tolist()) == list(range(len(labels_N)))
    count = data.draw(st.integers(1, len(labels_N)))
    size_C = labels_N.bincount()
    taken_C = labels_N[order_N[:count]].bincount(minlength=len(size_C))
    # A class has fewer than the fullest, by more than one, only if it has no more pictures.
    assert ((taken_C >= taken_C.max() - 1) | (taken_C == size_C)).all()


def test_a_balanced_order_depends_on_the_seed_alone():
    labels_N = torch.arange(100) % 4
    first, again, other = (balanced_order(labels_N, generator(seed, "test")) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first[:8], other[:8])


@settings(max_examples=60)
@given(_labels, st.floats(0, 0.99), st.integers(0, 100))
def test_held_out_pictures_are_a_share_of_each_class(labels_N, share, seed):
    learned_N, held_N = held_out(labels_N, share, generator(seed, "test"))
    assert sorted([*learned_N.tolist(), *held_N.tolist()]) == list(range(len(labels_N)))
    size_C = labels_N.bincount()
    held_C = labels_N[held_N].bincount(minlength=len(size_C))
    assert ((held_C - share * size_C).abs() <= 1).all()
    assert (held_C[size_C > 0] < size_C[size_C > 0]).all()
