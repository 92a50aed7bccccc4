"""Batched augmentations: a uint8 batch becomes one or two float views, on the device that trains.

Every transformation is written in tensor operations for any device; those that a CPU does slowly so are in `compiled`
a second time.

Invariant: a view is a function of the picture and of its own draws, and the draws are a function of
(seed, step), so neither the other pictures of the batch nor its division among processes matter.
Sources: the paper's App. A (the recipe) and Sec. 3.1 with Fig. 5 (one branch, a shared crop).
"""

import math

import torch
from torch import Tensor

from core.augment import compiled
from core.augment.autoaugment import AutoAugment
from core.augment.color import Color
from core.augment.draws import Draws, Transform
from core.augment.filters import Blur, MotionBlur, Noise, Sobel
from core.augment.geometry import Crop, Cutout, Rotate
from core.augment.threads import for_each
from core.augment.tones import Equalize, Solarize
from core.config import AugmentConfig
from core.randomness import generator

__all__ = ["Augmenter", "Draws", "plain_view"]

TRANSFORMS: dict[str, type[Transform]] = {
    "crop": Crop,
    "cutout": Cutout,
    "color": Color,
    "sobel": Sobel,
    "noise": Noise,
    "blur": Blur,
    "rotate": Rotate,
    "autoaugment": AutoAugment,
    "equalize": Equalize,
    "solarize": Solarize,
    "motion_blur": MotionBlur,
}

CHUNK_BYTES = {"cpu": 3 * 2**20, "cuda": 2**28}
"""Float pictures worked on at a time: about what the cache of a CPU thread holds, or a share of a GPU's memory."""

LEAST_VALUES = 2**20
"""Of the pictures for each CPU thread: with fewer, threads wait for each other's Python longer than they compute."""


def plain_view(x_NCHW: Tensor, image_size: int) -> Tensor:
    """The evaluation view (N, C, image_size, image_size) in 0..1: the stored picture's centre (App. B.5)."""
    return _centre(x_NCHW, image_size) / 255


def _centre(x_NCHW: Tensor, size: int) -> Tensor:
    top, left = ((side - size) // 2 for side in x_NCHW.shape[2:])
    return x_NCHW[:, :, top : top + size, left : left + size]


class Augmenter:
    """Makes the views of a recipe.

    A branch whose first transformation is not a crop starts from `plain_view`; a crop first takes its
    region from the whole stored picture.
    """

    def __init__(self, config: AugmentConfig, image_size: int):
        self.image_size = image_size
        views = {"shared": config.shared, "view1": config.transforms, "view2": config.transforms}
        if config.branches == "one":
            views["view2"] = ()
        self._stages = {
            view: {f"{view}/{name}": TRANSFORMS[name](config, image_size) for name in names}
            for view, names in views.items()
        }

    def draw(self, count: int, seed: int, step: int) -> Draws:
        """The parameters of both views of the global batch of `count` pictures, on CPU.

        Each transformation of each view has a stream of its own: two recipes that share a transformation
        draw the same for it, which pairs the cells of a study.
        """
        return Draws(
            count,
            {
                place: transform.draw(count, generator(seed, f"augment/{place}", step))
                for stage in self._stages.values()
                for place, transform in stage.items()
            },
        )

    def two_views(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """Both views (2N, C, image_size, image_size) of uint8 pictures: float32 in 0..1, channels_last.

        The first N rows are view 1, the next N view 2.
        Raises: ValueError if the draws are not for N pictures.
        """
        return self._views(x_NCHW, draws, ("view1", "view2"))

    def one_view(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """View 1 only, (N, C, image_size, image_size), for supervised training; otherwise as `two_views`."""
        return self._views(x_NCHW, draws, ("view1",))

    def _views(self, x_NCHW: Tensor, draws: Draws, views: tuple[str, ...]) -> Tensor:
        if len(x_NCHW) != draws.count:
            raise ValueError(f"{len(x_NCHW)} pictures, but draws for {draws.count}")
        count, channels = x_NCHW.shape[:2]
        device = x_NCHW.device
        shape = (len(views) * count, channels, self.image_size, self.image_size)
        out_NCHW = torch.empty(shape, device=device, memory_format=torch.channels_last)
        values = channels * self.image_size**2
        most_threads = torch.get_num_threads() if device.type == "cpu" else 1
        threads = max(1, min(most_threads, count * values // LEAST_VALUES))
        chunk = max(1, min(CHUNK_BYTES[device.type] // (4 * values), math.ceil(count / threads)))

        def make(start: int, stop: int) -> None:
            part = draws.slice(start, stop)
            shared = self._run("shared", x_NCHW[start:stop], part)
            for number, view in enumerate(views):
                # A transformation may change the pictures that it is given; the next view needs them too.
                last = number == len(views) - 1
                y_NCHW = self._run(view, shared if last else shared.clone(), part)
                part_NCHW = out_NCHW[number * count + start : number * count + stop]
                if y_NCHW.dtype == torch.uint8:  # nothing was changed: as plain_view
                    torch.div(_centre(y_NCHW, self.image_size), 255, out=part_NCHW)
                elif compiled.handles(y_NCHW) and y_NCHW.is_contiguous():
                    compiled.to_channels_last(y_NCHW, part_NCHW)
                else:
                    part_NCHW.copy_(y_NCHW)

        # An autocast around the training step would turn the convolutions of a blur into bfloat16.
        with torch.autocast(device.type, enabled=False):
            for_each(make, ((start, min(start + chunk, count)) for start in range(0, count, chunk)), threads)
        return out_NCHW

    def _run(self, stage: str, x_NCHW: Tensor, draws: Draws) -> Tensor:
        for place, transform in self._stages[stage].items():
            if x_NCHW.dtype == torch.uint8 and not isinstance(transform, Crop):
                x_NCHW = plain_view(x_NCHW, self.image_size).contiguous()
            x_NCHW = transform.apply(x_NCHW, draws.parameters[place])
        return x_NCHW
