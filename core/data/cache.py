"""Decoded pictures on disk, one folder per split: `<cache_dir>/<data set>-<split>-<key>/`.

    pictures.npy   uint8 (N, S, S, 3), memory-mapped by every run; absent where pictures are streamed
    labels.npy     int64 (N,)
    manifest.json  what it holds, and the pictures that cannot be decoded with the reason

The key is a hash of the content's fingerprint, the split, the size and the number of pictures. A folder
is written under a temporary name and renamed, so it is whole or absent, and is never changed: deleting
it costs decoding again.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock

from core.config import DataConfig
from core.data.source import Source, SplitName
from core.data.subset import subset
from core.identity import digest
from core.rundir import GROUP_MODE, read_json, write_json

CACHE_SCHEMA = 1

Progress = Callable[[int], None]
"""Called with the number of pictures that were just decoded."""


class CachedSplit:
    """The decoded pictures of one split, which may not be there yet."""

    def __init__(self, config: DataConfig, fingerprint: str, split: SplitName, streamed: bool):
        wanted = config.train_size if split == "train" else config.test_size
        key = digest([CACHE_SCHEMA, fingerprint, split, config.stored_size, wanted, streamed])
        self._config, self._split, self._wanted, self._streamed = config, split, wanted, streamed
        self.path = Path(config.cache_dir) / f"{config.name}-{split}-{key}"

    def manifest(self) -> dict[str, Any] | None:
        """The manifest, or None while the split is not prepared."""
        return read_json(self.path / "manifest.json")

    def pictures(self) -> np.ndarray:
        """uint8 (N, S, S, 3), read from disk as it is used."""
        return np.load(self.path / "pictures.npy", mmap_mode="r")

    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        return np.load(self.path / "labels.npy")

    def build(self, source: Source, progress: Progress) -> dict[str, Any]:
        """Decode the split if nobody has; returns the manifest. Raises: OSError if the disk is full."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock", mode=GROUP_MODE):
            manifest = self.manifest()
            if manifest is None:
                # Only the holder of the lock writes here, so what lies there is left from a process that was killed.
                temporary = self.path.with_name(f".{self.path.name}")
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir()
                try:
                    manifest = self._write(temporary, source, progress)
                    os.rename(temporary, self.path)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
        return manifest

    def _write(self, folder: Path, source: Source, progress: Progress) -> dict[str, Any]:
        names, labels_N = source.names(self._split), source.labels(self._split)
        rows = subset(names, labels_N, self._wanted)
        size = self._config.stored_size
        with open(folder / "pictures.npy", "w+b") as file:
            _write_header(file, len(rows), size)
            start = file.tell()

            def write(pixels_NHWC: np.ndarray) -> None:
                if not self._streamed:
                    file.write(np.ascontiguousarray(pixels_NHWC).data)
                progress(len(pixels_NHWC))

            bad = source.read(self._split, rows, size, write)
            progress(len(bad))
            good = np.array([row for row in rows if names[row] not in bad], np.int64)
            _write_header(file, len(good), size)
            assert file.tell() == start, "numpy pads headers so that the first axis may change"
        if self._streamed:
            os.unlink(folder / "pictures.npy")
        np.save(folder / "labels.npy", labels_N[good])
        manifest = {
            "schema": CACHE_SCHEMA,
            "data": self._config.name,
            "split": self._split,
            "fingerprint": source.fingerprint,
            "stored_size": size,
            "classes": list(source.classes),
            "count": len(good),
            "bad": bad,
        }
        write_json(folder / "manifest.json", manifest)
        return manifest


def _write_header(file: BinaryIO, count: int, size: int) -> None:
    file.seek(0)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)
