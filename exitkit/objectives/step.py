"""One training step as one module: network and objective together, from a batch to a loss."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exitkit.objectives.base import Objective
from exitkit.objectives.functional import cross_entropy, one_hot
from exitkit.records import Batch, Clock, Exits, Labels, Outputs, Pass

Source = Literal["labels", "last"]


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
        source: where the plain labels come from; "last" is the deepest exit's own predictions,
            and then nobody looks at the batch's labels.
        class_weights: [C] factors of the labels' cross-entropies, by an image's plain label; the
            terms of the objective have no such factors.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        source: Source = "labels",
        class_weights: Float[Tensor, " C"] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.source = source
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, batch: Batch, clock: Clock) -> StepResult:
        """Return the loss, its terms ("labels" and the objective's), and the outputs."""
        wanted = self.objective.passes(batch, clock)
        main: Exits = self.network(batch.images)
        out = Outputs(main, {name: self._run(run) for name, run in wanted.items()})
        plain = plain_labels(main, batch, self.source)
        labels = self.objective.supervise(plain, batch, clock)
        weighed = weigh_classes(labels, plain.targets[-1], self.class_weights)
        terms = {"labels": labels_loss(main, weighed)}
        terms |= self.objective.terms(out, labels, batch, clock)
        total = torch.stack(list(terms.values())).sum()
        return StepResult(total, terms, out)

    def _run(self, run: Pass) -> Exits:
        with torch.set_grad_enabled(run.gradient):
            exits: Exits = self.network(run.images)
            return exits


def plain_labels(exits: Exits, batch: Batch, source: Source = "labels") -> Labels:
    """Return the labels before any method, told to the deepest exit alone.

    They are one-hot, those of a mixed image shared by two classes, or what the deepest exit says.
    """
    logits = exits[-1].logits
    if source == "last":
        targets = logits.detach().float().softmax(dim=1)
    elif batch.targets is not None:
        targets = batch.targets
    else:
        targets = one_hot(batch.labels, logits.shape[1])
    weights = torch.zeros(len(exits), device=targets.device)
    weights[-1] = 1.0
    # [B, C] -> [K, B, C]
    return Labels(targets.expand(len(exits), *targets.shape), weights)


def weigh_classes(
    labels: Labels, plain: Float[Tensor, "B C"], factors: Float[Tensor, " C"] | None
) -> Labels:
    """Return labels whose weights are multiplied, per image, by the factor of its class.

    Args:
        labels: weights [K] or [K, B].
        plain: each image's label as probabilities, before any method softened it.
        factors: one per class; None leaves the labels as they are.
    """
    if factors is None:
        return labels
    weights = labels.weights if labels.weights.dim() == 2 else labels.weights.unsqueeze(1)
    return labels.with_weights(weights * (plain * factors).sum(dim=1))


def labels_loss(exits: Exits, labels: Labels) -> Tensor:
    """Return the weighted cross-entropies of all exits, mean over the batch."""
    logits = torch.stack([answer.logits for answer in exits])
    losses = cross_entropy(logits, labels.targets)  # [K, B]
    weights = labels.weights if labels.weights.dim() == 2 else labels.weights.unsqueeze(1)
    return (weights * losses).mean(dim=1).sum()
