"""One training step as one module: network and objective together, from a batch to a loss."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from exitkit.objectives.base import Objective
from exitkit.objectives.functional import cross_entropy, one_hot
from exitkit.records import Batch, Clock, Exits, Labels, Outputs, Pass


class StepResult(NamedTuple):
    """What one step gave: the loss, its terms by name, and what the passes gave."""

    total: Tensor
    terms: dict[str, Tensor]
    out: Outputs


class Step(nn.Module):
    """Run the network and what its objective asks for, and add up the loss.

    Under autocast the forward passes run in its precision; every loss is float32.

    Args:
        network: images [B, 3, H, W] -> Exits.
        objective: what is learned beside or instead of the plain labels.
    """

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, batch: Batch, clock: Clock) -> StepResult:
        """Return the loss, its terms ("labels" and the objective's), and the outputs."""
        wanted = self.objective.passes(batch, clock)
        main: Exits = self.network(batch.images)
        out = Outputs(main, {name: self._run(run) for name, run in wanted.items()})
        labels = self.objective.supervise(plain_labels(main, batch), batch, clock)
        terms = {"labels": labels_loss(main, labels)}
        terms |= self.objective.terms(out, labels, batch, clock)
        total = torch.stack(list(terms.values())).sum()
        return StepResult(total, terms, out)

    def _run(self, run: Pass) -> Exits:
        with torch.set_grad_enabled(run.gradient):
            exits: Exits = self.network(run.images)
            return exits


def plain_labels(exits: Exits, batch: Batch) -> Labels:
    """Return the labels before any method: one-hot, told to the deepest exit alone."""
    targets = one_hot(batch.labels, exits[-1].logits.shape[1])
    weights = torch.zeros(len(exits), device=targets.device)
    weights[-1] = 1.0
    # [B, C] -> [K, B, C]
    return Labels(targets.expand(len(exits), *targets.shape), weights)


def labels_loss(exits: Exits, labels: Labels) -> Tensor:
    """Return the weighted cross-entropies of all exits, mean over the batch."""
    logits = torch.stack([answer.logits for answer in exits])
    losses = cross_entropy(logits, labels.targets)  # [K, B]
    weights = labels.weights if labels.weights.dim() == 2 else labels.weights.unsqueeze(1)
    return (weights * losses).mean(dim=1).sum()
