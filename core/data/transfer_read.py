"""Reading the data sets of Table 8: through torchvision where it knows them, else from folders of class folders.

Splits are the official ones. SUN397 takes the first of its ten partitions; Caltech-101, which has none, gives 30
pictures of each class to training and the others to testing, by a fixed choice.
"""

import os
from collections.abc import Callable
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image
from torchvision import datasets

from core.config import DataConfig
from core.data.decode import square
from core.data.pictures import CachedPictures, StreamedPictures
from core.data.source import shown
from core.data.subset import subset
from core.data.transfer import FACTS, TransferSet
from core.errors import UserError
from core.evaluations import TransferConfig

Files = list[tuple[str, Any]]
"""(path of a picture, its label or list of labels)."""
Splits = dict[str, Files]

CALTECH_TRAIN = 30
"""Training pictures per class of Caltech-101, as usual (App. B.8)."""


def read(config: TransferConfig, data: DataConfig, root: str, size: int) -> TransferSet:
    """Raises: UserError if the data set cannot be read."""
    name = config.dataset
    try:
        if config.source == "folder" or name == "birdsnap":
            return _of_files(*_folders(os.path.join(root, name)), data, root, size)
        with _only_downloader(root, name) if data.download else nullcontext():
            if name in ("cifar10", "cifar100"):
                return _cifar(name, root, data.download, size)
            return _of_files(*READERS[name](root, data.download), data, root, size)
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        text = f"cannot be read in {shown(root)}: {' '.join(str(error).split())}"
        raise UserError(f"{FACTS[name].title} {text}") from None


def _only_downloader(root: str, name: str) -> FileLock:
    """torchvision writes to a file's final name, where another worker would read it half done."""
    os.makedirs(root, exist_ok=True)
    return FileLock(os.path.join(root, f".{name}.lock"))


def _of_files(splits: Splits, classes: list[str], data: DataConfig, root: str, size: int) -> TransferSet:
    parts = {split: splits.get(split, []) for split in ("train", "val", "test")}
    files = [entry for part in parts.values() for entry in part]
    targets = _targets([label for _, label in files], len(classes))
    labels_N = targets if targets.ndim == 1 else np.zeros(len(files), np.int64)
    names = [os.path.relpath(path, root) for path, _ in files]
    pictures = StreamedPictures(root, names, size, data.workers, labels_N, classes)
    ends = np.cumsum([len(part) for part in parts.values()])
    train, validation, test = np.split(np.arange(len(files)), ends[:-1])
    return TransferSet(pictures, targets, tuple(classes), train, validation, test)


def _targets(labels: list[Any], classes: int) -> np.ndarray:
    if not labels or not isinstance(labels[0], list):
        return np.array(labels, np.int64)
    present_NC = np.zeros((len(labels), classes), np.float32)
    for row, own in enumerate(labels):
        present_NC[row, own] = 1
    return present_NC


def _cifar(name: str, root: str, download: bool, size: int) -> TransferSet:
    kind = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    train, test = (kind(root, train=is_train, download=download) for is_train in (True, False))
    pixels_NHWC = np.empty((len(train) + len(test), size, size, 3), np.uint8)  # 9 GB at 224 pixels, so only once
    for row, picture in enumerate(chain(train.data, test.data)):
        pixels_NHWC[row] = square(Image.fromarray(picture), size)
    labels_N = np.array([*train.targets, *test.targets], np.int64)
    rows = np.arange(len(labels_N))
    first = len(train.targets)
    pictures = CachedPictures(pixels_NHWC, labels_N, train.classes)
    return TransferSet(pictures, labels_N, tuple(train.classes), rows[:first], rows[:0], rows[first:])


def _food(root: str, download: bool) -> tuple[Splits, list[str]]:
    parts = {split: datasets.Food101(root, split, download=download) for split in ("train", "test")}
    return _listed(parts), parts["train"].classes


def _aircraft(root: str, download: bool) -> tuple[Splits, list[str]]:
    parts = {split: datasets.FGVCAircraft(root, split, download=download) for split in ("train", "val", "test")}
    return _listed(parts), parts["train"].classes


def _dtd(root: str, download: bool) -> tuple[Splits, list[str]]:
    parts = {split: datasets.DTD(root, split, download=download) for split in ("train", "val", "test")}
    return _listed(parts), parts["train"].classes


