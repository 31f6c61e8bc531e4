"""DML: networks that start apart learn from labels and from each other.

Source
    Zhang, Xiang, Hospedales, Lu: Deep Mutual Learning, CVPR 2018, and a public re-implementation.

Idea
    Several networks of one kind with different first weights are trained side by side. Each is
    taught by all the others; no network is a teacher from the start.

Equations
    L    = sum_i L_i
    L_i  = CE(z_i, y) + distillation / (m - 1) sum_{j != i} KL_T( sg z_j || z_i )

Symbols
    z_i    logits of network i = 1..m; network 1 is the one that is kept
    m      `students`
    sg     stop gradient
    KL_T   T^2 KL(softmax(./T) || softmax(./T)), mean over the batch

Differences
    All networks see the same images and are stepped at once, each with what the others said
    before that step; the paper steps them in turn, and each asks the others anew.
    T is 1 in the paper; OKDDip's authors measured it with 3, FFSD's with 2. `distillation` is 1
    in the paper; at 0 the other networks are not run.

Reported
    CIFAR-100, two students: ResNet-32 73.64 %, WRN-16-2 74.63 %; ImageNet, ResNet-18 69.8 % (as
    measured by the authors of FFSD with T = 2; baselines 69.96, 71.97 and 69.7 %).
"""

from typing import ClassVar

import torch
from torch import Tensor

from exitkit.objectives import checks, twins
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import mutual_kl, total_cross_entropy
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs, ParamGroup


class MutualLearning(Objective):
    """Train the network beside others that it learns from and that learn from it.

    Args:
        blueprint: of the network.
        students: m, the network among them.
        temperature: T.
        distillation: weight of the divergences.
    """

    flow: ClassVar[dict[str, Flow]] = {
        "peers": Flow(exits="none", modules=("peers",)),
        "distillation": Flow(exits="deepest", modules=("peers",)),
    }
    plain: ClassVar[dict[str, float]] = {"distillation": 0.0}

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        students: int = 2,
        temperature: float = 1.0,
        distillation: float = 1.0,
    ) -> None:
        super().__init__(blueprint)
        checks.at_least("students", students, 2)
        checks.above_zero("temperature", temperature)
        checks.not_negative(distillation=distillation)
        self.temperature, self.distillation = temperature, distillation
        self.peers = twins.make(blueprint, students - 1)

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what the other networks learn from labels, and what all learn from each other."""
        if not self.distillation:
            return {}
        others = [peer(batch.images)[-1].logits for peer in self.peers]
        logits = torch.stack([out.main[-1].logits, *others])  # [m, B, C]
        return {
            "peers": total_cross_entropy(logits[1:], labels.targets[-1]),
            "distillation": self.distillation * mutual_kl(logits, self.temperature),
        }

    def param_groups(self) -> list[ParamGroup]:
        """Step every other network as the network is stepped."""
        return twins.groups(self.peers, "peer", first=2)
