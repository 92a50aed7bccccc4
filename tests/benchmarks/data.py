"""Picture folders: starting on 60,000 files, and reading from the cache and as a stream beside torchvision.

The first start reads, hashes and decodes every file; later ones find the cache. Each start is a process of its own
without torch, as a sweep makes it. The files are invented JPEGs; the file system's own cache is warm throughout.
"""

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from core import data
from core.config import DataConfig
from tests.benchmarks.measure import Contender, Line, Turn, compare, timed

CLASSES = 10
WORKERS = 2
START = """
import sys
from core import data
from core.config import DataConfig
config = DataConfig(name="image_folder", root=sys.argv[1], stored_size=32, cache_dir=sys.argv[2])
data.inspect(config)
data.prepare(config, None)
"""


def lines(quick: bool) -> Iterator[Line]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        yield from _starts(Path(name), 6_000 if quick else 60_000, 1 if quick else 3)
    for size, count, batch in ((32, 6_000, 256), (224, 512 if quick else 2_048, 64)):
        with tempfile.TemporaryDirectory() as name:
            yield from _reading(Path(name), size, count, batch, 3)


def _starts(folder: Path, count: int, rounds: int) -> Iterator[Line]:
    root = _picture_tree(folder / "pictures", count, (32, 32))
    caches = iter(range(1_000))
    newest = ""

    def start(cache: str) -> Turn:
        return timed([[sys.executable, "-c", START, str(root), cache]], count, folder)

    def first() -> Turn:
        nonlocal newest
        newest = str(folder / f"cache{next(caches)}")
        return start(newest)

    contenders: dict[str, Contender] = {"first start": first, "later start": lambda: start(newest)}
    for line in compare("data", f"{count:,} files", "files/s", contenders, rounds, warm=True):
        yield replace(line, note=f"{count / float(np.median(line.values)):.2f} s")


def _reading(folder: Path, size: int, count: int, batch: int, rounds: int) -> Iterator[Line]:
    """Pictures a second over an epoch, the start of workers included."""
    # Larger than what is asked for and not square, as photographs are: both have to resize them.
    root = _picture_tree(folder / "pictures", count, (size, size) if size == 32 else (size * 5 // 4, size * 9 // 8))
    config = DataConfig(name="image_folder", root=str(root), stored_size=size, cache_dir=str(folder / "cache"))
    cached = data.load(config, "train")
    streamed = data.load(replace(config, cache_gb=0, workers=WORKERS), "train")
    order = torch.randperm(len(cached)).split(batch)
    resize = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()])
    loader = DataLoader(datasets.ImageFolder(str(root / "train"), resize), batch, shuffle=True, num_workers=WORKERS)
    contenders = {
        "ours": _epoch(lambda: streamed.batches(order)),  # streamed
        "torchvision, DataLoader": _epoch(lambda: (pictures for pictures, _ in loader)),
        "ours, cached": _epoch(lambda: cached.batches(order)),
    }
    yield from compare("data", f"{size} px JPEG, {WORKERS} workers", "pictures/s", contenders, rounds)


def _epoch(batches: Callable[[], Iterable[torch.Tensor]]) -> Contender:
    return lambda: sum(len(batch) for batch in batches())


def _picture_tree(root: Path, count: int, size: tuple[int, int]) -> Path:
    """`count` JPEG files of `size`, five of six for training; returns `root`."""
    jobs = []
    for split, share in (("train", count * 5 // 6), ("test", count - count * 5 // 6)):
        for label in range(CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            jobs += [(folder, label, number, size) for number in range(label, share, CLASSES)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(_write_picture, jobs, chunksize=256))
    return root


def _write_picture(job: tuple[Path, int, int, tuple[int, int]]) -> None:
    """Coloured clouds with a little noise: neither flat nor as incompressible as noise alone."""
    folder, label, number, size = job
    random = np.random.default_rng([label, number, int(folder.parent.name == "test")])
    clouds = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = random.integers(-12, 13, (size[1], size[0], 3))
    pixels = np.clip(np.asarray(clouds, dtype=np.int16) + grain, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{number:05d}.jpg", quality=90)
