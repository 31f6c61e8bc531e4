"""The heads of the papers, which cost what a stage costs and teach well; see `heads` for ours.

`byot`: one bottleneck whose middle convolution covers the deepest map's pixel in one step (Zhang
et al. 2019, as the common re-implementation has it). `scan`: the same shape with 128 channels
inside, behind an attention gate (SCAN, Zhang et al. 2019). `ecsd`: a gate and a chain of separable
convolutions (Zhang et al. 2021). `eed`: a chain of 3x3 convolutions (EED, 2021). `bottle`: a chain
of bottlenecks, depthwise on mobile networks (BEED, ACCV 2022, and LOTH, ACM MM 2024).

The papers had residual networks, whose stages double the width. On others the chains go through
the widths of the stages that follow (`bottle` through those that LOTH gave it); a stage that does
not halve the map has a block that does not either; what halving misses is pooled.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from exitkit.models.backbone import Backbone
from exitkit.models.blocks import Depthwise, conv_bn

SCAN_CHANNELS = 128


class Gate(nn.Module):
    """Multiply a map by the mask that `body` makes of it; odd sides make masks a pixel longer."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body, nn.Sigmoid())

    def forward(self, hidden: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return the attended map."""
        mask: Tensor = self.body(hidden)
        return hidden * mask[:, :, : hidden.shape[2], : hidden.shape[3]]


def bottle(backbone: Backbone, k: int, image_size: int) -> nn.Module:
    """Make a chain of bottlenecks, one per remaining stage."""

    def block(i: int, o: int, stride: int) -> list[nn.Module]:
        groups = o if backbone.depthwise else 1
        return [*conv_bn(i, o), *conv_bn(o, o, 3, stride, groups), *conv_bn(o, o)]

    return nn.Sequential(*chain(backbone, k, image_size, backbone.bottle[k - 1 :], block))


def eed(backbone: Backbone, k: int, image_size: int) -> nn.Module:
    """Make a chain of 3x3 convolutions, one per remaining stage."""

    def block(i: int, o: int, stride: int) -> list[nn.Module]:
        return conv_bn(i, o, 3, stride)

    return nn.Sequential(*chain(backbone, k, image_size, backbone.channels[k:], block))


def ecsd(backbone: Backbone, k: int, image_size: int) -> nn.Module:
    """Make a gate and a chain of separable convolutions, one per remaining stage."""
    c = backbone.channels[k - 1]
    gate = Gate(
        *separable(c, c, 2),
        nn.BatchNorm2d(c),
        nn.ReLU(inplace=True),
        nn.Upsample(scale_factor=2.0, mode="bilinear"),
    )
    return nn.Sequential(gate, *chain(backbone, k, image_size, backbone.channels[k:], separable))


def separable(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """Return two depthwise 3x3 convolutions, the first strided, each closed by a 1x1."""
    first = [Depthwise(inputs, stride), *conv_bn(inputs, inputs)]
    return [*first, Depthwise(inputs), *conv_bn(inputs, outputs)]


def scan(backbone: Backbone, k: int, image_size: int) -> nn.Module:
    """Make a gate and one bottleneck of 128 channels, of fewer where the network is narrow."""
    c, inner = backbone.channels[k - 1], min(SCAN_CHANNELS, backbone.channels[-1] // 4)
    gate = Gate(
        *_closed(nn.Conv2d(c, c, 3, stride=2, padding=1)),
        nn.ConvTranspose2d(c, c, 4, stride=2, padding=1),
        nn.BatchNorm2d(c),
    )
    return nn.Sequential(gate, *_patches(backbone, k, image_size, inner))


def byot(backbone: Backbone, k: int, image_size: int) -> nn.Module:
    """Make one bottleneck of a quarter of the deepest channels."""
    return nn.Sequential(*_patches(backbone, k, image_size, backbone.channels[-1] // 4))


def _patches(backbone: Backbone, k: int, image_size: int, inner: int) -> list[nn.Module]:
    """Cut the map into as many patches as the deepest has pixels; zeros fill the last ones."""
    sides = backbone.sides(image_size)
    side, target = sides[k - 1], sides[-1]
    patch = -(-side // target)
    missing = patch * target - side
    inputs, outputs = backbone.channels[k - 1], backbone.channels[-1]
    return [
        *_closed(nn.Conv2d(inputs, inner, 1)),
        *([nn.ZeroPad2d((0, missing, 0, missing))] if missing else []),
        *_closed(nn.Conv2d(inner, inner, patch, stride=patch)),
        *_closed(nn.Conv2d(inner, outputs, 1)),
    ]


def _closed(conv: nn.Conv2d) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True)]


def chain(
    backbone: Backbone,
    k: int,
    image_size: int,
    widths: tuple[int, ...],
    block: Callable[[int, int, int], list[nn.Module]],
) -> list[nn.Module]:
    """Return one block per stage after `k`, with that stage's stride, down to the deepest map.

    Args:
        backbone: whose exit it is.
        k: number of the exit.
        image_size: pixels per side of the images.
        widths: channels after each block.
        block: (inputs, outputs, stride) -> layers; halving rounds up.
    """
    sides = backbone.sides(image_size)
    layers: list[nn.Module] = []
    side, inputs = sides[k - 1], backbone.channels[k - 1]
    for outputs, before, after in zip(widths, sides[k - 1 : -1], sides[k:], strict=True):
        stride = 1 if after == before else 2
        side = -(-side // stride)
        layers += block(inputs, outputs, stride)
        inputs = outputs
    return layers if side == sides[-1] else [*layers, nn.AdaptiveAvgPool2d(sides[-1])]
