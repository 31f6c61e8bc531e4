"""DRG: an auxiliary classifier in the middle teaches the whole network, its senior.

Source
    Wang, Han, Guo: Lightweight Self-Knowledge Distillation with Multi-source Information Fusion
    (LightSKD), arXiv 2305.09183, part DRG (distillation with reverse guidance).

Idea
    A classifier on an early stage has seen little and is unsure in another way than the network.
    It learns from the labels alone; the network learns from the labels and a little from it. With
    `dsr` the two are the paper's whole method: `drg+dsr`.

Equations
    L = CE(z, y) + labels CE(z', y) + alpha KL_T( sg z' || z )
    z' = FC( GAP( chain( h * gate(h) ) ) )

Symbols
    z      logits of the deepest exit
    z'     logits of the auxiliary classifier
    h      output of stage `stage`, of D channels
    gate   sigmoid of a separable convolution of stride 2, BN, ReLU, bilinear doubling
    chain  one separable convolution of stride 2 per later stage, each doubling the channels
    sg     stop gradient
    KL_T   T^2 KL(softmax(./T) || softmax(./T)), mean over the batch

Differences
    T = 1, the optimum of the paper's search; the released code has 4. As in the code z' is
    detached in the divergence (the paper's algorithm would let it move the classifier too).
    The classifier's channels follow its stage, so that it fits any network; the released one
    fits bottlenecks only. `labels`, 1 in the paper, is an option.

Reported
    CIFAR-100, ResNet-18: 79.07 %, with DSR 79.30 % (baseline 77.29 %).
"""

import itertools
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from exitkit.models.blocks import initialise
from exitkit.models.paper_heads import Gate, separable
from exitkit.objectives import checks
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import cross_entropy, kl
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs, ParamGroup


class Auxiliary(nn.Module):
    """Attend to a map, halve it and classify it: ECSD's head.

    Args:
        channels: D of the map.
        halvings: separable convolutions; each halves the map and doubles the channels.
        classes: C.
    """

    def __init__(self, channels: int, halvings: int, classes: int) -> None:
        super().__init__()
        self.gate = Gate(
            *separable(channels, channels, 2),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2.0, mode="bilinear"),
        )
        widths = [channels * 2**i for i in range(halvings + 1)]
        blocks = [separable(i, o, 2) for i, o in itertools.pairwise(widths)]
        self.chain = nn.Sequential(*(layer for block in blocks for layer in block))
        self.classifier = nn.Linear(widths[-1], classes)
        initialise(self)

    def forward(self, hidden: Float[Tensor, "B D H W"]) -> Float[Tensor, "B C"]:
        """Return logits."""
        logits: Tensor = self.classifier(self.chain(self.gate(hidden)).mean(dim=(2, 3)))
        return logits


class ReverseGuidance(Objective):
    """Let a classifier on an early stage teach the deepest exit.

    Args:
        blueprint: of the network.
        alpha: weight of the guidance.
        temperature: T.
        labels: weight of the labels at the auxiliary classifier.
        stage: whose output the auxiliary classifier sees.
    """

    flow: ClassVar[dict[str, Flow]] = {
        "auxiliary": Flow(exits="none", modules=("auxiliary",), hidden="one"),
        "guidance": Flow(exits="deepest"),
    }
    plain: ClassVar[dict[str, float]] = {"alpha": 0.0, "labels": 0.0}

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        alpha: float = 0.2,
        temperature: float = 1.0,
        labels: float = 1.0,
        stage: int = 2,
    ) -> None:
        super().__init__(blueprint)
        checks.feature_maps("drg", blueprint)
        checks.not_negative(alpha=alpha, labels=labels)
        checks.above_zero("temperature", temperature)
        checks.taught("drg", {"labels": labels}, alpha=alpha)
        checks.earlier_stage("drg", stage, blueprint)
        self.alpha, self.temperature, self.labels, self.stage = alpha, temperature, labels, stage
        channels = blueprint.hidden[stage - 1][0]
        halvings = len(blueprint.hidden) - stage
        self.auxiliary = Auxiliary(channels, halvings, blueprint.classes)

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what the auxiliary classifier learns and what it teaches."""
        if not self.alpha and not self.labels:
            return {}
        said = self.auxiliary(out.main.hidden[self.stage - 1])
        terms = {}
        if self.labels:
            told = cross_entropy(said, labels.targets[-1]).mean()
            terms["auxiliary"] = self.labels * told
        if self.alpha:
            terms["guidance"] = self.alpha * kl(said, out.main[-1].logits, self.temperature)
        return terms

    def param_groups(self) -> list[ParamGroup]:
        """Step the auxiliary classifier as the network is stepped."""
        return [ParamGroup("auxiliary", tuple(self.auxiliary.parameters()), "sgd", {})]
