"""The encoder f(.): a ResNet whose output is the representation h (Sec. 2.1).

Module names are torchvision's, so the state dict at width 1 with the ImageNet stem loads into the
torchvision ResNet of the same depth; only `fc` is missing.

Legend: N pictures, C channels, H height, W width, D features.
"""

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from core.config import EncoderConfig
from core.convolution import replace_convolutions
from core.cost import BLOCKS, is_bottleneck, stage_channels


class Encoder(nn.Module):
    """A ResNet with width multiplier (every channel count is scaled) and an ImageNet or CIFAR stem.

    `feature_dim` is the D of its output. Weights are drawn from torch's global generator.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        block = Bottleneck if is_bottleneck(config) else BasicBlock
        channels = stage_channels(config)
        if config.stem == "cifar":
            # App. B.9: pictures of 32 pixels would be 8 pixels wide before the first block.
            self.conv1 = nn.Conv2d(3, channels[0], kernel_size=3, stride=1, padding=1, bias=False)
            self.maxpool: nn.Module = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(3, channels[0], kernel_size=7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU(inplace=True)
        blocks = BLOCKS[config.depth]
        outputs = block.expansion
        self.layer1 = _stage(block, channels[0], channels[0], blocks[0], stride=1)
        self.layer2 = _stage(block, channels[0] * outputs, channels[1], blocks[1], stride=2)
        self.layer3 = _stage(block, channels[1] * outputs, channels[2], blocks[2], stride=2)
        self.layer4 = _stage(block, channels[2] * outputs, channels[3], blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Identity()
        self.feature_dim: int = channels[3] * outputs
        _initialise(self)
        replace_convolutions(self)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Pictures to representations h_ND."""
        # ReLU and the largest of a window commute, values and gradients alike; in this order ReLU has a quarter to do.
        x_NCHW = self.relu(self.maxpool(self.bn1(self.conv1(x_NCHW))))
        x_NCHW = self.layer4(self.layer3(self.layer2(self.layer1(x_NCHW))))
        return self.fc(self.avgpool(x_NCHW).flatten(1))


def build_encoder(config: EncoderConfig) -> Encoder:
    """The encoder of `config`, its weights drawn from torch's global generator, which the caller seeds."""
    return Encoder(config)


def _stage(block: type[BasicBlock | Bottleneck], inputs: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    outputs = channels * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
        )
    first = block(inputs, channels, stride, shortcut)
    return nn.Sequential(first, *(block(outputs, channels) for _ in range(blocks - 1)))


def _initialise(encoder: nn.Module) -> None:
    """He initialisation, as torchvision's.

    The official code also starts the last batch norm of each block at 0. That is left out: with AdamW's
    small steps the blocks then hardly leave the identity within the few hundred steps of a small scale.
    """
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
