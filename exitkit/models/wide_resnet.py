"""Wide residual networks of twice the width, for 32x32.

Source: Zagoruyko and Komodakis 2016, Wide Residual Networks, as FFSD has them: every convolution
has a bias, the second one of a block strides, and the batch normalisation after the last block
averages its statistics with momentum 0.9. It and its ReLU belong to the last stage; the other
stages hand on raw residual sums.
"""

from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from exitkit.models.backbone import Backbone, scaled

STEM, CHANNELS = 16, (32, 64, 128)


class PreActivation(nn.Module):
    """Normalise, ReLU, convolve, twice, beside a shortcut of the raw input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, stride, padding=1),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, hidden: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Return the sum, without ReLU."""
        output: Tensor = self.body(hidden) + self.shortcut(hidden)
        return output


def _stage(number: int, inputs: int, outputs: int, blocks: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, inputs, 3, padding=1)] if number == 1 else []
    layers.append(PreActivation(inputs, outputs, 1 if number == 1 else 2))
    layers += [PreActivation(outputs, outputs, 1) for _ in range(blocks - 1)]
    if number == len(CHANNELS):
        layers += [nn.BatchNorm2d(outputs, momentum=0.9), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _wide(blocks: int, width: float) -> Backbone:
    channels = tuple(scaled(c, width) for c in CHANNELS)
    shapes = zip((scaled(STEM, width), *channels[:-1]), channels, strict=True)
    return Backbone(
        stages=tuple(partial(_stage, n, i, o, blocks) for n, (i, o) in enumerate(shapes, start=1)),
        channels=channels,
        strides=(1, 2, 4),
        bottle=channels[1:],
        depthwise=False,
    )


def wrn_16_2(width: float, stem: str = "cifar") -> Backbone:
    """Describe WRN-16-2: three stages of two blocks, taps at 32, 16 and 8 pixels of 32."""
    return _wide(2, width)


def wrn_40_2(width: float, stem: str = "cifar") -> Backbone:
    """Describe WRN-40-2: three stages of six blocks."""
    return _wide(6, width)
