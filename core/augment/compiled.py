"""Crop, colour, blur and Sobel compiled for CPUs by numba, one picture after the other.

The tensor operations of `geometry`, `color` and `filters` do the same on any device; on a CPU most of their time goes
into passes over the batch, of which an operation makes many. Invariant: with the same parameters the two differ by
rounding only, and a picture's result does not depend on the other pictures.

Legend: N pictures, C channels, H and W side of the input, S side of the output, P pixels, M pictures of those given,
K taps of a filter from its centre to its border, F values of a row whose pixels lie side by side with all channels.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from core.rundir import GROUP_MODE

f32 = np.float32
"""Numbers in compiled code are double precision, and so is all that they meet; `f32` keeps the loops single."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""The columns of `amount_N4` and the numbers in `order_N4`, as in torchvision's ColorJitter."""

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    # Sums in the order that suits vector registers, a product and a sum in one instruction, and no care for -0.
    "fastmath": {"reassoc", "contract", "nsz"},
}
inline = numba.njit(**_OPTIONS)
"""For functions that only compiled functions call; they become part of these."""


class Kernel:
    """A function over pictures `start` to `stop`, compiled when it is first needed for tensors of such dtypes.

    Later processes find it in numba's cache beside the source. One process at a time looks there and compiles:
    numba numbers the files of its cache by those that it saw, so two at once could take each other's code.
    """

    def __init__(self, function: Callable):
        self._function = function
        self._compiled: dict[tuple[torch.dtype, ...], Callable] = {}

    def __call__(self, count: int, *tensors: Tensor) -> None:
        """On `count` pictures, in this thread. All tensors are contiguous."""
        arrays = [tensor.numpy() for tensor in tensors]
        dtypes = tuple(tensor.dtype for tensor in tensors)
        if dtypes not in self._compiled:
            self._compiled[dtypes] = self._load((0, 0, *arrays))
        self._compiled[dtypes](0, count, *arrays)

    def _load(self, arguments: Sequence[Any]) -> Callable:
        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            return self._function
        types = tuple(map(numba.typeof, arguments))
        try:
            kernel = numba.njit(cache=True, **_OPTIONS)(self._function)
            with FileLock(Path(kernel.stats.cache_path) / f"{Path(__file__).stem}.lock", timeout=60, mode=GROUP_MODE):
                kernel.compile(types)
        except Exception:
            # Whatever is wrong with the cache (no folder, a full disk, a damaged file), this process needs none.
            kernel = numba.njit(**_OPTIONS)(self._function)
            kernel.compile(types)
        kernel.disable_compile()  # other types would be a mistake of this module's
        return kernel


def handles(x_NCHW: Tensor) -> bool:
    """Whether the functions of this module take such pictures."""
    return x_NCHW.device.type == "cpu"


def enlarge(x_NCHW: Tensor, boxes_N4: Tensor, flip_N: Tensor, size: int) -> Tensor:
    """As `geometry.enlarge`. Raises: ValueError for a box outside the picture, empty or longer than `size`."""
    count, channels, height, width = x_NCHW.shape
    top_N, left_N, h_N, w_N = boxes_N4.unbind(1)
    inside_N = (top_N >= 0) & (left_N >= 0) & (top_N + h_N <= height) & (left_N + w_N <= width)
    if not (inside_N & (boxes_N4[:, 2:] > 0).all(1) & (boxes_N4[:, 2:] <= size).all(1)).all():
        raise ValueError(f"crops of {height}x{width} pictures that do not fit into them or into {size} pixels")
    if x_NCHW.is_contiguous(memory_format=torch.channels_last):
        x_NHF = x_NCHW.permute(0, 2, 3, 1).reshape(count, height, width * channels)
        out_NCSS = torch.empty(count, channels, size, size)
    else:  # each channel as a picture of its own
        x_NHF = x_NCHW.reshape(count * channels, height, width)
        out_NCSS = torch.empty(count * channels, 1, size, size)
        boxes_N4, flip_N = boxes_N4.repeat_interleave(channels, 0), flip_N.repeat_interleave(channels)
    _enlarge(len(x_NHF), x_NHF, boxes_N4, flip_N, out_NCSS)
    return out_NCSS.view(count, channels, size, size)


def color(x_NCHW: Tensor, amount_N4: Tensor, order_N4: Tensor, jitter_N: Tensor, gray_N: Tensor) -> None:
    """In place, what `Color` drew. Raises: ValueError where pictures are not RGB; RuntimeError if not contiguous."""
    count, channels, height, width = x_NCHW.shape
    if channels != 3:
        raise ValueError(f"pictures of {channels} channels: colours need 3")
    _color(count, x_NCHW.view(count, 3, height * width), amount_N4.float(), order_N4.contiguous(), jitter_N, gray_N)


