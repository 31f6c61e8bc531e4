"""How parts of a sum meet: labels are folded, names are prefixed, one part decides the weights."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from exitkit.errors import ConfigError
from exitkit.objectives import build
from exitkit.objectives.step import Step, plain_labels
from exitkit.records import Clock, Outputs
from objectives import by_hand, tiny


def made(text: str) -> Step:
    exits = tiny.exits_for(build.teaches(text))
    torch.manual_seed(0)
    return Step(tiny.build(exits=exits), build.build(text, tiny.blueprint(exits)))


def test_two_parts_that_weigh_the_exits_are_refused_with_both_names() -> None:
    with pytest.raises(ConfigError, match=r"sum byot\+pskd\+mate: 'byot' and 'mate' each decide"):
        made("byot+pskd+mate")


def test_names_get_the_parts_name_in_front() -> None:
    step = made("byot+one")
    terms = step(tiny.batch(0), tiny.CLOCK).terms
    assert list(terms) == [
        "labels", "byot/distillation", "byot/hint", "one/peers", "one/ensemble", "one/distillation"
    ]  # fmt: skip
    groups = step.objective.param_groups()
    assert [group.name for group in groups] == ["one/branch2", "one/branch3", "one/gate"]
    assert step.objective.flows()["one/ensemble"].modules == (
        "parts.one.branches",
        "parts.one.gate",
    )


def test_a_part_sees_its_own_passes_under_its_own_names() -> None:
    step = made("deep+dlb")
    first = tiny.batch(0, views=2)
    step.objective.after_step(step(first, tiny.CLOCK).out, first, tiny.CLOCK)
    result = step(tiny.batch(1, views=2), tiny.CLOCK)
    assert set(result.out.passes) == {"dlb/previous"}
    assert {"dlb/second_view", "dlb/distillation"} < set(result.terms)


@pytest.mark.parametrize("text", ["deep+dlb", "dlb+deep"])
def test_the_part_that_decides_the_weights_speaks_first(text: str) -> None:
    step = made(text)
    first, second = tiny.batch(0, 6, views=2), tiny.batch(1, 2, views=2)
    out = step(first, tiny.CLOCK).out
    step.objective.after_step(out, first, tiny.CLOCK)
    out = step(second, tiny.CLOCK).out
    labels = step.objective.supervise(plain_labels(out.main, second), second, tiny.CLOCK)
    # two images now, six of the last batch: 2 / 8 of the deepest exit's labels
    assert labels.weights.tolist() == [1.0, 1.0, 0.25]


def test_targets_are_folded_from_left_to_right_and_reach_every_exit() -> None:
    step = made("pskd(alpha=1.0)+deep")
    batch = tiny.batch(0)
    memory = torch.full((6, 5), 0.2)
    step.objective.parts["pskd"].memory.rows[:6] = memory
    out = step(batch, tiny.CLOCK).out
    labels = step.objective.supervise(plain_labels(out.main, batch), batch, tiny.CLOCK)
    # first of four epochs: a quarter of the memory
    hot = torch.nn.functional.one_hot(batch.labels, 5)
    torch.testing.assert_close(labels.targets, (0.75 * hot + 0.25 * memory).expand(3, 6, 5))
    assert labels.weights.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("text", ["byot(last=1.9)+dmfl", "dmfl+byot(last=1.9)"])
def test_a_part_that_only_proposes_weights_gives_way(text: str) -> None:
    objective = build.build(text, by_hand.blueprint(2, 2))
    labels = by_hand.labels(
        objective, by_hand.exits([[[0, 0]]] * 2), by_hand.batch([0]), tiny.CLOCK
    )
    torch.testing.assert_close(labels.weights, torch.tensor([0.9, 1.9]))


def test_pskd_byot_dmfl_by_hand() -> None:
    text = "pskd+byot(last=1.9)+dmfl"
    objective = build.build(text, by_hand.blueprint(2, 2, width=2))
    ln3, batch = math.log(3), by_hand.batch([0])
    objective.parts["pskd"].memory.rows[0] = torch.tensor([0.0, 1.0])
    # exit 1 says (1/2, 1/2), exit 2 says (1/4, 3/4); so do their channels
    seen = by_hand.exits([[[0, 0]], [[0, ln3]]], [[[0.0, 0.0]], [[0.0, ln3]]])
    # third of four epochs: alpha 0.8 * 3 / 4, the target of both exits is (0.4, 0.6)
    found = by_hand.terms(objective, seen, batch, Clock(2, 4, 0, 1))
    assert found == {
        "labels": pytest.approx(0.9 * math.log(2) + 1.9 * (math.log(4) - 0.6 * ln3)),
        "byot/distillation": pytest.approx(0.1 * 9 * _kl_at_3((0, ln3)), rel=1e-5),
        "byot/hint": pytest.approx(1e-6 * ln3**2),
        "dmfl/mutual": pytest.approx(ln3 / 4),
    }


def _kl_at_3(teacher: tuple[float, float]) -> float:
    """KL of the teacher's logits at T = 3 from a coin toss."""
    total = sum(math.exp(z / 3) for z in teacher)
    return sum(math.exp(z / 3) / total * math.log(2 * math.exp(z / 3) / total) for z in teacher)


