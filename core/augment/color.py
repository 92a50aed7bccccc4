"""Colour distortion (App. A): ColorJitter in random order per picture, then grey.

Each operation equals its namesake in torchvision.transforms.v2.functional on float RGB pictures in 0..1.
"""

import torch
from torch import Tensor

from core.augment.draws import Parameters, uniform
from core.config import AugmentConfig


def luma(x_NCHW: Tensor) -> Tensor:
    """The grey picture (N, 1, H, W), ITU-R 601 weights as in torchvision."""
    red, green, blue = x_NCHW.split(1, 1)
    return (0.2989 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def brightness(x_NCHW: Tensor, factor_N111: Tensor) -> None:
    """Multiplied by the factor (TensorFlow's adds instead)."""
    x_NCHW.mul_(factor_N111).clamp_(0, 1)


def contrast(x_NCHW: Tensor, factor_N111: Tensor) -> None:
    """Blended with the mean of the grey picture."""
    mean_N111 = luma(x_NCHW).mean((2, 3), keepdim=True)
    x_NCHW.mul_(factor_N111).add_(mean_N111.mul_(1 - factor_N111)).clamp_(0, 1)


def saturation(x_NCHW: Tensor, factor_N111: Tensor) -> None:
    """Blended with the grey picture."""
    gray_N1HW = luma(x_NCHW).mul_(1 - factor_N111)
    x_NCHW.mul_(factor_N111).add_(gray_N1HW).clamp_(0, 1)


def hue(x_NCHW: Tensor, turn_N111: Tensor) -> None:
    """The hue of HSV turned by a share of the circle.

    The largest channel, the smallest and their difference, the chroma, stay, so no way through HSV and
    back is needed. With the channels scaled to 0..1 by smallest and chroma, the hue is
    +-(1 - red + green + blue) / 6, positive where green exceeds blue; and a channel is 1 up to 1/6 of the
    circle from its primary, 0 from 1/3 on, and linear between. Without masks, which are slow on CPU.
    """
    red, green, blue = x_NCHW.split(1, 1)
    largest = torch.maximum(torch.maximum(red, green), blue)
    smallest = torch.minimum(torch.minimum(red, green), blue)
    chroma = largest.sub(smallest)
    # A grey pixel has no hue; what is divided by the small number there has no effect on it below.
    at = (green + blue).sub_(red).sub_(smallest).div_(chroma.mul(6).clamp_(min=1e-9)).add_(1 / 6)
    at = at.copysign_(green - blue).add_(turn_N111)
    primary_311 = torch.tensor([0.0, 1 / 3, 2 / 3], device=x_NCHW.device)[:, None, None]
    distance = at - primary_311
    distance.sub_(distance.round()).abs_()
    torch.addcmul(smallest.add(chroma, alpha=2), distance, chroma.mul_(-6), out=x_NCHW)
    torch.minimum(x_NCHW, largest, out=x_NCHW)
    torch.maximum(x_NCHW, smallest, out=x_NCHW)


def gray(x_NCHW: Tensor, _amount_N111: Tensor) -> None:
    """The grey picture in all channels."""
    x_NCHW.copy_(luma(x_NCHW))


OPERATIONS = (brightness, contrast, saturation, hue, gray)
"""Each changes its pictures in place; jitter draws an order of the first four."""
GRAY = OPERATIONS.index(gray)
NOTHING = len(OPERATIONS)


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
        """At each position the pictures are sorted by operation, so that it works in place on a slice."""
        jitter_N1, gray_N1 = parameters["jitter_N"][:, None], parameters["gray_N"][:, None]
        program_N5 = torch.cat(
            [
                torch.where(jitter_N1, parameters["order_N4"], NOTHING),
                torch.where(gray_N1, GRAY, NOTHING),
            ],
            1,
        )
        amount_N5 = torch.cat([parameters["amount_N4"], torch.zeros_like(jitter_N1)], 1).float()
        picture_N = torch.arange(len(x_NCHW))  # which picture each row of x_NCHW is
        for position in range(program_N5.shape[1]):
            number_N, order_N = program_N5[picture_N, position].sort()
            picture_N = picture_N[order_N]
            x_NCHW = x_NCHW.index_select(0, order_N.to(x_NCHW.device))
            amounts = amount_N5[picture_N, number_N.clamp(max=GRAY)].to(x_NCHW.device)[:, None, None, None]
            sizes = number_N.bincount(minlength=NOTHING + 1).tolist()
            for operation, part, amount in zip(
                OPERATIONS, x_NCHW.split(sizes), amounts.split(sizes), strict=False
            ):
                if len(part):
                    operation(part, amount)
        return x_NCHW.index_select(0, picture_N.argsort().to(x_NCHW.device))
