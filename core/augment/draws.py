"""The random parameters of a step: drawn for the global batch on CPU, sliced by rank, applied anywhere.

Invariant: a parameter belongs to one picture (dimension 0), so slicing commutes with applying.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from core.config import AugmentConfig
from core.device import send

Parameters = dict[str, Tensor]
"""What one transformation draws: each tensor has one row per picture, on CPU."""


class Transform(Protocol):
    """One transformation: what it draws, and how it applies that to a batch.

    To add one, write a class with these three methods and name it in `TRANSFORMS` (core/augment/__init__.py).
    """

    def __init__(self, config: AugmentConfig, image_size: int): ...

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        """The parameters of `count` pictures, on CPU."""
        ...

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        """The transformed float pictures in 0..1, contiguous as they came.

        `x_NCHW` belongs to the callee, which may change it.

        The parameters stay on CPU, where grouping pictures costs no synchronisation; each transformation
        moves what it needs.
        """
        ...


@dataclass(frozen=True)
class Draws:
    """All parameters of both views of `count` pictures: `parameters["view1/crop"]["flip_N"]`."""

    count: int
    parameters: dict[str, Parameters]

    def slice(self, start: int, stop: int) -> "Draws":
        """The parameters of pictures `start` to `stop` (a rank's part of the global batch)."""
        if not 0 <= start <= stop <= self.count:
            raise ValueError(f"slice {start}:{stop} of draws for {self.count} pictures")
        parts = {
            place: {name: value[start:stop] for name, value in drawn.items()}
            for place, drawn in self.parameters.items()
        }
        return Draws(stop - start, parts)


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [low, high), double precision as in torchvision's own draws."""
    return torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low


def per_picture(value_N: Tensor, x_NCHW: Tensor) -> Tensor:
    """One float per picture as (N, 1, 1, 1) on the device of the pictures."""
    return send(value_N.to(x_NCHW.dtype), x_NCHW.device)[:, None, None, None]


def indices(mask_N: Tensor, x_NCHW: Tensor) -> Tensor:
    """The indices of the pictures in a CPU mask, on the device of the pictures."""
    return send(mask_N.nonzero()[:, 0], x_NCHW.device)
