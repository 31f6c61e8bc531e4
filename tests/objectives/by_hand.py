"""Outputs of a network that never was: written down, so that a loss can be worked out by hand."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from exitkit.objectives.base import Objective
from exitkit.objectives.step import labels_loss, plain_labels
from exitkit.records import Batch, Blueprint, Clock, Exit, Exits, Labels, Outputs

Rows = Sequence[Sequence[float]]


def exits(
    logits: Sequence[Rows], embeddings: Sequence[Rows] | None = None, hidden: Sequence[Tensor] = ()
) -> Exits:
    """Exits with these logits [K, B, C] and embeddings [K, B, D]."""
    z = torch.tensor(logits, dtype=torch.float32)
    f = torch.zeros(len(z), z.shape[1], 1) if embeddings is None else torch.tensor(embeddings)
    answers = tuple(
        Exit(k, one, f[k - 1, :, :, None, None], f[k - 1]) for k, one in enumerate(z, start=1)
    )
    return Exits(answers, tuple(hidden))


def batch(labels: Sequence[int], index: Sequence[int] | None = None, views: int = 1) -> Batch:
    """A batch with these labels, of images without pixels."""
    rows = range(len(labels)) if index is None else index
    image = torch.zeros(len(labels), 3, 1, 1)
    return Batch((image,) * views, torch.tensor(labels), torch.tensor(list(rows)))


def blueprint(count: int, classes: int, width: int = 1, samples: int = 4) -> Blueprint:
    """A network of which nothing is known but its exits."""
    shapes = tuple((width, 1, 1) for _ in range(count))
    return Blueprint(
        classes,
        samples,
        tuple(range(1, count + 1)),
        shapes,
        tuple(s[0] for s in shapes),
        shapes,
        _no_network,
    )


class Says(nn.Module):
    """A network or branch with a fixed answer: the logits [B, C] of its deepest exit."""

    def __init__(self, logits: Rows, embedding: Rows | None = None) -> None:
        super().__init__()
        self.answer = exits([logits], None if embedding is None else [embedding])

    def forward(self, given: Tensor) -> Exits:
        return self.answer


def peers(plan: Blueprint, *twins: nn.Module) -> Blueprint:
    """The blueprint of a network whose others, in order, are these."""
    made = iter(twins)

    def build(first: int, exits: Sequence[int]) -> nn.Module:
        assert tuple(exits) == (len(plan.hidden),)
        return next(made)

    return replace(plan, build=build)


def _no_network(first: int, exits: Sequence[int]) -> torch.nn.Module:
    raise AssertionError("this objective builds no network")


def labels(objective: Objective, seen: Exits, given: Batch, clock: Clock) -> Labels:
    """What the objective makes of the plain labels."""
    return objective.supervise(plain_labels(seen, given), given, clock)


def terms(
    objective: Objective,
    seen: Exits,
    given: Batch,
    clock: Clock,
    passes: dict[str, Exits] | None = None,
) -> dict[str, float]:
    """Every term, the labels' too, as numbers."""
    folded = labels(objective, seen, given, clock)
    out = Outputs(seen, passes or {})
    found = {"labels": labels_loss(seen, folded)} | objective.terms(out, folded, given, clock)
    return {name: value.item() for name, value in found.items()}
