"""Convolution as matrix products where the map is so small that a convolution wastes most of its work.

Invariant: value, gradient and weights are those of `torch.nn.Conv2d`, beyond summation order.

Legend: N pictures, H height, W width, I input channels, O output channels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

SMALL_MAP = 4
"""Output positions up to which each is a matrix product of its own."""


class Convolution(nn.Conv2d):
    """A 2-d convolution with square kernel, stride and padding, neither grouped nor dilated, and without bias.

    On maps of 2x2 pixels and less, most taps of a 3x3 kernel only ever see padding: of 9 taps, a 1x1 map uses one.
    The library computes with all of them, and its backward pass for such shapes runs at a third of the machine's
    peak. Here each output position is the product of what it sees and the taps that see it (CPU only: a GPU
    spends its time on starting kernels, of which this needs more).
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
        (kernel, stride), padding = (self.kernel_size[0], self.stride[0]), int(self.padding[0])
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in input.shape[2:])
        if input.device.type != "cpu" or height * width > SMALL_MAP:
            return super().forward(input)
        x_NHWI, weight_OHWI = input.permute(0, 2, 3, 1), self.weight.permute(0, 2, 3, 1)
        if torch.is_autocast_enabled("cpu"):  # it does not reach into a Function
            dtype = torch.get_autocast_dtype("cpu")
            x_NHWI, weight_OHWI = x_NHWI.to(dtype), weight_OHWI.to(dtype)
        return _ByPosition.apply(x_NHWI, weight_OHWI, (height, width), stride, padding).permute(0, 3, 1, 2)


class _ByPosition(torch.autograd.Function):
    """The convolution with a matrix product for each output position.

    With a backward pass of its own, which adds each position's gradient in place: that of a slice would be a whole
    tensor of zeros, once for every position.
    """

    @staticmethod
    def forward(ctx, x_NHWI, weight_OHWI, size, stride, padding):  # type: ignore[no-untyped-def,override]
        ctx.save_for_backward(x_NHWI, weight_OHWI)
        ctx.places = _places(size, x_NHWI.shape[1:3], weight_OHWI.shape[1], stride, padding)
        y_NHWO = x_NHWI.new_empty(len(x_NHWI), *size, len(weight_OHWI))
        for (row, column), seen, taps in ctx.places:
            y_NHWO[:, row, column] = F.linear(x_NHWI[:, *seen].flatten(1), weight_OHWI[:, *taps].flatten(1))
        return y_NHWO

    @staticmethod
    def backward(ctx, slope_NHWO):  # type: ignore[no-untyped-def,override]
        x_NHWI, weight_OHWI = ctx.saved_tensors
        x_slope_NHWI, weight_slope_OHWI = torch.zeros_like(x_NHWI), torch.zeros_like(weight_OHWI)
        for (row, column), seen, taps in ctx.places:
            slope_NO = slope_NHWO[:, row, column]
            x_part, weight_part = x_NHWI[:, *seen], weight_OHWI[:, *taps]
            x_slope_NHWI[:, *seen] += (slope_NO @ weight_part.flatten(1)).view(x_part.shape)
            weight_slope_OHWI[:, *taps] += (slope_NO.T @ x_part.flatten(1)).view(weight_part.shape)
        return x_slope_NHWI, weight_slope_OHWI, None, None, None


def _places(
    size: tuple[int, int], input_size: Sequence[int], kernel: int, stride: int, padding: int
) -> list[tuple[tuple[int, int], tuple[slice, slice], tuple[slice, slice]]]:
    """Of each output position: row and column, the part of the input that it sees, and the taps that see it."""
    rows, columns = (
        [_seen(place * stride - padding, kernel, inputs) for place in range(outputs)]
        for outputs, inputs in zip(size, input_size, strict=True)
    )
    return [
        ((row, column), (rows[row][0], columns[column][0]), (rows[row][1], columns[column][1]))
        for row in range(size[0])
        for column in range(size[1])
    ]


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
