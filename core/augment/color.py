"""Colour distortion (App. A): ColorJitter in random order per picture, then grey.

Each operation equals its namesake in torchvision.transforms.v2.functional on float RGB pictures in 0..1.
"""

import torch
from torch import Tensor

from core.augment.draws import Parameters, per_picture, uniform, where
from core.config import AugmentConfig


def luma(x_NCHW: Tensor) -> Tensor:
    """The grey picture (N, 1, H, W), ITU-R 601 weights as in torchvision."""
    red, green, blue = x_NCHW.split(1, 1)
    return (0.2989 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def brightness(x_NCHW: Tensor, factor_N: Tensor) -> Tensor:
    """Multiplied by the factor (TensorFlow's adds instead)."""
    return x_NCHW.mul_(per_picture(factor_N, x_NCHW)).clamp_(0, 1)


def contrast(x_NCHW: Tensor, factor_N: Tensor) -> Tensor:
    """Blended with the mean of the grey picture."""
    factor = per_picture(factor_N, x_NCHW)
    mean = luma(x_NCHW).mean((2, 3), keepdim=True)
    return x_NCHW.mul_(factor).add_(mean.mul_(1 - factor)).clamp_(0, 1)


def saturation(x_NCHW: Tensor, factor_N: Tensor) -> Tensor:
    """Blended with the grey picture."""
    factor = per_picture(factor_N, x_NCHW)
    gray = luma(x_NCHW).mul_(1 - factor)
    return x_NCHW.mul_(factor).add_(gray).clamp_(0, 1)


def hue(x_NCHW: Tensor, turn_N: Tensor) -> Tensor:
    """The hue of HSV turned by a share of the circle.

    Value and chroma stay, so no way through HSV is needed: a channel is the smallest plus the chroma times
    a trapezium of the distance, on the circle of hues, to the channel's own primary.
    """
    red, green, blue = x_NCHW.split(1, 1)
    largest = x_NCHW.amax(1, keepdim=True)
    smallest = x_NCHW.amin(1, keepdim=True)
    chroma = largest - smallest
    sixth = torch.where(
        largest == red,
        green - blue,
        torch.where(largest == green, blue - red, red - green),
    )
    sector = torch.where(largest == red, 0.0, torch.where(largest == green, 2.0, 4.0))
    # Where chroma is 0 the hue has no meaning and is multiplied by 0 below; it has only to be finite.
    at = (sixth / chroma.clamp(min=1e-8) + sector) / 6 + per_picture(turn_N, x_NCHW)
    primary_C11 = torch.tensor([0.0, 1 / 3, 2 / 3], device=x_NCHW.device)[:, None, None]
    distance = at - primary_C11
    distance = (distance - distance.round()).abs_()
    return distance.mul_(-6).add_(2).clamp_(0, 1).mul_(chroma).add_(smallest)


OPERATIONS = (brightness, contrast, saturation, hue)


class Color:
    """ColorJitter(0.8s, 0.8s, 0.8s, 0.2s) with `color_p`, then grey with `gray_p` (App. A)."""

    def __init__(self, config: AugmentConfig, image_size: int):
        self.config = config

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        spread = 0.8 * self.config.color_strength
        turn = 0.2 * self.config.color_strength
        return {
            "amount_N4": torch.cat(
                [
                    uniform((count, 3), max(0.0, 1 - spread), 1 + spread, generator),
                    uniform((count, 1), -turn, turn, generator),
                ],
                1,
            ),
            "order_N4": torch.rand(count, 4, generator=generator).argsort(1),
            "jitter_N": uniform((count,), 0.0, 1.0, generator) < self.config.color_p,
            "gray_N": uniform((count,), 0.0, 1.0, generator) < self.config.gray_p,
        }

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        for position in range(len(OPERATIONS)):
            for number, operation in enumerate(OPERATIONS):
                mask_N = parameters["jitter_N"] & (parameters["order_N4"][:, position] == number)
                index = where(mask_N, x_NCHW)
                x_NCHW[index] = operation(x_NCHW[index], parameters["amount_N4"][mask_N, number])
        index = where(parameters["gray_N"], x_NCHW)
        x_NCHW[index] = luma(x_NCHW[index]).expand(-1, 3, -1, -1)
        return x_NCHW
