"""MobileNetV2: blocks that widen, filter each channel and narrow again.

Source: Sandler et al. 2018, MobileNetV2, with ReLU instead of ReLU6 and the cuts and last layers of
the LOTH networks (ACM MM 2024). The CIFAR stem and the whole first stage keep the resolution, so
that 4x4 pixels of 32x32 are left.
"""

from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from exitkit.models.backbone import Backbone, scaled
from exitkit.models.blocks import conv_bn, depthwise

# (expansion, channels, blocks, stride of the first block) of each stage's groups; 0 stands for the
# stride that the stem decides
GROUPS = (
    ((1, 16, 1, 1), (6, 24, 2, 0)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)
STEM, LAST = 32, 1280


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow without ReLU; a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        widen = conv_bn(inputs, inner) if expansion > 1 else []
        narrow = conv_bn(inner, outputs, relu=False)
        self.body = nn.Sequential(*widen, *depthwise(inner, stride), *narrow)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, hidden: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Return the narrow map, added to the input where the shape stays."""
        output: Tensor = self.body(hidden)
        return hidden + output if self.residual else output


def _stage(number: int, inputs: int, width: float, early: int) -> nn.Module:
    layers: list[nn.Module] = conv_bn(3, inputs, 3, early) if number == 1 else []
    for expansion, channels, blocks, first in GROUPS[number - 1]:
        outputs = scaled(channels, width)
        for stride in (first or early, *[1] * (blocks - 1)):
            layers.append(InvertedResidual(inputs, outputs, expansion, stride))
            inputs = outputs
    if number == len(GROUPS):
        layers += [nn.ReLU(), *conv_bn(inputs, scaled(LAST, width))]
    return nn.Sequential(*layers)


def mobilenetv2(width: float, stem: str = "cifar") -> Backbone:
    """Describe MobileNetV2: four stages, taps at 32, 16, 8, 4 pixels of 32 (of 224: 56 to 7)."""
    early = 2 if stem == "imagenet" else 1
    taps = tuple(scaled(groups[-1][1], width) for groups in GROUPS[:-1])
    inputs = (scaled(STEM, width), *taps)
    return Backbone(
        stages=tuple(partial(_stage, n, i, width, early) for n, i in enumerate(inputs, start=1)),
        channels=(*taps, scaled(LAST, width)),
        strides=tuple(early**2 * stride for stride in (1, 2, 4, 8)),
        bottle=tuple(scaled(c, width) for c in (256, 512, LAST)),
        depthwise=True,
    )
