"""The stand-ins for transfer sets: small, the same everywhere, and neither the training set nor each other."""

import hashlib

import numpy as np
import pytest

from core.data import patterns, standin, standin_patterns
from core.data.transfer import FACTS

GOLDEN = {"food": "8c16784ac93ca7fa", "voc2007": "96ed03081b99e0b7", "flowers": "11800be50f5cde3a"}
"""Digests of STANDIN_VERSION 1: other pictures need another version, which is in the name of their file."""


@pytest.mark.parametrize("name", GOLDEN)
def test_pictures_are_those_of_every_other_machine(name):
    digest = hashlib.blake2b(standin.draw(name, 100, 24).tobytes(), digest_size=8).hexdigest()
    assert (standin.STANDIN_VERSION, digest) == (1, GOLDEN[name])


@pytest.mark.parametrize("name", FACTS)
def test_every_set_of_table_8_has_one(name, tmp_path):
    pixels_NHWC, targets = standin.pictures(name, 120, 16, tmp_path)
    assert pixels_NHWC.shape == (120, 16, 16, 3)
    assert pixels_NHWC.dtype == np.uint8
    names = standin.class_names(name)
    assert len(set(names)) == len(names) == standin.CLASSES[name]
    if name == standin.SEVERAL:
        assert targets.shape == (120, len(names))
        assert set(targets.sum(1)) == {2}
        assert targets.any(0).all()
    else:
        assert set(targets) == set(range(len(names)))


def test_sets_differ_and_the_second_time_is_read_from_the_cache(tmp_path, monkeypatch):
    first, _ = standin.pictures("food", 40, 16, tmp_path)
    other, _ = standin.pictures("cars", 40, 16, tmp_path)
    assert not np.array_equal(first, other)
    monkeypatch.setattr(standin, "draw", None)
    again, _ = standin.pictures("food", 40, 16, tmp_path)
    assert np.array_equal(first, again)


def test_a_larger_set_begins_with_the_smaller_one():
    assert np.array_equal(standin.draw("pets", 150, 16)[:40], standin.draw("pets", 40, 16))


def test_no_texture_or_outline_is_one_of_the_training_set():
    textures, outlines = zip(*patterns.CLASSES.values(), strict=True)
    axis = np.linspace(-1, 1, 33, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    for limit, ours, known in (
        (0.5, standin_patterns.TEXTURES, textures),
        (0.0, standin_patterns.OUTLINES, outlines),
    ):
        for pattern in ours.values():
            image = pattern(u, v)
            assert image.shape == (33, 33)
            assert np.isfinite(image).all()
            assert 0.1 < (image > limit).mean() < 0.9
            for other in known:
                assert ((image > limit) ^ (other(u, v) > limit)).mean() > 0.04, (pattern.__name__, other.__name__)
