"""Which pictures stand for a data set when only some are wanted.

The choice is class-balanced and depends on nothing but the pictures' names and labels; a smaller subset
is part of every larger one.
"""

import hashlib
from collections.abc import Iterable

import numpy as np


def subset(names: Iterable[str], labels_N: np.ndarray, size: int) -> np.ndarray:
    """Indices (size,) of the chosen pictures in ascending order; all of them for size 0 or above N.

    Classes are as equal as they can be: a class that runs out is made up for by the others.
    """
    if size == 0 or size >= len(labels_N):
        return np.arange(len(labels_N))
    keys = np.array([_key(name) for name in names])
    order = np.lexsort((keys, labels_N))
    labels_sorted = labels_N[order]
    starts = np.searchsorted(labels_sorted, labels_sorted)
    rank_in_class = np.arange(len(order)) - starts
    turns = np.lexsort((labels_sorted, rank_in_class))
    return np.sort(order[turns[:size]])


def _key(name: str) -> int:
    digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
