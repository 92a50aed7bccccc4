"""Views per second of the SimCLR augmentation, ours beside lightly and kornia, on CPU.

    python -m tests.benchmarks.augment [--size 32] [--batch 256] [--rounds 7] [--threads 1]

All make two views of the same uint8 pictures with crop, flip, jitter, grey and blur; the contenders take
turns in every round, so that other load on the machine meets all of them. Views per CPU second compare
core with core, whatever else runs.
"""

import argparse
import itertools
import platform
import statistics
import time
from collections.abc import Callable

import kornia
import kornia.augmentation as K
import lightly
import psutil
import torch
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from core.augment import Augmenter
from core.augment.filters import blur_kernel_size
from core.config import AugmentConfig

Contender = Callable[[], int]
"""Makes some views and returns how many."""


class Pictures(Dataset):
    """PIL pictures with lightly's transform, as its documentation sets them up."""

    def __init__(self, x_NCHW: Tensor, transform: SimCLRTransform):
        self.pictures = [Image.fromarray(x_CHW.permute(1, 2, 0).numpy()) for x_CHW in x_NCHW]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(self.pictures[index])


def ours(x_NCHW: Tensor, size: int, batch: int) -> Contender:
    augmenter = Augmenter(AugmentConfig(), size)
    x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)

    steps = itertools.count()

    def run() -> int:
        return sum(
            len(augmenter.two_views(part, augmenter.draw(len(part), 0, next(steps)))) for part in x_NCHW.split(batch)
        )

    return run


def by_kornia(x_NCHW: Tensor, size: int, batch: int) -> Contender:
    taps = blur_kernel_size(size)
    sequence = K.AugmentationSequential(
        K.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        K.RandomHorizontalFlip(p=0.5),
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((taps, taps), (0.1, 2.0), p=0.5),
        same_on_batch=False,
    )

    def run() -> int:
        views = 0
        for part in x_NCHW.split(batch):
            x_float = part.float() / 255
            views += len(sequence(x_float)) + len(sequence(x_float))
        return views

    return run


def by_lightly(x_NCHW: Tensor, size: int, batch: int) -> Contender:
    loader = DataLoader(
        Pictures(x_NCHW, SimCLRTransform(input_size=size)),
        batch_size=batch,
        num_workers=2,
        persistent_workers=True,
    )
    return lambda: sum(len(one) + len(two) for one, two in loader)


def cpu_seconds() -> float:
    """What this process and its workers have used so far."""
    process = psutil.Process()
    times = [each.cpu_times() for each in (process, *process.children())]
    return sum(each.user + each.system for each in times)


def rates(contenders: dict[str, Contender], rounds: int, seconds: float) -> dict[str, list[tuple[float, float]]]:
    """Views per second and per CPU second of every round; a contender repeats its work for at least `seconds`."""
    for run in contenders.values():
        run()
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start, cpu, views = time.perf_counter(), cpu_seconds(), 0
            while time.perf_counter() - start < seconds:
                views += run()
            measured[name].append((views / (time.perf_counter() - start), views / (cpu_seconds() - cpu)))
    return measured


def report(title: str, measured: dict[str, list[float]]) -> None:
    """One table: median, least and most, and the ratios of the rounds."""
    print(f"\n{title:22}{'median':>10}{'least':>10}{'most':>10}{'ours is':>24}")
    for name, values in measured.items():
        ratios = sorted(own / value for own, value in zip(measured["ours"], values, strict=True))
        span = f"{statistics.median(ratios):.1f}x ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        print(f"{name:22}{statistics.median(values):10,.0f}{min(values):10,.0f}{max(values):10,.0f}{span:>24}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="side of pictures and views (default %(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="pictures per batch (default %(default)s)")
    parser.add_argument("--pictures", type=int, default=2048, help="pictures in all (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="least length of a turn (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of ours and of kornia (default 1)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    shape = (args.pictures, 3, args.size, args.size)
    x_NCHW = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    # Lightly first: its workers are forked before this process has started any thread.
    makers = {"lightly, 2 workers": by_lightly, "kornia, batched": by_kornia, "ours": ours}
    contenders = {name: make(x_NCHW, args.size, args.batch) for name, make in makers.items()}
    measured = rates(contenders, args.rounds, args.seconds)

    print(
        f"torch {torch.__version__}, lightly {lightly.__version__}, kornia {kornia.__version__}, "
        f"{torch.get_num_threads()} threads, {platform.processor() or platform.machine()}"
    )
    print(f"{args.pictures} pictures of {args.size} pixels, batches of {args.batch}, n={args.rounds} rounds")
    for column, title in enumerate(("views per second", "views per CPU second")):
        report(title, {name: [each[column] for each in values] for name, values in measured.items()})


if __name__ == "__main__":
    main()