def test_drg_and_dsr_by_hand() -> None:
    objective = build.build("drg(stage=1)+dsr", by_hand.blueprint(2, 2))
    ln3, batch = math.log(3), by_hand.batch([1])
    _say(objective.parts["drg"], "auxiliary", torch.tensor([[0.0, ln3]]))
    hidden = (torch.zeros(1, 1, 1, 1),) * 2
    before = by_hand.exits([[[0, 0]], [[4 * ln3, 0]]], hidden=hidden)
    objective.after_step(Outputs(before, {}), batch, tiny.CLOCK)
    now = by_hand.exits([[[0, 0]], [[0, 0]]], hidden=hidden)
    # the classifier's (1/4, 3/4) at T = 1; the last batch's sorted (1/4, 3/4) at T = 4
    apart = 0.75 * ln3 - math.log(2)
    assert by_hand.terms(objective, now, batch, tiny.CLOCK) == {
        "labels": pytest.approx(math.log(2)),
        "drg/auxiliary": pytest.approx(math.log(4 / 3)),
        "drg/guidance": pytest.approx(0.2 * apart, abs=1e-6),
        "dsr/sorted": pytest.approx(16 * apart, abs=1e-5),
    }
    # a batch of another size has no sorted logits to follow
    _say(objective.parts["drg"], "auxiliary", torch.tensor([[0.0, ln3]] * 2))
    two = by_hand.exits([[[0, 0]] * 2] * 2, hidden=hidden)
    found = by_hand.terms(objective, two, by_hand.batch([1, 1]), tiny.CLOCK)
    assert set(found) == {"labels", "drg/auxiliary", "drg/guidance"}


def test_dsr_beside_mate_looks_at_the_deepest_exit() -> None:
    text = "mate(primary=0.0, others=0.0, teachers=0.0, diversity=0.0)+dsr"
    objective = build.build(text, by_hand.blueprint(2, 2, width=8))
    ln3, batch = math.log(3), by_hand.batch([0])
    embeddings = [[[1.0] * 8]] * 2
    before = by_hand.exits([[[0, 9]], [[4 * ln3, 0]]], embeddings)
    objective.after_step(Outputs(before, {}), batch, tiny.CLOCK)
    now = by_hand.exits([[[0, ln3]], [[0, 0]]], embeddings)
    assert by_hand.terms(objective, now, batch, tiny.CLOCK) == {
        # both exits have the labels: 3/4 and 1/2 against them
        "labels": pytest.approx(math.log(4) + math.log(2)),
        "dsr/sorted": pytest.approx(16 * (0.75 * ln3 - math.log(2)), abs=1e-5),
    }


def test_pskds_targets_reach_loths_exits_and_its_teacher() -> None:
    objective = build.build("pskd+loth(distillation=0.0)", by_hand.blueprint(2, 2))
    ln3, batch = math.log(3), by_hand.batch([0] * 2)
    objective.parts["pskd"].memory.rows[:2] = torch.tensor([0.0, 1.0])
    _say(objective.parts["loth"], "virtual", torch.tensor([[0.0, ln3]] * 2))
    seen = by_hand.exits([[[0, 0]] * 2, [[0, 2 * ln3]] * 2])
    found = by_hand.terms(objective, seen, batch, Clock(2, 4, 0, 1))
    # all are told (0.4, 0.6): exit 1 says (1/2, 1/2), exit 2 (1/10, 9/10), the teacher (1/4, 3/4),
    # which is what the exits' mean says
    assert found == {
        "labels": pytest.approx(
            (2 - 1.15**2) * math.log(2) + 0.85 * (math.log(10) - 0.6 * 2 * ln3)
        ),
        "loth/teacher": pytest.approx(math.log(4) - 0.6 * ln3, rel=1e-5),
    }


def test_ffsd_beside_deep_teaches_every_exit_and_leads_the_deepest() -> None:
    step = made("ffsd+deep")
    batch = tiny.batch(0)
    result = step(batch, tiny.CLOCK)
    plain = [cross_entropy(answer.logits, batch.labels) for answer in result.out.main]
    torch.testing.assert_close(result.terms["labels"], torch.stack(plain).sum())
    led = torch.autograd.grad(
        result.terms["ffsd/distillation"],
        [answer.logits for answer in result.out.main],
        allow_unused=True,
    )
    assert [gradient is not None for gradient in led] == [False, False, True]


def _say(part: torch.nn.Module, name: str, answer: torch.Tensor) -> None:
    """Put a module with one fixed answer into a part."""
    fixed = torch.nn.Module()
    fixed.forward = lambda *given: answer  # type: ignore[method-assign, assignment]
    setattr(part, name, fixed)
