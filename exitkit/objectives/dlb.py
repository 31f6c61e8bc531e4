"""DLB: the last mini-batch comes back in a second view and is taught by its own first view.

Source
    Shen, Xu, Yang, Li, Guo: Self-Distillation from the Last Mini-Batch for Consistency
    Regularization, CVPR 2022, and the authors' code.

Idea
    Every image is augmented twice. The first view is trained on at once; the second one step
    later, with the first view's predictions as soft targets.

Equations
    z   = net(view 1 of batch t)
    z'  = net(view 2 of batch t-1)
    L   = mean over both batches of CE(z, y_t), CE(z', y_{t-1})
        + alpha KL_T( sg z_{t-1} || z' )

Symbols
    z_{t-1}   logits of view 1 as they were at step t-1
    y_t       labels of batch t
    sg        stop gradient
    KL_T      T^2 KL(softmax(./T) || softmax(./T)), mean over the batch

Differences
    `labels` weighs the second view's labels: the mean becomes B CE(z) + labels B' CE(z') over
    B + labels B', B and B' being the sizes of both batches; 1 is the paper's mean over 2B.
    The second view is taught at the deepest exit, with hard labels, also inside a sum.
    The authors' code has no defaults for alpha and T; 0.5 and 3 are from the name of its runs.

Reported
    CIFAR-100, ResNet-18, as measured by the authors of LightSKD: 79.52 % (baseline 77.29 %).
"""

from typing import ClassVar

import torch
from torch import Tensor

from exitkit.objectives import checks
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import cross_entropy, kl, one_hot, weigh_deepest
from exitkit.objectives.memory import Memory
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs, Pass


class LastMiniBatch(Objective):
    """Teach the previous batch's second view with its first view's predictions.

    Args:
        blueprint: of the network.
        alpha: weight of the distillation.
        temperature: T.
        labels: weight of the labels on the second view, against 1 on the first.
    """

    views = 2
    reads = frozenset({"labels"})
    flow: ClassVar[dict[str, Flow]] = {
        "second_view": Flow(exits="deepest"),
        "distillation": Flow(exits="deepest"),
    }
    plain: ClassVar[dict[str, float]] = {"alpha": 0.0, "labels": 0.0}

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        alpha: float = 0.5,
        temperature: float = 3.0,
        labels: float = 1.0,
    ) -> None:
        super().__init__(blueprint)
        checks.not_negative(alpha=alpha, labels=labels)
        checks.above_zero("temperature", temperature)
        self.alpha, self.temperature, self.label_weight = alpha, temperature, labels
        self.classes = blueprint.classes
        self.view = Memory(3, 0, 0)
        self.labels = Memory(dtype=torch.int64)
        self.logits = Memory(blueprint.classes)

    def passes(self, batch: Batch, clock: Clock) -> dict[str, Pass]:
        """Ask for a pass over the previous batch's second view, where there was one."""
        if not len(self.view) or not (self.alpha or self.label_weight):
            return {}
        return {"previous": Pass(self.view.value, gradient=True)}

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Leave the second view its share of the labels' weight at the deepest exit."""
        first = 1 - self._second_share(len(batch.labels))
        return labels.with_weights(weigh_deepest(labels.weights, first))

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what the second view learns from labels and from the first view."""
        if "previous" not in out.passes:
            return {}
        logits = out.passes["previous"][-1].logits
        terms = {}
        if self.label_weight:
            loss = cross_entropy(logits, one_hot(self.labels.value, self.classes)).mean()
            terms["second_view"] = self._second_share(len(batch.labels)) * loss
        if self.alpha:
            terms["distillation"] = self.alpha * kl(self.logits.value, logits, self.temperature)
        return terms

    def after_step(self, out: Outputs, batch: Batch, clock: Clock) -> None:
        """Remember the second view, the labels, and what was said of the first view."""
        self.view.keep(batch.views[1])
        self.labels.keep(batch.labels)
        self.logits.keep(out.main[-1].logits)

    def _second_share(self, size: int) -> float:
        """Return the second view's share of the labels' mean beside a batch of `size` images."""
        second = self.label_weight * len(self.labels)
        return second / (size + second)
