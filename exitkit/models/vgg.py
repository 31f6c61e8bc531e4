"""VGG with batch normalisation, for small images: blocks of 3x3 convolutions, pooled between them.

Source: Simonyan and Zisserman 2015, Very Deep Convolutional Networks, with the cuts, classifier and
first weights of the LOTH networks (ACM MM 2024). A block begins with its pooling, so that a tap is
what the block before gave. There is no ImageNet form: its classifier reads 7x7 positions apart,
where every exit here reads their mean.
"""

from functools import partial

from torch import nn

from exitkit.models import blocks
from exitkit.models.backbone import Backbone, scaled
from exitkit.models.blocks import conv_bn

CHANNELS = (64, 128, 256, 512, 512)
HIDDEN, DROPOUT = 512, 0.5


def _block(number: int, convolutions: int, width: float) -> list[nn.Module]:
    before = (3, *(scaled(c, width) for c in CHANNELS))
    inputs, outputs = before[number - 1 : number + 1]
    layers: list[nn.Module] = [] if number == 1 else [nn.MaxPool2d(2)]
    for _ in range(convolutions):
        layers += conv_bn(inputs, outputs, 3)
        inputs = outputs
    return layers


def _stage(number: int, convolutions: tuple[int, ...], width: float) -> nn.Module:
    # The first block gets no exit of its own: stage 1 is two blocks.
    first = _block(1, convolutions[0], width) if number == 1 else []
    return nn.Sequential(*first, *_block(number + 1, convolutions[number], width))


def _classifier(width: float, inputs: int, classes: int) -> nn.Module:
    hidden = scaled(HIDDEN, width)
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(DROPOUT),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(DROPOUT),
        nn.Linear(hidden, classes),
    )


def initialise(module: nn.Module) -> None:
    """Draw convolutions as every network does; norms start at 0.5."""
    blocks.initialise(module)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.constant_(part.weight, 0.5)


def initialise_full(module: nn.Module) -> None:
    """Draw as `initialise` does, and linear layers from N(0, 0.01) with biases of 0.

    Three layers of so small weights hardly pass a gradient on, the less the narrower they are. On
    digits the deepest exit stayed at chance for 12 epochs at a quarter of the width and for 9 at
    half of it. Narrower networks begin with the weights that torch draws: 99 % at a quarter.
    """
    initialise(module)
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0.0, 0.01)
            nn.init.zeros_(part.bias)


def _vgg(convolutions: tuple[int, ...], width: float) -> Backbone:
    channels = tuple(scaled(c, width) for c in CHANNELS[1:])
    return Backbone(
        stages=tuple(partial(_stage, n, convolutions, width) for n in (1, 2, 3, 4)),
        channels=channels,
        strides=(2, 4, 8, 16),
        bottle=channels[1:],
        depthwise=False,
        rounding=("down", "down"),
        classifier=partial(_classifier, width),
        initialise=initialise_full if width >= 1 else initialise,
    )


def vgg16_bn(width: float, stem: str = "cifar") -> Backbone:
    """Describe VGG-16: four stages, taps at 16, 8, 4 and 2 pixels of 32."""
    return _vgg((2, 2, 3, 3, 3), width)


def vgg19_bn(width: float, stem: str = "cifar") -> Backbone:
    """Describe VGG-19: four stages, taps at 16, 8, 4 and 2 pixels of 32."""
    return _vgg((2, 2, 4, 4, 4), width)
