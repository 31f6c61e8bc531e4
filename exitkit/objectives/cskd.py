"""CS-KD: two images of one class should be answered alike.

Source
    Yun, Park, Lee, Shin: Regularizing Class-wise Predictions via Self-knowledge Distillation,
    CVPR 2020, and the authors' code.

Idea
    For every image another one of its class is drawn. What the network says of that one is the
    soft target of the first, which draws the answers inside a class together.

Equations
    L    = CE(z(x), y) + distillation KL_T( sg z(x') || z(x) )

Symbols
    z(x)   logits of the image
    x'     its partner: another random image with label y, drawn anew in every epoch
    sg     stop gradient
    KL_T   T^2 KL(softmax(./T) || softmax(./T)), mean over the batch

Differences
    As in the authors' code the partners are a forward pass of their own, without gradient, in
    training mode: batch normalisation counts them. The only image of a class is its own partner,
    in another augmentation. `distillation` is 1 for CIFAR, 3 for fine-grained sets in the paper.

Reported
    CIFAR-100, pre-activation ResNet-18: 78.70 % (baseline 75.82 %; as measured by the authors of
    PS-KD); ResNet-18: 78.55 % (by those of LightSKD, baseline 77.29 %).
"""

from typing import ClassVar

from torch import Tensor

from exitkit.objectives import checks
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import kl
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs, Pass


class ClasswiseConsistency(Objective):
    """Teach each image what the network says of another one of its class.

    Args:
        blueprint: of the network.
        distillation: weight of the divergence.
        temperature: T.
    """

    reads = frozenset({"partners"})
    flow: ClassVar[dict[str, Flow]] = {"distillation": Flow(exits="deepest")}
    plain: ClassVar[dict[str, float]] = {"distillation": 0.0}

    def __init__(
        self, blueprint: Blueprint, *, distillation: float = 1.0, temperature: float = 4.0
    ) -> None:
        super().__init__(blueprint)
        checks.not_negative(distillation=distillation)
        checks.above_zero("temperature", temperature)
        self.distillation, self.temperature = distillation, temperature

    def passes(self, batch: Batch, clock: Clock) -> dict[str, Pass]:
        """Ask what the network says of the partners."""
        if not self.distillation:
            return {}
        assert batch.partners is not None  # the loader draws them for whoever reads them
        return {"partners": Pass(batch.partners, gradient=False)}

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the divergence from the partners."""
        if not self.distillation:
            return {}
        partners = out.passes["partners"][-1].logits
        taught = kl(partners, out.main[-1].logits, self.temperature)
        return {"distillation": self.distillation * taught}
