"""MATE (our reading) by hand, and against loops over teachers and students."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exitkit.errors import ConfigError
from exitkit.objectives.mate import Attention, AttentionEnsembles
from exitkit.objectives.step import Step
from exitkit.records import Outputs
from objectives import by_hand, tiny
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)


class Weighs(nn.Module):
    """An attention with fixed weights."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, embeddings: Tensor) -> Tensor:
        return torch.tensor(self.rows).expand(len(embeddings), -1, -1)


def test_every_term_by_hand() -> None:
    # Exits say (0, 0) and (0, 4 ln 3). Teacher 1 is 3/4 of the first and 1/4 of the second:
    # (0, ln 3); teacher 2 is the second exit itself.
    objective = AttentionEnsembles(by_hand.blueprint(2, 2), temperature=1.0,
                                   teacher_temperature=1.0, others=0.5, teachers=2.0,
                                   diversity=3.0)  # fmt: skip
    objective.attention = Weighs([[0.75, 0.25], [0.0, 1.0]])  # type: ignore[assignment]
    seen = by_hand.exits([[[0, 0]], [[0, 4 * LN3]]])
    found = by_hand.terms(objective, seen, by_hand.batch([1]), CLOCK)
    flat, sure, teacher = (0.5, 0.5), (1 / 82, 81 / 82), (0.25, 0.75)

    def kl(p: tuple[float, float], q: tuple[float, float]) -> float:
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))

    labels = LN2 - math.log(sure[1])
    assert found == {
        "labels": pytest.approx(labels),
        "primary": pytest.approx(kl(teacher, flat) + 0),
        # exit 1 from teacher 2, exit 2 from teacher 1; one other each
        "others": pytest.approx(0.5 * (kl(sure, flat) + kl(teacher, sure)), abs=1e-6),
        "teachers": pytest.approx(
            2 * (-math.log(teacher[1]) - math.log(sure[1]) + kl(flat, teacher) + 0), abs=1e-6
        ),
        # cosine of (3/4, 1/4) and (0, 1) is 1 / sqrt(10), for both orders
        "diversity": pytest.approx(3 / math.sqrt(10)),
    }


@pytest.mark.parametrize("reverse", [False, True])
def test_the_terms_are_those_of_the_obvious_loops(reverse: bool) -> None:
    torch.manual_seed(0)
    objective = AttentionEnsembles(
        tiny.blueprint((1, 2, 3)), teacher_temperature=2.0, reverse=reverse,
        teacher_reverse=reverse,
    )  # fmt: skip
    step = Step(tiny.build(), objective)
    batch = tiny.batch(0)
    terms, out = step(batch, CLOCK)[1:]
    z = [answer.logits for answer in out.main]

    def kl(teacher: Tensor, student: Tensor, t: float) -> Tensor:
        first, second = (student, teacher) if reverse else (teacher, student)
        p = (first / t).log_softmax(1), (second / t).log_softmax(1)
        return F.kl_div(p[1], p[0], log_target=True, reduction="batchmean") * t**2

    g = torch.stack([answer.embedding for answer in out.main], dim=1)
    w = torch.stack([
        (objective.attention.query(one) @ objective.attention.key(one).T).softmax(1) for one in g
    ])  # fmt: skip
    t = [sum(w[:, j, i, None] * z[i] for i in range(3)) for j in range(3)]
    torch.testing.assert_close(terms["primary"], sum(kl(t[i], z[i], 3.0) for i in range(3)))
    others = sum(kl(t[j], z[i], 3.0) for i in range(3) for j in range(3) if j != i)
    torch.testing.assert_close(terms["others"], 0.1 / 2 * others)
    told = sum(F.cross_entropy(one, batch.labels) for one in t)
    held = sum(kl(z[j], t[j], 2.0) for j in range(3))
    torch.testing.assert_close(terms["teachers"], told + held)
    pairs = [(j, k) for j in range(3) for k in range(3) if j != k]
    near = sum(F.cosine_similarity(w[:, j], w[:, k]).mean() for j, k in pairs)
    torch.testing.assert_close(terms["diversity"], 0.1 * near / 6)


def test_attention_rows_sum_to_one() -> None:
    torch.manual_seed(0)
    weights = Attention(16)(torch.randn(4, 3, 16))
    torch.testing.assert_close(weights.sum(2), torch.ones(4, 3))
    assert sum(p.numel() for p in Attention(16).parameters()) == 2 * 16 * 2


def test_the_labels_that_other_parts_fold_reach_the_teachers() -> None:
    objective = AttentionEnsembles(by_hand.blueprint(2, 2), teacher_temperature=1.0)
    objective.attention = Weighs([[1.0, 0.0], [0.0, 1.0]])  # type: ignore[assignment]
    seen, batch = by_hand.exits([[[0, LN3]], [[0, LN3]]]), by_hand.batch([1])
    labels = by_hand.labels(objective, seen, batch, CLOCK)
    labels = labels.with_targets(torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]]))
    terms = objective.terms(Outputs(seen, {}), labels, batch, CLOCK)
    # every teacher is its own student: no divergence, and -ln 1/4 + (-ln 1/4 - ln 3/4) / 2
    assert terms["teachers"].item() == pytest.approx(2 * LN2 + 2 * LN2 - LN3 / 2)


def test_a_single_exit_is_refused() -> None:
    with pytest.raises(ConfigError, match="method 'mate' on exits \\(1,\\): needs two exits"):
        AttentionEnsembles(by_hand.blueprint(1, 2))