def blur(x_NCHW: Tensor, index_M: Tensor, weights_ML: Tensor) -> None:
    """In place, the pictures `index_M` filtered along both axes by L symmetric weights and clamped; borders reflected.

    Raises: ValueError for pictures no longer than half the filter.
    """
    border = weights_ML.shape[1] // 2
    if min(x_NCHW.shape[2:]) <= border:
        raise ValueError(f"pictures of {tuple(x_NCHW.shape[2:])} pixels: a border of {border} cannot be reflected")
    half_MK = weights_ML[:, border:].clone()
    half_MK[:, 0] /= 2
    if len(index_M):
        _blur(len(index_M), x_NCHW, index_M, half_MK)


def sobel(x_NCHW: Tensor, index_M: Tensor) -> None:
    """In place, the pictures `index_M` as by `filters.sobel`. Raises: ValueError for pictures of one pixel a side."""
    if min(x_NCHW.shape[2:]) < 2:
        raise ValueError(f"pictures of {tuple(x_NCHW.shape[2:])} pixels: a border of 1 cannot be reflected")
    if len(index_M):
        _sobel(len(index_M), x_NCHW, index_M)


def to_channels_last(x_NCHW: Tensor, out_NCHW: Tensor) -> None:
    """`out_NCHW.copy_(x_NCHW)` from contiguous to channels_last float pictures, which torch does slowly.

    Raises: ValueError where shapes differ or pictures are not RGB.
    """
    count, channels, height, width = x_NCHW.shape
    if x_NCHW.shape != out_NCHW.shape or channels != 3:
        raise ValueError(f"pictures {tuple(x_NCHW.shape)} for {tuple(out_NCHW.shape)}; both need the same shape, RGB")
    out_NF = out_NCHW.permute(0, 2, 3, 1).view(count, height * width * 3)
    _interleave(count, x_NCHW.view(count, 3, height * width), out_NF)


@Kernel
def _enlarge(start, stop, x_NHF, boxes_N4, flip_N, out_NCSS):
    """Each row of the crop is resized once; then every output row lies between two of those."""
    channels, size = out_NCSS.shape[1:3]
    before_S = np.empty(size, np.uint32)
    after_S = np.empty(size, np.uint32)
    weight_S = np.empty(size, np.float32)
    row_F = np.empty(x_NHF.shape[2], np.float32)
    resized_CSS = np.empty((channels, size, size), np.float32)
    for n in range(start, stop):
        top, left, height, width = boxes_N4[n]
        for s in range(size):
            position = min(max((s + 0.5) * width / size - 0.5, 0.0), width - 1.0)
            place = size - 1 - s if flip_N[n] else s
            before_S[place] = channels * int(position)
            after_S[place] = channels * min(int(position) + 1, width - 1)
            weight_S[place] = position - int(position)
        for row in range(height):
            from_F = x_NHF[n, top + row, channels * left :]
            for f in range(channels * width):
                row_F[f] = from_F[f]
            for c in range(channels):
                from_F = row_F[c:]
                to_S = resized_CSS[c, row]
                for s in range(size):
                    value = from_F[before_S[s]]
                    to_S[s] = value + weight_S[s] * (from_F[after_S[s]] - value)
        for row in range(size):
            position = min(max((row + 0.5) * height / size - 0.5, 0.0), height - 1.0)
            weight = f32(position - int(position))
            for c in range(channels):
                upper_S = resized_CSS[c, int(position)]
                lower_S = resized_CSS[c, min(int(position) + 1, height - 1)]
                to_S = out_NCSS[n, c, row]
                for s in range(size):
                    to_S[s] = upper_S[s] + weight * (lower_S[s] - upper_S[s])


@inline
def _luma(red, green, blue):
    """As `color.luma`."""
    return f32(0.2989) * red + f32(0.587) * green + f32(0.114) * blue


@inline
def _clamp(value):
    return min(max(value, f32(0)), f32(1))


@Kernel
def _color(start, stop, x_NCP, amount_N4, order_N4, jitter_N, gray_N):
    """As `color.Color`."""
    pixels = x_NCP.shape[2]
    for n in range(start, stop):
        red, green, blue = x_NCP[n, 0], x_NCP[n, 1], x_NCP[n, 2]
        if jitter_N[n]:
            for operation in order_N4[n]:
                amount = amount_N4[n, operation]
                if operation == BRIGHTNESS:
                    _blend(red, green, blue, amount, f32(0), f32(0))
                elif operation == CONTRAST:
                    total = f32(0)
                    for p in range(pixels):
                        total += _luma(red[p], green[p], blue[p])
                    _blend(red, green, blue, amount, f32(0), total / f32(pixels) * (f32(1) - amount))
                elif operation == SATURATION:
                    _blend(red, green, blue, amount, f32(1) - amount, f32(0))
                else:
                    _hue(red, green, blue, amount)
        if gray_N[n]:
            _blend(red, green, blue, f32(0), f32(1), f32(0))


