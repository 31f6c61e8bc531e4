"""TF-KD: a teacher that nobody trained, almost always right and almost equally unsure.

Source
    Yuan, Tay, Li, Wang, Feng: Revisiting Knowledge Distillation via Label Smoothing
    Regularization, CVPR 2020, part TF-KD_reg, and the authors' code.

Idea
    Much of what a teacher gives is smoothness. So the teacher is written down: the label gets
    nearly everything, the other classes the same little, softened by a high temperature.

Equations
    u = sure y + (1 - sure) (1 - y) / (C - 1)
    L = (1 - alpha) CE(z, y) + distillation KL( softmax(u / T) || softmax(z) )

Symbols
    y    label as class probabilities
    C    classes
    z    logits of the deepest exit
    KL   mean over the batch, sum over the classes

Differences
    As in the code T divides the probabilities u and not the logits z, and the softmax is taken of
    probabilities. The code means over batch times classes and multiplies by M; here it is the mean
    over the batch, and `distillation` stands for alpha M / C: with 100 classes the code's 0.1 and
    100 are alpha=0.1, distillation=0.1 (ResNet-18, T = 20); MobileNetV2 has alpha=0.95,
    distillation=0.0095, T = 40; ShuffleNetV2 the same with T = 10. In a sum u is made of the folded
    targets, and the deepest exit alone learns from it.

Reported
    CIFAR-100, ResNet-18: 78.33 % (baseline 77.29 %), as measured by the authors of LightSKD.
"""

from typing import ClassVar

from torch import Tensor

from exitkit.objectives import checks
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import divergence, smooth, weigh_deepest
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs


class WrittenTeacher(Objective):
    """Distil a teacher that is written down into the deepest exit.

    Args:
        blueprint: of the network.
        alpha: what the labels lose at the deepest exit.
        distillation: weight of the divergence from the teacher.
        temperature: T, which divides the teacher's probabilities.
        sure: what the teacher gives to the label.
    """

    flow: ClassVar[dict[str, Flow]] = {"distillation": Flow(exits="deepest")}
    plain: ClassVar[dict[str, float]] = {"alpha": 0.0, "distillation": 0.0}

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        alpha: float = 0.1,
        distillation: float = 0.1,
        temperature: float = 20.0,
        sure: float = 0.99,
    ) -> None:
        super().__init__(blueprint)
        checks.share("alpha", alpha)
        checks.share("sure", sure)
        checks.not_negative(distillation=distillation)
        checks.above_zero("temperature", temperature)
        self.alpha, self.distillation = alpha, distillation
        self.temperature, self.sure = temperature, sure

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Take alpha of the deepest exit's weight."""
        return labels.with_weights(weigh_deepest(labels.weights, 1 - self.alpha))

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the divergence from the written teacher."""
        if not self.distillation:
            return {}
        told = smooth(labels.targets[-1].detach(), 1 - self.sure)
        teacher = (told / self.temperature).softmax(dim=1)
        apart = divergence(teacher, out.main[-1].logits.float().log_softmax(dim=1)).mean()
        return {"distillation": self.distillation * apart}
