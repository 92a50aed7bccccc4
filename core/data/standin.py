"""Procedural stand-ins for the data sets of Table 8: small sets that differ from the training set and from each other.

A class is a texture with an outline; in the set whose pictures have several classes at once, each texture and each
outline is a class. Which of them a set has, and its pictures, are functions of STANDIN_VERSION and its name. They say
nothing about the data sets whose place they take: they show that the machinery works, and whether features transfer.

Legend: N pictures, C classes.
"""

import io
from pathlib import Path
from zlib import crc32

import numpy as np

from core.data.standin_patterns import OUTLINES, TEXTURES
from core.data.synthetic import BLOCK, Random, draw_block
from core.evaluations import TransferName
from core.rundir import write_atomically

STANDIN_VERSION = 1
SEVERAL = "voc2007"
"""The set whose pictures have several classes at once; its textures and outlines are so many each."""
CLASSES: dict[TransferName, int] = {
    "food": 16,
    "cifar10": 10,
    "cifar100": 20,
    "birdsnap": 24,
    "sun397": 18,
    "cars": 14,
    "aircraft": 12,
    "voc2007": 8,
    "dtd": 9,
    "pets": 15,
    "caltech101": 22,
    "flowers": 17,
}
"""Classes of each stand-in, none as many as the synthetic training set but where the original does."""


def class_names(name: TransferName) -> list[str]:
    if name == SEVERAL:
        return [name for pair in _pairs(name)[::5] for name in pair]
    return [f"{texture} {outline}" for texture, outline in _pairs(name)]


def pictures(name: TransferName, count: int, size: int, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, size, size, 3), and what is on them: int64 labels (N,), or 0 and 1 (N, C) for `SEVERAL`.

    Drawn once and kept below `cache`.
    """
    file = cache / f"standin-{name}-{STANDIN_VERSION}-{count}-{size}.npy"
    if not file.exists():
        buffer = io.BytesIO()
        np.save(buffer, draw(name, count, size))
        write_atomically(file, buffer.getvalue())
    pairs = _pairs(name)
    labels_N = (np.arange(count) % BLOCK % len(pairs)).astype(np.int64)
    names = class_names(name)
    present_PC = np.array([[own in pair for own in names] for pair in pairs], np.int64)
    return np.load(file, mmap_mode="r"), present_PC[labels_N] if name == SEVERAL else labels_N


def draw(name: TransferName, count: int, size: int) -> np.ndarray:
    """uint8 (N, size, size, 3); a larger set begins with the smaller one."""
    patterns = [(TEXTURES[texture], OUTLINES[outline]) for texture, outline in _pairs(name)]
    key = crc32(name.encode())
    blocks = [draw_block(patterns, Random(STANDIN_VERSION, key, block), size) for block in range(-(-count // BLOCK))]
    return np.concatenate(blocks)[:count]


def _pairs(name: TransferName) -> list[tuple[str, str]]:
    """The texture and outline of each kind of picture of a set, in an order of its own."""
    bits = np.random.PCG64(np.random.SeedSequence([STANDIN_VERSION, crc32(name.encode())]))

    def shuffled(names: list[str]) -> list[str]:
        return [names[place] for place in np.argsort(bits.random_raw(len(names)), kind="stable")]

    textures, outlines = shuffled(list(TEXTURES)), shuffled(list(OUTLINES))
    if name == SEVERAL:
        half = CLASSES[name] // 2
        return [(texture, outline) for texture in textures[:half] for outline in outlines[:half]]
    # Diagonals of the 10 x 10 table: no two classes agree in both, and beyond ten some agree in one.
    return [(textures[place % 10], outlines[(place + place // 10) % 10]) for place in range(CLASSES[name])]
