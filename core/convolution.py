"""Convolution as matrix products where the library's takes several times as long.

Invariant: value, gradient and weights are those of `torch.nn.Conv2d`, beyond summation order.

Legend: N pictures, H height, W width, I input channels, O output channels.
"""

import torch
import torch.nn.functional as F
from torch import nn

SMALL_MAP = 4
"""Output positions up to which each is a matrix product of its own."""


class Convolution(nn.Conv2d):
    """A 2-d convolution with square kernel, stride and padding, neither grouped nor dilated, and without bias.

    On maps of 2x2 pixels and less, most taps of a 3x3 kernel only ever see padding: of 9 taps, a 1x1 map uses one.
    The library computes with all of them, and its backward pass for such shapes runs at a third of the machine's
    peak. Here each output position is the product of what it sees and the taps that see it. A 1x1 kernel with a
    stride, as in the shortcuts, is one product of the pixels that it sees. (CPU only: a GPU spends its time on
    starting kernels, of which this needs more.)
    """

    @classmethod
    def like(cls, other: nn.Conv2d) -> "Convolution":
        """The same convolution with the same weight; draws nothing from torch's generator."""
        assert other.bias is None
        sizes = (other.kernel_size, other.stride, other.padding)
        own = cls(other.in_channels, other.out_channels, *sizes, bias=False, device="meta")  # type: ignore[arg-type]
        own.weight = other.weight
        return own

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.device.type != "cpu":
            return super().forward(input)
        (kernel, stride), padding = (self.kernel_size[0], self.stride[0]), int(self.padding[0])
        x_NHWI, weight_OHWI = input.permute(0, 2, 3, 1), self.weight.permute(0, 2, 3, 1)
        if kernel == 1 and stride > 1 and padding == 0:
            return F.linear(x_NHWI[:, ::stride, ::stride], weight_OHWI[:, 0, 0]).permute(0, 3, 1, 2)
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in input.shape[2:])
        if height * width > SMALL_MAP:
            return super().forward(input)
        positions = []
        for row in range(height):
            rows, its_taps = _seen(row * stride - padding, kernel, x_NHWI.shape[1])
            for column in range(width):
                columns, taps = _seen(column * stride - padding, kernel, x_NHWI.shape[2])
                part = x_NHWI[:, rows, columns].flatten(1)
                positions.append(F.linear(part, weight_OHWI[:, its_taps, taps].flatten(1)))
        y_NHWO = torch.stack(positions, 1).unflatten(1, (height, width))
        return y_NHWO.permute(0, 3, 1, 2)


def _seen(start: int, kernel: int, size: int) -> tuple[slice, slice]:
    """The part of an axis of `size` that a kernel placed at `start` sees, and the taps that see it."""
    first, last = max(start, 0), min(start + kernel, size)
    return slice(first, last), slice(first - start, last - start)


def replace_convolutions(module: nn.Module) -> None:
    """Every plain convolution inside `module` replaced by its `Convolution`; names and weights stay."""
    for name, child in module.named_children():
        if type(child) is nn.Conv2d:
            setattr(module, name, Convolution.like(child))
        else:
            replace_convolutions(child)
