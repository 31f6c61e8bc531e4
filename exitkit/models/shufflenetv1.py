"""ShuffleNetV1: grouped 1x1 convolutions with a shuffle between them.

Source: Zhang et al. 2018, ShuffleNet, three groups, width 1x, with the cuts of the LOTH networks
(ACM MM 2024): convolutions keep their biases. Zhang et al. leave the very first 1x1 convolution
ungrouped; here it is grouped like the others, which the counts of the LOTH networks ask for. The
first tap is the stem alone.
"""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from exitkit.models.backbone import Backbone, scaled
from exitkit.models.blocks import Shuffle, conv_bn, depthwise

STEM, CHANNELS = 24, (240, 480, 960)
REPEATS = (4, 8, 4)
GROUPS, NARROWING = 3, 4


class Unit(nn.Module):
    """Narrow by groups, shuffle, filter each channel, widen by groups.

    Args:
        inputs: channels of what is given.
        outputs: channels of the result.
        stride: 1 adds the input to the result; 2 puts the pooled input before it, so that only
            the rest of the channels is computed.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = outputs // NARROWING
        made = outputs - inputs if stride == 2 else outputs
        self.body = nn.Sequential(
            *conv_bn(inputs, inner, groups=GROUPS, bias=True),
            Shuffle(GROUPS),
            *depthwise(inner, stride, relu=False, bias=True),
            *conv_bn(inner, made, groups=GROUPS, relu=False, bias=True),
        )
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None

    def forward(self, hidden: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Return shortcut and body through a ReLU."""
        output: Tensor = self.body(hidden)
        if self.pool is None:
            return relu(hidden + output, inplace=True)
        return relu(torch.cat([self.pool(hidden), output], dim=1), inplace=True)


def _stem(channels: int, kind: str) -> nn.Module:
    if kind == "imagenet":
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        return nn.Sequential(*conv_bn(3, channels, 3, stride=2, bias=True), pool)
    return nn.Sequential(*conv_bn(3, channels, 3, bias=True))


def _stage(inputs: int, outputs: int, repeats: int) -> nn.Module:
    units = [Unit(outputs, outputs, 1) for _ in range(repeats - 1)]
    return nn.Sequential(Unit(inputs, outputs, 2), *units)


def shufflenetv1(width: float, stem: str = "cifar") -> Backbone:
    """Describe ShuffleNetV1: four stages, taps at 32, 16, 8, 4 pixels of 32 (of 224: 56 to 7)."""
    # A quarter of every width, and what a unit adds to its input, must divide into the groups.
    step = NARROWING * GROUPS * 2
    first = scaled(STEM, width, step)
    smallest = max(scaled(CHANNELS[0], width, step), first + step)
    channels = tuple(smallest * times for times in (1, 2, 4))
    stages = zip((first, *channels[:-1]), channels, REPEATS, strict=True)
    pixels = 4 if stem == "imagenet" else 1
    return Backbone(
        stages=(partial(_stem, first, stem), *(partial(_stage, *stage) for stage in stages)),
        channels=(first, *channels),
        strides=tuple(pixels * stride for stride in (1, 2, 4, 8)),
        bottle=channels,
        depthwise=True,
    )
