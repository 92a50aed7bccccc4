"""A prepared split as torch tensors, memory-mapped or decoded on the way by worker processes.

Legend: N pictures, C=3 channels, S the stored size (height and width).
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from core.data.decode import BadPicture, decode
from core.environment import cores
from core.errors import Cause, RunFailed

STREAM_CHUNK = 32
"""Pictures that a worker process decodes at a time; a batch is put together from several chunks."""


class Pictures:
    """The pictures of one split, by index."""

    def __init__(self, labels_N: np.ndarray, classes: Sequence[str]):
        self.labels_N = torch.from_numpy(labels_N)
        self.classes = tuple(classes)

    def __len__(self) -> int:
        return len(self.labels_N)

    def batch(self, indices_N: Tensor) -> Tensor:
        """uint8 (N, 3, S, S) in channels_last memory."""
        raise NotImplementedError

    def batches(self, batches_of_indices: Iterable[Tensor]) -> Iterator[Tensor]:
        """`batch` of each, in that order."""
        return map(self.batch, batches_of_indices)


class CachedPictures(Pictures):
    """Pictures in a memory-mapped array, uint8 (N, S, S, 3)."""

    def __init__(self, pixels_NHWC: np.ndarray, labels_N: np.ndarray, classes: Sequence[str]):
        super().__init__(labels_N, classes)
        self._pixels_NHWC = pixels_NHWC

    @property
    def nbytes(self) -> int:
        return self._pixels_NHWC.nbytes

    def batch(self, indices_N: Tensor) -> Tensor:
        return torch.from_numpy(self._pixels_NHWC[indices_N.numpy()]).permute(0, 3, 1, 2)


class StreamedPictures(Pictures):
    """Picture files below `root`, decoded whenever they are asked for.

    `batches` starts its worker processes once, so one call per training is better than one per epoch.
    """

    def __init__(
        self,
        root: str,
        names: Sequence[str],
        size: int,
        workers: int,
        labels_N: np.ndarray,
        classes: Sequence[str],
    ):
        super().__init__(labels_N, classes)
        self._names = names
        self._files = _Files(root, size)
        self._workers = workers or cores()

    def batch(self, indices_N: Tensor) -> Tensor:
        try:
            return self._files.__getitems__([self._names[index] for index in indices_N.tolist()]).permute(0, 3, 1, 2)
        except BadPicture as error:
            raise _bad_data(error) from None

    def batches(self, batches_of_indices: Iterable[Tensor]) -> Iterator[Tensor]:
        # The loader runs ahead of the training; `lengths` are those of the batches under way.
        lengths: list[int] = []

        def chunks() -> Iterator[list[str]]:
            for indices_N in batches_of_indices:
                lengths.append(len(indices_N))
                names = [self._names[index] for index in indices_N.tolist()]
                for start in range(0, max(len(names), 1), STREAM_CHUNK):
                    yield names[start : start + STREAM_CHUNK]

        loader = DataLoader(
            self._files,
            batch_sampler=chunks(),  # type: ignore[arg-type] # any iterable does
            collate_fn=_as_it_is,
            num_workers=self._workers,
            generator=torch.Generator(),  # the loader draws a number; the run's own generator stays as it was
            prefetch_factor=4,
        )
        parts: list[Tensor] = []
        try:
            for pixels_NHWC in loader:
                parts.append(pixels_NHWC)
                if sum(map(len, parts)) == lengths[0]:
                    lengths.pop(0)
                    yield torch.cat(parts).permute(0, 3, 1, 2)
                    parts = []
        except BadPicture as error:
            raise _bad_data(error) from None


class _Files(Dataset):
    """Decodes lists of file names, which come with the request: no worker needs to hold them all."""

    def __init__(self, root: str, size: int):
        self._root, self._size = root, size

    def __getitems__(self, names: list[str]) -> Tensor:
        pixels = np.empty((len(names), self._size, self._size, 3), np.uint8)
        for row, name in enumerate(names):
            try:
                pixels[row] = decode(os.path.join(self._root, name), self._size)
            except BadPicture as error:
                raise BadPicture(f"{name!a}: {error}") from None
        return torch.from_numpy(pixels)


def _as_it_is(pixels_NHWC: Any) -> Any:
    """The batch is already a tensor when the loader would put one together."""
    return pixels_NHWC


def _bad_data(error: BadPicture) -> RunFailed:
    """From a worker process the error comes with a traceback before its own text."""
    text = str(error).strip().splitlines()[-1].rpartition("BadPicture: ")[2]
    return RunFailed(Cause.BAD_DATA, f"a picture that could be decoded when the run was planned cannot now: {text}")
