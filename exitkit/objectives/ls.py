"""LS: label smoothing, some of every label is given to the other classes.

Source
    Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture, CVPR 2016;
    in the form of the code of TF-KD (Yuan et al., CVPR 2020).

Idea
    A label that leaves a little to every other class keeps the logits from growing without end.

Equations
    q = (1 - smoothing) y + smoothing (1 - y) / (C - 1)
    L = CE(z, q)

Symbols
    y   label as class probabilities
    C   classes
    z   logits

Differences
    Szegedy et al. mix with 1 / C over all classes, the label's own too: their epsilon is
    smoothing C / (C - 1). The targets of every exit that learns from labels are smoothed. In a sum
    the parts speak from left to right: `ls+pskd` mixes predictions into smoothed labels,
    `pskd+ls` smooths the mixture.

Reported
    CIFAR-100 error, PreAct ResNet-18: 20.94 % (baseline 24.18 %), ECE 10.79 % (11.84 %), as
    measured by the authors of PS-KD.
"""

from typing import ClassVar

from exitkit.objectives import checks
from exitkit.objectives.base import Objective
from exitkit.objectives.functional import smooth
from exitkit.records import Batch, Blueprint, Clock, Labels


class LabelSmoothing(Objective):
    """Give a share of every label to the other classes.

    Args:
        blueprint: of the network.
        smoothing: the share that the label loses, spread evenly over the other classes.
    """

    plain: ClassVar[dict[str, float]] = {"smoothing": 0.0}

    def __init__(self, blueprint: Blueprint, *, smoothing: float = 0.1) -> None:
        super().__init__(blueprint)
        checks.share("smoothing", smoothing)
        self.smoothing = smoothing

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Smooth the targets of every exit."""
        return labels.with_targets(smooth(labels.targets, self.smoothing))
