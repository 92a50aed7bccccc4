"""Colour distortion (App. A): ColorJitter in random order per picture, then grey.

Each operation equals its namesake in torchvision.transforms.v2.functional on float RGB pictures in 0..1.
"""

from functools import cache

import torch
from torch import Tensor

from core.augment import compiled
from core.augment.compiled import CONTRAST, HUE, SATURATION
from core.augment.draws import Parameters, indices, uniform
from core.config import AugmentConfig
from core.device import send


@cache
def _minus_primary(device: torch.device) -> Tensor:
    """2 minus the places of red, green and blue on the circle of hues, (3, 1, 1); with the 2, sums stay positive."""
    return send(torch.tensor([2, 2 - 1 / 3, 2 - 2 / 3])[:, None, None], device)


def luma(x_NCHW: Tensor) -> Tensor:
    """The grey picture (N, 1, H, W), ITU-R 601 weights as in torchvision."""
    red, green, blue = x_NCHW.split(1, 1)
    return (0.2989 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def blend(x_NCHW: Tensor, picture_N111: Tensor, gray_N111: Tensor, mean_N111: Tensor) -> None:
    """In place, shares of the picture, of its grey picture and of that one's mean, clamped.

    Brightness (the picture times a factor), saturation (blended with the grey picture) and contrast (blended
    with the mean) are the cases with shares (f, 0, 0), (f, 1 - f, 0) and (f, 0, 1 - f).
    """
    y_N1HW = luma(x_NCHW)
    constant_N111 = y_N1HW.mean((2, 3), keepdim=True).mul_(mean_N111)
    y_N1HW.mul_(gray_N111).add_(constant_N111)
    torch.addcmul(y_N1HW, x_NCHW, picture_N111, out=x_NCHW).clamp_(0, 1)


def hue(x_NCHW: Tensor, turn_N111: Tensor) -> None:
    """In place, the hue of HSV turned by a share of the circle.

    The largest channel, the smallest and their difference, the chroma, stay, so no way through HSV and
    back is needed. With the channels scaled to 0..1 by smallest and chroma, the hue in sixths of the circle
    is +-(1 - red + green + blue), positive where green exceeds blue; and a channel is the largest up to one
    sixth from its primary, the smallest from two sixths on, and linear between.
    """
    red, green, blue = x_NCHW.split(1, 1)
    largest = torch.maximum(torch.maximum(red, green), blue)
    smallest = torch.minimum(torch.minimum(red, green), blue)
    chroma = largest - smallest
    # A grey pixel has no hue; what is divided by the small number there has no effect on it below.
    sixths = (green + blue).sub_(red).sub_(smallest).div_(chroma.clamp(min=1e-9)).add_(1)
    sixths.copysign_(green - blue).add_(turn_N111 * 6)
    # The fraction of (hue - primary) is 0 at the primary and 1/2 opposite.
    torch.add(_minus_primary(x_NCHW.device), sixths, alpha=1 / 6, out=x_NCHW).frac_().sub_(0.5).abs_()
    torch.addcmul(smallest - chroma, x_NCHW, chroma.mul_(6), out=x_NCHW)
    torch.clamp(x_NCHW, smallest, largest, out=x_NCHW)


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
        """On a CPU picture by picture (`compiled.color`).

        Elsewhere the three blends of all pictures together, and each picture's hue before, between or after them:
        pictures are sorted by the place of their hue, those without jitter last, so that every operation works in
        place on a slice.
        """
        if compiled.handles(x_NCHW):
            compiled.color(x_NCHW, **parameters)
            return x_NCHW
        order_N4 = parameters["order_N4"]
        hue_N = torch.where(parameters["jitter_N"], (order_N4 == HUE).int().argmax(1), 4)
        sorted_N = hue_N.argsort()
        sizes_5 = hue_N.bincount(minlength=5).tolist()
        shares_33N111, turn_N111 = self._amounts(order_N4[sorted_N], parameters["amount_N4"][sorted_N])
        shares_33N111, turn_N111 = send(shares_33N111, x_NCHW.device), send(turn_N111, x_NCHW.device)

        y_NCHW = x_NCHW.index_select(0, send(sorted_N, x_NCHW.device))
        jittered = len(x_NCHW) - sizes_5[-1]
        parts = list(zip(y_NCHW.split(sizes_5), turn_N111.split(sizes_5), strict=True))
        hue(*parts[0])
        for shares_3N111, part in zip(shares_33N111, parts[1:4], strict=True):
            blend(y_NCHW[:jittered], *shares_3N111[:, :jittered])
            hue(*part)
        torch.index_select(y_NCHW, 0, send(sorted_N.argsort(), x_NCHW.device), out=x_NCHW)

        gray = indices(parameters["gray_N"], x_NCHW)
        return x_NCHW.index_copy_(0, gray, luma(x_NCHW.index_select(0, gray)).expand(-1, 3, -1, -1))

    def _amounts(self, order_N4: Tensor, amount_N4: Tensor) -> tuple[Tensor, Tensor]:
        """The shares of the three blends in each picture's order (3, 3, N, 1, 1, 1), and the turns of hue."""
        order_N3 = order_N4[order_N4 != HUE].view(-1, 3)
        factor_N3 = amount_N4.gather(1, order_N3)
        rest_N3 = 1 - factor_N3
        shares_3N3 = torch.stack([factor_N3, rest_N3 * (order_N3 == SATURATION), rest_N3 * (order_N3 == CONTRAST)])
        return shares_3N3.permute(2, 0, 1).float()[..., None, None, None], amount_N4[:, HUE, None, None, None].float()
