"""MATE (our reading) by hand, and against loops over teachers and students."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exitkit.errors import ConfigError
from exitkit.objectives import build
from exitkit.objectives.attention import Attention
from exitkit.objectives.mate import AttentionEnsembles
from exitkit.objectives.step import Step, StepResult
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


@pytest.mark.parametrize(("scaled", "scale"), [(False, 1.0), (True, 1 / math.sqrt(2))])
def test_attention_is_the_formula_with_and_without_its_scale(scaled: bool, scale: float) -> None:
    torch.manual_seed(0)
    attention = Attention(16, scaled)  # to d = 16 / 8
    x = torch.randn(4, 3, 16)
    scores = (x @ attention.query.weight.T) @ (x @ attention.key.weight.T).transpose(1, 2)
    torch.testing.assert_close(attention(x), (scores * scale).softmax(2))
    assert sum(p.numel() for p in attention.parameters()) == 2 * 16 * 2


def stepped(batches: int = 1, **options: float) -> tuple[Step, list[StepResult]]:
    """Take steps with a network of three exits that moves not between them."""
    torch.manual_seed(0)
    step = Step(tiny.build(), AttentionEnsembles(tiny.blueprint((1, 2, 3)), **options))
    given = [tiny.batch(number) for number in range(batches)]
    results = [step(batch, CLOCK) for batch in given]
    for batch, result in zip(given, results, strict=True):
        step.objective.after_step(result.out, batch, CLOCK)
    return step, results


@pytest.mark.parametrize("sharp", [1.0, 100.0])
@pytest.mark.parametrize("scaled", [False, True])
def test_each_teacher_is_a_convex_combination_of_the_exits(sharp: float, scaled: bool) -> None:
    step, (result,) = stepped(scaled=scaled)
    with torch.no_grad():
        step.objective.attention.query.weight.mul_(sharp)
    weights, teachers, students = step.objective._ensembles(result.out.main)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(2), torch.ones(6, 3))
    for j in range(3):
        said = torch.stack([weights[:, j, i, None] * students[i] for i in range(3)]).sum(0)
        torch.testing.assert_close(teachers[j], said)
    assert (teachers >= students.min(0).values - 1e-5).all()
    assert (teachers <= students.max(0).values + 1e-5).all()


def test_students_move_the_exits_and_teachers_the_weights_alone() -> None:
    step, (result,) = stepped()
    own = list(step.objective.parameters())
    network = list(step.network.parameters())
    moves = {
        name: [
            any(g is not None and g.ne(0).any()
                for g in torch.autograd.grad(term, group, retain_graph=True, allow_unused=True))
            for group in (network, own)
        ]
        for name, term in result.terms.items()
    }  # fmt: skip
    assert moves == {
        "labels": [True, False],
        "primary": [True, False],
        "others": [True, False],
        "teachers": [False, True],
        "diversity": [False, True],
    }


def test_the_weight_network_changes_over_a_step() -> None:
    step, (result,) = stepped()
    embeddings = torch.stack([answer.embedding for answer in result.out.main], dim=1).detach()
    before = step.objective.attention(embeddings)
    (group,) = step.objective.param_groups()
    result.total.backward()
    torch.optim.SGD(group.params, lr=0.1).step()
    assert not torch.allclose(step.objective.attention(embeddings), before, atol=1e-5)


@torch.no_grad()
def test_an_epoch_observes_diversity_and_each_students_nearest_teacher() -> None:
    step, results = stepped(2, temperature=2.0)
    objective = step.objective
    near, apart = [], torch.zeros(3, 3)
    for _, _, out in results:
        z = [answer.logits for answer in out.main]
        w = objective.attention(torch.stack([answer.embedding for answer in out.main], dim=1))
        for j in range(3):
            near += [F.cosine_similarity(w[:, j], w[:, k]).mean() for k in range(3) if j != k]
            t = sum(w[:, j, i, None] * z[i] for i in range(3)) / 2
            for i in range(3):
                apart[j, i] += F.kl_div(
                    (z[i] / 2).log_softmax(1), t.softmax(1), reduction="batchmean"
                )
    assert objective.observe() == {
        "teacher_diversity": pytest.approx(1 - float(sum(near)) / len(near), abs=1e-5),
        **{f"nearest_teacher_{i + 1}": int(apart[:, i].argmin()) + 1 for i in range(3)},
    }
    assert not any(buffer.any() for buffer in objective.buffers())


def test_the_nearest_teacher_is_named_by_its_exits_number() -> None:
    made = AttentionEnsembles(replace(by_hand.blueprint(2, 2), exits=(2, 4)))
    # both teachers are the second student: the first student's nearest is the first of equals
    made.attention = Weighs([[0.0, 1.0], [0.0, 1.0]])  # type: ignore[assignment]
    seen, batch = by_hand.exits([[[0, 0]], [[0, LN3]]]), by_hand.batch([1])
    made.after_step(Outputs(seen, {}), batch, CLOCK)
    assert made.observe() == {
        "teacher_diversity": 0.0, "nearest_teacher_2": 2.0, "nearest_teacher_4": 2.0
    }  # fmt: skip
    made.attention = Weighs([[0.0, 1.0], [1.0, 0.0]])  # type: ignore[assignment]
    made.after_step(Outputs(seen, {}), batch, CLOCK)
    assert made.observe() == {
        "teacher_diversity": 1.0, "nearest_teacher_2": 4.0, "nearest_teacher_4": 2.0
    }  # fmt: skip


def test_a_sum_observes_under_its_parts_names() -> None:
    made = build.build("mate+dsr", tiny.blueprint((1, 2, 3)))
    out, batch = tiny.build()(tiny.batch(0).images), tiny.batch(0)
    made.after_step(Outputs(out, {}), batch, CLOCK)
    assert set(made.observe()) == {
        "mate/teacher_diversity", *(f"mate/nearest_teacher_{k}" for k in (1, 2, 3))
    }  # fmt: skip


def test_a_state_from_before_there_were_observations_is_read() -> None:
    step, _ = stepped()
    state = step.objective.state_dict()
    old = {key: value for key, value in state.items() if key.startswith("attention.")}
    assert len(old) < len(state)
    step.objective.load_state_dict(old)
    assert not any(buffer.any() for buffer in step.objective.buffers())


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
