"""FFSD: students teach each other, their fusion teaches a leader, and the leader is deployed.

Source
    Li, Lin, Wang, Wu, Tian, Shao, Ji: Distilling a Powerful Student Model via Online Knowledge
    Distillation (FFSD), arXiv 2103.14473, IEEE TNNLS 2022, and the authors' code.

Idea
    m students learn from labels and from each other, and are kept diverse by attention maps. A
    fusion module merges their last features. A separate leader, the network that is kept, learns
    from the fusion. Students 2..m and the leader also distil their own last feature into their
    earlier stages, through nets that learn to imagine the earlier stages from the last.

Equations
    A(F) = mean over channels of F^2;  D(a, b) = MSE(a / |a|, b / |b|) per image
    (2)(3)  L_i^ml  = CE(z_i, y) + 1/(m-1) sum_{j != i} KL_T( sg z_j || z_i )
    (4)     C = concat_i sg F_iL;  E = Enc(C);  z_f = FC(GAP(E))
            L_f     = CE(z_f, y) + KL_T( sg mean_i z_i || z_f )
    (5)     L_*^fus = D( A(F_*L), sg A(E) ) + D( A(Dec(F_*L)), sg A(C) )
    (8)     A = A(F_{i-1,L}); n = |A|; a = A/n; thr = k-th smallest of a, k = floor(hw/3)
            A^div   = (n/2 - a) sign(a - thr) + n/2
    (9)     L_i^div = mean ( A(F_iL) / |A(F_iL)| - sg A^div )^2                      i >= 2
    (11)    F^div   = F_{i-1,L} + (n / D_L) (A^div - a);  S_l = SD_i(F^div), frozen
            L_i^sd  = sum_{l<L} D( A(F_il), sg A(S_l) )
    (13)    S_l = SD_*(E), frozen;  L_*^sd = sum_{l<L} D( A(F_*l), sg A(S_l) )
    (10)    L_SD    = sum_{l<L} [ D( S_l, sg F_l ) + balance D( A(S_l), sg A(F_l) ) ], S of sg F_L
    (12)    students: sum_i L_i^ml + w diversity sum_{i>=2} ( L_i^div + L_i^sd )
    (14)    leader:   CE(z_*, y) + KL_T( sg z_f || z_* )
                      + w fusion ( L_*^fus + leader_depth L_*^sd )
    w = exp(-5 (1 - min(e / R, 1))^2) multiplies `diversity`, `fusion` and `self_distillation`

Symbols
    z_i, F_il   logits of student i, its output of stage l = 1..L; * is the leader
    Enc, Dec    depthwise-separable convolutions mD -> D and D -> mD
    SD          self-distillation net: D_L back to D_{L-1} .. D_1
    e, R        epoch (from 1) and length of the ramp, as shares of the run (R = 5 of 300 epochs)
    sg          stop gradient
    KL_T        T^2 KL(softmax(./T) || softmax(./T)), mean over the batch

Differences
    Like the authors' code, (5) compares attention maps (the paper: feature maps), and n in (8) is
    the length of the attention map; `unit` puts 1 in its place, which is consistent in scale.
    The paper's fourth weight, 1, is not separable in the code: here it is `balance` in (10) and
    `leader_depth` in (14). `distillation` weighs every KL; 1 in the paper.
    All stages of the network are used, whether three or four. One backward pass over the sum
    replaces one per network: every signal between them is detached, so the gradients are the same.

Reported
    CIFAR-100 leader: ResNet-20 72.70 %, ResNet-32 74.85 %, WRN-16-2 75.81 % (baselines 68.58,
    69.96, 71.97 %). What the paper calls "Ens" counts an image as right if any student is right.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exitkit.errors import ConfigError
from exitkit.objectives import checks, twins
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.ffsd_modules import Fusion, SelfDistiller, depthwise_block, frozen
from exitkit.objectives.functional import (
    attention,
    cross_entropy,
    kl,
    mutual_kl,
    normalised_mse,
    total_cross_entropy,
    unit,
)
from exitkit.objectives.schedules import ramp as ramp_weight
from exitkit.records import Batch, Blueprint, Clock, Exits, Labels, Outputs, ParamGroup


def shifted_attention(
    feature: Float[Tensor, "B D h w"], unit_norm: bool
) -> tuple[Float[Tensor, "B P"], Float[Tensor, "B P"], Float[Tensor, "B 1"]]:
    """Return the shifted map A^div, the map a, and n of equation (8).

    The order of the larger two thirds of the positions is reversed.
    """
    plain = attention(feature)
    a = unit(plain)
    n = torch.ones_like(a[:, :1]) if unit_norm else plain.norm(dim=1, keepdim=True)
    rank = a.shape[1] // 3
    # A sort, because kthvalue has no deterministic form on GPUs.
    threshold = a.sort(dim=1).values[:, rank - 1 : rank]
    return (n / 2 - a) * torch.sign(a - threshold) + n / 2, a, n


def diverse_feature(feature: Float[Tensor, "B D h w"], unit_norm: bool) -> Float[Tensor, "B D h w"]:
    """Return the feature moved to the shifted map, F^div of equation (11)."""
    shifted, a, n = shifted_attention(feature, unit_norm)
    size, channels, height, width = feature.shape
    # [B, h w] -> [B, 1, h, w]: the same step in every channel
    step = (n / channels * (shifted - a)).reshape(size, 1, height, width)
    return feature.float() + step


class FeatureFusion(Objective):
    """Train a leader, the network, beside students and their fusion.

    Args:
        blueprint: of the network.
        students: how many there are beside the leader, m; at least 2.
        temperature: T of every KL.
        diversity: weight of what sets the students' attention maps apart, (9) and (11).
        fusion: weight of the leader's attention maps against the fusion's, (5) and (13).
        self_distillation: weight of the nets that imagine earlier stages, (10).
        distillation: weight of every KL.
        balance: weight of the attention maps against the features in (10).
        leader_depth: weight of the leader's earlier stages, (13), against its last, (5).
        ramp: share of the run in which `diversity`, `fusion` and `self_distillation` grow.
        unit: whether n is 1 in (8), instead of the length of the attention map.
    """

    flow: ClassVar[dict[str, Flow]] = {
        "students": Flow(exits="none", modules=("students",)),
        "mutual": Flow(exits="none", modules=("students",)),
        "diversity": Flow(exits="none", modules=("students",)),
        "fusion": Flow(exits="none", modules=("fusion",)),
        "distillation": Flow(exits="deepest"),
        "leader": Flow(exits="none", modules=("decoder",), hidden="all"),
        "self_distillation": Flow(exits="none", modules=("distillers",)),
    }
    plain: ClassVar[dict[str, float]] = {
        "distillation": 0.0,
        "diversity": 0.0,
        "fusion": 0.0,
        "self_distillation": 0.0,
    }

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        students: int = 2,
        temperature: float = 2.0,
        diversity: float = 1e-5,
        fusion: float = 10.0,
        self_distillation: float = 1e3,
        distillation: float = 1.0,
        balance: float = 1.0,
        leader_depth: float = 1.0,
        ramp: float = 5 / 300,
        unit: bool = False,
    ) -> None:
        super().__init__(blueprint)
        checks.feature_maps("ffsd", blueprint)
        checks.at_least("students", students, 2)
        checks.above_zero("temperature", temperature)
        checks.share("ramp", ramp)
        checks.not_negative(diversity=diversity, fusion=fusion, distillation=distillation)
        checks.not_negative(balance=balance, leader_depth=leader_depth)
        checks.not_negative(self_distillation=self_distillation)
        _check_stages(blueprint)
        self.temperature, self.ramp, self.unit = temperature, ramp, unit
        self.diversity_weight, self.fusion_weight = diversity, fusion
        self.self_distillation, self.distillation = self_distillation, distillation
        self.balance, self.leader_depth = balance, leader_depth
        self._build(blueprint, students)

    def _build(self, blueprint: Blueprint, students: int) -> None:
        channels = blueprint.hidden[-1][0]
        self.students = twins.make(blueprint, students)
        self.fusion = Fusion(channels, students, blueprint.classes)
        self.decoder = depthwise_block(channels, students * channels)
        # Of students 2..m, then of the leader.
        self.distillers = nn.ModuleList(SelfDistiller(blueprint.hidden) for _ in range(students))

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what students, fusion, leader and self-distillation nets learn."""
        targets = labels.targets[-1]
        students = [student(batch.images) for student in self.students]
        ramp = ramp_weight((clock.epoch + 1) / clock.epochs, self.ramp)
        last = torch.cat([student.hidden[-1].detach() for student in students], dim=1)
        fused, merged = self.fusion(last)
        terms = self._student_terms(students, targets)
        if self.diversity_weight:
            terms["diversity"] = ramp * self.diversity_weight * self._diversity(students)
        terms["fusion"] = self._fusion_loss(fused, students, targets)
        if self.distillation:
            leader = kl(fused, out.main[-1].logits, self.temperature)
            terms["distillation"] = self.distillation * leader
        if self.fusion_weight:
            leader = self._leader_loss(out.main, last, merged.detach())
            terms["leader"] = ramp * self.fusion_weight * leader
        if self.self_distillation:
            networks = [*students[1:], out.main]
            pairs = zip(self.distillers, networks, strict=True)
            losses = torch.stack([self._distiller_loss(net, own) for net, own in pairs])
            terms["self_distillation"] = ramp * self.self_distillation * losses.sum()
        return terms

    def _student_terms(self, students: list[Exits], targets: Tensor) -> dict[str, Tensor]:
        """Return (2) and (3), summed over the students."""
        logits = torch.stack([student[-1].logits for student in students])  # [m, B, C]
        terms = {"students": total_cross_entropy(logits, targets)}
        if self.distillation:
            terms["mutual"] = self.distillation * mutual_kl(logits, self.temperature)
        return terms

    def _fusion_loss(self, fused: Tensor, students: list[Exits], targets: Tensor) -> Tensor:
        """Return (4)."""
        loss = cross_entropy(fused, targets).mean()
        if self.distillation:
            mean = torch.stack([student[-1].logits.float() for student in students]).mean(dim=0)
            loss = loss + self.distillation * kl(mean, fused, self.temperature)
        return loss

    def _diversity(self, students: list[Exits]) -> Tensor:
        """Return (9) and (11), summed over students 2..m."""
        losses = []
        # The leader's self-distillation net is the last and finds no student.
        for before, own, net in zip(students, students[1:], self.distillers, strict=False):
            feature = before.hidden[-1].detach()
            shifted = shifted_attention(feature, self.unit)[0]
            losses.append((unit(attention(own.hidden[-1])) - shifted).square().mean())
            losses.append(_depth_loss(own, net, diverse_feature(feature, self.unit)))
        return torch.stack(losses).sum()

    def _leader_loss(self, leader: Exits, last: Tensor, merged: Tensor) -> Tensor:
        """Return (5) and (13)."""
        feature = leader.hidden[-1]
        loss = normalised_mse(attention(feature), attention(merged))
        loss = loss + normalised_mse(attention(self.decoder(feature)), attention(last))
        if self.leader_depth:
            loss = loss + self.leader_depth * _depth_loss(leader, self.distillers[-1], merged)
        return loss

    def _distiller_loss(self, net: nn.Module, own: Exits) -> Tensor:
        """Return (10) of one network and its self-distillation net."""
        imagined = net(own.hidden[-1].detach())
        losses = []
        for image, hidden in zip(imagined, own.hidden[:-1], strict=True):
            losses.append(normalised_mse(image, hidden))
            losses.append(self.balance * normalised_mse(attention(image), attention(hidden)))
        return torch.stack(losses).sum()

    def param_groups(self) -> list[ParamGroup]:
        """Step students and decoder as the leader is stepped, the fusion with less decay."""
        decay = {"weight_decay": 1e-5}
        adam = {"lr": 1e-3, "weight_decay": 1e-4}
        return [
            *twins.groups(self.students, "student", first=1),
            ParamGroup("decoder", tuple(self.decoder.parameters()), "sgd", {}),
            ParamGroup("fusion", tuple(self.fusion.parameters()), "sgd", decay),
            ParamGroup("distillers", tuple(self.distillers.parameters()), "adam", adam),
        ]


def _depth_loss(own: Exits, net: nn.Module, feature: Tensor) -> Tensor:
    """Return the sum of (11) or (13): earlier stages against what `net` imagines of `feature`."""
    with frozen(net):
        imagined = net(feature)
    losses = [
        normalised_mse(attention(hidden), attention(image))
        for hidden, image in zip(own.hidden[:-1], imagined, strict=True)
    ]
    return torch.stack(losses).sum()


def _check_stages(blueprint: Blueprint) -> None:
    *_, (_, height, width) = blueprint.hidden
    if len(blueprint.hidden) < 2 or height * width < 3:
        raise ConfigError(
            "method 'ffsd'",
            f"the stages give {blueprint.hidden}",
            "use a network of two stages or more whose last map has three positions or more",
        )