@inline
def _blend(red, green, blue, picture, gray, constant):
    """As `color.blend`, of one picture; `constant` is the share of the mean times the mean."""
    for p in range(len(red)):
        added = _luma(red[p], green[p], blue[p]) * gray + constant
        red[p] = _clamp(red[p] * picture + added)
        green[p] = _clamp(green[p] * picture + added)
        blue[p] = _clamp(blue[p] * picture + added)


@inline
def _hue(red, green, blue, turn):
    """As `color.hue`, of one picture, which has the formula."""
    for p in range(len(red)):
        largest = max(max(red[p], green[p]), blue[p])
        smallest = min(min(red[p], green[p]), blue[p])
        chroma = largest - smallest
        sixths = (green[p] + blue[p] - red[p] - smallest) / max(chroma, f32(1e-9)) + f32(1)
        turned = (sixths if green[p] >= blue[p] else -sixths) * f32(1 / 6) + turn + f32(2)
        base, slope = smallest - chroma, f32(6) * chroma
        red[p] = min(max(base + slope * _from_opposite(turned), smallest), largest)
        green[p] = min(max(base + slope * _from_opposite(turned - f32(1 / 3)), smallest), largest)
        blue[p] = min(max(base + slope * _from_opposite(turned - f32(2 / 3)), smallest), largest)


@inline
def _from_opposite(hue):
    """How far a hue is from the colour opposite to hue 0, in shares of the circle."""
    return abs(hue - np.floor(hue) - f32(0.5))


@Kernel
def _blur(start, stop, x_NCHW, index_M, half_MK):
    """`half_MK`: the weights from the centre outwards, the centre's halved as it is added from both sides."""
    channels, height, width = x_NCHW.shape[1:]
    border = half_MK.shape[1] - 1
    padded_HW = np.empty((height + 2 * border, width), np.float32)
    padded_W = np.empty(width + 2 * border, np.float32)
    inner_W = padded_W[border : border + width]
    for m in range(start, stop):
        for c in range(channels):
            x_HW = x_NCHW[index_M[m], c]
            for h in range(height):
                _copy(x_HW[h], padded_HW[border + h])
            for k in range(1, border + 1):
                _copy(x_HW[k], padded_HW[border - k])
                _copy(x_HW[height - 1 - k], padded_HW[border + height - 1 + k])
            for h in range(height):
                inner_W[:] = f32(0)
                for k in range(border + 1):
                    _add(inner_W, half_MK[m, k], padded_HW[border + h - k], padded_HW[border + h + k])
                for k in range(1, border + 1):
                    padded_W[border - k] = inner_W[k]
                    padded_W[border + width - 1 + k] = inner_W[width - 1 - k]
                x_W = x_HW[h]
                x_W[:] = f32(0)
                for k in range(border + 1):
                    left_W = padded_W[border - k : border - k + width]
                    right_W = padded_W[border + k : border + k + width]
                    _add(x_W, half_MK[m, k], left_W, right_W)
                for w in range(width):
                    x_W[w] = _clamp(x_W[w])


@Kernel
def _sobel(start, stop, x_NCHW, index_M):
    channels, height, width = x_NCHW.shape[1:]
    padded_HW = np.empty((height + 2, width + 2), np.float32)
    for m in range(start, stop):
        for c in range(channels):
            x_HW = x_NCHW[index_M[m], c]
            for h in range(-1, height + 1):
                padded_W = padded_HW[h + 1]
                _copy(x_HW[min(abs(h), 2 * height - 2 - h)], padded_W[1 : width + 1])
                padded_W[0], padded_W[width + 1] = padded_W[2], padded_W[width - 1]
            for h in range(height):
                above_W, beside_W, below_W, x_W = padded_HW[h], padded_HW[h + 1], padded_HW[h + 2], x_HW[h]
                for w in range(width):
                    across = above_W[w + 2] - above_W[w] + below_W[w + 2] - below_W[w]
                    across += f32(2) * (beside_W[w + 2] - beside_W[w])
                    down = below_W[w] - above_W[w] + below_W[w + 2] - above_W[w + 2]
                    down += f32(2) * (below_W[w + 1] - above_W[w + 1])
                    x_W[w] = min(np.sqrt(across * across + down * down), f32(1))


@inline
def _copy(from_W, to_W):
    """As `to_W[:] = from_W`, which takes numba seconds to compile."""
    for w in range(len(to_W)):
        to_W[w] = from_W[w]


@inline
def _add(sum_W, weight, one_W, other_W):
    for w in range(len(sum_W)):
        sum_W[w] += weight * (one_W[w] + other_W[w])


@Kernel
def _interleave(start, stop, x_NCP, out_NF):
    """All three channels in one pass, four times as fast as one after the other."""
    for n in range(start, stop):
        red, green, blue, out_F = x_NCP[n, 0], x_NCP[n, 1], x_NCP[n, 2], out_NF[n]
        for p in range(len(red)):
            out_F[3 * p] = red[p]
            out_F[3 * p + 1] = green[p]
            out_F[3 * p + 2] = blue[p]
