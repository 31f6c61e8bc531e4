"""DenseNet: every layer sees what all layers of its block before it gave.

Source: Huang et al. 2017, Densely Connected Convolutional Networks. A tap is what a dense block
gave; the transition to the next block opens the next stage. The last tap follows the last
normalisation and ReLU. DenseNet-40-12 has three blocks without bottlenecks or compression and is
meant for 32x32 pixels.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exitkit.models.backbone import Backbone, scaled
from exitkit.models.blocks import conv_bn

BOTTLENECK = 4


@dataclass(frozen=True)
class Plan:
    """The numbers of one DenseNet.

    Attributes:
        first: channels of the stem.
        growth: channels that a layer adds.
        layers: of each dense block.
        bottleneck: whether a 1x1 convolution to four times the growth leads each layer.
        compression: a transition divides the channels by it.
        stem: "cifar" or "imagenet".
    """

    first: int
    growth: int
    layers: tuple[int, ...]
    bottleneck: bool
    compression: int
    stem: str

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of what each dense block gives."""
        found, inputs = [], self.first
        for layers in self.layers:
            found.append(inputs + layers * self.growth)
            inputs = found[-1] // self.compression
        return tuple(found)


def _norm_conv(inputs: int, outputs: int, kernel: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return [nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), convolution]


class Layer(nn.Module):
    """Add `growth` channels, computed from all the others."""

    def __init__(self, inputs: int, growth: int, bottleneck: bool) -> None:
        super().__init__()
        inner = BOTTLENECK * growth if bottleneck else inputs
        narrow = _norm_conv(inputs, inner) if bottleneck else []
        self.body = nn.Sequential(*narrow, *_norm_conv(inner, growth, 3))

    def forward(self, hidden: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """Return the input and, behind it, the new channels."""
        return torch.cat([hidden, self.body(hidden)], dim=1)


def _stem(plan: Plan) -> list[nn.Module]:
    if plan.stem == "imagenet":
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        return [*conv_bn(3, plan.first, 7, stride=2), pool]
    return [nn.Conv2d(3, plan.first, 3, padding=1, bias=False)]


def _stage(plan: Plan, number: int) -> nn.Module:
    if number == 1:
        inputs, parts = plan.first, _stem(plan)
    else:
        before = plan.channels[number - 2]
        inputs = before // plan.compression
        parts = [*_norm_conv(before, inputs), nn.AvgPool2d(2)]
    for _ in range(plan.layers[number - 1]):
        parts.append(Layer(inputs, plan.growth, plan.bottleneck))
        inputs += plan.growth
    if number == len(plan.layers):
        parts += [nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts)


def _backbone(plan: Plan) -> Backbone:
    numbers = range(1, len(plan.layers) + 1)
    pixels = 4 if plan.stem == "imagenet" else 1
    return Backbone(
        stages=tuple(partial(_stage, plan, number) for number in numbers),
        channels=plan.channels,
        strides=tuple(pixels * 2 ** (number - 1) for number in numbers),
        bottle=plan.channels[1:],
        depthwise=False,
        rounding=("up", "down"),
    )


def densenet121(width: float, stem: str = "cifar") -> Backbone:
    """Describe DenseNet-121: four blocks, taps at 32, 16, 8, 4 pixels of 32 (of 224: 56 to 7)."""
    first, growth = scaled(64, width), scaled(32, width, 4)
    return _backbone(Plan(first, growth, (6, 12, 24, 16), True, 2, stem))


def densenet40_12(width: float, stem: str = "cifar") -> Backbone:
    """Describe DenseNet-40 with growth 12: three blocks, taps at 32, 16 and 8 pixels of 32."""
    first, growth = scaled(24, width), scaled(12, width, 4)
    return _backbone(Plan(first, growth, (12, 12, 12), False, 1, stem))
