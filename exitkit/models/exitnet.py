"""A network with exits: `stage` and `head` are the only forward code there is.

Training calls them through `forward`, export and the torch backend call them one by one, so that
the three cannot drift apart.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Self

from torch import Tensor, nn

from exitkit.errors import ConfigError
from exitkit.records import Exit, Exits


class ExitNet(nn.Module):
    """Stages in a row, and heads that answer from what a stage gives out.

    Args:
        stages: stage `first` to K, shallow to deep; stage 1 takes images [B, 3, H, W].
        heads: exit number -> head; the deepest stage must have one. Only these exits exist:
            a head that nobody asked for is neither built nor run.
        first: number of the first stage; above 1 the network is a branch that takes the output
            of stage `first - 1`.
    """

    def __init__(
        self, stages: Sequence[nn.Module], heads: Mapping[int, nn.Module], first: int = 1
    ) -> None:
        super().__init__()
        self.first = first
        self.deepest = first + len(stages) - 1
        self.exits = tuple(sorted(heads))
        self.stages = nn.ModuleDict({str(first + i): stage for i, stage in enumerate(stages)})
        self.heads = nn.ModuleDict({str(k): heads[k] for k in self.exits})
        self.frozen = False

    def freeze(self) -> None:
        """Keep the plain network (stages and deepest head) as it is, its statistics included.

        From now on only the early heads can learn and enter training mode.
        """
        self.frozen = True
        for part in self._plain():
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of every module that may change."""
        super().train(mode)
        if self.frozen:
            for part in self._plain():
                part.eval()
        return self

    def _plain(self) -> tuple[nn.Module, nn.Module]:
        return self.stages, self.heads[str(self.deepest)]

    def stage(self, k: int, hidden: Tensor) -> Tensor:
        """Run stage `k` on the output of stage `k - 1` (on the images where k is 1)."""
        output: Tensor = self.stages[str(k)](hidden)
        return output

    def head(self, k: int, hidden: Tensor) -> Exit:
        """Answer at exit `k` from the output of stage `k`."""
        logits, feature, embedding = self.heads[str(k)](hidden)
        return Exit(k, logits, feature, embedding)

    def forward(self, images: Tensor, exits: Collection[int] | None = None) -> Exits:
        """Run every stage, and every head that the network has, or only those of `exits`."""
        hidden, outputs, answers = images, [], []
        for k in range(self.first, self.deepest + 1):
            hidden = self.stage(k, hidden)
            outputs.append(hidden)
            if k in (self.exits if exits is None else exits):
                answers.append(self.head(k, hidden))
        return Exits(tuple(answers), tuple(outputs))


def chosen(name: str, deepest: int, exits: Sequence[int] | None, first: int) -> list[int]:
    """Return the numbers of the exits to build, shallow to deep.

    Args:
        name: of the network.
        deepest: number of its last stage.
        exits: the wanted ones; all where not given.
        first: number of the first stage to take.

    Raises:
        ConfigError: it has no such exit or stage, one is named twice, or the deepest is missing.
    """
    possible = range(first, deepest + 1)
    if not possible or first < 1:
        raise ConfigError(
            f"a branch from stage {first}",
            f"{name} has stages 1 to {deepest}",
            "choose one of them",
        )
    wanted = sorted(possible if exits is None else exits)
    if len(set(wanted)) != len(wanted) or not set(wanted) <= set(possible):
        raise ConfigError(
            f"exits {', '.join(map(str, wanted))}",
            f"{name} has exits {', '.join(map(str, possible))}",
            "name each wanted exit once",
        )
    if deepest not in wanted:
        raise ConfigError(
            f"exits {', '.join(map(str, wanted)) or 'none'}",
            f"exit {deepest}, the network's own end, is missing",
            "add it: the deepest exit always answers",
        )
    return wanted


class Head(nn.Module):
    """Map a stage's output to a feature, pool it, classify it.

    Args:
        body: stage output -> feature [B, D, h, w]; an identity for the network's own end.
        channels: D.
        classes: C.
        classifier: instead of one linear layer.
    """

    def __init__(
        self, body: nn.Module, channels: int, classes: int, classifier: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.body = body
        self.classifier = nn.Linear(channels, classes) if classifier is None else classifier

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits [B, C], feature [B, D, h, w] and embedding [B, D]."""
        feature = self.body(hidden)
        # The mean as a sum and a scaling: the gradient of `mean` leaves channels-last and makes
        # the whole backward pass of MobileNetV2 4 % slower on CPUs.
        embedding = feature.sum(dim=(2, 3)) * (1.0 / (feature.shape[2] * feature.shape[3]))
        return self.classifier(embedding), feature, embedding
