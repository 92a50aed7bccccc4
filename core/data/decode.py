"""Picture files to pixels: the one decode function, which both the cache and the stream use.

A decoded picture is the centre square of the file's picture, resized to `size` x `size` RGB. Everything
that decides a pixel is here, so cached and streamed pictures are bit-identical. As in torchvision's
image folder, the EXIF orientation is ignored and transparency is dropped. Raise `DECODE_VERSION` with
any change of a pixel: it is part of every fingerprint.
"""

import errno
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from core.environment import cores

DECODE_VERSION = 1

CHUNK = 64
"""Pictures per task of a decoding process."""


Image.MAX_IMAGE_PIXELS = 2**30
"""Pillow refuses twice as many: photographs are smaller, and larger ones would fill the memory."""


class BadPicture(Exception):
    """A file that cannot be decoded; the text says why."""


class Unreadable(Exception):
    """A file that cannot be read just now, as when a network disk stalls: that says nothing about the picture."""


_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def decode(path: str | Path, size: int) -> np.ndarray:
    """The picture in `path` as uint8 (size, size, 3). Raises: BadPicture; Unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which is not used here
            with Image.open(path) as image:
                # JPEG files decode at a fraction of their size; twice the wanted one keeps quality.
                image.draft(None, (2 * size, 2 * size))
                return square(_rgb(image), size)
    except Exception as error:  # Pillow's decoders raise nearly every kind of exception on damaged files
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _PASSING):
            raise Unreadable(f"{path}: {_reason(error)}") from None
        raise BadPicture(_reason(error)) from None


def square(image: Image.Image, size: int) -> np.ndarray:
    """The centre square of an RGB picture, resized: uint8 (size, size, 3)."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    if (width, height) != (size, size):
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image)


def decode_chunk(root: str, names: Sequence[str], size: int) -> tuple[np.ndarray, dict[str, str]]:
    """Decode files below `root`.

    Returns: the pictures that could be decoded, uint8 (n, size, size, 3) in the order of `names`, and
    the others as {name: reason}.
    """
    pixels, bad = [], {}
    for name in names:
        try:
            pixels.append(decode(os.path.join(root, name), size))
        except BadPicture as error:
            bad[name] = str(error)
    return np.stack(pixels) if pixels else np.empty((0, size, size, 3), np.uint8), bad


def decode_all(root: str, names: Sequence[str], size: int, write: Callable[[np.ndarray], object]) -> dict[str, str]:
    """Decode files on all cores and hand the pictures to `write` in the order of `names`.

    `write` gets uint8 (n, size, size, 3), several times. Returns: the files that cannot be decoded,
    {name: reason}.
    """
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    bad: dict[str, str] = {}
    if len(chunks) <= 2:  # starting processes would take longer than decoding
        for chunk in chunks:
            pixels_NHWC, chunk_bad = decode_chunk(root, chunk, size)
            write(pixels_NHWC)
            bad |= chunk_bad
        return bad
    with ProcessPoolExecutor(cores()) as pool:
        count = len(chunks)
        for pixels_NHWC, chunk_bad in pool.map(decode_chunk, [root] * count, chunks, [size] * count):
            write(pixels_NHWC)
            bad |= chunk_bad
    return bad


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow would clip 16-bit grey at 255; its upper byte is the picture.
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    """One line without the path, which the caller knows better how to name."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
