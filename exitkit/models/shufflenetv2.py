"""ShuffleNetV2: half of the channels pass a unit untouched, then both halves are shuffled.

Source: Ma et al. 2018, ShuffleNet V2, width 1x, with the cuts of the LOTH networks (ACM MM 2024):
convolutions keep their biases, and the tap before the last one is the end of a stage. The first
tap is the stem alone.
"""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exitkit.models.backbone import Backbone, scaled
from exitkit.models.blocks import Shuffle, conv_bn, depthwise

STEM, CHANNELS, LAST = 24, (116, 232, 464), 1024
REPEATS = (4, 8, 4)


def _filter(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    filtered = depthwise(inputs, stride, relu=False, bias=True)
    return [*filtered, *conv_bn(inputs, outputs, bias=True)]


class Unit(nn.Module):
    """Change one half of the channels and keep the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(*conv_bn(half, half, bias=True), *_filter(half, half, 1))
        self.shuffle = Shuffle(2)

    def forward(self, hidden: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        """Return both halves, shuffled."""
        kept, changed = hidden.chunk(2, dim=1)
        output: Tensor = self.shuffle(torch.cat([kept, self.body(changed)], dim=1))
        return output


class Halving(nn.Module):
    """Halve the map in two branches, each of which gives half of the output's channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.short = nn.Sequential(*_filter(inputs, half, 2))
        self.body = nn.Sequential(*conv_bn(inputs, inputs, bias=True), *_filter(inputs, half, 2))
        self.shuffle = Shuffle(2)

    def forward(self, hidden: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Return both branches, shuffled."""
        both = torch.cat([self.short(hidden), self.body(hidden)], dim=1)
        output: Tensor = self.shuffle(both)
        return output


def _stem(channels: int, kind: str) -> nn.Module:
    if kind == "imagenet":
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        return nn.Sequential(*conv_bn(3, channels, 3, stride=2, bias=True), pool)
    return nn.Sequential(*conv_bn(3, channels, 3, bias=True))


def _stage(inputs: int, outputs: int, repeats: int, last: int) -> nn.Module:
    units = [Unit(outputs) for _ in range(repeats - 1)]
    mix = conv_bn(outputs, last, bias=True) if last else []
    return nn.Sequential(Halving(inputs, outputs), *units, *mix)


def shufflenetv2(width: float, stem: str = "cifar") -> Backbone:
    """Describe ShuffleNetV2: four stages, taps at 32, 16, 8, 4 pixels of 32 (of 224: 56 to 7)."""
    first, *channels = (scaled(c, width) for c in (STEM, *CHANNELS))
    last = scaled(LAST, width)
    inputs = (first, *channels[:-1])
    stages = zip(inputs, channels, REPEATS, (0, 0, last), strict=True)
    pixels = 4 if stem == "imagenet" else 1
    taps = (first, *channels[:-1], last)
    return Backbone(
        stages=(partial(_stem, first, stem), *(partial(_stage, *stage) for stage in stages)),
        channels=taps,
        strides=tuple(pixels * stride for stride in (1, 2, 4, 8)),
        bottle=taps[1:],
        depthwise=True,
    )
