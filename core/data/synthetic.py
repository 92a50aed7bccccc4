"""The embedded data set: small procedural colour pictures of ten classes, no download.

Every picture is a function of (SYNTHETIC_VERSION, split, its index): a larger set begins with the smaller one, and
`size` changes the resolution alone. Pixels come from raw PCG64 bits, table look-ups and single-precision arithmetic
without sums over arrays, so they are the same on every machine. docs/data.md tells what a picture is made of and why.

Legend: N pictures, H height, W width, C=3 channels.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from core.data.patterns import CLASSES, Pattern, ramp, sine
from core.data.source import SplitName
from core.environment import cores

SYNTHETIC_VERSION = 1
"""Part of the fingerprint; raise it with any change of a pixel."""

DEFAULT_COUNTS: dict[SplitName, int] = {"train": 8192, "test": 2000}

BLOCK = 100
"""Pictures that share a random stream; drawn together whichever of them are wanted."""

BLOCKS_AHEAD = 64
"""Blocks drawn at once, by as many threads as there are cores, before they are written."""

RENDER_SIZE = 64
"""Pictures are drawn at the smallest multiple of their size from here on, and averaged down."""


class Synthetic:
    """The first pictures of both splits; 0 means the default count."""

    streams = False
    classes = tuple(CLASSES)
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
        blocks = rows // BLOCK
        wanted = np.unique(blocks).tolist()
        with ThreadPoolExecutor(cores()) as pool:
            for first in range(0, len(wanted), BLOCKS_AHEAD):
                part = wanted[first : first + BLOCKS_AHEAD]
                for block, pixels in zip(part, pool.map(lambda block: draw(split, block, size), part), strict=True):
                    write(pixels[rows[blocks == block] % BLOCK])
        return {}


def draw(split: SplitName, block: int, size: int) -> np.ndarray:
    """Pictures block*BLOCK and on, uint8 (BLOCK, size, size, 3)."""
    return draw_block(list(CLASSES.values()), Random(SYNTHETIC_VERSION, split == "test", block), size)


def draw_block(classes: Sequence[tuple[Pattern, Pattern]], random: "Random", size: int) -> np.ndarray:
    """uint8 (BLOCK, size, size, 3): pictures of the classes (texture, outline) in turn."""
    zoom = -(-RENDER_SIZE // size)
    parameters = _parameters(random)
    labels = np.arange(BLOCK) % len(classes)
    pixels = np.empty((BLOCK, size, size, 3), np.uint8)
    for label, (texture, outline) in enumerate(classes):
        rows = np.flatnonzero(labels == label)
        own = {name: values[rows] for name, values in parameters.items()}
        pixels[rows] = _average(_render(texture, outline, own, size * zoom), zoom)
    return pixels


class Random:
    """Uniform numbers from a bit stream that numpy promises never to change; `key` names the stream."""

    def __init__(self, *key: int):
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        """float32 (BLOCK, *shape)."""
        raw = self._bits.random_raw(BLOCK * int(np.prod(shape)))
        unit = (raw >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
        return (unit * (high - low) + low).reshape(BLOCK, *shape)


def _parameters(random: Random) -> dict[str, np.ndarray]:
    """What varies within a class, each (BLOCK, ...). Lengths are shares of the picture's side."""
    uniform = random.uniform
    radius = uniform(0.35, 0.9)
    bright = uniform(0.5, 0.95)
    return {
        # Scale, place and partial view: what crops teach to ignore. The larger objects reach over the border.
        "radius": radius,
        "x": radius * uniform(-0.4, 0.4),
        "y": radius * uniform(-0.4, 0.4),
        "period": uniform(0.2, 0.55),
        "phase": uniform(0, 1, 2),
        # Pictures stand upright, give or take 18 degrees, and may be mirrored.
        "turn": uniform(-0.05, 0.05),
        "mirror": np.where(uniform(0, 1) < 0.5, np.float32(-1), np.float32(1)),
        # Light: ink is always brighter than its ground, which colour distortion respects; the rest is free.
        "luminance": np.stack([bright, bright * uniform(0.1, 0.45), uniform(0.1, 0.9)], -1),
        "light": uniform(-0.4, 0.4, 2),
        # Ink, ground and background each have a hue of their own: six numbers that name the picture, not its class.
        "hue": uniform(0, 1, 3),
        "saturation": uniform(0.2, 0.9, 3),
    }


def _render(texture: Callable, outline: Callable, parameters: dict[str, np.ndarray], side: int) -> np.ndarray:
    """Pictures of one class, uint8 (N, side, side, 3)."""
    p = {name: values[:, None, None] for name, values in parameters.items()}
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    x_HW, y_HW = np.meshgrid(axis, axis)
    cos, sin = sine(p["turn"] + 0.25), sine(p["turn"])
    x_NHW, y_NHW = (x_HW - p["x"]) * p["mirror"], y_HW - p["y"]
    x_NHW, y_NHW = cos * x_NHW - sin * y_NHW, sin * x_NHW + cos * y_NHW
    ink = texture(x_NHW / p["period"] + p["phase"][..., 0], y_NHW / p["period"] + p["phase"][..., 1])[..., None]
    inside = ramp(outline(x_NHW / p["radius"], y_NHW / p["radius"]), 0.06 / p["radius"])[..., None]
    colors = _colors(parameters)
    bright, dark, background = (colors[:, None, None, part] for part in range(3))
    light = 1 + p["light"][..., 0] * x_HW + p["light"][..., 1] * y_HW
    pixels = ((bright * ink + dark * (1 - ink)) * inside + background * (1 - inside)) * light[..., None]
    return (pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _colors(parameters: dict[str, np.ndarray]) -> np.ndarray:
    """RGB (N, 3 parts, C) of the wanted luminance (ITU-R 601); a channel may exceed 1."""
    thirds = np.array([0, 2 / 3, 1 / 3], np.float32)
    rgb = 1 + parameters["saturation"][..., None] * sine(parameters["hue"][..., None] + thirds + 0.25)
    luminance = 0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2]
    return rgb * (parameters["luminance"] / luminance)[..., None]


def _average(pixels_NHWC: np.ndarray, zoom: int) -> np.ndarray:
    """Mean over squares of zoom x zoom pixels, rounded; sums of integers do not depend on their order."""
    count, side, _, channels = pixels_NHWC.shape
    squares = pixels_NHWC.reshape(count, side // zoom, zoom, side // zoom, zoom, channels)
    total = squares.sum((2, 4), dtype=np.uint32)
    return ((total + zoom * zoom // 2) // (zoom * zoom)).astype(np.uint8)
