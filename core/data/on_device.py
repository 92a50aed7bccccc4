"""Batches on the device that trains: cut there from a set that lies there whole, or copied a step ahead.

On a CPU neither is needed. The part that needs a GPU has not run yet; what surrounds it is tested without one.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from core.data.pictures import CachedPictures, Pictures
from core.device import send

RESIDENT_SHARE = 0.2
"""Of a GPU's free memory, what a whole set of pictures may take: several runs may share the GPU."""

T = TypeVar("T")


def batches_on(device: str, pictures: Pictures, batches_of_indices: Iterable[Tensor]) -> Iterator[Tensor]:
    """`pictures.batches` on `device`, where uint8 (N, 3, S, S) in channels_last memory."""
    if device == "cpu":
        return pictures.batches(batches_of_indices)
    if isinstance(pictures, CachedPictures) and pictures.nbytes <= RESIDENT_SHARE * torch.cuda.mem_get_info()[0]:
        return resident(device, pictures, batches_of_indices)
    return map(_arrived, one_ahead(map(_sender(device), pictures.batches(batches_of_indices))))


def resident(device: str, pictures: CachedPictures, batches_of_indices: Iterable[Tensor]) -> Iterator[Tensor]:
    """Batches of a set that is copied to `device` once, 3 S^2 bytes a picture."""
    pixels_NHWC = pictures.batch(torch.arange(len(pictures))).permute(0, 2, 3, 1).to(device)
    for indices_N in batches_of_indices:
        yield pixels_NHWC.index_select(0, send(indices_N, device)).permute(0, 3, 1, 2)


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, each taken from its source before the one before it is handed out."""
    waiting: list[T] = []
    for item in items:
        waiting.append(item)
        if len(waiting) == 2:
            yield waiting.pop(0)
    yield from waiting


def _sender(device: str) -> Callable[[Tensor], tuple[Tensor, torch.cuda.Event]]:
    """Starts copies from pinned memory on a stream of their own, beside the step that is being computed."""
    stream = torch.cuda.Stream(device)

    def begin(x_NCHW: Tensor) -> tuple[Tensor, torch.cuda.Event]:
        with torch.cuda.stream(stream):
            copy_NCHW = send(x_NCHW, device)
            event = torch.cuda.Event()
            event.record(stream)
        return copy_NCHW, event

    return begin


def _arrived(sent: tuple[Tensor, torch.cuda.Event]) -> Tensor:
    """The batch, as soon as the computing stream has waited for its copy."""
    x_NCHW, event = sent
    stream = torch.cuda.current_stream()
    stream.wait_event(event)
    x_NCHW.record_stream(stream)  # its memory belongs to the copying stream, which must not take it back too soon
    return x_NCHW
