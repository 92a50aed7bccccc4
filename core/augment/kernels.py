"""Crop, colour and blur compiled for CPUs by numba, one picture after the other.

The tensor operations of `geometry`, `color` and `filters` do the same on any device; on a CPU most of their time goes
into passes over the batch, of which an operation makes many. Invariant: with the same parameters the two differ by
rounding only, and a picture's result depends neither on the other pictures nor on the number of threads.
Legend as in `geometry`; R values of a row, P planes or pixels, M pictures of those given, K taps of a filter.
"""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

f32 = np.float32
"""Numbers in compiled code are double precision unless they say otherwise."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""The columns of `amount_N4` and the numbers in `order_N4`, as in torchvision's ColorJitter."""


def compiled(function: Callable) -> Any:
    """`function` compiled when it is first called from Python or from another compiled one.

    Sums may be taken in another order (reassoc) and products fused with sums (contract), as in torch's own kernels.
    """
    return njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})(function)


def cached(function: Callable) -> Callable:
    """As `compiled`, with all that it calls; later processes find it in numba's cache, if that can be written."""
    kernel = compiled(function)
    with contextlib.suppress(RuntimeError):
        kernel.enable_caching()
    return kernel


def take(x_NCHW: Tensor) -> bool:
    """Whether the functions of this module work on such pictures."""
    return x_NCHW.device.type == "cpu"


def enlarge(x_NCHW: Tensor, boxes_N4: Tensor, flip_N: Tensor, size: int) -> Tensor:
    """As `geometry.enlarge`."""
    count, channels, height, width = x_NCHW.shape
    if x_NCHW.is_contiguous(memory_format=torch.channels_last):
        x_NPHR = x_NCHW.permute(0, 2, 3, 1).reshape(count, 1, height, width * channels)
    else:
        x_NPHR = x_NCHW.contiguous()
    out_NCHW = torch.empty(count, channels, size, size)
    _over_pictures(_enlarge, count, x_NPHR, boxes_N4, flip_N, out_NCHW)
    return out_NCHW


def color(x_NCHW: Tensor, amount_N4: Tensor, order_N4: Tensor, jitter_N: Tensor, gray_N: Tensor) -> None:
    """In place, what `Color` drew, on contiguous pictures."""
    x_NCP = x_NCHW.view(*x_NCHW.shape[:2], -1)
    _over_pictures(_color, len(x_NCHW), x_NCP, amount_N4.float(), order_N4, jitter_N, gray_N)


def blur(x_NCHW: Tensor, index_M: Tensor, weights_MK: Tensor) -> None:
    """In place, the pictures `index_M` filtered along both axes by symmetric weights and clamped; borders reflected."""
    half_MK = weights_MK[:, weights_MK.shape[1] // 2 :].clone()
    half_MK[:, 0] /= 2
    _over_pictures(_blur, len(index_M), x_NCHW, index_M, half_MK)


def copy(x_NCHW: Tensor, out_NCHW: Tensor) -> None:
    """`out_NCHW.copy_(x_NCHW)`, which torch does slowly from contiguous pictures to channels_last ones."""
    if take(x_NCHW) and x_NCHW.is_contiguous():
        count, channels = x_NCHW.shape[:2]
        out_NPC = out_NCHW.permute(0, 2, 3, 1).view(count, -1, channels)
        _over_pictures(_interleave, count, x_NCHW.view(count, channels, -1), out_NPC)
    else:
        out_NCHW.copy_(x_NCHW)


def _over_pictures(kernel: Callable, count: int, *tensors: Tensor) -> None:
    """`kernel(start, stop, *arrays)` on all pictures, divided among as many threads as torch may use."""
    arrays = [tensor.numpy() for tensor in tensors]
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        kernel(0, count, *arrays)
        return
    bounds = [count * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda start, stop: kernel(start, stop, *arrays), bounds[:-1], bounds[1:]))


