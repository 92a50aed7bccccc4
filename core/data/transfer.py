"""The twelve data sets of Table 8: where each is looked for, and its pictures with targets and splits.

Facts and `require` do without torch, so that a plan can refuse a data set that is not there.

Legend: N pictures, C classes.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from core.config import DataConfig
from core.data.source import shown
from core.errors import InvalidValue
from core.evaluations import TransferConfig, TransferName

if TYPE_CHECKING:
    from core.data.pictures import Pictures

Measure = Literal["top1", "mean_per_class", "map"]


@dataclass(frozen=True)
class Facts:
    """What is known of a data set without looking at it."""

    title: str
    measure: Measure
    """Table 8's: top-1 accuracy, mean per-class accuracy, or 11-point mean average precision."""
    folder: str
    """Where it lies below the folder of all transfer sets."""
    get: str
    """How to get it; empty where torchvision downloads it."""


FACTS: dict[TransferName, Facts] = {
    "food": Facts("Food-101", "top1", "food-101", ""),
    "cifar10": Facts("CIFAR-10", "top1", "cifar-10-batches-py", ""),
    "cifar100": Facts("CIFAR-100", "top1", "cifar-100-python", ""),
    "birdsnap": Facts(
        "Birdsnap",
        "top1",
        "birdsnap",
        "get it from thomasberg.org and sort its pictures into birdsnap/train/CLASS/ and birdsnap/test/CLASS/",
    ),
    "sun397": Facts(
        "SUN397",
        "top1",
        "SUN397",
        "get it and the official partitions from vision.princeton.edu/projects/2010/SUN, with Training_01.txt and "
        "Testing_01.txt in SUN397/",
    ),
    "cars": Facts(
        "Stanford Cars",
        "top1",
        "stanford_cars",
        "its site is gone, so torchvision cannot download it; unpack a copy as torchvision.datasets.StanfordCars says",
    ),
    "aircraft": Facts("FGVC Aircraft", "mean_per_class", "fgvc-aircraft-2013b", ""),
    "voc2007": Facts("VOC 2007", "map", "VOCdevkit/VOC2007", ""),
    "dtd": Facts("Describable Textures", "top1", "dtd", ""),
    "pets": Facts("Oxford-IIIT Pets", "mean_per_class", "oxford-iiit-pet", ""),
    "caltech101": Facts("Caltech-101", "mean_per_class", "caltech101", ""),
    "flowers": Facts("Oxford 102 Flowers", "mean_per_class", "flowers-102", ""),
}


@dataclass(frozen=True)
class TransferSet:
    """One data set: all its pictures in one list, and which of them are for what."""

    pictures: "Pictures"
    targets: np.ndarray
    """int64 labels (N,); or for pictures of several classes at once, float32 0 and 1 (N, C)."""
    classes: tuple[str, ...]
    train: np.ndarray
    validation: np.ndarray
    """Empty where there is no official choice."""
    test: np.ndarray


def root_of(data: DataConfig) -> str:
    """The folder that holds all transfer sets."""
    return os.path.expanduser(data.transfer_root) or os.path.join(data.cache_dir, "torchvision")


def require(name: str, config: TransferConfig, data: DataConfig) -> None:
    """Raises: UserError if the data set is neither there nor to be downloaded; `name` is the evaluation's."""
    if config.source == "procedural":
        return
    facts, root, key = FACTS[config.dataset], root_of(data), f"evaluate.{name}.dataset"
    if config.source == "folder" or config.dataset == "birdsnap":
        folder = os.path.join(root, facts.folder if config.source == "torchvision" else config.dataset)
        if facts.measure == "map":
            raise InvalidValue(key, config.dataset, "a folder per class cannot say that a picture has several classes")
        if not os.path.isdir(os.path.join(folder, "train")):
            get = facts.get if config.source == "torchvision" else "it takes train/CLASS/ and test/CLASS/"
            raise InvalidValue(key, config.dataset, f"no folder {shown(folder)}/train; {get} (data.transfer_root)")
    elif not os.path.isdir(os.path.join(root, facts.folder)) and not (data.download and not facts.get):
        get = facts.get or "say data.download=true, which has torchvision download it"
        text = f"{facts.title} not found in {shown(root)} (no folder {facts.folder}; data.transfer_root); {get}"
        raise InvalidValue(key, config.dataset, text)


def load(config: TransferConfig, data: DataConfig, size: int) -> TransferSet:
    """The data set with pictures of `size` x `size` pixels, the centre square of each (App. B.8).

    Raises: UserError if it is not there or cannot be read.
    """
    from core.data.transfer_read import read

    require("transfer", config, data)
    if config.source == "procedural":
        return _standin(config, Path(data.cache_dir), size)
    return read(config, data, root_of(data), size)


def _standin(config: TransferConfig, cache: Path, size: int) -> TransferSet:
    from core.data import standin
    from core.data.pictures import CachedPictures

    train = config.procedural_size
    pixels_NHWC, targets = standin.pictures(config.dataset, train + train // 2, size, cache)
    classes = tuple(standin.class_names(config.dataset))
    labels_N = targets if targets.ndim == 1 else np.zeros(len(targets), np.int64)
    rows = np.arange(len(targets))
    return TransferSet(
        pictures=CachedPictures(pixels_NHWC, labels_N, classes),
        targets=targets if targets.ndim == 1 else targets.astype(np.float32),
        classes=classes,
        train=rows[:train],
        validation=rows[:0],
        test=rows[train:],
    )
