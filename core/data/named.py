"""CIFAR-10, CIFAR-100 and STL-10, read and downloaded by torchvision.

Their counts and classes are known, so planning needs neither torch nor the files. STL-10 means its
labelled pictures (5,000 for training): the unlabelled ones have no class, which balanced subsets and
supervised runs need.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from core.data.decode import CHUNK, DECODE_VERSION, square
from core.data.source import SplitName, shown
from core.errors import InvalidValue, UserError


@dataclass(frozen=True)
class _Facts:
    torchvision_name: str
    folder: str
    classes: tuple[str, ...]
    counts: dict[SplitName, int]


class NamedSet:
    """The data set `name` below `root`."""

    streams = False

    def __init__(self, name: str, root: str, download: bool):
        self._facts = _FACTS[name]
        self._name, self._root, self._download = name, root, download
        self._opened: dict[SplitName, tuple[np.ndarray, np.ndarray]] = {}
        self.classes = self._facts.classes
        self.fingerprint = f"{name}-{DECODE_VERSION}"

    def require(self) -> None:
        """Raises: UserError if the files are neither there nor to be downloaded."""
        if not self._download and not os.path.isdir(os.path.join(self._root, self._facts.folder)):
            text = f"not found in {shown(self._root)} (no folder {self._facts.folder}); say data.download=true"
            raise InvalidValue("data.name", self._name, text)

    def count(self, split: SplitName) -> int:
        return self._facts.counts[split]

    def names(self, split: SplitName) -> list[str]:
        return [str(index) for index in range(self.count(split))]

    def labels(self, split: SplitName) -> np.ndarray:
        return self._pixels_and_labels(split)[1]

    def read(
        self, split: SplitName, rows: np.ndarray, size: int, write: Callable[[np.ndarray], object]
    ) -> dict[str, str]:
        """Hand pictures to `write`; see `core.data.source.Source.read`. Nothing in these sets is bad."""
        pixels_NHWC = self._pixels_and_labels(split)[0]
        for start in range(0, len(rows), CHUNK):
            chunk = pixels_NHWC[rows[start : start + CHUNK]]
            write(np.stack([square(Image.fromarray(picture_HWC), size) for picture_HWC in chunk]))
        return {}

    def _pixels_and_labels(self, split: SplitName) -> tuple[np.ndarray, np.ndarray]:
        if split not in self._opened:
            self._opened[split] = self._open(split)
        return self._opened[split]

    def _open(self, split: SplitName) -> tuple[np.ndarray, np.ndarray]:
        from torchvision import datasets  # imports torch, which planning does without

        self.require()
        kind = getattr(datasets, self._facts.torchvision_name)
        try:
            if self._name == "stl10":
                data = kind(self._root, split=split, download=self._download)
                return data.data.transpose(0, 2, 3, 1), data.labels.astype(np.int64)
            data = kind(self._root, train=split == "train", download=self._download)
        except (RuntimeError, OSError) as error:
            text = f"torchvision cannot read it in {shown(self._root)}: {' '.join(str(error).split())}"
            raise UserError(f"data.name={self._name}: {text}") from None
        return data.data, np.array(data.targets, np.int64)


_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_STL10 = "airplane bird car cat deer dog horse monkey ship truck"
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
    dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
    leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
    otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
    road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
_FACTS = {
    "cifar10": _Facts("CIFAR10", "cifar-10-batches-py", tuple(_CIFAR10.split()), {"train": 50_000, "test": 10_000}),
    "cifar100": _Facts("CIFAR100", "cifar-100-python", tuple(_CIFAR100.split()), {"train": 50_000, "test": 10_000}),
    "stl10": _Facts("STL10", "stl10_binary", tuple(_STL10.split()), {"train": 5_000, "test": 8_000}),
}
