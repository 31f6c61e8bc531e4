"""What a network costs: multiply-adds per image and parameters, per stage and per head.

Multiply-adds are those of convolutions, linear layers and attention's products of tokens, for one
image; normalisation, activations and pooling are not counted. Parameters are counted all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from torch import nn

from exitkit.errors import ConfigError
from exitkit.models.dryrun import blank_image
from exitkit.models.exitnet import ExitNet
from exitkit.models.multiply_adds import Counter


@dataclass(frozen=True)
class Costs:
    """Costs of a network, piece by piece.

    Attributes:
        stages: multiply-adds of stage 1..K.
        heads: multiply-adds of each exit's head, by exit number.
        stage_parameters: parameters of stage 1..K.
        head_parameters: parameters of each exit's head, by exit number.
    """

    stages: tuple[int, ...]
    heads: Mapping[int, int]
    stage_parameters: tuple[int, ...]
    head_parameters: Mapping[int, int]

    @property
    def exits(self) -> tuple[int, ...]:
        """The numbers of the exits, shallow to deep."""
        return tuple(sorted(self.heads))

    @property
    def plain(self) -> int:
        """Multiply-adds of the same network without early exits."""
        return sum(self.stages) + self.heads[len(self.stages)]

    def segments(self, exits: Sequence[int]) -> tuple[int, ...]:
        """Return the multiply-adds from each kept exit to the next, its head included.

        Args:
            exits: numbers of the kept exits, shallow to deep; the last one always answers.
        """
        return self._between(exits, self.stages, self.heads)

    def leaving(self, exits: Sequence[int]) -> tuple[int, ...]:
        """Return the multiply-adds of leaving at each kept exit.

        All stages and all kept heads on the way are paid; heads that are not kept are not run.
        """
        return tuple(accumulate(self.segments(exits)))

    def parameters(self, exits: Sequence[int]) -> tuple[int, ...]:
        """Return the parameters needed to leave at each kept exit, earlier kept heads included."""
        return tuple(accumulate(self._between(exits, self.stage_parameters, self.head_parameters)))

    @property
    def alone(self) -> tuple[int, ...]:
        """Multiply-adds of cutting the network at each exit, without any other head."""
        return tuple(self.leaving((k,))[0] for k in self.exits)

    @property
    def parameters_alone(self) -> tuple[int, ...]:
        """Parameters up to each exit's stage and of its own head: how papers count exits."""
        return tuple(self.parameters((k,))[0] for k in self.exits)

    @property
    def plain_parameters(self) -> int:
        """Parameters of the same network without early exits."""
        return self.parameters_alone[-1]

    def _between(
        self, exits: Sequence[int], stages: Sequence[int], heads: Mapping[int, int]
    ) -> tuple[int, ...]:
        kept = tuple(exits)
        if not kept or list(kept) != sorted(set(kept)) or not set(kept) <= set(self.heads):
            raise ConfigError(
                f"exits {', '.join(map(str, kept)) or 'none'}",
                f"the network has exits {', '.join(map(str, self.exits))}",
                "name each wanted exit once, shallow to deep",
            )
        before = (0, *kept[:-1])
        return tuple(sum(stages[a:b]) + heads[b] for a, b in zip(before, kept, strict=True))


def count(network: ExitNet, image_size: int) -> Costs:
    """Count the costs of `network` for one square image; nothing is computed or changed.

    Raises:
        ConfigError: `network` is a branch, which takes no images.
    """
    stages, heads = [], {}
    with blank_image(network, image_size) as hidden:
        for k in range(1, network.deepest + 1):
            with Counter() as counter:
                hidden = network.stage(k, hidden)
            stages.append(counter.total)
            if k in network.exits:
                with Counter() as counter:
                    network.head(k, hidden)
                heads[k] = counter.total
    return Costs(
        stages=tuple(stages),
        heads=heads,
        stage_parameters=tuple(
            _parameters(network.stages[str(k + 1)]) for k in range(network.deepest)
        ),
        head_parameters={k: _parameters(network.heads[str(k)]) for k in network.exits},
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def warning(costs: Costs, heads: str, exits: Sequence[int] | None = None) -> str | None:
    """Say which kept early exits cost more to leave at than the whole network without exits.

    Args:
        costs: of the network.
        heads: kind of its heads; where it is the cheap one, no cheaper one is advised.
        exits: the kept exits, shallow to deep; all where not given.

    Returns:
        One line with both numbers per exit, or None where every early exit saves something.
    """
    kept = costs.exits if exits is None else tuple(exits)
    # The deepest exit always pays for the heads before it; that is no surprise.
    dear = [
        f"exit {k} costs {macs / 1e6:.1f} M"
        for k, macs in zip(kept, costs.leaving(kept), strict=True)
        if macs > costs.plain and k != len(costs.stages)
    ]
    if not dear:
        return None
    cheaper = "" if heads == "light" else " or train with --heads light"
    return (
        f"leaving at {', '.join(dear)} multiply-adds per image, all kept heads on the way paid; "
        f"the network without early exits costs {costs.plain / 1e6:.1f} M: these exits save "
        f"nothing, keep fewer exits{cheaper}"
    )
