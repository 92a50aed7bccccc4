"""AutoAugment with its ImageNet policy (Cubuk et al. 2019), which Table 1 compares with colour distortion.

Invariant: with the same parameters a picture is bit for bit that of torchvision.transforms.v2.AutoAugment, whose
operations work on 256 levels and, where they move pixels, take the nearest one and fill with black.
"""

import math
from collections import defaultdict
from collections.abc import Callable

import torch
import torchvision.transforms.v2.functional as F
from torch import Tensor

from core.augment.draws import Parameters, uniform
from core.augment.tones import from_levels, to_levels
from core.config import AugmentConfig
from core.device import send

POLICIES: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.8, 0), ("Equalize", 0.6, 0)),
    (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, 0), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, 0), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 0)),
    (("Posterize", 0.8, 5), ("Equalize", 1.0, 0)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, 0), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, 0)),
    (("Equalize", 0.0, 0), ("Equalize", 0.8, 0)),
    (("Invert", 0.6, 0), ("Equalize", 1.0, 0)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, 0)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 0)),
    (("Color", 0.4, 0), ("Equalize", 0.6, 0)),
    (("Equalize", 0.4, 0), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 0)),
    (("Invert", 0.6, 0), ("Equalize", 1.0, 0)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 0), ("Equalize", 0.6, 0)),
)
"""The 25 sub-policies of the paper's appendix: twice an operation, its probability and its level of strength,
0 to 9; a level of 0 stands where the operation has none."""

_NONE = torch.zeros(10)
_OPERATIONS: dict[str, tuple[Tensor, bool, Callable[[Tensor, float], Tensor]]] = {
    "ShearX": (torch.linspace(0, 0.3, 10), True, lambda x, magnitude: _shear(x, magnitude)),
    "Rotate": (torch.linspace(0, 30, 10), True, lambda x, magnitude: F.rotate(x, magnitude)),
    "Color": (torch.linspace(0, 0.9, 10), True, lambda x, magnitude: F.adjust_saturation(x, 1 + magnitude)),
    "Contrast": (torch.linspace(0, 0.9, 10), True, lambda x, magnitude: F.adjust_contrast(x, 1 + magnitude)),
    "Sharpness": (torch.linspace(0, 0.9, 10), True, lambda x, magnitude: F.adjust_sharpness(x, 1 + magnitude)),
    "Posterize": ((8 - torch.arange(10) / 2.25).round(), False, lambda x, magnitude: F.posterize(x, int(magnitude))),
    "Solarize": (torch.linspace(1, 0, 10), False, lambda x, magnitude: F.solarize(x, 255 * magnitude)),
    "AutoContrast": (_NONE, False, lambda x, _: F.autocontrast(x)),
    "Equalize": (_NONE, False, lambda x, _: F.equalize(x)),
    "Invert": (_NONE, False, lambda x, _: F.invert(x)),
}
"""The magnitude of each level, whether its sign is drawn, and the operation on a uint8 batch. The magnitudes are
single precision, as torchvision's, so that rounding to a level goes the same way."""


def _shear(x_NCHW: Tensor, slope: float) -> Tensor:
    degrees = math.degrees(math.atan(slope))
    return F.affine(x_NCHW, angle=0.0, translate=[0, 0], scale=1.0, shear=[degrees, 0.0], center=[0, 0])


class AutoAugment:
    """One of the 25 sub-policies per picture, each of its two operations with that one's probability."""

    def __init__(self, config: AugmentConfig, image_size: int):
        pass

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        policy_N = torch.randint(len(POLICIES), (count,), generator=generator)
        p_P2 = torch.tensor([[p for _, p, _ in policy] for policy in POLICIES], dtype=torch.float64)
        return {
            "policy_N": policy_N,
            "apply_N2": uniform((count, 2), 0.0, 1.0, generator) < p_P2[policy_N],
            "negative_N2": uniform((count, 2), 0.0, 1.0, generator) < 0.5,
        }

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        x_NCHW = to_levels(x_NCHW)
        for place in range(2):
            for (name, magnitude), members in groups(parameters, place).items():
                index = send(torch.tensor(members), x_NCHW.device)
                x_NCHW.index_copy_(0, index, _OPERATIONS[name][2](x_NCHW.index_select(0, index), magnitude))
        return from_levels(x_NCHW)


def groups(parameters: Parameters, place: int) -> dict[tuple[str, float], list[int]]:
    """The pictures whose first (`place` 0) or second (1) operation is the same, at the same signed magnitude."""
    members: dict[tuple[str, float], list[int]] = defaultdict(list)
    drawn = zip(
        parameters["policy_N"].tolist(),
        parameters["apply_N2"][:, place].tolist(),
        parameters["negative_N2"][:, place].tolist(),
        strict=True,
    )
    for number, (policy, applied, negative) in enumerate(drawn):
        if applied:
            name, _, level = POLICIES[policy][place]
            magnitudes, signed, _ = _OPERATIONS[name]
            magnitude = magnitudes[level].item()
            members[name, -magnitude if signed and negative else magnitude].append(number)
    return members
