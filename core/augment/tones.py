"""Transformations of pixels by their value: equalize and solarize (App. B.2)."""

import torch
import torchvision.transforms.v2.functional as F
from torch import Tensor

from core.augment.draws import Parameters, indices, uniform
from core.config import AugmentConfig


def to_levels(x_NCHW: Tensor) -> Tensor:
    """The float pictures in 256 levels, uint8: what histograms and bits are defined on."""
    return x_NCHW.mul(255).round_().to(torch.uint8)


def from_levels(x_NCHW: Tensor) -> Tensor:
    """Pictures in 256 levels as float in 0..1."""
    return x_NCHW.float().div_(255)


class Equalize:
    """Flat histograms, channel by channel, with probability `equalize_p`: torchvision's RandomEqualize."""

    def __init__(self, config: AugmentConfig, image_size: int):
        self.p = config.equalize_p

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        return {"equalize_N": uniform((count,), 0.0, 1.0, generator) < self.p}

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        index = indices(parameters["equalize_N"], x_NCHW)
        equal_NCHW = F.equalize(to_levels(x_NCHW.index_select(0, index)))
        return x_NCHW.index_copy_(0, index, from_levels(equal_NCHW))


class Solarize:
    """Values from `solarize_threshold` on inverted, with probability `solarize_p`: torchvision's RandomSolarize."""

    def __init__(self, config: AugmentConfig, image_size: int):
        self.p = config.solarize_p
        self.threshold = config.solarize_threshold

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        return {"solarize_N": uniform((count,), 0.0, 1.0, generator) < self.p}

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        index = indices(parameters["solarize_N"], x_NCHW)
        return x_NCHW.index_copy_(0, index, F.solarize(x_NCHW.index_select(0, index), self.threshold))
