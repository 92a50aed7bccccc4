"""Picture folders on real files: what is found, what is refused, what is remembered, and what a run gets."""

import multiprocessing
import os
import shutil
import signal
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core import data
from core.config import DataConfig, parse
from core.data import cache, decode, folder, pictures
from core.errors import Cause, RunFailed, UserError

ODD_NAMES = (
    "plain.png",
    "two words.PNG",
    'it\'s "quoted".png',
    "line\nbreak.png",
    "grüße-猫.png",
    "-rf.png",
    "#1%20.png",
)
CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar10-images.tar.xz"


def write_picture(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (14, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes with seven training pictures and one test picture each."""
    root = tmp_path / "my 'own' pictures"
    for label, name in enumerate(("cat", "dog & co")):
        for number, file in enumerate(ODD_NAMES):
            write_picture(root / "train" / name / file, 10 * label + number)
        write_picture(root / "test" / name / "deep" / "deeper" / "x.png", 50 + label)
    return root


@pytest.fixture
def config(tree: Path, tmp_path: Path):
    """Makes the config of the tree; keywords replace its settings."""

    def make(**settings: Any) -> DataConfig:
        base = {"name": "image_folder", "root": str(tree), "stored_size": 16, "cache_dir": str(tmp_path / "cache")}
        return parse(DataConfig, {**base, **settings})

    return make


def pixels_of(config: DataConfig, split: str = "train") -> torch.Tensor:
    loaded = data.load(config, split)
    return loaded.batch(torch.arange(len(loaded)))


def refusal(config: DataConfig) -> str:
    with pytest.raises(UserError) as caught:
        data.inspect(config)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_odd_names_and_nested_folders_are_found(config, tree):
    info = data.inspect(config())
    assert (info.train_count, info.test_count) == (14, 2)
    assert info.classes == ("cat", "dog & co")
    assert info.bytes == 16 * 16 * 16 * 3
    train = data.load(config(), "train")
    assert train.labels_N.tolist() == [0] * 7 + [1] * 7
    names = sorted(ODD_NAMES, key=os.fsencode)
    for row, name in enumerate(names):
        expected = decode.decode(tree / "train" / "cat" / name, 16)
        assert np.array_equal(train.batch(torch.tensor([row]))[0].permute(1, 2, 0).numpy(), expected)


def test_names_that_are_no_unicode_are_found(config, tree):
    try:
        write_picture(Path(os.fsdecode(os.fsencode(tree / "train" / "cat") + b"/\xff\xfe.png")), 90)
    except OSError:
        pytest.skip("this file system wants unicode names")
    assert len(data.load(config(), "train")) == 15


def test_hidden_and_other_files_are_left_out(config, tree):
    before = data.inspect(config())
    write_picture(tree / "train" / "cat" / ".hidden.png", 1)
    write_picture(tree / "train" / "cat" / ".thumbnails" / "x.png", 1)
    write_picture(tree / "train" / ".cache" / "x.png", 1)
    (tree / "train" / "cat" / "notes.txt").write_text("not a picture")
    (tree / "train" / "cat" / "moving.GIF").write_bytes(b"GIF89a")
    (tree / "README").write_text("not a picture")
    after = data.inspect(config())
    assert after.others == ("1 .gif", "1 .txt")
    assert replace(after, others=()) == before


def test_odd_endings_are_shown_on_one_line_and_many_as_a_number(config, tree):
    for number in range(8):
        (tree / "train" / "cat" / f"frame.{number}").write_text("")
    for odd in (b"x.\xff", b"x.\x1b[31m\n"):
        Path(os.fsdecode(os.fsencode(tree / "train" / "cat") + b"/" + odd)).write_text("")
        Path(os.fsdecode(os.fsencode(tree / "train" / "cat") + b"/y" + odd)).write_text("")
    others = data.inspect(config()).others
    assert len(others) == 6
    assert others[-1] == "5 others"
    assert all(other.isprintable() for other in others)


def test_links_are_followed_and_loops_are_not(config, tree, tmp_path):
    write_picture(tmp_path / "elsewhere" / "y.png", 1)
    (tree / "train" / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    (tree / "train" / "cat" / "loop").symlink_to(tree / "train" / "cat")
    (tree / "train" / "cat" / "linked.png").symlink_to(tmp_path / "elsewhere" / "y.png")
    assert data.inspect(config()).train_count == 16


def test_val_stands_in_for_test(config, tree):
    (tree / "test").rename(tree / "val")
    assert data.inspect(config()).test_count == 2


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda tree: shutil.rmtree(tree), "no such folder"),
        (lambda tree: shutil.rmtree(tree / "train"), "has no folder train/"),
        (lambda tree: shutil.rmtree(tree / "test"), "has no folder test/ or val/"),
        (lambda tree: (shutil.rmtree(tree / "train"), (tree / "train").mkdir()), "train/ has no class folders"),
        (lambda tree: shutil.rmtree(tree / "train" / "cat"), "train/ has one class, dog & co"),
        (lambda tree: shutil.rmtree(tree / "test" / "cat"), "test/ has no cat"),
        (lambda tree: (tree / "test" / "bird").mkdir(), "train/ has no bird"),
        (lambda tree: (tree / "test" / "cat" / "deep" / "deeper" / "x.png").unlink(), "test/cat holds no picture"),
        (lambda tree: (tree / "train" / "new\nline").mkdir(), "test/ has no 'new\\nline'"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused_in_one_line(config, tree, spoil, said):
    spoil(tree)
    message = refusal(config())
    assert said in message
    assert message.startswith("data.root=")


def test_no_root_is_refused(config):
    assert "data.root" in refusal(config(root=""))


def test_a_size_above_what_is_there_takes_all(config):
    """So that a scale's size is no obstacle for a small folder of one's own."""
    assert data.inspect(config(train_size=15)).train_count == 14
    assert len(data.load(config(train_size=15), "train")) == 14


def test_a_cache_folder_that_cannot_be_made_is_refused(config, tmp_path):
    (tmp_path / "file").write_text("")
    assert refusal(config(cache_dir=str(tmp_path / "file"))).startswith("data.cache_dir=")


def test_a_full_disk_leaves_nothing_half_written(config, tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        data.prepare(config(), None)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir() and path.name != "index"]


def test_the_fingerprint_is_the_content_not_the_place(config, tree, tmp_path):
    before = data.inspect(config()).fingerprint
    moved = tmp_path / "moved"
    shutil.copytree(tree, moved, copy_function=shutil.copyfile)  # other modification times, too
    assert data.inspect(config(root=str(moved), cache_dir=str(tmp_path / "other"))).fingerprint == before
    assert data.inspect(config(stored_size=24)).fingerprint == before


@pytest.mark.parametrize(
    "change",
    [
        lambda cat: write_picture(cat / "plain.png", 99),
        lambda cat: (cat / "plain.png").rename(cat / "other.png"),
        lambda cat: (cat / "plain.png").rename(cat.parent / "dog & co" / "other.png"),
        lambda cat: (cat / "plain.png").unlink(),
        lambda cat: write_picture(cat / "new.png", 1),
    ],
)
def test_any_change_is_another_fingerprint(config, tree, change):
    before = data.inspect(config()).fingerprint
    change(tree / "train" / "cat")
    assert data.inspect(config()).fingerprint != before


def test_a_large_tree_is_known_by_names_and_sizes(config, tree, monkeypatch):
    monkeypatch.setattr(folder, "READ_LIMIT", 100)
    monkeypatch.setattr(folder, "_content_digest", None)
    before = data.inspect(config()).fingerprint
    with open(tree / "train" / "cat" / "plain.png", "ab") as file:
        file.write(b"x")
    assert data.inspect(config()).fingerprint != before


def test_pictures_are_read_and_decoded_once(config, monkeypatch):
    steps: list[tuple[int, int]] = []
    data.prepare(config(), lambda done, total: steps.append((done, total)))
    assert steps[-1] == (16, 16)
    assert steps == sorted(steps)
    monkeypatch.setattr(folder, "_content_digest", None)  # would fail if called
    monkeypatch.setattr(decode, "decode", None)
    assert data.inspect(config()).cached
    steps.clear()
    data.prepare(config(), lambda done, total: steps.append((done, total)))
    assert steps == []
    assert len(data.load(config(), "train")) == 14


def test_a_planned_run_needs_the_cache_alone(config, tree):
    data.prepare(config(), None)
    planned = config(fingerprint=data.inspect(config()).fingerprint)
    before = pixels_of(planned)
    shutil.rmtree(tree)
    assert torch.equal(pixels_of(planned), before)


def test_a_run_planned_with_other_pictures_is_refused(config, tree):
    fingerprint = data.inspect(config()).fingerprint
    write_picture(tree / "train" / "cat" / "plain.png", 99)
    with pytest.raises(RunFailed) as caught:
        data.load(config(fingerprint=fingerprint), "train")
    assert caught.value.cause == Cause.BAD_DATA


@pytest.fixture
def damaged(tree: Path) -> Path:
    """The tree with three pictures that cannot be decoded."""
    (tree / "train" / "cat" / "plain.png").write_bytes(b"no picture")
    whole = (tree / "train" / "dog & co" / "plain.png").read_bytes()
    (tree / "train" / "dog & co" / "plain.png").write_bytes(whole[:200])
    (tree / "train" / "cat" / "broken.jpg").symlink_to(tree / "nowhere.jpg")
    return tree


@pytest.mark.parametrize("cache_gb", [8.0, 0.0])
def test_pictures_that_cannot_be_decoded_stop_everything(config, damaged, cache_gb):
    for _ in range(2):  # decoding them, and remembering that
        with pytest.raises(UserError) as caught:
            data.prepare(config(max_bad=2, cache_gb=cache_gb), None)
        message = str(caught.value)
        assert message.startswith("data.max_bad=2: 3 pictures cannot be decoded, the first is train/cat/broken.jpg: ")
        assert "\n" not in message


@pytest.mark.parametrize("cache_gb", [8.0, 0.0])
def test_pictures_that_cannot_be_decoded_are_named_and_skipped(config, damaged, cache_gb, caplog):
    allowed = config(max_bad=3, cache_gb=cache_gb)
    data.prepare(allowed, None)
    for name in ("train/cat/broken.jpg", "train/cat/plain.png", "train/dog & co/plain.png"):
        assert name in caplog.text
    info = data.inspect(allowed)
    assert (info.train_count, info.test_count, len(info.bad)) == (12, 2, 3)
    train = data.load(allowed, "train")
    assert train.labels_N.tolist() == [0] * 6 + [1] * 6
    assert len(pixels_of(allowed)) == 12


@pytest.mark.parametrize("train_size", [0, 8])
def test_streamed_pictures_are_the_cached_ones(config, damaged, tmp_path, monkeypatch, train_size):
    monkeypatch.setattr(pictures, "STREAM_CHUNK", 3)
    cached = data.load(config(max_bad=3, train_size=train_size), "train")
    settings = {"max_bad": 3, "train_size": train_size, "cache_gb": 0.0, "workers": 2}
    streaming = config(**settings, cache_dir=str(tmp_path / "other"))
    assert data.inspect(streaming).streamed
    streamed = data.load(streaming, "train")
    assert not list((tmp_path / "other").rglob("pictures.npy"))
    assert isinstance(streamed, pictures.StreamedPictures)
    assert torch.equal(streamed.labels_N, cached.labels_N)
    order = torch.randperm(len(cached), generator=torch.Generator().manual_seed(0))
    wanted = [order[:1], order[1:5], order[:0], order[5:], order.repeat(3)]
    state = torch.get_rng_state()
    got = list(streamed.batches(wanted))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(got) == len(wanted)
    for indices_N, batch in zip(wanted, got, strict=True):
        assert torch.equal(batch, cached.batch(indices_N))
        assert torch.equal(batch, streamed.batch(indices_N))
        assert batch.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(a, b) for a, b in zip(cached.batches(wanted), got, strict=True))


def test_a_streamed_picture_that_went_bad_is_named_in_one_line(config, tree):
    streamed = data.load(config(cache_gb=0.0, workers=1), "train")
    (tree / "train" / "cat" / "plain.png").write_bytes(b"no picture")
    with pytest.raises(RunFailed) as caught:
        list(streamed.batches([torch.arange(len(streamed))]))
    assert str(caught.value).endswith("cannot now: 'train/cat/plain.png': not a picture")
    assert "\n" not in str(caught.value)


def test_the_loader_does_not_run_through_all_batches_ahead(config, tmp_path):
    streamed = data.load(config(cache_gb=0.0, workers=1), "train")
    asked = []

    def orders():
        for step in range(1000):
            asked.append(step)
            yield torch.tensor([step % 14])

    batches = streamed.batches(orders())
    for _ in range(3):
        next(batches)
    assert len(asked) < 20


def test_a_streamed_picture_that_vanishes_fails_the_run(config, tree):
    streamed = data.load(config(cache_gb=0.0, workers=1), "train")
    shutil.rmtree(tree / "train")
    for read in (streamed.batch, lambda indices_N: list(streamed.batches([indices_N]))):
        with pytest.raises(RunFailed) as caught:
            read(torch.arange(3))
        assert caught.value.cause == Cause.BAD_DATA
        assert "train/cat/" in str(caught.value)


def prepare_and_count(config: DataConfig, counts: multiprocessing.Queue) -> None:
    seen = [0]
    data.prepare(config, lambda done, total: seen.append(done))
    counts.put((seen[-1], len(data.load(config, "train"))))


def test_two_processes_prepare_at_once(config, tmp_path):
    context = multiprocessing.get_context("spawn")
    counts = context.Queue()
    workers = [context.Process(target=prepare_and_count, args=(config(), counts)) for _ in range(2)]
    for worker in workers:
        worker.start()
    results = [counts.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    assert sum(decoded for decoded, _ in results) == 16
    assert [loaded for _, loaded in results] == [14, 14]


def prepare_and_die(config: DataConfig) -> None:
    data.prepare(config, lambda done, total: os.kill(os.getpid(), signal.SIGKILL))


def test_a_preparation_that_was_killed_leaves_nothing(config, tmp_path):
    killed = multiprocessing.get_context("spawn").Process(target=prepare_and_die, args=(config(),))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert not data.inspect(config()).cached
    assert len(data.load(config(), "train")) == 14
    folders = [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert len([name for name in folders if name.startswith(".")]) == 0


def test_many_pictures_are_decoded_by_several_processes(config, tree):
    for number in range(3 * decode.CHUNK):
        write_picture(tree / "train" / "cat" / f"{number:03}.png", number)
    (tree / "train" / "cat" / "100.png").write_bytes(b"no picture")
    train = data.load(config(max_bad=1), "train")
    assert len(train) == 14 + 3 * decode.CHUNK - 1
    files = sorted((file for file in (tree / "train" / "cat").iterdir() if file.name != "100.png"), key=os.fsencode)
    expected = np.stack([decode.decode(file, 16) for file in files])
    assert np.array_equal(train.batch(torch.arange(len(files))).permute(0, 2, 3, 1).numpy(), expected)


@pytest.mark.skipif(not CIFAR.exists(), reason="no CIFAR-10 pictures beside the checkout")
def test_real_pictures(config, tmp_path):
    with tarfile.open(CIFAR) as archive:
        for number, member in enumerate(archive):
            if number % 200 == 0 and member.isfile():
                picture = tmp_path / "cifar" / member.name  # `extract` wants its filter from Python 3.11.4 on only
                picture.parent.mkdir(parents=True, exist_ok=True)
                picture.write_bytes(archive.extractfile(member).read())
    info = data.inspect(config(root=str(tmp_path / "cifar"), stored_size=32))
    assert len(info.classes) == 10
    assert 250 <= info.train_count + info.test_count <= 301
    train = data.load(config(root=str(tmp_path / "cifar"), stored_size=32, train_size=100), "train")
    assert train.labels_N.bincount().tolist() == [10] * 10
    batch = train.batch(torch.arange(100))
    assert 100 < batch.float().mean() < 140
    assert batch.float().std() > 40
