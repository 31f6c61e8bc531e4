"""ONE: branches on a shared trunk; their gated ensemble teaches each of them.

Source
    Lan, Zhu, Gong: Knowledge Distillation by On-the-Fly Native Ensemble, NeurIPS 2018, and the
    authors' code.

Idea
    Several copies of the last stages share the first ones. A gate looks at the shared feature and
    weighs the branches into an ensemble, the teacher of all of them, built while training.

Equations
    g    = softmax( ReLU( BN( FC( GAP(h) ) ) ) )
    z_e  = sum_b g_b z_b
    L    = sum_b CE(z_b, y) + CE(z_e, y) + w sum_b KL_T( sg z_e || z_b )
    w    = exp(-5 (1 - min(e / R, 1))^2)

Symbols
    h      output of the last shared stage
    z_b    logits of branch b; branch 1 is the network itself, the one that is kept
    g      weights of the branches, per image
    e, R   epoch (from 0) and length of the ramp, as shares of the run (R = 80 of 300 epochs)
    sg     stop gradient
    KL_T   T^2 KL(softmax(./T) || softmax(./T)), mean over the batch

Differences
    `peers`, `ensemble` and `distillation` weigh the labels of the other branches, the labels of
    the ensemble, and the divergences; all are 1 in the paper. A batch of one image has no
    ensemble, because the gate's batch norm cannot see one.

Reported
    CIFAR-100, ResNet-32: 73.39 %; WRN-16-2: 74.84 % (as measured by the authors of FFSD).
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exitkit.objectives import checks, twins
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import (
    channels,
    cross_entropy,
    mix,
    pairwise_kl,
    pooled,
    total_cross_entropy,
)
from exitkit.objectives.schedules import ramp as ramp_weight
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs, ParamGroup


class Gate(nn.Module):
    """Weigh the branches by the shared stage's output.

    Args:
        width: D of the shared output.
        branches: how many to weigh.
    """

    def __init__(self, width: int, branches: int) -> None:
        super().__init__()
        # A bias would be lost in the batch norm.
        self.linear = nn.Linear(width, branches, bias=False)
        self.norm = nn.BatchNorm1d(branches)

    def forward(self, hidden: Tensor) -> Float[Tensor, "B M"]:
        """Return weights that sum to 1 per image, of maps [B, D, h, w] or tokens [B, N, D]."""
        scores: Tensor = self.norm(self.linear(pooled(hidden)))
        return scores.relu().float().softmax(dim=1)


class NativeEnsemble(Objective):
    """Teach the network with an ensemble of itself and of branches that share its first stages.

    Args:
        blueprint: of the network.
        branches: how many in all, the network's own end among them.
        stage: the last shared stage.
        temperature: T.
        ramp: share of the run in which the distillation grows.
        peers: weight of the labels at the other branches.
        ensemble: weight of the labels at the ensemble.
        distillation: weight of the divergences.
    """

    flow: ClassVar[dict[str, Flow]] = {
        "peers": Flow(exits="none", modules=("branches",), hidden="one"),
        "ensemble": Flow(exits="deepest", modules=("branches", "gate"), hidden="one"),
        "distillation": Flow(exits="deepest", modules=("branches",), hidden="one"),
    }
    plain: ClassVar[dict[str, float]] = {"peers": 0.0, "ensemble": 0.0, "distillation": 0.0}

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        branches: int = 3,
        stage: int = 2,
        temperature: float = 3.0,
        ramp: float = 80 / 300,
        peers: float = 1.0,
        ensemble: float = 1.0,
        distillation: float = 1.0,
    ) -> None:
        super().__init__(blueprint)
        checks.at_least("branches", branches, 2)
        checks.above_zero("temperature", temperature)
        checks.share("ramp", ramp)
        checks.not_negative(peers=peers, ensemble=ensemble, distillation=distillation)
        learn = {"peers": peers, "ensemble": ensemble}
        checks.taught("one", learn, distillation=distillation)
        checks.earlier_stage("one", stage, blueprint)
        self.stage, self.temperature, self.ramp = stage, temperature, ramp
        self.peers, self.ensemble, self.distillation = peers, ensemble, distillation
        self.branches = twins.make(blueprint, branches - 1, stage + 1)
        self.gate = Gate(channels(blueprint.hidden[stage - 1]), branches)

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the labels of the other branches and of the ensemble, and the distillation."""
        if not (self.peers or self.ensemble or self.distillation):
            return {}
        hidden, targets = out.main.hidden[self.stage - 1], labels.targets[-1]
        others = [branch(hidden)[-1].logits for branch in self.branches]
        logits = torch.stack([out.main[-1].logits, *others])  # [M, B, C]
        terms = {}
        if self.peers:
            terms["peers"] = self.peers * total_cross_entropy(logits[1:], targets)
        if len(targets) == 1:
            return terms
        # [B, M] -> [B, 1, M]: one ensemble
        ensemble = mix(self.gate(hidden).unsqueeze(1), logits)
        if self.ensemble:
            terms["ensemble"] = self.ensemble * cross_entropy(ensemble[0], targets).mean()
        if self.distillation:
            weight = self.distillation * ramp_weight(clock.epoch / clock.epochs, self.ramp)
            terms["distillation"] = weight * pairwise_kl(ensemble, logits, self.temperature).sum()
        return terms

    def param_groups(self) -> list[ParamGroup]:
        """Step the other branches and the gate as the network is stepped."""
        gate = ParamGroup("gate", tuple(self.gate.parameters()), "sgd", {})
        return [*twins.groups(self.branches, "branch", first=2), gate]
