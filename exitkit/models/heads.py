"""Heads: from what a stage gives out to a feature of the deepest map's shape.

`light` costs far below a stage. It halves the map with depthwise convolutions alone, channels
unchanged, and pays for the one 1x1 convolution to the deepest channels where the map is smallest.
There is no ReLU between the halvings: with so few channels each ReLU loses what the exit needs
(digits, width 0.25, 4 to 8 epochs, both networks, 2 seeds: exit 1 gains 3 to 11 points by this).
The other kinds are the papers' and stand in `paper_heads`.
"""

from collections.abc import Callable

from torch import nn

from exitkit.models import paper_heads
from exitkit.models.backbone import Backbone
from exitkit.models.blocks import conv_bn, depthwise
from exitkit.models.exitnet import Head

Body = Callable[[Backbone, int, int], nn.Module]


def light(backbone: Backbone, k: int, image_size: int) -> nn.Module:
    """Make the cheap body of exit `k`: depthwise halvings, then 1x1 to the deepest channels."""
    sides = backbone.sides(image_size)
    return downsampling(backbone.channels[k - 1], sides[k - 1], backbone.channels[-1], sides[-1])


def downsampling(inputs: int, side: int, outputs: int, target: int) -> nn.Module:
    """Map [B, inputs, side, side] to [B, outputs, target, target], as cheaply as possible.

    Halves (rounding up) as long as the map stays at least `target` wide; the last convolution
    closes with the 1x1. What halving cannot reach is pooled adaptively.
    """
    strides = []
    while side > target and -(-side // 2) >= target:
        side = -(-side // 2)
        strides.append(2)
    layers = [layer for stride in strides or [1] for layer in depthwise(inputs, stride, relu=False)]
    if side != target:
        layers.append(nn.AdaptiveAvgPool2d((target, target)))
    return nn.Sequential(*layers, *conv_bn(inputs, outputs))


HEADS: dict[str, Body] = {
    "light": light,
    "bottle": paper_heads.bottle,
    "byot": paper_heads.byot,
    "ecsd": paper_heads.ecsd,
    "scan": paper_heads.scan,
    "eed": paper_heads.eed,
}


def head(backbone: Backbone, kind: str, k: int, classes: int, image_size: int) -> Head:
    """Make the head of exit `k`; the deepest one only pools and classifies."""
    deepest = k == len(backbone.stages)
    channels = backbone.channels[-1]
    if not deepest:
        return Head(HEADS[kind](backbone, k, image_size), channels, classes)
    own = backbone.classifier
    return Head(nn.Identity(), channels, classes, None if own is None else own(channels, classes))
