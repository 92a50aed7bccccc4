"""The synthetic set: the same pictures on every machine, at any size, however many are asked for."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from core import data
from core.config import DataConfig
from core.data import synthetic
from core.data.patterns import CLASSES
from core.data.synthetic import BLOCK, Synthetic, draw

GOLDEN = {
    ("train", 0, 16): "9331d83e9043c862",
    ("train", 3, 32): "543b909908868836",
    ("test", 0, 24): "6416fcf2dec4d21a",
    ("test", 19, 64): "2162b69eb2afe527",
}
"""Digests of SYNTHETIC_VERSION 1. Pictures that change need another version: run ids must change with them."""


@pytest.fixture
def config(data_cache: Path) -> DataConfig:
    return DataConfig(train_size=250, test_size=40, stored_size=16, image_size=16, cache_dir=str(data_cache))


@pytest.mark.parametrize(("split", "block", "size"), GOLDEN)
def test_pictures_are_those_of_every_other_machine(split, block, size):
    digest = hashlib.blake2b(draw(split, block, size).tobytes(), digest_size=8).hexdigest()
    assert (synthetic.SYNTHETIC_VERSION, digest) == (1, GOLDEN[split, block, size])


def test_the_version_is_in_the_fingerprint(config, monkeypatch):
    monkeypatch.setattr(Synthetic, "fingerprint", "synthetic-2")
    assert data.inspect(config).fingerprint == "synthetic-2"
    assert not data.inspect(config).cached


def test_inspect_tells_what_load_gives(config):
    data.prepare(config, None)
    info = data.inspect(config)
    train, test = data.load(config, "train"), data.load(config, "test")
    assert (info.train_count, info.test_count) == (len(train), len(test)) == (250, 40)
    assert info.classes == train.classes == tuple(CLASSES)
    assert info.bytes == 290 * 16 * 16 * 3
    assert info.cached
    assert (info.streamed, info.bad) == (False, ())
    assert train.labels_N.dtype == torch.int64
    assert train.labels_N.bincount().tolist() == [25] * 10


def test_a_batch_is_uint8_in_channels_last_memory(config):
    pictures = data.load(config, "train")
    batch = pictures.batch(torch.tensor([249, 0, 0]))
    assert batch.shape == (3, 3, 16, 16)
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch[1], batch[2])
    assert np.array_equal(batch[1].permute(1, 2, 0).numpy(), draw("train", 0, 16)[0])
    assert np.array_equal(batch[0].permute(1, 2, 0).numpy(), draw("train", 249 // BLOCK, 16)[249 % BLOCK])


def test_a_larger_set_begins_with_the_smaller_one(config, tmp_path):
    larger = DataConfig(train_size=300, test_size=20, stored_size=16, image_size=16, cache_dir=str(tmp_path))
    first = torch.arange(250)
    assert torch.equal(data.load(larger, "train").batch(first), data.load(config, "train").batch(first))


def test_size_changes_the_resolution_alone():
    large = torch.from_numpy(draw("train", 0, 64)).permute(0, 3, 1, 2).float()
    small = torch.from_numpy(draw("train", 0, 16)).permute(0, 3, 1, 2).float()
    assert (torch.nn.functional.avg_pool2d(large, 4) - small).abs().max() <= 1


def test_train_and_test_pictures_differ():
    assert not (draw("train", 0, 16) == draw("test", 0, 16)).all((1, 2, 3)).any()


def test_no_two_pictures_are_alike():
    pixels = np.concatenate([draw("train", block, 16) for block in range(3)]).reshape(3 * BLOCK, -1)
    assert len(np.unique(pixels, axis=0)) == 3 * BLOCK


def test_colours_say_little_about_the_class():
    """The mean colour names a picture: as a classifier of kinds it does hardly better than chance (10%)."""
    means = np.concatenate([draw("train", block, 16) for block in range(10)]).mean((1, 2))
    labels = np.arange(len(means)) % 10
    distances = ((means[:, None] - means[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).mean() < 0.2


def test_planning_and_preparing_need_no_torch(tmp_path):
    code = (
        "import sys; from core import data; from core.config import DataConfig\n"
        f"config = DataConfig(train_size=100, test_size=10, stored_size=16, cache_dir={str(tmp_path)!r})\n"
        "data.inspect(config); data.prepare(config, None); assert data.inspect(config).cached\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
