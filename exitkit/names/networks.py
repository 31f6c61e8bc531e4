"""The networks and the kinds of heads by name, without torch."""

from dataclasses import dataclass

STEMS = ("cifar", "imagenet")


@dataclass(frozen=True)
class Network:
    """One network as the user sees it.

    Attributes:
        title: one line.
        exits: how many it has at most.
        stems: what it can begin with: "cifar" (3x3, stride 1), "imagenet" (strided and pooled).
    """

    title: str
    exits: int
    stems: tuple[str, ...] = ("cifar",)


NETWORKS: dict[str, Network] = {
    "resnet18": Network("ResNet-18 with the CIFAR stem (3x3, no pooling)", 4),
    "vgg16_bn": Network("VGG-16 with batch normalisation, for small images", 4),
    "vgg19_bn": Network("VGG-19 with batch normalisation, for small images", 4),
    "mobilenetv1": Network("MobileNetV1: depthwise-separable convolutions", 4, STEMS),
    "mobilenetv2": Network("MobileNetV2: inverted bottlenecks", 4, STEMS),
    "shufflenetv1": Network("ShuffleNetV1: three groups, shuffled", 4, STEMS),
    "shufflenetv2": Network("ShuffleNetV2: halves of the channels, shuffled", 4, STEMS),
    "googlenet": Network("GoogLeNet: inception blocks", 3, STEMS),
    "densenet121": Network("DenseNet-121: growth 32, blocks of 6, 12, 24, 16 layers", 4, STEMS),
    "densenet40_12": Network("DenseNet-40 for small images: growth 12, blocks of 12 layers", 3),
}

HEADS: dict[str, str] = {
    "light": "depthwise-separable downsampling to the deepest map's shape; cheap (default)",
    "bottle": "the papers' bottleneck chain; depthwise on mobile networks; dear",
}
