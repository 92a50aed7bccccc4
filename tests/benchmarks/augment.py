"""Views per second of the SimCLR augmentation, ours beside lightly, kornia and torchvision, on CPU.

All make two views of the same uint8 pictures with crop, flip, jitter, grey and blur.
"""

import itertools
from collections.abc import Iterator

import kornia.augmentation as K
import torch
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2 as transforms_v2

from core.augment import Augmenter
from core.augment.filters import blur_kernel_size
from core.config import AugmentConfig
from tests.benchmarks.measure import Contender, Line, compare


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
            x_float = part if part.is_floating_point() else part.float() / 255
            views += len(sequence(x_float)) + len(sequence(x_float))
        return views

    return run


def by_lightly(x_NCHW: Tensor, size: int, batch: int, workers: int) -> Contender:
    loader = DataLoader(
        Pictures(x_NCHW, SimCLRTransform(input_size=size)),
        batch_size=batch,
        num_workers=workers,
        persistent_workers=True,
    )
    return lambda: sum(len(one) + len(two) for one, two in loader)


def by_torchvision(x_NCHW: Tensor, size: int, v2: bool) -> Contender:
    """torchvision picture by picture: v1 on PIL pictures, v2 on uint8 tensors, as its documentation advises."""
    T = transforms_v2 if v2 else transforms
    taps = blur_kernel_size(size)
    to_float = [T.ToDtype(torch.float32, scale=True)] if v2 else [T.ToTensor()]
    chain = T.Compose(
        [
            T.RandomResizedCrop(size, antialias=True),
            T.RandomHorizontalFlip(),
            T.RandomApply([T.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            T.RandomGrayscale(0.2),
            T.RandomApply([T.GaussianBlur(taps, (0.1, 2.0))], p=0.5),
            *to_float,
        ]
    )
    x_NCHW = x_NCHW[: max(8, len(x_NCHW) // 8)]
    pictures = list(x_NCHW) if v2 else Pictures(x_NCHW, chain).pictures
    return lambda: len(torch.stack([chain(picture) for picture in pictures for _ in range(2)]))


def lines(quick: bool) -> Iterator[Line]:
    """At 32, 96 and 224 pixels from uint8 pictures on one core (lightly: worker processes).

    In full also from pictures stored at 256 pixels, where large crops shrink, from float pictures, and on two cores.
    """
    full = [(32, 32, 2048), (96, 96, 512), (224, 224, 64), (224, 256, 64)]
    cases = [(32, 32, 1024), (224, 224, 32)] if quick else full
    rounds, seconds = (3, 0.3) if quick else (5, 0.8)
    for size, stored, pictures in cases:
        shape, generator = (pictures, 3, stored, stored), torch.Generator().manual_seed(0)
        x_NCHW = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        given = (size, min(256, pictures))
        name = f"{size} px" if stored == size else f"{size} px of {stored}"
        torch.set_num_threads(1)
        # Lightly first: its workers are forked before this process has started any thread.
        lightly = by_lightly(x_NCHW, *given, workers=2)
        contenders: dict[str, Contender] = {"lightly, 2 workers": lightly}
        if not quick:
            contenders["lightly, 1 worker"] = by_lightly(x_NCHW, *given, workers=1)
        contenders["kornia"] = by_kornia(x_NCHW, *given)
        contenders["torchvision v1 (PIL)"] = by_torchvision(x_NCHW, size, v2=False)
        contenders["torchvision v2"] = by_torchvision(x_NCHW, size, v2=True)
        contenders["ours"] = ours(x_NCHW, *given)
        yield from compare("augment", name, "views/s", contenders, rounds, seconds)
        if quick:
            continue
        makers = {"kornia": by_kornia, "ours": ours}
        on_two = {maker: on_two_threads(make(x_NCHW, *given)) for maker, make in makers.items()}
        contenders = {"lightly, 2 workers": lightly, **on_two}
        yield from compare("augment", f"{name}, two cores", "views/s", contenders, rounds, seconds)
        x_NCHW = x_NCHW.float() / 255
        contenders = {maker: make(x_NCHW, *given) for maker, make in makers.items()}
        contenders["torchvision v2"] = by_torchvision(x_NCHW, size, v2=True)
        yield from compare("augment", f"{name}, float", "views/s", contenders, rounds, seconds)


def on_two_threads(contender: Contender) -> Contender:
    def run() -> float:
        torch.set_num_threads(2)
        try:
            return contender()  # type: ignore[return-value]
        finally:
            torch.set_num_threads(1)

    return run
