"""PS-KD: the labels are softened by what the network said of the same image an epoch ago.

Source
    Kim, Ji, Yoon, Hwang: Self-Knowledge Distillation with Progressive Refinement of Targets,
    ICCV 2021; constants of the authors' code.

Idea
    The network's own earlier prediction is a target that knows which classes resemble the label.
    Trust in it grows with training.

Equations
    alpha_e = alpha (e + 1) / E
    q_n     = (1 - alpha_e) y_n + alpha_e P_n
    L       = CE(z, q)
    P_n    <- sg softmax(z_n)        after the step

Symbols
    e, E    epoch (from 0) and number of epochs
    n       image; y_n its label as probabilities
    P       predictions of the deepest exit, [N, C], one row per training image
    z       logits

Differences
    The targets of every exit that learns from labels are softened by the one memory (as in
    PS-KD + BYOT); P holds the deepest exit's predictions.
    As in the authors' code the memory is written by the training pass itself (that epoch's
    augmentation, batch norm in training mode), not by a frozen model of the previous epoch.
    An image that was not seen yet has its label. On ImageNet P is kept in half precision; see
    exitkit/objectives/table.py for where.

Reported
    CIFAR-100 error, PreAct ResNet-18: 20.82 % (baseline 24.18 %), ECE 1.77 % (11.84 %).
"""

from typing import ClassVar

import torch

from exitkit.objectives import checks
from exitkit.objectives.base import Objective
from exitkit.objectives.table import Table
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs


class ProgressiveSelfDistillation(Objective):
    """Soften the labels with the previous epoch's predictions.

    Args:
        blueprint: of the network.
        alpha: weight of the prediction in the last epoch.
    """

    reads = frozenset({"index"})
    plain: ClassVar[dict[str, float]] = {"alpha": 0.0}

    def __init__(self, blueprint: Blueprint, *, alpha: float = 0.8) -> None:
        super().__init__(blueprint)
        checks.share("alpha", alpha)
        self.alpha = alpha
        self.memory = Table(blueprint.samples, blueprint.classes)

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Mix the remembered predictions into the targets of every exit."""
        alpha = self.alpha * (clock.epoch + 1) / clock.epochs
        past = self.memory.read(batch.index, labels.targets)  # [K, B, C]
        return labels.with_targets((1 - alpha) * labels.targets + alpha * past)

    @torch.no_grad()
    def after_step(self, out: Outputs, batch: Batch, clock: Clock) -> None:
        """Remember the deepest exit's predictions."""
        self.memory.write(batch.index, out.main[-1].logits.float().softmax(dim=1))
