"""The networks and the kinds of heads by name, without torch."""

from dataclasses import dataclass

STEMS = ("cifar", "imagenet")
# From this many pixels per side on, networks begin with their ImageNet stem.
LARGE = 128
# Instead of a kind of heads: the one of the method's paper.
PAPER = "paper"


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
    "resnet18": Network("ResNet-18: four stages of two blocks", 4, STEMS),
    "resnet34": Network("ResNet-34: 3, 4, 6, 3 blocks", 4, STEMS),
    "resnet50": Network("ResNet-50: 3, 4, 6, 3 bottlenecks", 4, STEMS),
    "resnet101": Network("ResNet-101: 3, 4, 23, 3 bottlenecks", 4, STEMS),
    "resnet152": Network("ResNet-152: 3, 8, 36, 3 bottlenecks", 4, STEMS),
    "resnet20": Network("ResNet-20 for small images: 16, 32, 64 channels", 3),
    "resnet32": Network("ResNet-32 for small images: 16, 32, 64 channels", 3),
    "resnet56": Network("ResNet-56 for small images: 16, 32, 64 channels", 3),
    "wrn_16_2": Network("WRN-16-2 for small images: 32, 64, 128 channels", 3),
    "wrn_40_2": Network("WRN-40-2 for small images: 32, 64, 128 channels", 3),
    "resnext50_32x4d": Network("ResNeXt-50: bottlenecks of 32 groups", 4, STEMS),
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
    "bottle": "BEED's and LOTH's chain of bottlenecks; depthwise on mobile networks; dear",
    "byot": "BYOT's single bottleneck, whose middle convolution strides to the deepest shape",
    "ecsd": "attention gate and chain of separable convolutions",
    "scan": "SCAN's attention gate and single bottleneck of 128 channels",
    "eed": "EED's chain of 3x3 convolutions",
}


def usual_stem(arch: str, image_size: int) -> str:
    """Return what the stem "auto" means: that for large images where they are and there is one."""
    stems = NETWORKS[arch].stems
    return "imagenet" if image_size >= LARGE and "imagenet" in stems else stems[0]
