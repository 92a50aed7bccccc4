"""The sets that torchvision reads: what is known without files, and how tiny files of their formats are read."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from core import data
from core.config import DataConfig
from core.data import named
from core.data.decode import square
from core.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)
LABELS = [index % 10 for index in range(60)]


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch) -> Path:
    """Fifty training and ten test pictures in CIFAR-10's own files."""
    root = tmp_path / "sets"
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        part = slice(10 * number, 10 * number + 10)
        entry = {"data": PIXELS[part].reshape(10, -1), "labels": LABELS[part]}
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(named._FACTS["cifar10"].classes)}))
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda path, md5=None: Path(path).exists())
    facts = replace(named._FACTS["cifar10"], counts={"train": 50, "test": 10})
    monkeypatch.setitem(named._FACTS, "cifar10", facts)
    return root


def config(root: Path, cache: Path, **settings) -> DataConfig:
    return DataConfig(name="cifar10", root=str(root), cache_dir=str(cache), **{"stored_size": 32, **settings})


@pytest.mark.parametrize("name", named._FACTS)
def test_the_facts_are_torchvisions(name):
    facts = named._FACTS[name]
    kind = getattr(datasets, facts.torchvision_name)
    assert kind.base_folder == facts.folder
    assert len(set(facts.classes)) == len(facts.classes) == (100 if name == "cifar100" else 10)
    assert list(facts.classes) == sorted(facts.classes)


@pytest.mark.parametrize(("name", "train"), [("cifar10", 50_000), ("cifar100", 50_000), ("stl10", 5_000)])
def test_planning_a_download_needs_no_files(tmp_path, name, train):
    info = data.inspect(DataConfig(name=name, download=True, cache_dir=str(tmp_path)))
    assert info.train_count == train
    assert not info.cached


def test_a_missing_set_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError) as caught:
        data.inspect(config(tmp_path / "sets", tmp_path))
    assert "data.download=true" in str(caught.value)
    assert str(tmp_path / "sets") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_torchvision_refuses_are_one_line(cifar10, tmp_path):
    (cifar10 / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(UserError, match=r"^data\.name=cifar10: torchvision cannot read it in .*corrupted"):
        data.prepare(config(cifar10, tmp_path), None)


def test_pictures_and_labels_are_those_in_the_files(cifar10, tmp_path):
    train = data.load(config(cifar10, tmp_path), "train")
    assert train.labels_N.tolist() == LABELS[:50]
    assert np.array_equal(train.batch(torch.arange(50)).numpy(), PIXELS[:50])
    test = data.load(config(cifar10, tmp_path), "test")
    assert np.array_equal(test.batch(torch.arange(10)).numpy(), PIXELS[50:])


def test_pictures_are_resized_and_chosen(cifar10, tmp_path):
    train = data.load(config(cifar10, tmp_path, stored_size=16, train_size=20), "train")
    assert train.labels_N.bincount().tolist() == [2] * 10
    from PIL import Image

    resized = {square(Image.fromarray(picture.transpose(1, 2, 0)), 16).tobytes() for picture in PIXELS[:50]}
    for picture in train.batch(torch.arange(20)).permute(0, 2, 3, 1).numpy():
        assert picture.tobytes() in resized


def test_the_decoded_set_does_without_the_files(cifar10, tmp_path):
    data.prepare(config(cifar10, tmp_path), None)
    (cifar10 / "cifar-10-batches-py").rename(cifar10 / "gone")
    assert data.inspect(config(cifar10, tmp_path)).cached
    assert len(data.load(config(cifar10, tmp_path), "train")) == 50


def test_stl10_is_read_in_its_own_order_of_pixels(tmp_path, monkeypatch):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3, 96, 96), dtype=np.uint8)
    for split in ("train", "test"):
        (folder / f"{split}_X.bin").write_bytes(pixels.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes(range(1, 11)))
    monkeypatch.setattr(datasets.STL10, "_check_integrity", lambda self: True)
    monkeypatch.setitem(named._FACTS, "stl10", replace(named._FACTS["stl10"], counts={"train": 10, "test": 10}))
    stl10 = DataConfig(name="stl10", root=str(tmp_path), cache_dir=str(tmp_path / "cache"), stored_size=96)
    train = data.load(stl10, "train")
    assert train.labels_N.tolist() == list(range(10))
    assert np.array_equal(train.batch(torch.arange(10)).numpy(), pixels)
