"""Transformations that move or remove pixels: crop with flip, rotation, cutout.

Legend: N pictures, C channels, H and W side of the input, S side of the output, T tries of a crop.
"""

import math

import torch
from torch import Tensor

from core.augment.draws import Parameters, uniform, where
from core.config import AugmentConfig

CROP_TRIES = 10


class Crop:
    """torchvision's RandomResizedCrop (bilinear, antialias=True), then a left-right flip (App. A).

    Accepts uint8 pictures of any size and returns float ones of side `image_size`.
    """

    def __init__(self, config: AugmentConfig, image_size: int):
        self.config = config
        self.image_size = image_size

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        """Shares and ratios instead of pixels, so that draws do not depend on the size of the picture."""
        low, high = (math.log(ratio) for ratio in self.config.crop_aspect)
        return {
            "area_NT": uniform((count, CROP_TRIES), *self.config.crop_area, generator),
            "aspect_NT": uniform((count, CROP_TRIES), low, high, generator).exp(),
            "place_N2": uniform((count, 2), 0.0, 1.0, generator),
            "flip_N": uniform((count,), 0.0, 1.0, generator) < self.config.flip_p,
        }

    def boxes(self, parameters: Parameters, height: int, width: int) -> Tensor:
        """The crops in pixels, (N, 4): top, left, height, width of the first try that fits, else the centre."""
        area_NT = parameters["area_NT"] * (height * width)
        w_NT = (area_NT * parameters["aspect_NT"]).sqrt().round().long()
        h_NT = (area_NT / parameters["aspect_NT"]).sqrt().round().long()
        fits_NT = (w_NT > 0) & (w_NT <= width) & (h_NT > 0) & (h_NT <= height)
        first_N1 = fits_NT.int().argmax(1, keepdim=True)
        found_N = fits_NT.any(1)
        w_N = w_NT.gather(1, first_N1)[:, 0]
        h_N = h_NT.gather(1, first_N1)[:, 0]
        top_N = (parameters["place_N2"][:, 0] * (height - h_N + 1)).long()
        left_N = (parameters["place_N2"][:, 1] * (width - w_N + 1)).long()

        low, high = self.config.crop_aspect
        whole_w = min(width, round(height * high))
        whole_h = min(height, round(width / low))
        centre_4 = torch.tensor([(height - whole_h) // 2, (width - whole_w) // 2, whole_h, whole_w])
        return torch.where(found_N[:, None], torch.stack([top_N, left_N, h_N, w_N], 1), centre_4)

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        height, width = x_NCHW.shape[2:]
        top_N, left_N, h_N, w_N = self.boxes(parameters, height, width).unbind(1)
        rows_NSH = resize_weights(top_N, h_N, height, self.image_size)
        columns_NSW = resize_weights(left_N, w_N, width, self.image_size)
        columns_NSW = torch.where(parameters["flip_N"][:, None, None], columns_NSW.flip(1), columns_NSW)
        rows_NSH, columns_NSW = rows_NSH.to(x_NCHW.device), columns_NSW.to(x_NCHW.device)
        if x_NCHW.dtype == torch.uint8:
            x_NCHW = x_NCHW.float() / 255
        return rows_NSH[:, None] @ x_NCHW @ columns_NSW[:, None].mT


def resize_weights(start_N: Tensor, length_N: Tensor, size: int, out_size: int) -> Tensor:
    """Weights (N, out_size, size) that resize start:start+length of an axis: a triangle as in Pillow."""
    scale_N11 = length_N.double()[:, None, None] / out_size
    support_N11 = scale_N11.clamp(min=1)
    centre_NS1 = (torch.arange(out_size)[:, None] + 0.5) * scale_N11
    at_N1K = torch.arange(size) - start_N[:, None, None]
    weights_NSK = (1 - ((at_N1K + 0.5 - centre_NS1) / support_N11).abs()).clamp(min=0)
    weights_NSK = weights_NSK * ((at_N1K >= 0) & (at_N1K < length_N[:, None, None]))
    return (weights_NSK / weights_NSK.sum(2, keepdim=True)).float()


class Rotate:
    """Rotation by 0, 90, 180 or 270 degrees, each with probability 1/4."""

    def __init__(self, config: AugmentConfig, image_size: int):
        pass

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        return {"quarters_N": torch.randint(4, (count,), generator=generator)}

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        for quarters in (1, 2, 3):
            index = where(parameters["quarters_N"] == quarters, x_NCHW)
            x_NCHW[index] = x_NCHW[index].rot90(quarters, (2, 3))
        return x_NCHW


class Cutout:
    """A black square inside the picture: torchvision's RandomErasing with p=1, ratio=(1, 1), value=0."""

    def __init__(self, config: AugmentConfig, image_size: int):
        self.area = config.cutout_area

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        return {
            "area_N": uniform((count,), *self.area, generator),
            "place_N2": uniform((count, 2), 0.0, 1.0, generator),
        }

    def boxes(self, parameters: Parameters, size: int) -> Tensor:
        """The squares in pixels, (N, 3) as top, left, side."""
        side_N = (parameters["area_N"].sqrt() * size).round().long()
        corner_N2 = (parameters["place_N2"] * (size - side_N + 1)[:, None]).long()
        return torch.cat([corner_N2, side_N[:, None]], 1)

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        size = x_NCHW.shape[-1]
        top_N1, left_N1, side_N1 = self.boxes(parameters, size).unbind(1)
        at_S = torch.arange(size)
        rows_NS = (at_S >= top_N1[:, None]) & (at_S < (top_N1 + side_N1)[:, None])
        columns_NS = (at_S >= left_N1[:, None]) & (at_S < (left_N1 + side_N1)[:, None])
        erased_N1SS = (rows_NS[:, :, None] & columns_NS[:, None, :])[:, None]
        return x_NCHW.masked_fill_(erased_N1SS.to(x_NCHW.device), 0.0)
