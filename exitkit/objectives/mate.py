"""MATE (our reading): ensembles of the exits, weighted by attention, teach every exit.

Source
    MATE, Frontiers of Information Technology & Electronic Engineering 25(4):585-599, 2024.
    The article is closed and has no public code: this is our reading of its abstract and of its
    authors' summary, and results must be labelled "MATE (our reading)". The attention is that of
    OKDDip (Chen, Mei, Wang, Feng, Chen, AAAI 2020), two of whose authors it shares.

Idea
    K exits are K students. K teachers are weighted sums of all exits' logits; a small attention
    network finds the weights from the exits' embeddings. Each student learns mainly from its own
    teacher and a little from the others; the teachers adapt their weights to the labels and to
    their students, and are kept apart from each other.

Equations
    W    = softmax_row( (G Wq) (G Wk)^T )                 G = sg [f_1 .. f_K] per image
    t_j  = sum_i W_ji sg z_i
    L    = sum_i CE(z_i, y)
         + primary sum_i KL_T( sg t_i || z_i )
         + others / (K - 1) sum_i sum_{j != i} KL_T( sg t_j || z_i )
         + teachers sum_j [ CE(t_j, y) + KL_T'( sg z_j || t_j ) ]
         + diversity / (K (K - 1)) sum_{j != k} cos( W_j, W_k )

Symbols
    z_i, f_i   logits and embedding of exit i
    t_j        logits of teacher j, the primary teacher of student j
    W_j        row j of W: how teacher j weighs the exits
    Wq, Wk     D -> D / 8, without bias
    T, T'      `temperature`, `teacher_temperature`
    sg         stop gradient
    KL_T       T^2 KL(softmax(./T) || softmax(./T)), mean over the batch

Differences
    Not known from the public text, hence ours: projection sizes, temperatures, weights, the
    diversity term, that teachers see labels, and that the teachers' terms move Wq and Wk alone.
    `reverse` and `teacher_reverse` swap the sides of the divergences of students and teachers.

Reported
    No numbers are available to us.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exitkit.objectives import checks
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import (
    cosines,
    cross_entropy,
    mix,
    off_diagonal_mean,
    pairwise_kl,
)
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs, ParamGroup


class Attention(nn.Module):
    """Find how each teacher weighs the exits.

    Args:
        width: D of the embeddings.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // 8)
        self.query = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(width, inner, bias=False)

    def forward(self, embeddings: Float[Tensor, "B K D"]) -> Float[Tensor, "B K K"]:
        """Return per image one row of weights for each teacher; rows sum to 1."""
        queries, keys = self.query(embeddings).float(), self.key(embeddings).float()
        # [B, K, 1, d] x [B, 1, K, d] -> [B, K, K]
        scores = (queries.unsqueeze(2) * keys.unsqueeze(1)).sum(dim=-1)
        weights: Tensor = scores.softmax(dim=-1)
        return weights


class AttentionEnsembles(Objective):
    """Let exits and their attention-weighted ensembles teach each other.

    Args:
        blueprint: of the network.
        temperature: T of the students' divergences.
        teacher_temperature: T' of the teachers' divergences.
        primary: weight of each student's own teacher.
        others: weight of all its other teachers together.
        teachers: weight of what the teachers learn.
        diversity: weight of the teachers' similarity.
        reverse: whether the students' divergences are taken the other way round.
        teacher_reverse: whether the teachers' divergences are.
    """

    teaches = "all"
    sets_weights = True
    flow: ClassVar[dict[str, Flow]] = {
        "primary": Flow(exits="all"),
        "others": Flow(exits="all"),
        "teachers": Flow(exits="none", modules=("attention",)),
        "diversity": Flow(exits="none", modules=("attention",)),
    }
    plain: ClassVar[dict[str, float]] = {
        "primary": 0.0,
        "others": 0.0,
        "teachers": 0.0,
        "diversity": 0.0,
    }

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        temperature: float = 3.0,
        teacher_temperature: float = 3.0,
        primary: float = 1.0,
        others: float = 0.1,
        teachers: float = 1.0,
        diversity: float = 0.1,
        reverse: bool = False,
        teacher_reverse: bool = False,
    ) -> None:
        super().__init__(blueprint)
        checks.above_zero("temperature", temperature)
        checks.above_zero("teacher_temperature", teacher_temperature)
        checks.not_negative(primary=primary, others=others, teachers=teachers, diversity=diversity)
        checks.several_exits("mate", blueprint)
        checks.equal_embeddings("mate", blueprint)
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.primary, self.others = primary, others
        self.teachers, self.diversity = teachers, diversity
        self.reverse, self.teacher_reverse = reverse, teacher_reverse
        self.attention = Attention(blueprint.embeddings[0])

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Give every exit weight 1."""
        exits = len(labels.targets)
        return labels.with_weights(torch.ones(exits, device=labels.targets.device))

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what students learn from teachers, teachers from students, and diversity."""
        # [B, K, D]: the attention looks at the exits and leaves them alone
        embeddings = torch.stack([answer.embedding for answer in out.main], dim=1).detach()
        students = torch.stack([answer.logits for answer in out.main])  # [K, B, C]
        weights = self.attention(embeddings)
        teachers = mix(weights, students.detach())  # [K, B, C]
        terms = self._student_terms(teachers, students)
        if self.teachers:
            told = cross_entropy(teachers, labels.targets).mean(dim=1).sum()
            pairs = pairwise_kl(students, teachers, self.teacher_temperature, self.teacher_reverse)
            terms["teachers"] = self.teachers * (told + pairs.trace())
        if self.diversity:
            terms["diversity"] = self.diversity * off_diagonal_mean(cosines(weights))
        return terms

    def _student_terms(self, teachers: Tensor, students: Tensor) -> dict[str, Tensor]:
        """Return the divergences of the students from their own and from the other teachers."""
        pairs = pairwise_kl(teachers, students, self.temperature, self.reverse)  # [K, K]
        own = pairs.trace()
        terms = {}
        if self.primary:
            terms["primary"] = self.primary * own
        if self.others:
            terms["others"] = self.others / (len(pairs) - 1) * (pairs.sum() - own)
        return terms

    def param_groups(self) -> list[ParamGroup]:
        """Step the attention as the network is stepped."""
        return [ParamGroup("attention", tuple(self.attention.parameters()), "sgd", {})]
