"""BYOT: the deepest exit teaches the others, with its logits and its embedding.

Source
    Zhang, Song, Gao, Chen, Bao, Ma: Be Your Own Teacher, ICCV 2019. No official code is left;
    constants are those of a widely used public re-implementation.

Idea
    The deepest exit knows most. Every shallower exit learns from the labels, from the deepest
    exit's softened predictions, and from its embedding.

Equations
    L = sum_i (1 - alpha) CE(z_i, y) + last CE(z_K, y)
      + alpha sum_i KL_T( sg z_K || z_i )
      + hint sum_i H(f_i, sg f_K)                   i from `first` to K - 1
    H(a, b) = sum over batch and channels of (a - b)^2 1[a > 0 or b > 0]

Symbols
    K       exits, K the deepest
    z_i     logits of exit i
    f_i     embedding of exit i, [B, D]
    sg      stop gradient
    KL_T    T^2 KL(softmax(./T) || softmax(./T)), mean over the batch

Differences
    `last` is free: the formula gives 1 - alpha (0.9, the default); PS-KD with BYOT uses 1.9.
    H is a sum, not a mean: it grows with batch and width, and 1e-6 belongs to 128 images. As a
    mean over the batch its weight is 1.28e-4; so hint = 1.28e-4 / B pulls each image as hard in
    batches of B.
    `first` is from PS-KD with BYOT and mutual learning (its table 3): the network has no exits
    before it. There CIFAR-100 errors of the deepest exit are 20.23, 20.57 and 21.21 % for `first`
    1, 2 and 3.
    The mask of H changes nothing after a ReLU; it is kept for embeddings with other ends.

Reported
    CIFAR-100, ResNet-18, exits 1..4: 67.85 / 74.57 / 78.23 / 78.64 % (paper).
"""

from typing import ClassVar

import torch
from torch import Tensor

from exitkit.errors import ConfigError
from exitkit.objectives import checks
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import hint as hint_loss
from exitkit.objectives.functional import pairwise_kl
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs


class BeYourOwnTeacher(Objective):
    """Distil the deepest exit into every other.

    Args:
        blueprint: of the network.
        alpha: weight of the distillation, and what the labels of the shallow exits lose.
        temperature: T of the softened predictions.
        hint: weight of the embeddings' difference.
        last: weight of the labels at the deepest exit.
        first: number of the first exit that learns; the network is built without those before.
    """

    teaches = "all"
    sets_weights = True
    flow: ClassVar[dict[str, Flow]] = {
        "distillation": Flow(exits="shallow"),
        "hint": Flow(exits="shallow"),
    }
    plain: ClassVar[dict[str, float]] = {"alpha": 0.0, "hint": 0.0, "last": 1.0}

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        alpha: float = 0.1,
        temperature: float = 3.0,
        hint: float = 1e-6,
        last: float = 0.9,
        first: int = 1,
    ) -> None:
        super().__init__(blueprint)
        checks.share("alpha", alpha)
        checks.above_zero("temperature", temperature)
        checks.not_negative(hint=hint, last=last)
        checks.several_exits("byot", blueprint)
        *_, last_taught, deepest = blueprint.exits
        if not 1 <= first <= last_taught:
            raise ConfigError(
                f"byot(first={first})",
                f"exit {deepest} teaches exits before it, and the last of them is {last_taught}",
                f"give 1 to {last_taught}",
            )
        if hint:
            checks.equal_embeddings("byot", blueprint)
        self.alpha, self.temperature, self.hint, self.last = alpha, temperature, hint, last
        self.skipped = sum(k < first for k in blueprint.exits)

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Give the shallow exits weight 1 - alpha, those before `first` 0, the deepest its own."""
        weights = torch.full_like(labels.weights, 1 - self.alpha)
        weights[: self.skipped] = 0.0
        weights[-1] = self.last
        return labels.with_weights(weights)

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the distillation and the hint."""
        *shallow, deepest = out.main.answers[self.skipped :]
        terms = {}
        if self.alpha:
            students = torch.stack([answer.logits for answer in shallow])
            pairs = pairwise_kl(deepest.logits.unsqueeze(0), students, self.temperature)
            terms["distillation"] = self.alpha * pairs.sum()
        if self.hint:
            hints = [hint_loss(answer.embedding, deepest.embedding) for answer in shallow]
            terms["hint"] = self.hint * torch.stack(hints).sum()
        return terms
