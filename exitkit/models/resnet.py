"""ResNet with the CIFAR stem: one 3x3 convolution of stride 1 and no pooling.

Source: He et al. 2016, Deep Residual Learning for Image Recognition; shortcuts that change shape
are 1x1 convolutions with batch normalisation (their option B).
"""

from functools import partial

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from exitkit.models.backbone import Backbone, scaled
from exitkit.models.blocks import conv_bn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_bn(inputs, outputs, 3, stride), *conv_bn(outputs, outputs, 3, relu=False)
        )
        same = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(*conv_bn(inputs, outputs, stride=stride, relu=False))
        )

    def forward(self, hidden: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Return body plus shortcut through a ReLU."""
        return relu(self.body(hidden) + self.shortcut(hidden), inplace=True)


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Module:
    # Only the first stage has a stem: its images have three channels.
    stem = conv_bn(3, inputs, 3) if stride == 1 else []
    rest = [BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(*stem, BasicBlock(inputs, outputs, stride), *rest)


def resnet18(width: float, stem: str = "cifar") -> Backbone:
    """Describe ResNet-18: four stages of two blocks, taps at 32, 16, 8 and 4 pixels of 32."""
    channels = tuple(scaled(c, width) for c in (64, 128, 256, 512))
    inputs = (channels[0], *channels[:-1])
    strides = (1, 2, 2, 2)
    return Backbone(
        stages=tuple(
            partial(_stage, i, o, 2, s) for i, o, s in zip(inputs, channels, strides, strict=True)
        ),
        channels=channels,
        strides=(1, 2, 4, 8),
        bottle=channels[1:],
        depthwise=False,
    )
