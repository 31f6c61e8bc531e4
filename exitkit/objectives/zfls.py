"""ZF-LS: all classes but the label should follow Zipf's law of their own ranks.

Source
    Liang, Li, Bing, Zhao, Tang, Lin, Fan: Efficient One Pass Self-distillation with Zipf's Label
    Smoothing, ECCV 2022, and the authors' code; variant `lb` (ranks from the logits).

Idea
    The labels say nothing of the classes that are wrong. In trained networks their probabilities
    fall with the rank as words do in a text. So the ranks that the network itself gives are turned
    into a target for them, without a second pass.

Equations
    v_c ~ 1 / rank_c                         c other than the label; v sums to 1 over them
    L   = CE(z, y) + weight KL( v || softmax(z without the label) )

Symbols
    z       logits of the deepest exit
    rank_c  of class c among all C classes by sg z, 1 the largest; ties share the best rank
    KL      mean over the batch
    sg      stop gradient

Differences
    The dense variant, which ranks classes by how many positions of the last feature map vote for
    them, is not offered: it needs the classifier at every position, and what an objective sees of a
    network are its answers. A method that has its own copy of the classifier would hold weights
    that belong to the network. LightSKD compares with `lb` too.
    Where targets are soft (a mixed image, another part of a sum), the label is the class with the
    largest target.

Reported
    CIFAR-100, ResNet-18: 77.49 % (baseline 77.29 %), as measured by the authors of LightSKD.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from exitkit.errors import ConfigError
from exitkit.objectives import checks
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import divergence, one_hot
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs


class ZipfSmoothing(Objective):
    """Teach the classes other than the label to follow Zipf's law.

    Args:
        blueprint: of the network.
        weight: of the divergence; the paper has 0.1 on CIFAR-100 and ImageNet, 1.0 on
            Tiny-ImageNet.
    """

    flow: ClassVar[dict[str, Flow]] = {"zipf": Flow(exits="deepest")}
    plain: ClassVar[dict[str, float]] = {"weight": 0.0}

    def __init__(self, blueprint: Blueprint, *, weight: float = 0.1) -> None:
        super().__init__(blueprint)
        checks.not_negative(weight=weight)
        if blueprint.classes < 3:
            raise ConfigError(
                f"method 'zfls' on {blueprint.classes} classes",
                "ranks the classes that are wrong, and there is only one",
                "use another method, or data with three classes or more",
            )
        self.weight = weight

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the divergence of the wrong classes from Zipf's law."""
        if not self.weight:
            return {}
        logits = out.main[-1].logits.float()
        label = one_hot(labels.targets[-1].argmax(dim=1), logits.shape[1]).bool()  # [B, C]
        law = ranks(logits.detach()).reciprocal().masked_fill(label, 0.0)
        law = law / law.sum(dim=1, keepdim=True)
        # The label's own logit takes no part; its logarithm of 0 meets a law of 0.
        said = logits.masked_fill(label, -torch.inf).log_softmax(dim=1).masked_fill(label, 0.0)
        return {"zipf": self.weight * divergence(law, said).mean()}


def ranks(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Return each class's rank in its row, 1 the largest; ties share the best rank."""
    ascending = logits.sort(dim=1).values
    not_above = torch.searchsorted(ascending, logits.contiguous(), right=True)
    return (1 + logits.shape[1] - not_above).float()
