"""The data sets of Table 8 as they lie on disk, in small copies of their own layouts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from core.config import DataConfig
from core.data.transfer import FACTS, load, require
from core.errors import UserError
from core.evaluations import TransferConfig
from core.feasible import check_data
from sweeps.run import main


def _picture(file: Path, value: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (value, value, value)).save(file)


def _data(root: Path, **settings) -> DataConfig:
    return DataConfig(transfer_root=str(root), image_size=8, stored_size=8, workers=1, **settings)


def _load(name: str, root: Path, source: str = "torchvision"):
    return load(TransferConfig(dataset=name, source=source), _data(root), 8)


def _values(data_set, rows: np.ndarray) -> list[int]:
    """The grey of each picture, through the way that extraction takes."""
    (batch,) = data_set.pictures.batches(iter([torch.from_numpy(rows)]))
    assert batch.shape == (len(rows), 3, 8, 8)
    return batch[:, 0, 0, 0].int().tolist()


def test_dtd_has_official_validation_pictures(tmp_path: Path):
    folder = tmp_path / "dtd" / "dtd"
    (folder / "labels").mkdir(parents=True)
    for number, split in enumerate(("train", "val", "test")):
        names = [f"{texture}/{texture}_{split}.jpg" for texture in ("banded", "dotted")]
        (folder / "labels" / f"{split}1.txt").write_text("\n".join(names))
        for place, name in enumerate(names):
            _picture(folder / "images" / name, 40 * number + 20 * place)
    data_set = _load("dtd", tmp_path)
    assert data_set.classes == ("banded", "dotted")
    assert data_set.targets.tolist() == [0, 1] * 3
    assert [part.tolist() for part in (data_set.train, data_set.validation, data_set.test)] == [[0, 1], [2, 3], [4, 5]]
    assert _values(data_set, data_set.test) == pytest.approx([80, 100], abs=3)


def test_voc_has_several_classes_at_once_and_difficult_ones_do_not_count(tmp_path: Path):
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    marks = {"cat": {"train": "1", "val": "-1", "test": "1"}, "dog": {"train": "1", "val": "1", "test": "0"}}
    for number, split in enumerate(("train", "val", "test")):
        (lists / f"{split}.txt").write_text(f"00{number}\n")
        _picture(folder / "JPEGImages" / f"00{number}.jpg", 50 * number)
        for name, own in marks.items():
            (lists / f"{name}_{split}.txt").write_text(f"00{number} {own[split]:>2}\n")
    data_set = _load("voc2007", tmp_path)
    assert data_set.classes == ("cat", "dog")
    assert data_set.targets.tolist() == [[1, 1], [0, 1], [1, 0]]
    assert (data_set.train.tolist(), data_set.validation.tolist(), data_set.test.tolist()) == ([0], [1], [2])


def test_caltech_gives_thirty_pictures_of_each_class_to_training(tmp_path: Path):
    folder = tmp_path / "caltech101" / "101_ObjectCategories"
    (tmp_path / "caltech101" / "Annotations").mkdir(parents=True)
    for name, count in (("ant", 33), ("bass", 31), ("BACKGROUND_Google", 3)):
        for number in range(1, count + 1):
            _picture(folder / name / f"image_{number:04d}.jpg", number)
    data_set = _load("caltech101", tmp_path)
    assert np.bincount(data_set.targets[data_set.train]).tolist() == [30, 30]
    assert np.bincount(data_set.targets[data_set.test]).tolist() == [3, 1]
    assert set(data_set.train).isdisjoint(data_set.test)
    assert _load("caltech101", tmp_path).pictures._names == data_set.pictures._names


def test_sun397_takes_the_first_partition(tmp_path: Path):
    folder = tmp_path / "SUN397"
    folder.mkdir()
    (folder / "ClassName.txt").write_text("/a/abbey\n/b/bar/indoor\n")
    (folder / "Training_01.txt").write_text("/b/bar/indoor/sun_1.jpg\n/a/abbey/sun_2.jpg\n")
    (folder / "Testing_01.txt").write_text("/a/abbey/sun_3.jpg\n")
    for value, name in enumerate(("b/bar/indoor/sun_1", "a/abbey/sun_2", "a/abbey/sun_3")):
        _picture(folder / f"{name}.jpg", 60 * value)
    data_set = _load("sun397", tmp_path)
    assert data_set.targets.tolist() == [1, 0, 0]
    assert _values(data_set, data_set.test) == pytest.approx([120], abs=2)


def test_pets_cars_flowers_aircraft_and_food_are_read_through_torchvision(tmp_path: Path, monkeypatch):
    pets = tmp_path / "oxford-iiit-pet"
    (pets / "annotations").mkdir(parents=True)
    for split, line in (("trainval", "Abyssinian_1 1 1 1\nbeagle_1 2 2 1"), ("test", "beagle_2 2 2 1")):
        (pets / "annotations" / f"{split}.txt").write_text(line + "\n")
    for name in ("Abyssinian_1", "beagle_1", "beagle_2"):
        _picture(pets / "images" / f"{name}.jpg", 9)

    cars = tmp_path / "stanford_cars"
    (cars / "devkit").mkdir(parents=True)
    kind = [("fname", object), ("class", object)]
    savemat(cars / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi", "BMW"], object)})
    train = np.array([("1.jpg", 2), ("2.jpg", 1)], kind)
    savemat(cars / "devkit" / "cars_train_annos.mat", {"annotations": train})
    savemat(cars / "cars_test_annos_withlabels.mat", {"annotations": np.array([("1.jpg", 1), ("2.jpg", 2)], kind)})
    for split in ("train", "test"):
        for number in (1, 2):
            _picture(cars / f"cars_{split}" / f"{number}.jpg", 9)

    flowers = tmp_path / "flowers-102"
    for number in range(1, 7):
        _picture(flowers / "jpg" / f"image_{number:05d}.jpg", number)
    savemat(flowers / "setid.mat", {"trnid": [[5, 6]], "valid": [[1, 2]], "tstid": [[3, 4]]})
    savemat(flowers / "imagelabels.mat", {"labels": [[1, 2, 1, 2, 1, 2]]})
    monkeypatch.setattr("torchvision.datasets.Flowers102._check_integrity", lambda self: True)

    aircraft = tmp_path / "fgvc-aircraft-2013b" / "data"
    aircraft.mkdir(parents=True)
    (aircraft / "variants.txt").write_text("707-320\nA340\n")
    for number, split in enumerate(("train", "val", "test")):
        (aircraft / f"images_variant_{split}.txt").write_text(f"00{number} A340\n")
        _picture(aircraft / "images" / f"00{number}.jpg", 9)

    food = tmp_path / "food-101"
    (food / "meta").mkdir(parents=True)
    for split in ("train", "test"):
        (food / "meta" / f"{split}.json").write_text(f'{{"pie": ["pie/{split}"], "cake": ["cake/{split}"]}}')
        for name in ("pie", "cake"):
            _picture(food / "images" / name / f"{split}.jpg", 9)

    expected = {
        "pets": ([0, 1, 1], 2, 0, 1),
        "cars": ([1, 0, 0, 1], 2, 0, 2),
        "flowers": ([0, 1, 0, 1, 0, 1], 2, 2, 2),
        "aircraft": ([1, 1, 1], 1, 1, 1),
        "food": ([1, 0, 1, 0], 2, 0, 2),
    }
    for name, (targets, *counts) in expected.items():
        data_set = _load(name, tmp_path)
        assert data_set.targets.tolist() == targets, name
        assert [len(part) for part in (data_set.train, data_set.validation, data_set.test)] == counts, name
        assert len(data_set.classes) == 2
        assert len(_values(data_set, data_set.test)) == counts[-1]


@pytest.mark.parametrize(
    ("name", "source", "folder"), [("birdsnap", "torchvision", "birdsnap"), ("food", "folder", "food")]
)
def test_folders_of_class_folders(name, source, folder, tmp_path: Path):
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        for place, bird in enumerate(("finch", "owl")):
            for number in range(count):
                _picture(tmp_path / folder / split / bird / f"{number}.png", 100 * place)
    data_set = _load(name, tmp_path, source)
    assert data_set.targets.tolist() == [0, 0, 1, 1, 0, 1, 0, 1]
    assert data_set.validation.tolist() == [4, 5]
    assert _values(data_set, data_set.test) == [0, 100]


@pytest.mark.parametrize("name", FACTS)
def test_a_set_that_is_not_there_says_how_to_get_it_and_where_it_was_looked_for(name, tmp_path: Path):
    data = _data(tmp_path)
    with pytest.raises(UserError) as caught:
        check_data("transfer_x", TransferConfig(dataset=name), data)
    line = str(caught.value)
    assert line.startswith(f"evaluate.transfer_x.dataset={name}: ")
    assert str(tmp_path) in line
    assert FACTS[name].folder in line
    assert "get it" in line or "data.download=true" in line or "StanfordCars" in line
    assert "\n" not in line
    check_data("transfer_x", TransferConfig(dataset=name, source="procedural"), data)


def test_download_is_enough_only_where_torchvision_downloads(tmp_path: Path):
    data = _data(tmp_path, download=True)
    require("t", TransferConfig(dataset="dtd"), data)
    with pytest.raises(UserError, match="Training_01"):
        require("t", TransferConfig(dataset="sun397"), data)


def test_a_damaged_set_is_one_line(tmp_path: Path):
    (tmp_path / "dtd").mkdir()
    with pytest.raises(UserError, match=r"Describable Textures cannot be read in .*: Dataset not found"):
        _load("dtd", tmp_path)


def test_folders_cannot_say_that_a_picture_has_several_classes(tmp_path: Path):
    with pytest.raises(UserError, match="several classes"):
        _load("voc2007", tmp_path, "folder")


def test_a_run_is_refused_before_anything_trains_and_a_plan_is_not(tmp_path: Path, capsys):
    asked = ["study=transfer", "scale=smoke", "evaluate.transfer.source=torchvision", f"output_dir={tmp_path}"]
    assert main([*asked, "action=plan"]) == 0
    assert main([*asked, "launcher=debug", "tracking.enabled=false"]) == 2
    printed = capsys.readouterr()
    assert "evaluate.linear_food.dataset=food: Food-101 not found in" in printed.out + printed.err
    assert not (tmp_path / "runs").exists()
