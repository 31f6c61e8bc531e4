"""MobileNetV1: every convolution after the first filters channels alone, then mixes them.

Source: Howard et al. 2017, MobileNets, with the cuts of the LOTH networks (ACM MM 2024). The CIFAR
stem and the whole first stage keep the resolution, so that 4x4 pixels of 32x32 are left.
"""

from functools import partial

from torch import nn

from exitkit.models.backbone import Backbone, scaled
from exitkit.models.blocks import conv_bn, depthwise

# (channels, stride) of each stage's units; 0 stands for the stride that the stem decides
UNITS = (
    ((64, 1), (128, 0), (128, 1)),
    ((256, 2), (256, 1)),
    ((512, 2), *[(512, 1)] * 5),
    ((1024, 2), (1024, 1)),
)
STEM = 32


def _stage(number: int, inputs: int, width: float, early: int) -> nn.Module:
    layers: list[nn.Module] = conv_bn(3, inputs, 3, early) if number == 1 else []
    for channels, stride in UNITS[number - 1]:
        outputs = scaled(channels, width)
        layers += [*depthwise(inputs, stride or early), *conv_bn(inputs, outputs)]
        inputs = outputs
    return nn.Sequential(*layers)


def mobilenetv1(width: float, stem: str = "cifar") -> Backbone:
    """Describe MobileNetV1: four stages, taps at 32, 16, 8, 4 pixels of 32 (of 224: 56 to 7)."""
    early = 2 if stem == "imagenet" else 1
    channels = tuple(scaled(units[-1][0], width) for units in UNITS)
    inputs = (scaled(STEM, width), *channels[:-1])
    return Backbone(
        stages=tuple(partial(_stage, n, i, width, early) for n, i in enumerate(inputs, start=1)),
        channels=channels,
        strides=tuple(early**2 * stride for stride in (1, 2, 4, 8)),
        bottle=channels[1:],
        depthwise=True,
    )
