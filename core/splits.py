"""Random, class-aware choices among labelled pictures; each is a function of its generator.

Legend: N pictures, C classes.
"""

import torch


def balanced_order(labels_N: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random order of all pictures in which every beginning has its classes as equal as they can be."""
    rank_N = _rank_in_class(labels_N, generator)
    return (rank_N * (labels_N.max() + 1) + labels_N).argsort()


def held_out(labels_N: torch.Tensor, share: float, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The pictures to learn from and those held out, as ascending indices: about `share` of each class.

    Every class keeps at least one picture to learn from.
    """
    rank_N = _rank_in_class(labels_N, generator)
    size_C = labels_N.bincount()
    wanted_C = torch.minimum((share * size_C).round().long(), (size_C - 1).clamp(min=0))
    held_N = rank_N < wanted_C[labels_N]
    return (~held_N).nonzero()[:, 0], held_N.nonzero()[:, 0]


def _rank_in_class(labels_N: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The place of each picture in a random order of its own class."""
    shuffled_N = torch.randperm(len(labels_N), generator=generator)
    by_class_N = shuffled_N[labels_N[shuffled_N].argsort(stable=True)]
    size_C = labels_N.bincount()
    start_C = size_C.cumsum(0) - size_C
    rank_N = torch.empty_like(labels_N)
    rank_N[by_class_N] = torch.arange(len(labels_N)) - start_C.repeat_interleave(size_C)
    return rank_N
