"""Labels only: at the deepest exit (`ce`), or at every exit (`deep`).

Source
    `ce`: the control for every method that teaches the deepest exit only.
    `deep`: Lee, Xie, Gallagher, Zhang, Tu: Deeply-Supervised Nets, AISTATS 2015; as the control
    in Phuong & Lampert, ICCV 2019, and in the code of BEED (mode CE).

Idea
    Every exit is a classifier of its own and is told the labels. No exit learns from another.
    The control for every multi-exit method: a comparison without it says little.

Equations
    ce:    L = CE(z_K, y)
    deep:  L = sum_{i=1..K} CE(z_i, y)

Symbols
    K     exits, K the deepest
    z_i   logits of exit i
    y     labels
    CE    cross-entropy, mean over the batch

Differences
    Deeply-Supervised Nets used squared hinge losses that fade out at the shallow exits; like every
    later work this is cross-entropy with weight 1 throughout.

Reported
    A user of a public re-implementation of BYOT found about the same accuracy for BYOT and for
    plain deep supervision.
"""

import torch

from exitkit.objectives.base import Objective
from exitkit.records import Batch, Clock, Labels


class LabelsOnly(Objective):
    """Teach the deepest exit with the labels: what the step does without any method."""


class DeepSupervision(Objective):
    """Teach every exit with the labels, each with weight 1."""

    teaches = "all"
    sets_weights = True

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Give every exit weight 1."""
        return labels.with_weights(torch.ones_like(labels.weights))
