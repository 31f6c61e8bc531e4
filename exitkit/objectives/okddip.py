"""OKDDip: diverse peers teach each other by attention, and together they teach a leader.

Source
    Chen, Mei, Wang, Feng, Chen: Online Knowledge Distillation with Diverse Peers, AAAI 2020, and
    the authors' code.

Idea
    Branches share the first stages of a network. All but one are peers: attention finds for each
    of them its own weighing of all peers' logits, its teacher, so that peers stay diverse. The
    last one, the leader, learns from the peers' mean and is the one that is deployed.

Equations
    W    = softmax_row( (X Wq) (X Wk)^T )                 X = [x_1 .. x_M] per image
    t_b  = sum_j W_bj z_j
    L    = CE(z_*, y) + peers sum_b CE(z_b, y)
         + w distillation [ sum_b KL_T( t_b || z_b ) + KL_T( mean_b z_b || z_* ) ]
    w    = exp(-5 (1 - min(e / R, 1))^2)

Symbols
    z_b, x_b   logits and embedding of peer b = 1..M
    z_*        logits of the leader, which is the network's own end
    Wq, Wk     D -> D / 8, without bias, shared by the peers
    e, R       epoch (from 0) and length of the ramp, as shares of the run (R = 80 of 300 epochs)
    KL_T       T^2 KL(softmax(./T) || softmax(./T)), mean over the batch

Differences
    No teacher is detached, as in the authors' code: that is how Wq and Wk learn, and it moves
    the peers towards the leader too. Their code adds 1e-7 to the teachers' probabilities, which
    logarithms of a softmax do not need. `peers` and `distillation` are 1 in the paper, whose
    other form, with whole networks as peers, is left out.

Reported
    CIFAR-100, leader: ResNet-32 74.60 %, WRN-16-2 75.31 % (as measured by the authors of FFSD;
    baselines 69.96 and 71.97 %).
"""

from typing import ClassVar

import torch
from torch import Tensor

from exitkit.objectives import checks, twins
from exitkit.objectives.attention import Attention
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import mix, pairwise_kl, total_cross_entropy
from exitkit.objectives.schedules import ramp as ramp_weight
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs, ParamGroup


class DiversePeers(Objective):
    """Teach the network with branches that share its first stages and teach each other.

    Args:
        blueprint: of the network.
        branches: M, how many peers; the network's own end, the leader, is not among them.
        stage: the last shared stage.
        temperature: T.
        ramp: share of the run in which the distillation grows.
        peers: weight of the labels at the peers.
        distillation: weight of the divergences.
    """

    flow: ClassVar[dict[str, Flow]] = {
        "peers": Flow(exits="none", modules=("branches",), hidden="one"),
        "group": Flow(exits="none", modules=("branches", "attention"), hidden="one"),
        "leader": Flow(exits="deepest", modules=("branches",), hidden="one"),
    }
    plain: ClassVar[dict[str, float]] = {"peers": 0.0, "distillation": 0.0}

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        branches: int = 3,
        stage: int = 2,
        temperature: float = 3.0,
        ramp: float = 80 / 300,
        peers: float = 1.0,
        distillation: float = 1.0,
    ) -> None:
        super().__init__(blueprint)
        checks.at_least("branches", branches, 2)
        checks.above_zero("temperature", temperature)
        checks.share("ramp", ramp)
        checks.not_negative(peers=peers, distillation=distillation)
        checks.taught("okddip", {"peers": peers}, distillation=distillation)
        checks.earlier_stage("okddip", stage, blueprint)
        self.stage, self.temperature, self.ramp = stage, temperature, ramp
        self.label_weight, self.distillation = peers, distillation
        self.branches = twins.make(blueprint, branches, stage + 1)
        self.attention = Attention(blueprint.embeddings[-1])

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the labels of the peers, and what they and the leader learn from ensembles."""
        if not (self.label_weight or self.distillation):
            return {}
        peers = [branch(out.main.hidden[self.stage - 1])[-1] for branch in self.branches]
        logits = torch.stack([peer.logits for peer in peers])  # [M, B, C]
        terms = {}
        if self.label_weight:
            told = total_cross_entropy(logits, labels.targets[-1])
            terms["peers"] = self.label_weight * told
        if self.distillation:
            weight = self.distillation * ramp_weight(clock.epoch / clock.epochs, self.ramp)
            embeddings = torch.stack([peer.embedding for peer in peers], dim=1)  # [B, M, D]
            teachers = mix(self.attention(embeddings), logits)  # [M, B, C]
            pairs = pairwise_kl(teachers, logits, self.temperature, live=True)
            terms["group"] = weight * pairs.trace()
            mean, leader = logits.float().mean(dim=0, keepdim=True), out.main[-1].logits
            taught = pairwise_kl(mean, leader.unsqueeze(0), self.temperature, live=True)
            terms["leader"] = weight * taught.sum()
        return terms

    def param_groups(self) -> list[ParamGroup]:
        """Step the peers and the attention as the network is stepped."""
        attention = ParamGroup("attention", tuple(self.attention.parameters()), "sgd", {})
        return [*twins.groups(self.branches, "peer", first=1), attention]
