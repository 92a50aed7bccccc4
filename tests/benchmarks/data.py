"""Starting on a picture folder, and reading from it: `python -m tests.benchmarks.data ROOT [--size 32] [--workers 2]`.

Prints the seconds of a first start (every file read, hashed and decoded) and of later starts, each in a process of its
own without torch, as a sweep makes them; then pictures per second from the cache, streamed, and from torchvision's
image folder in a DataLoader with the same resize, in turns. The file system's own cache is warm throughout.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable

import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from core import data
from core.config import DataConfig

ROUNDS = 5
BATCH = 256
START = """
import sys, time
begin = time.perf_counter()
from core import data
from core.config import DataConfig
config = DataConfig(name="image_folder", root=sys.argv[1], stored_size=int(sys.argv[2]), cache_dir=sys.argv[3])
info = data.inspect(config)
inspected = time.perf_counter()
data.prepare(config, None)
print(time.perf_counter() - begin, inspected - begin, info.train_count + info.test_count)
"""


def start(root: str, size: int, cache: str) -> tuple[float, float, int]:
    """Seconds to be ready, seconds of that to plan, and the number of pictures."""
    command = [sys.executable, "-c", START, root, str(size), cache]
    ready, planned, count = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(ready), float(planned), int(count)


def peer(root: str, size: int, workers: int) -> DataLoader:
    """torchvision's own way to the same pictures."""
    resize = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()])
    return DataLoader(datasets.ImageFolder(f"{root}/train", resize), BATCH, shuffle=True, num_workers=workers)


def rate(batches: Callable[[], Iterable[torch.Tensor]]) -> float:
    """Pictures per second over an epoch of at most 40 batches, the start of workers included."""
    begin, pictures = time.perf_counter(), 0
    for number, batch in enumerate(batches()):
        pictures += len(batch)
        if number == 39:
            break
    return pictures / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        ready, planned, count = start(options.root, options.size, cache)
        print(
            f"{count:,} pictures at {options.size} pixels\nfirst start  {ready:6.2f} s (of it {planned:.2f} s to plan)"
        )
        later = [start(options.root, options.size, cache)[:2] for _ in range(ROUNDS)]
        ready, planned = (statistics.median(column) for column in zip(*later, strict=True))
        print(f"later start  {ready:6.2f} s (of it {planned:.2f} s to plan), median of {ROUNDS}")
        settings = {"name": "image_folder", "root": options.root, "stored_size": options.size, "cache_dir": cache}
        cached = data.load(DataConfig(**settings), "train")
        streamed = data.load(DataConfig(**settings, cache_gb=0, workers=options.workers), "train")
        loader = peer(options.root, options.size, options.workers)
        order = torch.randperm(len(cached)).split(BATCH)[:40]
        contenders: dict[str, Callable[[], Iterable[torch.Tensor]]] = {
            "cached": lambda: cached.batches(order),
            "streamed": lambda: streamed.batches(order),
            "torchvision": lambda: (pictures for pictures, _ in loader),
        }
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, batches in contenders.items():
                rates[name].append(rate(batches))
    for name, values in rates.items():
        print(f"{name:12} {statistics.median(values):9,.0f} pictures/s ({min(values):,.0f} to {max(values):,.0f})")


if __name__ == "__main__":
    main()
