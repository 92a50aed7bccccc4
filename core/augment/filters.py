"""Transformations of a pixel's neighbourhood or by noise: blur, Sobel, Gaussian noise."""

import torch
import torch.nn.functional as F
from torch import Tensor

from core.augment.draws import Parameters, per_picture, uniform, where
from core.config import AugmentConfig


def blur_kernel_size(image_size: int) -> int:
    """Taps of the blur: 10% of the image side (App. A), made odd as in the official code."""
    return 2 * (image_size // 10 // 2) + 1


class Blur:
    """Gaussian blur with probability `blur_p`, as torchvision's gaussian_blur (reflected borders)."""

    def __init__(self, config: AugmentConfig, image_size: int):
        self.config = config
        self.radius = max(1, blur_kernel_size(image_size) // 2)

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        return {
            "sigma_N": uniform((count,), *self.config.blur_sigma, generator),
            "blur_N": uniform((count,), 0.0, 1.0, generator) < self.config.blur_p,
        }

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        index = where(parameters["blur_N"], x_NCHW)
        sigma_N1 = parameters["sigma_N"][parameters["blur_N"]][:, None].clamp(min=1e-3)
        offset_K = torch.arange(-self.radius, self.radius + 1)
        weight_NK = torch.exp(-0.5 * (offset_K / sigma_N1) ** 2)
        weight_NK = weight_NK / weight_NK.sum(1, keepdim=True)
        y_NCHW = x_NCHW[index]
        for dim in (2, 3):
            y_NCHW = self._along(y_NCHW, weight_NK, dim)
        x_NCHW[index] = y_NCHW
        return x_NCHW

    def _along(self, x_NCHW: Tensor, weight_NK: Tensor, dim: int) -> Tensor:
        pad = (0, 0, self.radius, self.radius) if dim == 2 else (self.radius, self.radius, 0, 0)
        size = x_NCHW.shape[dim]
        padded = F.pad(x_NCHW, pad, mode="reflect")
        y_NCHW = x_NCHW * per_picture(weight_NK[:, self.radius], x_NCHW)
        for step in range(1, self.radius + 1):
            before = padded.narrow(dim, self.radius - step, size)
            after = padded.narrow(dim, self.radius + step, size)
            y_NCHW.addcmul_(before + after, per_picture(weight_NK[:, self.radius + step], x_NCHW))
        return y_NCHW


class Sobel:
    """The length of the Sobel gradient per channel, clamped to 0..1."""

    def __init__(self, config: AugmentConfig, image_size: int):
        pass

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        return {}

    def apply(self, x_NCHW: Tensor, parameters: Parameters) -> Tensor:
        padded = F.pad(x_NCHW, (1, 1, 1, 1), mode="reflect")
        smooth = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
        across = smooth[:, :, :, 2:] - smooth[:, :, :, :-2]
        smooth = padded[:, :, :, :-2] + 2 * padded[:, :, :, 1:-1] + padded[:, :, :, 2:]
        down = smooth[:, :, 2:] - smooth[:, :, :-2]
        return torch.hypot(across, down).clamp_(max=1)


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
