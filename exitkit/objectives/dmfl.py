"""DMFL: the deepest exit and every other learn each other's pooled features.

Source
    Chottananurak, Jeong, Kabir, Phisannupawong: Progressive Self-Knowledge Distillation with Mutual
    Learning, equation (3), the deep mutual feature loss; with PS-KD and BYOT the paper's method is
    `pskd+byot(last=1.9)+dmfl`.

Idea
    Read as a distribution over its channels, an embedding says which patterns an image shows. The
    deepest exit and each shallow one pull their distributions together, both ways.

Equations
    u_i = softmax(f_i)                                   over the channels
    L   = weight / (K-1) sum_{i<K} ( KL(sg u_K || u_i) + KL(sg u_i || u_K) )

Symbols
    K     exits, K the deepest
    f_i   embedding of exit i, [B, D]
    sg    stop gradient
    KL    sum over the channels, mean over the batch

Differences
    In the released code the term is a constant: it is logged and moves no weight. Here it is live.
    The code has the cross-entropies of the two sides, which differ from the divergences by
    entropies: other numbers, the same gradients.
    The paper does not say which side of a divergence learns; as in the code each time one side is
    the target. `live` lets both learn from both divergences.
    Alone, this teaches no classifier of a shallow exit. Where no other part of a sum decides the
    weights of the exits, the labels have weight 1 at each.

Reported
    CIFAR-100 error, ResNet-18, PS-KD + BYOT + DMFL: 20.03 % (PS-KD + BYOT: 20.67 %). The two were
    the same training, because the term was constant: the difference is one of runs.
"""

from typing import ClassVar

import torch
from torch import Tensor

from exitkit.objectives import checks
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import pairwise_kl
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs


class MutualFeatures(Objective):
    """Pull the pooled features of the deepest exit and of every other together.

    Args:
        blueprint: of the network.
        weight: of the divergences.
        live: whether both sides of each divergence learn from it.
    """

    teaches = "all"
    proposes_weights = True
    flow: ClassVar[dict[str, Flow]] = {"mutual": Flow(exits="all")}
    plain: ClassVar[dict[str, float]] = {"weight": 0.0}

    def __init__(self, blueprint: Blueprint, *, weight: float = 1.0, live: bool = False) -> None:
        super().__init__(blueprint)
        checks.not_negative(weight=weight)
        checks.several_exits("dmfl", blueprint)
        checks.equal_embeddings("dmfl", blueprint)
        self.weight, self.live = weight, live

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Give every exit weight 1, for want of a part that knows better."""
        return labels.with_weights(torch.ones_like(labels.weights))

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the divergences of both directions, mean over the shallow exits."""
        if not self.weight:
            return {}
        embeddings = torch.stack([answer.embedding for answer in out.main])
        shallow, deepest = embeddings[:-1], embeddings[-1:]
        down = pairwise_kl(deepest, shallow, 1.0, live=self.live)
        up = pairwise_kl(shallow, deepest, 1.0, live=self.live)
        return {"mutual": self.weight * (down.mean() + up.mean())}
