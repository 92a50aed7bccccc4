"""Decoding: any kind of picture file becomes the same square of RGB, and a damaged one is said to be so."""

import errno
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets.folder import default_loader

from core.data import decode
from core.data.decode import BadPicture

GRADIENT = np.add.outer(np.arange(20), np.arange(20)).astype(np.uint8) * 6


def rgb(seed: int = 0, width: int = 20, height: int = 20) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_modes_become_what_torchvision_makes_of_them(tmp_path: Path, mode: str):
    file = tmp_path / ("x.jpg" if mode in ("CMYK", "YCbCr") else "x.png")
    rgb().convert(mode).save(file)
    assert np.array_equal(decode.decode(file, 20), np.asarray(default_loader(str(file))))


def test_sixteen_bit_grey_keeps_its_shades(tmp_path: Path):
    file = tmp_path / "x.png"
    Image.fromarray(GRADIENT.astype(np.uint16) * 257).save(file)
    assert Image.open(file).mode == "I;16"
    assert np.array_equal(decode.decode(file, 20), np.stack([GRADIENT] * 3, -1))


def test_orientation_and_transparency_are_ignored_as_in_torchvision(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer would turn the picture by 90 degrees
    rgb().save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(decode.decode(tmp_path / "turned.png", 20), np.asarray(rgb()))
    clear = rgb().convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "clear.png")
    assert np.array_equal(decode.decode(tmp_path / "clear.png", 20), np.asarray(rgb()))


@given(width=st.integers(1, 40), height=st.integers(1, 40), size=st.sampled_from([8, 16, 33]))
def test_a_plain_picture_of_any_shape_stays_plain(tmp_path_factory: pytest.TempPathFactory, width, height, size):
    file = tmp_path_factory.getbasetemp() / "plain.png"
    Image.new("RGB", (width, height), (10, 200, 30)).save(file)
    pixels = decode.decode(file, size)
    assert pixels.shape == (size, size, 3)
    assert (pixels == (10, 200, 30)).all()


def test_the_centre_square_is_taken(tmp_path: Path):
    wide = Image.new("RGB", (60, 20), "red")
    wide.paste(rgb(), (20, 0))
    wide.save(tmp_path / "wide.png")
    assert np.array_equal(decode.decode(tmp_path / "wide.png", 20), np.asarray(rgb()))


def test_a_picture_of_a_line_does_not_fill_the_memory(tmp_path: Path):
    Image.new("RGB", (50_000, 1), "blue").save(tmp_path / "line.png")
    assert decode.decode(tmp_path / "line.png", 256).shape == (256, 256, 3)


def test_a_large_jpeg_keeps_its_quality(tmp_path: Path):
    """Reading JPEG at a fraction of its size must not be seen: compare with all of it, resized."""
    x, y = np.meshgrid(np.linspace(0, 12, 512), np.linspace(0, 9, 512))
    waves = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1)
    picture = Image.fromarray((127 + 100 * waves).astype(np.uint8))
    picture.save(tmp_path / "x.jpg", quality=95)
    whole = decode.square(Image.open(tmp_path / "x.jpg").convert("RGB"), 32)
    difference = np.abs(decode.decode(tmp_path / "x.jpg", 32).astype(int) - whole)
    assert difference.mean() < 1
    assert difference.max() <= 6


def test_a_disk_that_stalls_says_nothing_about_the_picture(tmp_path: Path, monkeypatch):
    rgb(width=8, height=8).save(tmp_path / "x.png")

    def stall(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Image, "open", stall)
    with pytest.raises(decode.Unreadable, match=r"x\.png: Input/output error"):
        decode.decode(tmp_path / "x.png", 8)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "missing", "folder"])
def test_a_damaged_file_is_bad(tmp_path: Path, damage: str):
    file = tmp_path / "x.jpg"
    rgb(width=200, height=200).save(file)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:3000])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "text":
        file.write_text("no picture\n")
    else:
        file.unlink()
        if damage == "folder":
            file.mkdir()
    with pytest.raises(BadPicture) as caught:
        decode.decode(file, 16)
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