@cached
def _enlarge(start, stop, x_NPHR, boxes_N4, flip_N, out_NCHW):
    """Each row of the crop is resized once; then every output row lies between two of those.

    P planes of rows: one plane with the channels of a pixel side by side, or a plane for every channel.
    """
    channels, size = out_NCHW.shape[1:3]
    planes = x_NPHR.shape[1]
    step = channels // planes
    before_S = np.empty(size, np.uint32)
    after_S = np.empty(size, np.uint32)
    share_S = np.empty(size, np.float32)
    line_R = np.empty(x_NPHR.shape[3], np.float32)
    rows_CSS = np.empty((step, size, size), np.float32)
    for n in range(start, stop):
        top, left, height, width = boxes_N4[n]
        for s in range(size):
            at = min(max((s + 0.5) * width / size - 0.5, 0.0), width - 1.0)
            place = size - 1 - s if flip_N[n] else s
            before_S[place] = step * int(at)
            after_S[place] = step * min(int(at) + 1, width - 1)
            share_S[place] = at - int(at)
        for plane in range(planes):
            for row in range(height):
                source_R = x_NPHR[n, plane, top + row, step * left : step * (left + width)]
                for r in range(step * width):
                    line_R[r] = source_R[r]
                for c in range(step):
                    line_of_c = line_R[c:]
                    row_S = rows_CSS[c, row]
                    for s in range(size):
                        value = line_of_c[before_S[s]]
                        row_S[s] = value + share_S[s] * (line_of_c[after_S[s]] - value)
            for s in range(size):
                at = min(max((s + 0.5) * height / size - 0.5, 0.0), height - 1.0)
                share = f32(at - int(at))
                for c in range(step):
                    upper_S = rows_CSS[c, int(at)]
                    lower_S = rows_CSS[c, min(int(at) + 1, height - 1)]
                    out_S = out_NCHW[n, plane * step + c, s]
                    for t in range(size):
                        out_S[t] = upper_S[t] + share * (lower_S[t] - upper_S[t])


@compiled
def _luma(red, green, blue):
    return f32(0.2989) * red + f32(0.587) * green + f32(0.114) * blue


@compiled
def _unit(value):
    return min(max(value, f32(0)), f32(1))


@cached
def _color(start, stop, x_NCP, amount_N4, order_N4, jitter_N, gray_N):
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


@compiled
def _blend(red, green, blue, picture, gray, constant):
    for p in range(len(red)):
        luma = _luma(red[p], green[p], blue[p]) * gray + constant
        red[p] = _unit(red[p] * picture + luma)
        green[p] = _unit(green[p] * picture + luma)
        blue[p] = _unit(blue[p] * picture + luma)


@compiled
def _hue(red, green, blue, turn):
    """The formula of `color.hue`."""
    for p in range(len(red)):
        largest = max(max(red[p], green[p]), blue[p])
        smallest = min(min(red[p], green[p]), blue[p])
        chroma = largest - smallest
        sixths = (green[p] + blue[p] - red[p] - smallest) / max(chroma, f32(1e-9)) + f32(1)
        at = (sixths if green[p] >= blue[p] else -sixths) * f32(1 / 6) + turn + f32(2)
        base, slope = smallest - chroma, f32(6) * chroma
        red[p] = min(max(base + slope * _from_opposite(at), smallest), largest)
        green[p] = min(max(base + slope * _from_opposite(at - f32(1 / 3)), smallest), largest)
        blue[p] = min(max(base + slope * _from_opposite(at - f32(2 / 3)), smallest), largest)


@compiled
def _from_opposite(at):
    return abs(at - np.floor(at) - f32(0.5))


@cached
def _blur(start, stop, x_NCHW, index_M, half_MK):
    """`half_MK` has the weights from the centre outwards, the centre's halved as it is added from both sides."""
    channels, height, width = x_NCHW.shape[1:]
    border = half_MK.shape[1] - 1
    rows_RW = np.empty((height + 2 * border, width), np.float32)
    line_R = np.empty(width + 2 * border, np.float32)
    inner_W = line_R[border : border + width]
    for m in range(start, stop):
        for c in range(channels):
            x_HW = x_NCHW[index_M[m], c]
            for h in range(height):
                _copy(x_HW[h], rows_RW[border + h])
            for k in range(1, border + 1):
                _copy(x_HW[k], rows_RW[border - k])
                _copy(x_HW[height - 1 - k], rows_RW[border + height - 1 + k])
            for h in range(height):
                inner_W[:] = f32(0)
                for k in range(border + 1):
                    _add(inner_W, half_MK[m, k], rows_RW[border + h - k], rows_RW[border + h + k])
                for k in range(1, border + 1):
                    line_R[border - k] = inner_W[k]
                    line_R[border + width - 1 + k] = inner_W[width - 1 - k]
                x_W = x_HW[h]
                x_W[:] = f32(0)
                for k in range(border + 1):
                    left_W = line_R[border - k : border - k + width]
                    right_W = line_R[border + k : border + k + width]
                    _add(x_W, half_MK[m, k], left_W, right_W)
                for w in range(width):
                    x_W[w] = _unit(x_W[w])


@compiled
def _copy(from_W, to_W):
    """As `to_W[:] = from_W`, which takes numba seconds to compile."""
    for w in range(len(to_W)):
        to_W[w] = from_W[w]


@compiled
def _add(sum_W, weight, one_W, other_W):
    for w in range(len(sum_W)):
        sum_W[w] += weight * (one_W[w] + other_W[w])


@cached
def _interleave(start, stop, x_NCP, out_NPC):
    for n in range(start, stop):
        for c in range(x_NCP.shape[1]):
            for p in range(x_NCP.shape[2]):
                out_NPC[n, p, c] = x_NCP[n, c, p]
