"""Residual networks: four stages with either stem, three stages for 32x32, and ResNeXt-50.

Source: He et al. 2016, Deep Residual Learning for Image Recognition; shortcuts that change shape
are 1x1 convolutions with batch normalisation (their option B), also in the three-stage networks,
as FFSD has them. Bottlenecks stride in their 3x3 convolution, as the common implementations do.
ResNeXt: Xie et al. 2017, Aggregated Residual Transformations.
"""

from collections.abc import Callable, Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from exitkit.models.backbone import Backbone, scaled
from exitkit.models.blocks import conv_bn

# (inputs, outputs, stride) -> one block of a stage
Block = Callable[[int, int, int], nn.Module]

EXPANSION = 4
CARDINALITY = 32


class Residual(nn.Module):
    """A body beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, body: Sequence[nn.Module], inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)
        same = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(*conv_bn(inputs, outputs, stride=stride, relu=False))
        )

    def forward(self, hidden: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Return body plus shortcut through a ReLU."""
        return relu(self.body(hidden) + self.shortcut(hidden), inplace=True)


def basic(inputs: int, outputs: int, stride: int) -> Residual:
    """Make a block of two 3x3 convolutions."""
    body = [*conv_bn(inputs, outputs, 3, stride), *conv_bn(outputs, outputs, 3, relu=False)]
    return Residual(body, inputs, outputs, stride)


def bottleneck(inputs: int, outputs: int, stride: int, inner: int, groups: int = 1) -> Residual:
    """Make a block that narrows to `inner` channels, filters them by `groups` and widens."""
    narrow, widen = conv_bn(inputs, inner), conv_bn(inner, outputs, relu=False)
    body = [*narrow, *conv_bn(inner, inner, 3, stride, groups), *widen]
    return Residual(body, inputs, outputs, stride)


def _stem(kind: str, channels: int) -> list[nn.Module]:
    if kind == "imagenet":
        return [*conv_bn(3, channels, 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1)]
    return conv_bn(3, channels, 3)


def _stage(
    block: Block, inputs: int, outputs: int, blocks: int, stride: int, stem: str = ""
) -> nn.Module:
    first = [*(_stem(stem, inputs) if stem else ()), block(inputs, outputs, stride)]
    return nn.Sequential(*first, *(block(outputs, outputs, 1) for _ in range(blocks - 1)))


def _backbone(
    makers: Sequence[Block],
    blocks: Sequence[int],
    first: int,
    channels: tuple[int, ...],
    stem: str,
) -> Backbone:
    """Describe a residual network from a maker of blocks, their number and the width per stage.

    The bottle heads of bottleneck networks go through the widths of their stages: no paper and no
    code that runs says which widths they had, so this is our reading.
    """
    inputs = (first, *channels[:-1])
    strides = (1, *(2 for _ in channels[1:]))
    stages = zip(makers, inputs, channels, blocks, strides, strict=True)
    pixels = 4 if stem == "imagenet" else 1
    return Backbone(
        stages=tuple(
            partial(_stage, *stage, stem=stem if k == 0 else "") for k, stage in enumerate(stages)
        ),
        channels=channels,
        strides=tuple(pixels * 2**k for k in range(len(channels))),
        bottle=channels[1:],
        depthwise=False,
    )


def _basic(blocks: Sequence[int], planes: Sequence[int], width: float, stem: str) -> Backbone:
    channels = tuple(scaled(c, width) for c in planes)
    return _backbone([basic] * len(blocks), blocks, channels[0], channels, stem)


def _bottleneck(blocks: Sequence[int], width: float, stem: str) -> Backbone:
    planes = [scaled(c, width) for c in (64, 128, 256, 512)]
    makers = [partial(bottleneck, inner=inner) for inner in planes]
    channels = tuple(EXPANSION * inner for inner in planes)
    return _backbone(makers, blocks, planes[0], channels, stem)


def resnet18(width: float, stem: str = "cifar") -> Backbone:
    """Describe ResNet-18: four stages of two blocks; with the CIFAR stem taps at 32, 16, 8, 4."""
    return _basic((2, 2, 2, 2), (64, 128, 256, 512), width, stem)


def resnet34(width: float, stem: str = "cifar") -> Backbone:
    """Describe ResNet-34: 3, 4, 6 and 3 blocks."""
    return _basic((3, 4, 6, 3), (64, 128, 256, 512), width, stem)


def resnet50(width: float, stem: str = "cifar") -> Backbone:
    """Describe ResNet-50: 3, 4, 6 and 3 bottlenecks."""
    return _bottleneck((3, 4, 6, 3), width, stem)


def resnet101(width: float, stem: str = "cifar") -> Backbone:
    """Describe ResNet-101: 3, 4, 23 and 3 bottlenecks."""
    return _bottleneck((3, 4, 23, 3), width, stem)


def resnet152(width: float, stem: str = "cifar") -> Backbone:
    """Describe ResNet-152: 3, 8, 36 and 3 bottlenecks."""
    return _bottleneck((3, 8, 36, 3), width, stem)


def resnext50_32x4d(width: float, stem: str = "cifar") -> Backbone:
    """Describe ResNeXt-50: 32 groups of 4, 8, 16 and 32 channels; `width` scales their number."""
    groups = scaled(CARDINALITY, width)
    planes = [scaled(c, width) for c in (64, 128, 256, 512)]
    makers = [partial(bottleneck, inner=groups * 4 * 2**k, groups=groups) for k in range(4)]
    channels = tuple(EXPANSION * c for c in planes)
    return _backbone(makers, (3, 4, 6, 3), planes[0], channels, stem)


def resnet20(width: float, stem: str = "cifar") -> Backbone:
    """Describe ResNet-20: three stages of three blocks, 16 to 64 channels, taps at 32, 16, 8."""
    return _basic((3, 3, 3), (16, 32, 64), width, stem)


def resnet32(width: float, stem: str = "cifar") -> Backbone:
    """Describe ResNet-32: three stages of five blocks."""
    return _basic((5, 5, 5), (16, 32, 64), width, stem)


def resnet56(width: float, stem: str = "cifar") -> Backbone:
    """Describe ResNet-56: three stages of nine blocks."""
    return _basic((9, 9, 9), (16, 32, 64), width, stem)
