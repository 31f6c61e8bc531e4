"""Which channels of a network stay: of every layer those that matter most."""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from exitkit.errors import ConfigError
from exitkit.models import probe
from exitkit.models.exitnet import ExitNet
from exitkit.models.resize import Kept
from exitkit.records import Exits
from exitkit.train.prune_graph import SMALLER, Coupled, coupled

STEPS, ENOUGH = (8, 4, 2), 8


@dataclass(frozen=True)
class Choice:
    """What stays of a network.

    Attributes:
        kept: channels that stay, per tensor and axis; tensors that are not named stay whole.
        sets: how many sets of channels that belong together may be cut at all.
        whole: how many of them stay whole, as their channels cannot be followed.
    """

    kept: Kept
    sets: int
    whole: int


def remaining(count: int, ratio: float) -> int:
    """Return how many of `count` channels stay: a multiple of 8, 4 or 2 where that is fine enough.

    >>> [remaining(count, 0.5) for count in (512, 64, 40, 24, 8, 3)]
    [256, 32, 20, 12, 4, 2]
    """
    step = next((step for step in STEPS if step * ENOUGH <= count), 1)
    return min(count, max(step, round(count * (1 - ratio) / step) * step))


def choose(network: ExitNet, image_size: int, ratio: float) -> Choice:
    """Choose the channels that stay; nothing is changed.

    What the classifiers of the exits give stays whole. Features and embeddings that exits have in
    common keep the same channels, so that methods can still compare them.

    Args:
        network: in evaluation mode, on the processor; all of its parameters can learn.
        image_size: pixels per side.
        ratio: share of the channels that goes, of every layer.

    Raises:
        ConfigError: torch-pruning cannot follow the network.
    """
    images = probe.images(network, image_size)
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    protected = {f"{name}.weight" for name in _classifiers(network, images)}
    stays: dict[tuple[str, int], Tensor] = {}
    sets = whole = 0
    for found in coupled(network, images):
        if any(place.tensor in protected and place.axis == 0 for place in found.places):
            continue
        sets += 1
        gone = _least(found, ratio)
        if gone is None:
            whole += 1
            continue
        for place in found.places:
            size = tensors[place.tensor].shape[place.axis]
            flags = stays.setdefault((place.tensor, place.axis), torch.ones(size, dtype=torch.bool))
            for row, own in zip(place.rows, place.of, strict=True):
                if own in gone:
                    flags[row % size] = False  # a grouped convolution has those of one group
    kept: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for (name, axis), flags in stays.items():
        if not flags.all():
            kept[name][axis] = flags.nonzero().view(-1)
    return Choice(kept, sets, whole)


def _least(found: Coupled, ratio: float) -> set[int] | None:
    """Return the channels of a set that go; None where they must all stay."""
    if found.scores is None or (found.groups > 1 and len(found.cells) > 1):
        return None
    gone = set[int]()
    for cell in found.cells:
        # [g n] -> [n]: a row of a grouped convolution counts as much as in the mean of all groups
        scores = found.scores[cell].view(found.groups, -1).mean(dim=0)
        size = len(scores)
        least = scores.argsort()[: size - remaining(size, ratio)].tolist()
        gone |= {cell[row + group * size] for row in least for group in range(found.groups)}
    return gone


def _classifiers(network: ExitNet, images: Tensor) -> list[str]:
    """Name the layers whose outputs are the logits of the exits."""
    gave: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda *told, name=name: gave.update({name: told[2]}))
        for name, layer in network.named_modules()
        if probe.outputs_of(layer) is not None
    ]
    try:
        with torch.no_grad():
            exits: Exits = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    names = []
    for answer in exits:
        of = [name for name, out in gave.items() if torch.equal(out.flatten(1), answer.logits)]
        if not of:
            raise ConfigError(
                f"pruning exit {answer.number}",
                "no linear layer gives its logits, so none can be protected",
                SMALLER,
            )
        names.append(of[-1])
    return names
