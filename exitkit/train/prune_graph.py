"""How the channels of a network hang together: the one file that knows torch-pruning.

It is asked two things: which channels of which layers can only go together, and how large the
weights of each are. What follows from the answers is cut by `exitkit.models.resize` and proven by
`prune_proof`.

Source
    Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023: the graph of layers, and the
    magnitude of a channel as the mean over all layers that it runs through.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch_pruning.ops import _SplitOp

from exitkit.errors import ConfigError
from exitkit.models.blocks import Shuffle
from exitkit.models.exitnet import ExitNet
from exitkit.models.resize import channels, each_alone
from exitkit.records import Exits

SMALLER = "train a smaller network instead"


@dataclass(frozen=True)
class Place:
    """Where channels of a set stand: `rows` of an axis are, one by one, the set's own `of`."""

    tensor: str
    axis: int
    rows: list[int]
    of: list[int]


@dataclass(frozen=True)
class Coupled:
    """Channels that can only go together, over all layers.

    Attributes:
        scores: [n] how much each channel matters; None where all must stay.
        places: where they stand.
        cells: the channels, divided by the layers that give them: each gives up its own share.
        groups: of convolutions, which must all give up the same of their channels.
    """

    scores: Tensor | None
    places: list[Place]
    cells: list[list[int]]
    groups: int


def coupled(network: ExitNet, images: Tensor) -> list[Coupled]:
    """Return the sets of channels that can only go together, one set per giver or givers.

    Args:
        network: in evaluation mode, on the processor; all of its parameters can learn.
        images: [B, 3, H, W].

    Raises:
        ConfigError: torch-pruning cannot follow the network.
    """
    try:
        with _walls(network):
            graph = torch_pruning.DependencyGraph().build_dependency(
                _Traced(network), images, verbose=False
            )
        _mend_chunks(graph)
        groups = list(graph.get_all_groups())
    except Exception as error:  # whatever a stranger's network does to the tracing
        raise ConfigError(
            "pruning",
            f"torch-pruning cannot follow its channels ({type(error).__name__}: {error})",
            SMALLER,
        ) from error
    return [_read(graph, group, network) for group in groups]


class _Traced(nn.Module):
    """A network as torch-pruning is to see it: with all that its exits have in common."""

    def __init__(self, network: ExitNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return all logits, and sums that tie together channels of which one is one everywhere."""
        exits: Exits = self.network(images)
        alike: dict[tuple[str, torch.Size], list[Tensor]] = defaultdict(list)
        for answer in exits:
            alike["feature", answer.feature.shape].append(answer.feature)
            alike["embedding", answer.embedding.shape].append(answer.embedding)
        ties = [sum(same[1:], same[0]) for same in alike.values() if len(same) > 1]
        return [*(answer.logits for answer in exits), *ties]


class _Wall(torch.autograd.Function):
    """Hands values on under a name that stands out in the graph."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # Any: torch's context
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


@contextmanager
def _walls(network: nn.Module) -> Iterator[None]:
    """Let shuffles show as walls: torch-pruning would think that they keep channels in place."""
    hooks = [
        layer.register_forward_hook(lambda _layer, given, _gives: _Wall.apply(given[0]))
        for layer in network.modules()
        if isinstance(layer, Shuffle)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _read(graph: Any, group: Any, network: nn.Module) -> Coupled:
    """Read one group of torch-pruning's (Any: it has no types)."""
    names: dict[object, str] = {layer: name for name, layer in network.named_modules()}
    weights = {id(weight): name for name, weight in network.named_parameters()}
    places: list[Place] = []
    givers: dict[int, set[str]] = defaultdict(set)
    groups, closed = 1, False
    for item in group:
        layer, rows, of = item.dep.target.module, list(item.idxs), list(item.root_idxs)
        gives = graph.is_out_channel_pruning_fn(item.dep.handler)
        axes: dict[str, int] = {}
        if isinstance(layer, nn.Parameter):
            axes = {weights[id(layer)]: item.dep.target.pruning_dim}
        elif layer in names:
            own = channels(layer, "out" if gives else "in")
            axes = {f"{names[layer]}.{name}": axis for name, axis in own.items()}
            closed |= not own and next(layer.parameters(), None) is not None
            if gives and isinstance(layer, nn.Linear | _ConvNd):
                for number in of:
                    givers[number].add(names[layer])
            if not each_alone(layer):
                groups = max(groups, getattr(layer, "groups", getattr(layer, "num_groups", 1)))
        closed |= None in of or _Wall.__name__ in str(getattr(layer, "_grad_fn", ""))
        places += [Place(name, axis, rows, of) for name, axis in axes.items()]
    # Of a closed set torch-pruning may have lost count of the rows.
    rate = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    scores = None if closed else rate(group)
    cells: dict[frozenset[str], list[int]] = defaultdict(list)
    for number in range(len(group[0].idxs)):
        cells[frozenset(givers[number])].append(number)
    return Coupled(scores, places, list(cells.values()), groups)


def _mend_chunks(graph: Any) -> None:  # Any: as above
    """Tell torch-pruning the sizes that `chunk` gives; it guesses them from what follows."""
    for part, node in graph.module2node.items():
        size = getattr(node.grad_fn, "_saved_split_size", None)
        if isinstance(part, _SplitOp) and isinstance(size, int):
            part.split_sizes = [size] * len(node.outputs)
            part.offsets = [size * number for number in range(len(node.outputs) + 1)]
