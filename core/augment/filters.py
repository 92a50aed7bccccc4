"""Transformations of a pixel's neighbourhood or by noise: blur, motion blur, Sobel, Gaussian noise."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from core.augment import compiled
from core.augment.draws import Parameters, indices, per_picture, uniform
from core.config import AugmentConfig
from core.device import send


def blur_kernel_size(image_size: int) -> int:
    """Taps of the blur: 10% of the image side (App. A), made odd as in the official code, and at least 3."""
    return 2 * max(1, image_size // 10 // 2) + 1


class Blur:
    """Gaussian blur with probability `blur_p`, as torchvision's gaussian_blur (reflected borders)."""

    def __init__(self, config: AugmentConfig, image_size: int):
        self.config = config
        self.radius = blur_kernel_size(image_size) // 2

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        return {
            "sigma_N": uniform((count,), *self.config.blur_sigma, generator),
            "blur_N": uniform((count,), 0.0, 1.0, generator) < self.config.blur_p,
        }

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        blur_N = parameters["blur_N"]
        index = indices(blur_N, x_NCHW)
        # Below 1e-3 the weights of the neighbours are 0 in any case; the limit keeps the division finite.
        sigma_N1 = parameters["sigma_N"][blur_N, None].clamp(min=1e-3)
        offset_K = torch.arange(-self.radius, self.radius + 1)
        weights_NK = torch.softmax(-0.5 * (offset_K / sigma_N1) ** 2, 1).float()
        if compiled.handles(x_NCHW):
            compiled.blur(x_NCHW, index, weights_NK)
            return x_NCHW
        weights_NK = send(weights_NK, x_NCHW.device)
        part_NCHW = x_NCHW.index_select(0, index)
        blurred_NCHW = per_picture_filter(part_NCHW, weights_NK[:, None], weights_NK[:, :, None])
        return x_NCHW.index_copy_(0, index, blurred_NCHW.clamp_(0, 1))


def per_picture_filter(x_NCHW: Tensor, *kernels_NKL: Tensor) -> Tensor:
    """Each picture filtered by kernels of its own, one after the other, each of odd sides; borders reflected.

    As one convolution in which every channel of every picture is a group of its own.
    """
    count, channels, height, width = x_NCHW.shape
    if count == 0:
        return x_NCHW
    rows, columns = (sum(kernel.shape[axis] // 2 for kernel in kernels_NKL) for axis in (1, 2))
    padded = F.pad(x_NCHW, (columns, columns, rows, rows), mode="reflect")
    y_1MHW = padded.reshape(1, count * channels, *padded.shape[2:])
    for kernel_NKL in kernels_NKL:
        kernel_M1KL = kernel_NKL.repeat_interleave(channels, 0)[:, None]
        y_1MHW = F.conv2d(y_1MHW, kernel_M1KL, groups=count * channels)
    return y_1MHW.view(count, channels, height, width)


class MotionBlur:
    """The mean along a straight motion of drawn length and direction, with `motion_blur_p` (App. B.2; our reading).

    Between pixels it is bilinear, beyond the border the picture is reflected.
    """

    def __init__(self, config: AugmentConfig, image_size: int):
        self.config = config
        self.image_size = image_size
        self.radius = math.ceil(config.motion_blur_length[1] * image_size / 2)

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        return {
            "length_N": uniform((count,), *self.config.motion_blur_length, generator),
            "angle_N": uniform((count,), 0.0, math.pi, generator),
            "blur_N": uniform((count,), 0.0, 1.0, generator) < self.config.motion_blur_p,
        }

    def kernels(self, length_N: Tensor, angle_N: Tensor) -> Tensor:
        """The weights (N, K, K) of a pixel's neighbours, each summing to 1.

        Points evenly spaced along the motion, less than half a pixel apart, give each of the four pixels
        around them its bilinear share.
        """
        taps = 2 * self.radius + 1
        along_P = (torch.arange(2 * taps) + 0.5) / (2 * taps) - 0.5
        along_NP = along_P * length_N[:, None] * self.image_size
        at_K = torch.arange(-self.radius, self.radius + 1)
        columns_NPK = 1 - (along_NP[..., None] * angle_N.cos()[:, None, None] - at_K).abs()
        rows_NPK = 1 - (along_NP[..., None] * angle_N.sin()[:, None, None] - at_K).abs()
        return (rows_NPK.clamp(min=0).mT @ columns_NPK.clamp(min=0)).div(2 * taps).float()

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        blur_N = parameters["blur_N"]
        index = indices(blur_N, x_NCHW)
        kernels_NKK = send(self.kernels(parameters["length_N"][blur_N], parameters["angle_N"][blur_N]), x_NCHW.device)
        blurred_NCHW = per_picture_filter(x_NCHW.index_select(0, index), kernels_NKK)
        return x_NCHW.index_copy_(0, index, blurred_NCHW.clamp_(0, 1))


class Sobel:
    """The length of the Sobel gradient per channel, clamped to 0..1, with probability `sobel_p`."""

    def __init__(self, config: AugmentConfig, image_size: int):
        self.p = config.sobel_p

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        return {"sobel_N": uniform((count,), 0.0, 1.0, generator) < self.p}

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        index = indices(parameters["sobel_N"], x_NCHW)
        if compiled.handles(x_NCHW):
            compiled.sobel(x_NCHW, index)
            return x_NCHW
        return x_NCHW.index_copy_(0, index, sobel(x_NCHW.index_select(0, index)))


def sobel(x_NCHW: Tensor) -> Tensor:
    """The length of the gradient, clamped to 0..1."""
    padded = F.pad(x_NCHW, (1, 1, 1, 1), mode="reflect")
    smooth = torch.add(padded[:, :, :-2], padded[:, :, 2:]).add_(padded[:, :, 1:-1], alpha=2)
    across = smooth[:, :, :, 2:] - smooth[:, :, :, :-2]
    smooth = torch.add(padded[:, :, :, :-2], padded[:, :, :, 2:]).add_(padded[:, :, :, 1:-1], alpha=2)
    down = smooth[:, :, 2:] - smooth[:, :, :-2]
    return across.square_().addcmul_(down, down).sqrt_().clamp_(max=1)


class Noise:
    """Gaussian noise whose standard deviation is drawn per picture, then clamped to 0..1."""

    def __init__(self, config: AugmentConfig, image_size: int):
        self.std = config.noise_std

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        """A seed per picture stands for its pixels, so a rank makes only its own pictures' noise."""
        return {
            "std_N": uniform((count,), *self.std, generator),
            "seed_N": torch.randint(2**31, (count,), generator=generator),
        }

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        noise_NCHW = torch.empty(x_NCHW.shape, device=x_NCHW.device)
        generator = torch.Generator(x_NCHW.device)
        for noise_CHW, seed in zip(noise_NCHW, parameters["seed_N"].tolist(), strict=True):
            noise_CHW.normal_(generator=generator.manual_seed(seed))
        return x_NCHW.addcmul_(noise_NCHW, per_picture(parameters["std_N"], x_NCHW)).clamp_(0, 1)