def _flowers(root: str, download: bool) -> tuple[Splits, list[str]]:
    splits = _listed({split: datasets.Flowers102(root, split, download=download) for split in ("train", "val", "test")})
    count = 1 + max(label for part in splits.values() for _, label in part)
    return splits, [f"flower {number}" for number in range(1, count + 1)]


def _listed(parts: dict[str, Any]) -> Splits:
    """torchvision keeps the files and labels of these sets as two lists, without a public name."""
    return {split: list(zip(map(str, part._image_files), part._labels, strict=True)) for split, part in parts.items()}


def _pets(root: str, download: bool) -> tuple[Splits, list[str]]:
    train = datasets.OxfordIIITPet(root, "trainval", download=download)
    test = datasets.OxfordIIITPet(root, "test", download=download)
    parts = {"train": train, "test": test}
    splits = {split: list(zip(map(str, part._images), part._labels, strict=True)) for split, part in parts.items()}
    return splits, train.classes


def _cars(root: str, download: bool) -> tuple[Splits, list[str]]:
    parts = {split: datasets.StanfordCars(root, split) for split in ("train", "test")}
    return {split: [(path, int(label)) for path, label in part._samples] for split, part in parts.items()}, parts[
        "train"
    ].classes


def _caltech101(root: str, download: bool) -> tuple[Splits, list[str]]:
    whole = datasets.Caltech101(root, download=download)
    folder = Path(whole.root) / "101_ObjectCategories"
    names = [
        f"{whole.categories[label]}/image_{number:04d}.jpg" for label, number in zip(whole.y, whole.index, strict=True)
    ]
    labels_N = np.array(whole.y)
    splits: Splits = {"train": [], "test": []}
    for label in range(len(whole.categories)):
        own = np.flatnonzero(labels_N == label)
        chosen = set(own[subset([names[row] for row in own], labels_N[own], CALTECH_TRAIN)].tolist())
        for row in own.tolist():
            splits["train" if row in chosen else "test"].append((str(folder / names[row]), label))
    return splits, whole.categories


def _sun397(root: str, download: bool) -> tuple[Splits, list[str]]:
    folder = Path(root) / FACTS["sun397"].folder
    classes = [line.strip() for line in (folder / "ClassName.txt").read_text().splitlines() if line.strip()]
    label_of = {name: label for label, name in enumerate(classes)}

    def listed(partition: str) -> Files:
        lines = [line.strip() for line in (folder / partition).read_text().splitlines() if line.strip()]
        return [(str(folder / line.lstrip("/")), label_of[line.rpartition("/")[0]]) for line in lines]

    return {"train": listed("Training_01.txt"), "test": listed("Testing_01.txt")}, classes


def _voc2007(root: str, download: bool) -> tuple[Splits, list[str]]:
    """Several classes at once; objects marked as difficult do not count as present."""
    folder = Path(root) / FACTS["voc2007"].folder
    parts = {split: datasets.VOCDetection(root, "2007", split, download=download) for split in ("train", "val", "test")}
    lists = folder / "ImageSets" / "Main"
    classes = sorted(file.name.removesuffix("_train.txt") for file in lists.glob("*_train.txt"))
    splits: Splits = {}
    for split, part in parts.items():
        present: dict[str, list[int]] = {Path(path).stem: [] for path in part.images}
        for label, name in enumerate(classes):
            for line in (lists / f"{name}_{split}.txt").read_text().splitlines():
                picture, mark = line.split()
                if mark == "1":
                    present[picture].append(label)
        splits[split] = [(path, present[Path(path).stem]) for path in part.images]
    return splits, classes


def _folders(root: str) -> tuple[Splits, list[str]]:
    """train/CLASS/*, test/CLASS/* and perhaps val/CLASS/*."""
    there = [split for split in ("train", "val", "test") if os.path.isdir(os.path.join(root, split))]
    parts = {split: datasets.ImageFolder(os.path.join(root, split)) for split in there}
    classes = parts["train"].classes
    for split, part in parts.items():
        if part.classes != classes:
            raise ValueError(f"classes of train/ and {split}/ differ")
    if "test" not in parts:
        raise ValueError(f"{root} has no folder test/")
    return {split: list(part.samples) for split, part in parts.items()}, classes


READERS: dict[str, Callable[[str, bool], tuple[Splits, list[str]]]] = {
    "food": _food,
    "sun397": _sun397,
    "cars": _cars,
    "aircraft": _aircraft,
    "voc2007": _voc2007,
    "dtd": _dtd,
    "pets": _pets,
    "caltech101": _caltech101,
    "flowers": _flowers,
}
