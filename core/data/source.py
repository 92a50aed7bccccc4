"""What every data set offers before it is decoded: names, labels, and pictures in a given order."""

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np

SplitName = Literal["train", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "test")


class Source(Protocol):
    """One data set; made without reading any picture."""

    streams: bool
    """Whether its pictures can also be decoded one by one, in any order, from files."""
    classes: tuple[str, ...]
    fingerprint: str
    """Changes exactly when a picture, a label or the way of decoding changes."""

    def count(self, split: SplitName) -> int: ...

    def names(self, split: SplitName) -> list[str]:
        """One name per picture, the same on every machine."""

    def labels(self, split: SplitName) -> np.ndarray:
        """int64 (N,), indices into `classes`."""

    def read(
        self, split: SplitName, rows: np.ndarray, size: int, write: Callable[[np.ndarray], object]
    ) -> dict[str, str]:
        """Hand pictures to `write` in the order of `rows`, as uint8 (n, size, size, 3), several times.

        Returns: the pictures that cannot be decoded and were left out, {name: reason}.
        """


def shown(name: str) -> str:
    """A file name on one line, whatever characters it holds."""
    return name if name.isprintable() else ascii(name)
