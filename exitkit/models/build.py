"""Networks by name: the one place where stages and heads are put together."""

from collections.abc import Callable, Sequence

from torch import nn

from exitkit import names
from exitkit.errors import CheckpointError, ConfigError, unknown
from exitkit.models import wrap
from exitkit.models.backbone import Backbone
from exitkit.models.densenet import densenet40_12, densenet121
from exitkit.models.dryrun import dry_run
from exitkit.models.exitnet import ExitNet, chosen
from exitkit.models.googlenet import googlenet
from exitkit.models.heads import HEADS, head
from exitkit.models.mobilenetv1 import mobilenetv1
from exitkit.models.mobilenetv2 import mobilenetv2
from exitkit.models.resize import resize
from exitkit.models.resnet import (
    resnet18,
    resnet20,
    resnet32,
    resnet34,
    resnet50,
    resnet56,
    resnet101,
    resnet152,
    resnext50_32x4d,
)
from exitkit.models.shufflenetv1 import shufflenetv1
from exitkit.models.shufflenetv2 import shufflenetv2
from exitkit.models.vgg import vgg16_bn, vgg19_bn
from exitkit.models.wide_resnet import wrn_16_2, wrn_40_2
from exitkit.records import Blueprint
from exitkit.runs import NetworkCard

NETWORKS: dict[str, Callable[[float, str], Backbone]] = {
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "resnet152": resnet152,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet56": resnet56,
    "wrn_16_2": wrn_16_2,
    "wrn_40_2": wrn_40_2,
    "resnext50_32x4d": resnext50_32x4d,
    "vgg16_bn": vgg16_bn,
    "vgg19_bn": vgg19_bn,
    "mobilenetv1": mobilenetv1,
    "mobilenetv2": mobilenetv2,
    "shufflenetv1": shufflenetv1,
    "shufflenetv2": shufflenetv2,
    "googlenet": googlenet,
    "densenet121": densenet121,
    "densenet40_12": densenet40_12,
}
SMALLEST = 32


def build(
    arch: str,
    classes: int,
    image_size: int = 32,
    heads: str = "light",
    width: float = 1.0,
    exits: Sequence[int] | None = None,
    first: int = 1,
    stem: str = "cifar",
    at: Sequence[str] = (),
) -> ExitNet:
    """Build a network with fresh weights, drawn from torch's default generator.

    The same generator state gives the same weights, and the stages and the deepest head get the
    same ones whatever other exits there are.

    Args:
        arch: a name of `NETWORKS`, or of a network from elsewhere (see `sources`).
        classes: C, at least 2.
        image_size: pixels per side of the square images, at least 32.
        heads: a name of `HEADS`.
        width: multiplier of every layer's channels, which are rounded to multiples of 8.
        exits: numbers of the exits to build, the deepest among them; all where not given.
        first: above 1, only stages `first` to K are built: a branch.
        stem: one of the network's stems, see `names.NETWORKS`.
        at: where a network from elsewhere is cut; its width and stem are its own.

    Raises:
        ConfigError: an unknown name or exit, no deepest exit, a size that does not work.
    """
    if names.foreign(arch):
        wanted = chosen(arch, len(at) + 1, exits, first)
        return wrap.named(arch, at, classes, image_size, wanted, first)
    if arch not in NETWORKS:
        raise unknown("network", arch, NETWORKS)
    stems = names.NETWORKS[arch].stems
    if stem not in stems:
        raise unknown(f"stem of {arch}", stem, stems)
    if heads not in HEADS:
        raise unknown("kind of heads", heads, HEADS)
    if not 0 < width < float("inf"):  # false for NaN too
        raise ConfigError(f"width {width}", "is no number above zero", "give, say, 0.5")
    if image_size < SMALLEST:
        raise ConfigError(
            f"images of {image_size} pixels",
            f"the networks need at least {SMALLEST}",
            f"give an image size of {SMALLEST} or more",
        )
    if classes < 2:
        raise ConfigError(f"{classes} classes", "nothing to tell apart", "give at least 2")
    backbone = NETWORKS[arch](width, stem)
    wanted = chosen(arch, len(backbone.stages), exits, first)
    stages = [_fresh(make(), backbone) for make in backbone.stages[first - 1 :]]
    # Deepest first: see the docstring's promise.
    made = {
        k: _fresh(head(backbone, heads, k, classes, image_size), backbone) for k in reversed(wanted)
    }
    return ExitNet(stages, made, first)


def _fresh(module: nn.Module, backbone: Backbone) -> nn.Module:
    backbone.initialise(module)
    return module


def rebuild(card: NetworkCard) -> ExitNet:
    """Build the network that a card describes, with fresh weights to load into.

    Raises:
        ConfigError: the card names what this exitkit does not have.
        CheckpointError: the card's pruned shapes fit no such network.
    """
    if card.image.height != card.image.width:
        raise ConfigError(
            f"images of {card.image.height}x{card.image.width} pixels",
            "networks are built for square images",
            "train it again with --image-size",
        )
    network = build(
        card.arch,
        len(card.classes),
        card.image.height,
        card.heads,
        card.width,
        card.exits,
        stem=card.stem,
        at=card.at,
    )
    if card.pruned is not None:
        resize(network, card.pruned.shapes)
        _refuse_broken(network, card)
    return network


def another(card: NetworkCard, first: int, exits: Sequence[int]) -> ExitNet:
    """Build a network of the same kind and widths as the card's: other exits, or a branch."""
    kind = (card.arch, len(card.classes), card.image.height, card.heads, card.width)
    network = build(*kind, exits, first, card.stem, card.at)
    if card.pruned is not None:
        own = network.state_dict()
        resize(network, {name: shape for name, shape in card.pruned.shapes.items() if name in own})
    return network


def _refuse_broken(network: ExitNet, card: NetworkCard) -> None:
    """Refuse layers that do not fit each other: shapes that were edited."""
    try:
        dry_run(network, card.image.height)
    except RuntimeError as error:
        raise CheckpointError(
            f"pruned shapes of {card.arch}",
            f"its layers do not fit each other ({error})",
            "prune the run again",
        ) from error


def blueprint(
    network: ExitNet,
    classes: int,
    samples: int,
    image_size: int,
    build: Callable[[int, Sequence[int]], nn.Module],
) -> Blueprint:
    """Describe `network` to an objective; see Blueprint for what the arguments mean."""
    outputs = dry_run(network, image_size)
    return Blueprint(
        classes=classes,
        samples=samples,
        exits=network.exits,
        features=tuple(tuple(answer.feature.shape[1:]) for answer in outputs),
        embeddings=tuple(answer.embedding.shape[1] for answer in outputs),
        hidden=tuple(tuple(hidden.shape[1:]) for hidden in outputs.hidden),
        build=build,
    )
