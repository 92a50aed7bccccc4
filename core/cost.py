"""The shape of a ResNet and what it costs, without torch: planning must not import it.

`core/encoder.py` builds its layers from the same `BLOCKS` and `stage_channels`, so an estimate here
and the network that runs cannot drift apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from core.config import EncoderConfig

# Blocks per stage (He et al. 2016, Table 1); 10 is the usual one-block-per-stage small ResNet.
BLOCKS: dict[int, tuple[int, int, int, int]] = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def is_bottleneck(encoder: EncoderConfig) -> bool:
    """Whether the blocks are 1x1-3x3-1x1 bottlenecks (depth 50 and more) or two 3x3 convolutions."""
    return encoder.depth >= 50


def expansion(encoder: EncoderConfig) -> int:
    """Output channels of a block over its own channels."""
    return 4 if is_bottleneck(encoder) else 1


def stage_channels(encoder: EncoderConfig) -> tuple[int, int, int, int]:
    """Channels of the four stages; the stem has as many as the first.

    The multiplier scales every layer (Sec. 4.1: ResNet-50 2x and 4x), not only the bottlenecks.
    """
    first = int(64 * encoder.width)
    return first, 2 * first, 4 * first, 8 * first


@dataclass(frozen=True)
class _Convolution:
    """A square convolution followed by batch norm."""

    inputs: int
    outputs: int
    kernel: int
    stride: int = 1

    def out_size(self, size: int) -> int:
        return (size - 1) // self.stride + 1

    def multiply_adds(self, size: int) -> int:
        return self.inputs * self.outputs * self.kernel**2 * self.out_size(size) ** 2

    def parameters(self) -> int:
        return self.inputs * self.outputs * self.kernel**2 + 2 * self.outputs


@cache
def multiply_adds(encoder: EncoderConfig, image_size: int) -> int:
    """Multiply-adds of the convolutions for one picture of `image_size` pixels, forward only."""
    stem, pooled = _stem(encoder)
    total = stem.multiply_adds(image_size)
    size = stem.out_size(image_size)
    if pooled:
        size = (size - 1) // 2 + 1
    for main, shortcut in _blocks(encoder):
        if shortcut:
            total += shortcut.multiply_adds(size)
        for convolution in main:
            total += convolution.multiply_adds(size)
            size = convolution.out_size(size)
    return total


@cache
def parameters(encoder: EncoderConfig) -> int:
    """Trainable parameters of the encoder, without any classifier."""
    total = _stem(encoder)[0].parameters()
    for main, shortcut in _blocks(encoder):
        total += sum(convolution.parameters() for convolution in main)
        if shortcut:
            total += shortcut.parameters()
    return total


def _stem(encoder: EncoderConfig) -> tuple[_Convolution, bool]:
    """The first convolution, and whether a stride-2 max-pool follows."""
    channels = stage_channels(encoder)[0]
    if encoder.stem == "cifar":
        return _Convolution(3, channels, 3), False
    return _Convolution(3, channels, 7, stride=2), True


def _blocks(encoder: EncoderConfig) -> Iterator[tuple[list[_Convolution], _Convolution | None]]:
    """The convolutions on the main path of each block, and the one on its shortcut."""
    inputs = stage_channels(encoder)[0]
    for stage, (channels, blocks) in enumerate(zip(stage_channels(encoder), BLOCKS[encoder.depth], strict=True)):
        outputs = channels * expansion(encoder)
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            if is_bottleneck(encoder):
                plan = [(inputs, 1, 1), (channels, 3, stride), (channels, 1, 1), (outputs, 0, 0)]
            else:
                plan = [(inputs, 3, stride), (channels, 3, 1), (outputs, 0, 0)]
            main = [_Convolution(a, b, kernel, step) for (a, kernel, step), (b, _, _) in pairwise(plan)]
            needs_shortcut = stride != 1 or inputs != outputs
            yield main, _Convolution(inputs, outputs, 1, stride) if needs_shortcut else None
            inputs = outputs
