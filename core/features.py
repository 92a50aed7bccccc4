"""Frozen features of pictures: computed without a trace in the network, which keeps weights, statistics and modes.

Legend: N pictures, C channels, H height, W width, D features.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from core.augment import plain_view
from core.data.pictures import Pictures
from core.device import send
from core.errors import Cause, RunFailed

Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(view_NCHW in 0..1, which may be changed; the pictures' numbers on the CPU) to the view that the encoder sees."""


def extract_features(
    encoder: nn.Module,
    pictures: Pictures,
    image_size: int,
    device: torch.device | str,
    batch_size: int = 256,
    change: Change | None = None,
    rows_N: torch.Tensor | None = None,
) -> torch.Tensor:
    """h_ND in fp32 on the CPU, in the order of `pictures`, each seen once without augmentation.

    change: what happens to the views before the encoder sees them.
    rows_N: only these pictures, in this order; None: all.
    Raises: RunFailed (diverged) if a feature is not finite.
    """
    numbers = (torch.arange(len(pictures)) if rows_N is None else rows_N).split(batch_size)
    features = []
    with frozen(encoder):
        for numbers_N, x_NCHW in zip(numbers, pictures.batches(iter(numbers)), strict=True):
            view_NCHW = plain_view(send(x_NCHW, device), image_size)
            if change is not None:
                view_NCHW = change(view_NCHW.contiguous(), numbers_N)
            features.append(encoder(view_NCHW.contiguous(memory_format=torch.channels_last)).float().cpu())
    return _finite(torch.cat(features))


def project(head: nn.Module, h_ND: torch.Tensor, batch_size: int = 8192) -> torch.Tensor:
    """z = g(h) of the trained head, on the device of h. Raises: RunFailed (diverged) if one is not finite."""
    with frozen(head):
        z_ND = torch.cat([head(part_ND) for part_ND in h_ND.split(batch_size)])
    return _finite(z_ND)


def _finite(features_ND: torch.Tensor) -> torch.Tensor:
    if not features_ND.isfinite().all():
        raise RunFailed(Cause.DIVERGED, "the encoder's features are not finite")
    return features_ND


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every part gets its own mode back."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes.items():
            part.training = training
