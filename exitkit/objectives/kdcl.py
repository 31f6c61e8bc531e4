"""KDCL: networks that see different views of an image are taught by what they say together.

Source
    Guo, Wang, Wu, Yu, Liang, Hu, Luo: Online Knowledge Distillation via Collaborative Learning,
    CVPR 2020, and a public re-implementation.

Idea
    Several networks are trained side by side, each on augmented images of its own. What they say
    of an image, taken together, is the soft target of all of them.

Equations
    z_i  = net_i( view i )
    L    = sum_i [ (1 - alpha) CE(z_i, y) + alpha KL_T( sg t || z_i ) ]
    mean      t = mean_i z_i
    naive     t = z_k,  k = argmin_i CE(z_i, y), for each image
    minlogit  t_c = min_i ( z_ic - z_iy )

Symbols
    z_i    logits of network i = 1..m [B, C]; network 1 is the one that is kept
    m      `students`, and so many views of each image
    sg     stop gradient
    KL_T   T^2 KL(softmax(./T) || softmax(./T)), mean over the batch

Differences
    `target` is the mean as in the re-implementation; naive and minlogit are the paper's, as they
    are described elsewhere, and where labels are soft z_iy is their mean of z_i. The paper's
    other two are left out: "linear" asks for a small optimisation inside every step, "general"
    for errors on images that are held out. The networks are of one kind here.
    All networks are stepped at once. At alpha = 0 the other networks are not run.

Reported
    CIFAR-100: ResNet-32 74.30 %, WRN-16-2 75.50 %; ImageNet, ResNet-18 70.4 % (as measured by
    the authors of FFSD; baselines 69.96, 71.97 and 69.7 %).
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from exitkit.errors import unknown
from exitkit.objectives import checks, twins
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import (
    cross_entropy,
    pairwise_kl,
    total_cross_entropy,
    weigh_deepest,
)
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs, ParamGroup


def mean(logits: Float[Tensor, "M B C"], labels: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Return the mean logits."""
    return logits.mean(dim=0)


def naive(logits: Float[Tensor, "M B C"], labels: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Return for each image the logits with the smallest cross-entropy."""
    best = cross_entropy(logits, labels.expand_as(logits)).argmin(dim=0)  # [B]
    # [B] -> [1, B, C]: the same network for every class
    chosen = best.reshape(1, -1, 1).expand(1, *labels.shape)
    return logits.gather(0, chosen).squeeze(0)


def minlogit(logits: Float[Tensor, "M B C"], labels: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Return each class's smallest lead over the label's logit: 0 for the label itself."""
    named = (logits * labels).sum(dim=-1, keepdim=True)
    return (logits - named).min(dim=0).values


TARGETS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": mean,
    "naive": naive,
    "minlogit": minlogit,
}


class CollaborativeLearning(Objective):
    """Train the network beside others; all learn from what they say together.

    Args:
        blueprint: of the network.
        students: m, the network among them.
        alpha: weight of the divergences; the labels have the rest of 1.
        temperature: T.
        target: what is said together, mean, naive or minlogit.
    """

    views = 2
    flow: ClassVar[dict[str, Flow]] = {
        "peers": Flow(exits="none", modules=("peers",)),
        "distillation": Flow(exits="deepest", modules=("peers",)),
    }
    plain: ClassVar[dict[str, float]] = {"alpha": 0.0}

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        students: int = 2,
        alpha: float = 0.5,
        temperature: float = 4.0,
        target: str = "mean",
    ) -> None:
        super().__init__(blueprint)
        checks.at_least("students", students, 2)
        checks.share("alpha", alpha)
        checks.above_zero("temperature", temperature)
        if target not in TARGETS:
            raise unknown("target of method 'kdcl'", target, TARGETS)
        self.alpha, self.temperature, self.target = alpha, temperature, target
        self.views = students
        self.peers = twins.make(blueprint, students - 1)

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Leave the labels 1 - alpha of their weight at the deepest exit."""
        return labels.with_weights(weigh_deepest(labels.weights, 1 - self.alpha))

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what the other networks learn from labels, and what all learn together."""
        if not self.alpha:
            return {}
        pairs = zip(self.peers, batch.views[1 : self.views], strict=True)
        others = [peer(view)[-1].logits for peer, view in pairs]
        logits = torch.stack([out.main[-1].logits, *others]).float()  # [m, B, C]
        told = labels.targets[-1]
        target = TARGETS[self.target](logits.detach(), told)
        taught = pairwise_kl(target.unsqueeze(0), logits, self.temperature).sum()
        terms = {"distillation": self.alpha * taught}
        if self.alpha < 1:
            terms["peers"] = (1 - self.alpha) * total_cross_entropy(logits[1:], told)
        return terms

    def param_groups(self) -> list[ParamGroup]:
        """Step every other network as the network is stepped."""
        return twins.groups(self.peers, "peer", first=2)
