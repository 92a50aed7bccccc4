"""The embedded data set: small procedural colour pictures of ten classes, no download.

Every picture is a function of (SYNTHETIC_VERSION, split, its index): a larger set begins with the
smaller one, and `size` changes the resolution alone. Pixels come from raw PCG64 bits, table look-ups and
single-precision arithmetic without reductions, so they are the same on every machine. docs/data.md tells
what the pictures are made of and why.
"""

from collections.abc import Callable

import numpy as np

from core.data.source import SplitName

SYNTHETIC_VERSION = 1
"""Part of the fingerprint; raise it with any change of a pixel."""

DEFAULT_COUNTS: dict[SplitName, int] = {"train": 8192, "test": 2000}
CLASSES = ("stripes", "waves", "checks", "dots", "rings", "crosses", "bricks", "triangles", "rays", "stars")

BLOCK = 500
"""Pictures that share a random stream; drawn together whichever of them are wanted."""

RENDER_SIZE = 64
"""Pictures are drawn at the smallest multiple of their size from here on, and averaged down."""


class Synthetic:
    """The first pictures of both splits; 0 means the default count."""

    streams = False
    classes: tuple[str, ...] = CLASSES
    fingerprint = f"synthetic-{SYNTHETIC_VERSION}"

    def __init__(self, train_size: int = 0, test_size: int = 0):
        self._counts: dict[SplitName, int] = {
            "train": train_size or DEFAULT_COUNTS["train"],
            "test": test_size or DEFAULT_COUNTS["test"],
        }

    def count(self, split: SplitName) -> int:
        return self._counts[split]

    def names(self, split: SplitName) -> list[str]:
        return [str(index) for index in range(self.count(split))]

    def labels(self, split: SplitName) -> np.ndarray:
        return np.arange(self.count(split), dtype=np.int64) % len(CLASSES)

    def read(
        self, split: SplitName, rows: np.ndarray, size: int, write: Callable[[np.ndarray], object]
    ) -> dict[str, str]:
        """Draw the pictures `rows`, in ascending order; see `core.data.source.Source.read`."""
        for block in range(self.count(split) // BLOCK + 1):
            inside = rows[(rows >= block * BLOCK) & (rows < (block + 1) * BLOCK)] - block * BLOCK
            if len(inside):
                write(draw(split, block, size)[inside])
        return {}


def draw(split: SplitName, block: int, size: int) -> np.ndarray:
    """Pictures block*BLOCK and on, uint8 (BLOCK, size, size, 3)."""
    random = _Random(SYNTHETIC_VERSION, split, block)
    zoom = -(-RENDER_SIZE // size)
    side = size * zoom
    axis = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side) - np.float32(0.5)
    x_HW, y_HW = np.meshgrid(axis, axis)
    labels = np.arange(BLOCK) % len(CLASSES)
    scale = 3.0 * 2.5 ** random.uniform(BLOCK)
    turn, shift_x, shift_y = random.uniform(BLOCK), random.uniform(BLOCK), random.uniform(BLOCK)
    colors = random.uniform(BLOCK, 2, 3)
    pixels = np.empty((BLOCK, side, side, 3), np.float32)
    for label in range(len(CLASSES)):
        n = np.flatnonzero(labels == label)
        c, s = _wave(turn[n] + np.float32(0.25)), _wave(turn[n])
        u = _at(scale[n]) * (_at(c) * x_HW - _at(s) * y_HW) + _at(shift_x[n])
        v = _at(scale[n]) * (_at(s) * x_HW + _at(c) * y_HW) + _at(shift_y[n])
        ink = _texture(label, u, v)[..., None]
        a, b = colors[n, 0][:, None, None, :], colors[n, 1][:, None, None, :]
        pixels[n] = a * ink + b * (1 - ink)
    return _average((pixels * np.float32(255) + np.float32(0.5)).clip(0, 255).astype(np.uint8), zoom)


class _Random:
    """Uniform numbers from a bit stream that numpy promises never to change."""

    def __init__(self, version: int, split: SplitName, block: int):
        self._bits = np.random.PCG64(np.random.SeedSequence([version, split == "test", block]))

    def uniform(self, *shape: int) -> np.ndarray:
        """float32 in 0 (included) to 1 (excluded)."""
        raw = self._bits.random_raw(int(np.prod(shape)))
        return ((raw >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)).reshape(shape)


_TURN = 4096
_SINE = np.round(np.sin(np.arange(_TURN) * (2 * np.pi / _TURN)) * 2**14).astype(np.float32) / np.float32(
    2**14
)


def _wave(turns: np.ndarray) -> np.ndarray:
    """Sine of an angle in turns; from a rounded table, as library sines differ between machines."""
    return _SINE[np.floor(turns * np.float32(_TURN)).astype(np.int64) & (_TURN - 1)]


def _at(values_N: np.ndarray) -> np.ndarray:
    return values_N.astype(np.float32)[:, None, None]


def _texture(label: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    a, b = u - np.floor(u) - np.float32(0.5), v - np.floor(v) - np.float32(0.5)
    r2 = a * a + b * b
    match CLASSES[label]:
        case "stripes":
            ink = np.abs(a) < 0.25
        case "waves":
            w = u + np.float32(0.25) * _wave(v)
            ink = w - np.floor(w) < 0.5
        case "checks":
            ink = (a < 0) ^ (b < 0)
        case "dots":
            ink = r2 < 0.09
        case "rings":
            ink = (r2 < 0.2) & (r2 > 0.06)
        case "crosses":
            ink = (np.minimum(np.abs(a), np.abs(b)) < 0.1) & (np.maximum(np.abs(a), np.abs(b)) < 0.4)
        case "bricks":
            row = u + np.float32(0.5) * np.floor(v)
            ink = (np.abs(b) < 0.38) & (np.abs(row - np.floor(row) - np.float32(0.5)) < 0.42)
        case "triangles":
            ink = (b < 0.4) & (b > np.float32(2) * np.abs(a) - np.float32(0.4))
        case "rays":
            ink = a * b * (a * a - b * b) > 0
        case _:
            ink = np.abs(a * b) < 0.02
    return ink.astype(np.float32)


def _average(pixels_NHWC: np.ndarray, zoom: int) -> np.ndarray:
    """Mean over squares of zoom x zoom pixels, rounded; integer sums do not depend on their order."""
    count, side, _, channels = pixels_NHWC.shape
    parts = pixels_NHWC.reshape(count, side // zoom, zoom, side // zoom, zoom, channels)
    total = parts.sum((2, 4), dtype=np.uint32)
    return ((total + zoom * zoom // 2) // (zoom * zoom)).astype(np.uint8)
