"""LOTH: all exits' features fuse into a virtual teacher; it and the exits teach each other.

Source
    Wang, Hao, Wu, Bai: Live on the Hump: Self Knowledge Distillation via Virtual Teacher-Students
    Mutual Learning, ACM MM 2024, and the authors' code.

Idea
    No exit is the teacher. A small module weighs the features of all exits, fuses them and has a
    classifier of its own. It learns from the labels and from the exits' mean, and through the
    features the exits learn with it; the exits learn from the labels and from it, the shallow ones
    more from it than from the labels.

Equations
    X   = concat(F_1 .. F_N)                               [B, C', h, w]
    x_g = conv_k( GAP(X) )  along the channels             [B, C', 1, 1]
    x_l = conv_k( X )       along the channels, positions mixed
    f   = ReLU BN Conv1x1( X sigmoid( 2 (1 - s(g)) x_l + 2 s(g) x_g ) )
    z'  = FC( GAP(f) )
    L   = teacher [ CE(z', y) + KL_T( sg mean_i z_i || z' ) ]
        + sum_i [ (2 - a_i) CE(z_i, y) + distillation a_i KL_T( sg z' || z_i ) ]
    a_i = base^(N + 1 - i)
    k   = t where odd, else t + 1;  t = int( |log2(C') + 1| / 2 )

Symbols
    N       exits, the deepest counted
    z_i     logits of exit i
    F_i     feature of exit i before pooling, [B, D, h, w]; C' = N D
    g, s    a learned number, 0 at first; sigmoid
    sg      stop gradient
    KL_T    T^2 KL(softmax(./T) || softmax(./T)), mean over the batch

Differences
    The code adds 1e-7 to the teacher's probabilities; this does not. `teacher` and `distillation`,
    1 in the paper, are options. With the default base and five exits the shallowest would have a
    negative weight of labels, which is refused. A batch of one image has no teacher, because not
    every fusion's batch norm can see one. As in the code the module decays by
    1e-5 and has no Nesterov momentum, whatever the network has.
    The fusions `sum`, `concat` and `att-sample` are our reading of three names in the paper's
    table. x_l ties the module to one size of maps.

Reported
    CIFAR-100, ResNet-18, exits 1..4: 78.47 / 79.53 / 80.90 / 81.24 % (baseline 77.65 %); the
    virtual teacher 82.08 %. Best epochs on the test set.
"""

from typing import ClassVar

import torch
from torch import Tensor

from exitkit.errors import unknown
from exitkit.objectives import checks
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import cross_entropy, kl, pairwise_kl, powers
from exitkit.objectives.loth_modules import FUSIONS, Teacher
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs, ParamGroup


class VirtualTeacher(Objective):
    """Teach the exits with the fusion of their features, and the fusion with the exits.

    Args:
        blueprint: of the network.
        base: how much more each exit listens to the virtual teacher than the one behind it; 1
            treats all exits alike.
        temperature: T.
        teacher: weight of what the virtual teacher learns.
        distillation: weight of what the exits learn from it.
        fusion: how features are fused: adaptive, sum, concat or att-sample.
    """

    teaches = "all"
    sets_weights = True
    flow: ClassVar[dict[str, Flow]] = {
        "teacher": Flow(exits="all", modules=("virtual",)),
        "distillation": Flow(exits="all"),
    }
    plain: ClassVar[dict[str, float]] = {"base": 1.0, "teacher": 0.0, "distillation": 0.0}

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        base: float = 1.15,
        temperature: float = 3.0,
        teacher: float = 1.0,
        distillation: float = 1.0,
        fusion: str = "adaptive",
    ) -> None:
        super().__init__(blueprint)
        checks.feature_maps("loth", blueprint)
        checks.several_exits("loth", blueprint)
        checks.equal_features("loth", blueprint)
        checks.above_zero("base", base)
        checks.above_zero("temperature", temperature)
        checks.not_negative(teacher=teacher, distillation=distillation)
        checks.taught("loth", {"teacher": teacher}, distillation=distillation)
        if fusion not in FUSIONS:
            raise unknown("fusion of method 'loth'", fusion, FUSIONS)
        exits = len(blueprint.exits)
        checks.leaves_labels("base", base, exits, exits)
        self.base = base
        self.temperature, self.teacher, self.distillation = temperature, teacher, distillation
        self.virtual = Teacher(fusion, exits, blueprint.features[0], blueprint.classes)

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Give exit i weight 2 - base^(N + 1 - i)."""
        exits, device = len(labels.targets), labels.targets.device
        return labels.with_weights(2 - powers(self.base, exits, 1, device))

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what the virtual teacher learns and what it teaches."""
        targets = labels.targets[-1]
        if len(targets) == 1 or not (self.teacher or self.distillation):
            return {}
        fused = self.virtual(torch.stack([answer.feature for answer in out.main], dim=1))
        logits = torch.stack([answer.logits.float() for answer in out.main])  # [N, B, C]
        terms = {}
        if self.teacher:
            told = cross_entropy(fused, targets).mean()
            terms["teacher"] = self.teacher * (told + kl(logits.mean(0), fused, self.temperature))
        if self.distillation:
            each = pairwise_kl(fused.unsqueeze(0), logits, self.temperature).squeeze(0)
            listening = powers(self.base, len(each), 1, each.device)
            terms["distillation"] = self.distillation * (listening * each).sum()
        return terms

    def param_groups(self) -> list[ParamGroup]:
        """Step the virtual teacher by itself: hardly any decay, no Nesterov momentum."""
        own = {"weight_decay": 1e-5, "nesterov": False}
        return [ParamGroup("virtual", tuple(self.virtual.parameters()), "sgd", own)]
