"""Transformations that move or remove pixels: crop with flip, rotation, cutout.

Legend: N pictures, C channels, H and W side of the input, S side of the output, T tries of a crop.
"""

import math

import torch
from torch import Tensor

from core.augment.draws import Parameters, indices, uniform
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
        """Crops in pixels, (N, 4): top, left, height, width of the first try that fits, else the centre."""
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
        top_N, left_N, h_N, w_N = self.boxes(parameters, height, width).to(x_NCHW.device).unbind(1)
        flip_N = parameters["flip_N"].to(x_NCHW.device)
        rows_NSH = resize_weights(top_N, h_N, height, self.image_size)
        columns_NSW = resize_weights(left_N, w_N, width, self.image_size, flip_N)
        if x_NCHW.dtype == torch.uint8:
            x_NCHW = x_NCHW.to(torch.float32, memory_format=torch.contiguous_format)
            rows_NSH /= 255
        return separable(x_NCHW, rows_NSH, columns_NSW)


def resize_weights(start_N: Tensor, length_N: Tensor, size: int, out_size: int, flip_N: Tensor | None = None) -> Tensor:
    """Weights (N, out_size, size) that resize start:start+length of an axis bilinearly with antialias.

    Pillow's triangle, as wide as an output pixel where the picture shrinks, cut off at the crop's edge.
    """
    device = start_N.device
    scale_N1 = length_N[:, None].float() / out_size
    centre_NS = (torch.arange(out_size, device=device) + 0.5) * scale_N1
    if flip_N is not None:
        centre_NS = torch.where(flip_N[:, None], centre_NS.flip(1), centre_NS)
    at_NK = torch.arange(size, device=device) - start_N[:, None] + 0.5
    inside_NK = ((at_NK > 0) & (at_NK < length_N[:, None])).float()
    weights_NSK = at_NK[:, None, :] - centre_NS[:, :, None]
    weights_NSK.abs_().mul_(-1 / scale_N1[:, :, None].clamp(min=1)).add_(1).clamp_(min=0)
    weights_NSK.mul_(inside_NK[:, None, :])
    return weights_NSK.div_(weights_NSK.sum(2, keepdim=True))


def separable(x_NCHW: Tensor, rows_NSH: Tensor, columns_NSW: Tensor) -> Tensor:
    """Every picture filtered or resampled by its own matrix per axis: rows @ picture @ columns^T, in 0..1.

    As batched matrix products because these run near the peak of the machine, which interpolation by
    index does not.
    """
    count, channels, height, width = x_NCHW.shape
    y_NLS = torch.bmm(x_NCHW.reshape(count, channels * height, width), columns_NSW.mT)
    planes = y_NLS.view(count, channels, height, columns_NSW.shape[1]).unbind(1)
    return torch.stack([torch.bmm(rows_NSH, plane) for plane in planes], 1).clamp_(0, 1)


class Rotate:
    """Rotation by 0, 90, 180 or 270 degrees, each with probability 1/4."""

    def __init__(self, config: AugmentConfig, image_size: int):
        pass

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        return {"quarters_N": torch.randint(4, (count,), generator=generator)}

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        for quarters in (1, 2, 3):
            index = indices(parameters["quarters_N"] == quarters, x_NCHW)
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
