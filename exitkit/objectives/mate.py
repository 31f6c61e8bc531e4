"""MATE (our reading): ensembles of the exits, weighted by attention, teach every exit.

Source
    Sun, Chen, Wang, Ye, Feng, Chen: Multi-Exit Self-Distillation with Appropriate Teachers (MATE),
    Frontiers of Information Technology & Electronic Engineering 25(4):585-599, 2024.
    The article is closed and has no public code: this is our reading of its abstract and of its
    authors' summary, and results must be labelled "MATE (our reading)". The attention is that of
    OKDDip (Chen, Mei, Wang, Feng, Chen, AAAI 2020), two of whose authors it shares.

Idea
    K exits are K students. K teachers are weighted sums of all exits' logits; a small attention
    network finds the weights from the exits' embeddings. Each student learns mainly from its own
    teacher and a little from the others; the teachers adapt their weights to the labels and to
    their students, and are kept apart from each other.
    Every epoch observes `teacher_diversity`, 1 - the mean cosine of two rows of W, and for each
    exit `nearest_teacher_<exit>`, the number of the teacher with the smallest divergence (the
    first of equals, as where all teachers are one).

Equations
    W    = softmax_row( (G Wq) (G Wk)^T s )               G = sg [f_1 .. f_K] per image
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
    Wq, Wk     D -> d = D / 8, without bias
    s          1, as in OKDDip; `scaled` makes it 1 / sqrt(d), as attention elsewhere has it
    T, T'      `temperature`, `teacher_temperature`
    sg         stop gradient
    KL_T       T^2 KL(softmax(./T) || softmax(./T)), mean over the batch

Differences
    Not known from the public text, hence ours: projection sizes, s, temperatures, weights, the
    diversity term, that teachers see labels, and that the teachers' terms move Wq and Wk alone.
    `reverse` and `teacher_reverse` swap the sides of the divergences of students and teachers.

Reported
    No numbers are available to us.
"""

from typing import ClassVar

import torch
from torch import Tensor

from exitkit.objectives import checks
from exitkit.objectives.attention import Attention
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import (
    cosines,
    mix,
    off_diagonal_mean,
    pairwise_kl,
    total_cross_entropy,
)
from exitkit.objectives.memory import Mean
from exitkit.records import Batch, Blueprint, Clock, Exits, Labels, Outputs, ParamGroup


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
        scaled: whether the attention's scores are divided by sqrt(d).
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
        scaled: bool = False,
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
        self.attention = Attention(blueprint.embeddings[0], scaled)
        self.exits = blueprint.exits
        self.cosine, self.divergences = Mean(), Mean(len(self.exits), len(self.exits))

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Give every exit weight 1."""
        return labels.with_weights(torch.ones_like(labels.weights))

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what students learn from teachers, teachers from students, and diversity."""
        weights, teachers, students = self._ensembles(out.main)
        terms = self._student_terms(teachers, students)
        if self.teachers:
            told = total_cross_entropy(teachers, labels.targets)
            pairs = pairwise_kl(students, teachers, self.teacher_temperature, self.teacher_reverse)
            terms["teachers"] = self.teachers * (told + pairs.trace())
        if self.diversity:
            terms["diversity"] = self.diversity * off_diagonal_mean(cosines(weights))
        return terms

    def _ensembles(self, main: Exits) -> tuple[Tensor, Tensor, Tensor]:
        """Return W [B, K, K] and the logits of teachers and of students, each [K, B, C]."""
        # [B, K, D]: the attention looks at the exits and leaves them alone
        embeddings = torch.stack([answer.embedding for answer in main], dim=1).detach()
        students = torch.stack([answer.logits for answer in main])
        weights = self.attention(embeddings.float())
        return weights, mix(weights, students.detach()), students

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

    @torch.no_grad()
    def after_step(self, out: Outputs, batch: Batch, clock: Clock) -> None:
        """Add up how alike the teachers are and how far each is from each student."""
        weights, teachers, students = self._ensembles(out.main)
        self.cosine.add(off_diagonal_mean(cosines(weights)))
        self.divergences.add(pairwise_kl(teachers, students, self.temperature, self.reverse))

    def observe(self) -> dict[str, float]:
        """Return the teachers' diversity, and the number of each student's nearest teacher."""
        diversity = 1 - self.cosine.take()
        nearest = self.divergences.take().argmin(dim=0).tolist()
        found = {
            f"nearest_teacher_{exit_}": float(self.exits[position])
            for exit_, position in zip(self.exits, nearest, strict=True)
        }
        return {"teacher_diversity": diversity.item(), **found}

    def param_groups(self) -> list[ParamGroup]:
        """Step the attention as the network is stepped."""
        return [ParamGroup("attention", tuple(self.attention.parameters()), "sgd", {})]
