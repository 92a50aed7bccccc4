"""Transformations that move or remove pixels: crop with flip, rotation, cutout.

Legend: N pictures, C channels, H and W side of the input, S side of the output, T tries of a crop.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.augment import compiled
from core.augment.draws import Parameters, indices, uniform
from core.config import AugmentConfig
from core.device import send

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
        # In numpy, as torch takes several times as long to begin each of so many small operations.
        area_NT, aspect_NT, place_N2 = (parameters[name].numpy() for name in ("area_NT", "aspect_NT", "place_N2"))
        area_NT = area_NT * (height * width)
        w_NT = np.sqrt(area_NT * aspect_NT).round().astype(np.int64)
        h_NT = np.sqrt(area_NT / aspect_NT).round().astype(np.int64)
        fits_NT = (w_NT > 0) & (w_NT <= width) & (h_NT > 0) & (h_NT <= height)
        each_N, first_N = np.arange(len(fits_NT)), fits_NT.argmax(1)
        w_N, h_N = w_NT[each_N, first_N], h_NT[each_N, first_N]
        top_N = place_N2[:, 0] * (height - h_N + 1)
        left_N = place_N2[:, 1] * (width - w_N + 1)
        boxes_N4 = np.stack([top_N.astype(np.int64), left_N.astype(np.int64), h_N, w_N], 1)

        low, high = self.config.crop_aspect
        whole_w = max(1, min(width, round(height * high)))
        whole_h = max(1, min(height, round(width / low)))
        boxes_N4[~fits_NT[each_N, first_N]] = (height - whole_h) // 2, (width - whole_w) // 2, whole_h, whole_w
        return torch.from_numpy(boxes_N4)

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        boxes_N4 = self.boxes(parameters, *x_NCHW.shape[2:])
        stored = x_NCHW.dtype == torch.uint8
        shrinking_N = (boxes_N4[:, 2:] > self.image_size).any(1)
        if not shrinking_N.any():
            y_NCHW = enlarge(x_NCHW, boxes_N4, parameters["flip_N"], self.image_size)
        else:
            y_NCHW = torch.empty(*x_NCHW.shape[:2], self.image_size, self.image_size, device=x_NCHW.device)
            index = indices(~shrinking_N, x_NCHW)
            rest = (x_NCHW.index_select(0, index), boxes_N4[~shrinking_N], parameters["flip_N"][~shrinking_N])
            y_NCHW.index_copy_(0, index, enlarge(*rest, self.image_size))
            for number in shrinking_N.nonzero()[:, 0].tolist():
                y_NCHW[number] = shrink(x_NCHW[number], boxes_N4[number], self.image_size)
                if parameters["flip_N"][number]:
                    y_NCHW[number] = y_NCHW[number].flip(2)
        return (y_NCHW.mul_(1 / 255) if stored else y_NCHW).clamp_(0, 1)


def enlarge(x_NCHW: Tensor, boxes_N4: Tensor, flip_N: Tensor, size: int) -> Tensor:
    """Crops (top, left, height, width), none longer than `size`, resized bilinearly, and mirrored where `flip_N` says.

    Each output pixel lies between its four neighbours, those beyond the crop's edge being the edge; uint8 pictures
    become float ones in 0..255. Antialias changes nothing here, as no crop shrinks.
    """
    if compiled.handles(x_NCHW):
        return compiled.enlarge(x_NCHW, boxes_N4, flip_N, size)
    x_NCHW = x_NCHW.to(torch.float32, memory_format=torch.contiguous_format)
    top_N, left_N, h_N, w_N = send(boxes_N4, x_NCHW.device).unbind(1)
    grid_NSS2 = x_NCHW.new_empty(len(x_NCHW), size, size, 2)
    across_NS = _places(left_N, w_N, size, x_NCHW.shape[3])
    across_NS = torch.where(send(flip_N, x_NCHW.device)[:, None], across_NS.flip(1), across_NS)
    grid_NSS2[..., 0] = across_NS[:, None]
    grid_NSS2[..., 1] = _places(top_N, h_N, size, x_NCHW.shape[2])[:, :, None]
    return F.grid_sample(x_NCHW, grid_NSS2, mode="bilinear", padding_mode="border", align_corners=False)


def _places(start_N: Tensor, length_N: Tensor, out_size: int, size: int) -> Tensor:
    """Where on an axis of `size` pixels, from -1 to 1, the pixels lie that start:start+length is resized to."""
    length_N1 = length_N[:, None].float()
    at_NS = (torch.arange(out_size, device=start_N.device) + 0.5) * (length_N1 / out_size)
    return at_NS.clamp_(min=0.5).minimum(length_N1 - 0.5).add_(start_N[:, None]).mul_(2 / size).sub_(1)


def shrink(x_CHW: Tensor, box_4: Tensor, size: int) -> Tensor:
    """One crop resized with antialias: as many neighbours as the crop is smaller afterwards."""
    top, left, height, width = box_4.tolist()
    part = x_CHW[None, :, top : top + height, left : left + width]
    return F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True)[0]


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
        return x_NCHW.masked_fill_(send(erased_N1SS, x_NCHW.device), 0.0)
