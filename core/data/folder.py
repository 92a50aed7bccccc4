"""A tree of picture files: `train/<class>/**` and `test/<class>/**` (or `val/`).

The fingerprint is a hash over the sorted (relative path, content), so it knows neither where the folder
lies nor when its files were written. Reading every file is done once: an index below the cache folder
remembers each file's digest by its size and modification time.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.data.decode import DECODE_VERSION, decode_all
from core.data.source import SplitName, shown
from core.environment import cores
from core.errors import InvalidValue
from core.rundir import read_json, write_atomically

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Those of torchvision's image folder, in upper or lower case."""

READ_LIMIT = 16 * 2**30
"""Bytes of a tree up to which the fingerprint reads every file; above, a size stands for the content.

A constant, and not a share of what the machine can cache: the fingerprint is the same on every
machine."""

INDEX_SCHEMA = 1
UNREADABLE = "unreadable"


class File(NamedTuple):
    """One picture file; `name` is relative to the root, with forward slashes. Files sort by name."""

    name: str
    label: int
    size: int
    mtime_ns: int


class ImageFolder:
    """The picture files below `root`. Raises: UserError if they are no data set; OSError if no index can be kept.

    others: how many files in the class folders are no pictures by their ending, which is the key; hidden ones left out.
    """

    streams = True

    def __init__(self, root: str, cache_dir: str):
        if not root:
            raise InvalidValue("data.root", "", "the folder that holds train/<class>/ and test/<class>/")
        if not os.path.isdir(root):
            allowed = "there is no such folder; it should hold train/<class>/ and test/<class>/ (or val/<class>/)"
            raise InvalidValue("data.root", shown(root), allowed)
        self.root = root
        self.others: Counter[str] = Counter()
        try:
            train, test = self._split_folder("train"), self._split_folder("test", "val")
            self.classes = self._classes(train, test)
            self.files: dict[SplitName, list[File]] = {"train": self._files(train), "test": self._files(test)}
        except OSError as error:
            raise InvalidValue("data.root", shown(root), f"cannot be read: {shown(str(error))}") from None
        self.fingerprint = self._fingerprint(Path(cache_dir))

    def count(self, split: SplitName) -> int:
        return len(self.files[split])

    def names(self, split: SplitName) -> list[str]:
        """Paths relative to the root, in ascending order."""
        return [file.name for file in self.files[split]]

    def labels(self, split: SplitName) -> np.ndarray:
        return np.array([file.label for file in self.files[split]], np.int64)

    def read(
        self, split: SplitName, rows: np.ndarray, size: int, write: Callable[[np.ndarray], object]
    ) -> dict[str, str]:
        """Decode the files `rows` on all cores; see `core.data.source.Source.read`."""
        files = self.files[split]
        return decode_all(self.root, [files[row].name for row in rows], size, write)

    def _split_folder(self, *choices: str) -> str:
        for name in choices:
            if os.path.isdir(os.path.join(self.root, name)):
                return name
        raise InvalidValue("data.root", shown(self.root), f"has no folder {' or '.join(f'{n}/' for n in choices)}")

    def _classes(self, train: str, test: str) -> tuple[str, ...]:
        train_classes, test_classes = (
            sorted(
                entry.name
                for entry in os.scandir(os.path.join(self.root, folder))
                if entry.is_dir() and not entry.name.startswith(".")
            )
            for folder in (train, test)
        )
        for folder, names in ((train, train_classes), (test, test_classes)):
            if not names:
                raise InvalidValue("data.root", shown(self.root), f"{folder}/ has no class folders")
        if len(train_classes) == 1:
            found = f"{train}/ has one class, {shown(train_classes[0])}; two or more are needed"
            raise InvalidValue("data.root", shown(self.root), found)
        for folder, missing in (
            (test, sorted(set(train_classes) - set(test_classes))),
            (train, sorted(set(test_classes) - set(train_classes))),
        ):
            if missing:
                text = f"classes of {train}/ and {test}/ differ: {folder}/ has no {shown(missing[0])}"
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise InvalidValue("data.root", shown(self.root), text + more)
        return tuple(train_classes)

    def _files(self, folder: str) -> list[File]:
        files = []
        for label, name in enumerate(self.classes):
            found = [
                File(path, label, size, mtime) for path, size, mtime in self._walk(f"{folder}/{name}", frozenset())
            ]
            if not found:
                where = f"class folder {shown(f'{folder}/{name}')} holds no picture ({' '.join(EXTENSIONS)})"
                raise InvalidValue("data.root", shown(self.root), where)
            files += found
        return sorted(files)

    def _walk(self, folder: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, int, int]]:
        """Picture files below `folder` that are not hidden: (name, size, mtime_ns). Links are followed."""
        path = os.path.join(self.root, folder)
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in above:
            return
        above |= {(status.st_dev, status.st_ino)}
        for entry in os.scandir(path):
            name = f"{folder}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from self._walk(name, above)
            elif entry.name.lower().endswith(EXTENSIONS):
                if entry.is_file():
                    status = entry.stat()
                    yield name, status.st_size, status.st_mtime_ns
                elif entry.is_symlink():  # a broken link is a picture that cannot be decoded, and is reported as one
                    yield name, 0, 0
            else:
                self.others[os.path.splitext(entry.name)[1].lower()] += 1

    def _fingerprint(self, cache_dir: Path) -> str:
        files = [*self.files["train"], *self.files["test"]]
        if sum(file.size for file in files) > READ_LIMIT:
            contents = [f"{file.size} bytes" for file in files]
        else:
            contents = _digests(self.root, files, cache_dir)
        lines = [f"{file.name}\0{content}\0" for file, content in zip(files, contents, strict=True)]
        text = f"decode {DECODE_VERSION}\0" + "".join(lines)
        return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).hexdigest()


def _digests(root: str, files: list[File], cache_dir: Path) -> list[str]:
    """Content digest of each file, read again only where size or modification time changed."""
    key = hashlib.blake2b(os.fsencode(os.path.realpath(root)), digest_size=8).hexdigest()
    index_file = cache_dir / "index" / f"{key}.json"
    index = read_json(index_file) or {}
    known = index["files"] if index.get("schema") == INDEX_SCHEMA else {}
    stale = [file for file in files if known.get(file.name, [None])[:2] != [file.size, file.mtime_ns]]
    if stale:
        with ThreadPoolExecutor(2 * cores()) as pool:
            digests = list(pool.map(lambda file: _content_digest(os.path.join(root, file.name)), stale))
        fresh = {file.name: [file.size, file.mtime_ns, digest] for file, digest in zip(stale, digests, strict=True)}
        known = {file.name: fresh.get(file.name) or known[file.name] for file in files}
        lasting = {name: entry for name, entry in known.items() if entry[2] != UNREADABLE}
        write_atomically(index_file, json.dumps({"schema": INDEX_SCHEMA, "files": lasting}))
    return [known[file.name][2] for file in files]


def _content_digest(path: str) -> str:
    """`UNREADABLE` for a file that cannot be read; decoding will report it by name."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return UNREADABLE
