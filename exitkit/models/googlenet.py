"""GoogLeNet with batch normalisation: four branches look at every map at four sizes.

Source: Szegedy et al. 2015, Going Deeper with Convolutions, with the cuts of FFSD's network: the
5x5 branch is two 3x3 convolutions, convolutions keep their biases, and the exits stand for the
auxiliary classifiers. A pooling opens the stage after a tap. The CIFAR stem is one 3x3 convolution.
"""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exitkit.models.backbone import Backbone, scaled
from exitkit.models.blocks import conv_bn

# channels per inception block: 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; pooled
Sizes = tuple[int, int, int, int, int, int]
BLOCKS: tuple[tuple[Sizes, ...], ...] = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
STEM = 192


class Inception(nn.Module):
    """Look at a map through 1x1, 3x3, 5x5 and pooling side by side."""

    def __init__(self, inputs: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        one, three_reduced, three, five_reduced, five, pooled = sizes
        brick = partial(conv_bn, bias=True)
        self.one = nn.Sequential(*brick(inputs, one))
        self.three = nn.Sequential(*brick(inputs, three_reduced), *brick(three_reduced, three, 3))
        self.five = nn.Sequential(
            *brick(inputs, five_reduced), *brick(five_reduced, five, 3), *brick(five, five, 3)
        )
        self.pooled = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *brick(inputs, pooled))

    def forward(self, hidden: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """Return the four branches' channels one after the other."""
        branches = (self.one, self.three, self.five, self.pooled)
        return torch.cat([branch(hidden) for branch in branches], dim=1)


def _halving() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, padding=1)


def _stem(channels: int, kind: str) -> list[nn.Module]:
    if kind == "cifar":
        return conv_bn(3, channels, 3, bias=True)
    third = channels // 3
    wide = [*conv_bn(3, third, 7, stride=2, bias=True), _halving()]
    return [
        *wide,
        *conv_bn(third, third, bias=True),
        *conv_bn(third, channels, 3, bias=True),
        _halving(),
    ]


def _outputs(sizes: tuple[int, ...]) -> int:
    return sizes[0] + sizes[2] + sizes[4] + sizes[5]


def _stage(inputs: int, blocks: tuple[tuple[int, ...], ...], stem: str) -> nn.Module:
    parts = _stem(inputs, stem) if stem else [_halving()]
    for sizes in blocks:
        parts.append(Inception(inputs, sizes))
        inputs = _outputs(sizes)
    return nn.Sequential(*parts)


def googlenet(width: float, stem: str = "cifar") -> Backbone:
    """Describe GoogLeNet: three stages, taps at 32, 16, 8 pixels of 32 (of 224: 28 to 7)."""
    blocks = tuple(
        tuple(tuple(scaled(c, width) for c in sizes) for sizes in stage) for stage in BLOCKS
    )
    channels = tuple(_outputs(stage[-1]) for stage in blocks)
    stages = zip((scaled(STEM, width), *channels[:-1]), blocks, (stem, "", ""), strict=True)
    pixels = 8 if stem == "imagenet" else 1
    return Backbone(
        stages=tuple(partial(_stage, *stage) for stage in stages),
        channels=channels,
        strides=tuple(pixels * stride for stride in (1, 2, 4)),
        bottle=channels[1:],
        depthwise=False,
    )
