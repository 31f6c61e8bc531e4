"""EED and BEED: the mean of all exits teaches every exit, with its logits and its feature.

Source
    `eed`: Lee, Lee: Students are the Best Teacher: Exit-Ensemble Distillation with Multi-Exits,
    arXiv 2104.00299. `beed`: Lee, Lee: Rethinking Online Knowledge Distillation with Multi-Exits,
    ACCV 2022. Constants of the authors' code of the second.

Idea
    Exits together know more than the best of them. All, the deepest too, learn from their
    weighted mean. BEED trusts deep exits more in the mean, and lets shallow exits listen more to
    it and less to the labels.

Equations
    w_i   = beta^(i-1) / sum_j beta^(j-1)
    z_E   = sg sum_i w_i z_i                F_E = sg sum_i w_i F_i
    L     = sum_i (2 - A^(K-i)) CE(z_i, y)
          + distillation sum_i A^(K-i) KL_T( z_E || z_i )
          + feature sum_i MSE(F_i, F_E)
    eed:  beta = 1, A = 1                   beed: beta = 1.6, A = 1.15

Symbols
    K       exits, K the deepest
    z_i     logits of exit i
    F_i     feature of exit i before pooling, [B, D, h, w]
    A       `anneal`
    sg      stop gradient
    KL_T    T^2 KL(softmax(./T) || softmax(./T)), mean over the batch
    MSE     mean over all elements, the batch included

Differences
    `distillation` is ours, 1 in the papers. The code of BEED calls EED what still has beta = 1.6;
    here `eed` is the plain mean. EED's first code took the MSE between logits instead of the
    divergence: that is logits="mse". The same code compared pooled features under a mask with
    weight 1; here both methods compare feature maps.

Reported
    BEED, Tiny-ImageNet, ResNet-18, exits 1..4 and ensemble, as measured by the authors of LOTH:
    59.20 / 60.25 / 60.52 / 61.11 / 64.13 % (baseline 57.20 %).
"""

from typing import ClassVar

import torch
from torch import Tensor

from exitkit.errors import unknown
from exitkit.objectives import checks
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import pairwise_kl, powers
from exitkit.records import Batch, Blueprint, Clock, Exits, Labels, Outputs

LOGITS = ("kl", "mse")


class ExitEnsemble(Objective):
    """Distil the mean of all exits into every exit.

    Args:
        blueprint: of the network.
        beta: how much more each exit counts in the mean than the one before it; 1 is equal.
        anneal: A; how much more each exit listens to the mean than the one behind it.
        temperature: T of the softened predictions.
        distillation: weight of the difference between logits.
        feature: weight of the difference between features.
        logits: what that of the logits is: "kl", or "mse" as in EED's first code.
    """

    method: ClassVar[str] = "eed"
    teaches = "all"
    sets_weights = True
    flow: ClassVar[dict[str, Flow]] = {
        "distillation": Flow(exits="all"),
        "feature": Flow(exits="all"),
    }
    plain: ClassVar[dict[str, float]] = {"anneal": 1.0, "distillation": 0.0, "feature": 0.0}

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        beta: float = 1.0,
        anneal: float = 1.0,
        temperature: float = 3.0,
        distillation: float = 1.0,
        feature: float = 0.1,
        logits: str = "kl",
    ) -> None:
        super().__init__(blueprint)
        for option, value in (("beta", beta), ("anneal", anneal), ("temperature", temperature)):
            checks.above_zero(option, value)
        checks.not_negative(distillation=distillation, feature=feature)
        if logits not in LOGITS:
            raise unknown("kind of difference between logits", logits, LOGITS)
        checks.several_exits(self.method, blueprint)
        exits = len(blueprint.exits)
        checks.leaves_labels("anneal", anneal, exits - 1, exits)
        if feature:
            checks.equal_features(self.method, blueprint)
        self.beta, self.anneal, self.temperature = beta, anneal, temperature
        self.distillation, self.feature, self.logits = distillation, feature, logits

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Give exit i weight 2 - A^(K-i)."""
        exits, device = len(labels.targets), labels.targets.device
        return labels.with_weights(2 - powers(self.anneal, exits, 0, device))

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return how far every exit is from the mean of all."""
        terms = {}
        if self.distillation:
            students = torch.stack([answer.logits for answer in out.main]).float()  # [K, B, C]
            apart = self._apart(self._mean(students), students)  # [K]
            listening = powers(self.anneal, len(apart), 0, apart.device)
            terms["distillation"] = self.distillation * (listening * apart).sum()
        if self.feature:
            terms["feature"] = self.feature * self._features(out.main)
        return terms

    def _features(self, exits: Exits) -> Tensor:
        """Return the sum over exits of each feature's mean squared difference from the mean."""
        features = torch.stack([answer.feature for answer in exits]).float()  # [K, B, D, h, w]
        return (features - self._mean(features)).square().flatten(1).mean(dim=1).sum()

    def _apart(self, teacher: Tensor, students: Tensor) -> Tensor:
        """Return the difference of every student's logits [K, B, C] from the teacher's [B, C]."""
        if self.logits == "mse":
            return (students - teacher).square().flatten(1).mean(dim=1)
        return pairwise_kl(teacher.unsqueeze(0), students, self.temperature).squeeze(0)

    def _mean(self, values: Tensor) -> Tensor:
        """Return the weighted mean over exits, the first axis, without gradient."""
        shares = powers(self.beta, len(values), 0, values.device).flip(0)
        shares = (shares / shares.sum()).reshape(-1, *[1] * (values.dim() - 1))
        return (shares * values.detach()).sum(dim=0)


class BalancedExitEnsemble(ExitEnsemble):
    """Distil the mean of all exits, the deep ones first, into the shallow ones above all.

    Args:
        blueprint: of the network.
        beta: how much more each exit counts in the mean than the one before it; 1 is equal.
        anneal: A; how much more each exit listens to the mean than the one behind it.
        temperature: T of the softened predictions.
        distillation: weight of the difference between logits.
        feature: weight of the difference between features.
    """

    method = "beed"

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        beta: float = 1.6,
        anneal: float = 1.15,
        temperature: float = 3.0,
        distillation: float = 1.0,
        feature: float = 0.1,
    ) -> None:
        super().__init__(
            blueprint,
            beta=beta,
            anneal=anneal,
            temperature=temperature,
            distillation=distillation,
            feature=feature,
        )
