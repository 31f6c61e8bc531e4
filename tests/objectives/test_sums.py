"""How parts of a sum meet: labels are folded, names are prefixed, one part decides the weights."""

import pytest
import torch

from exitkit.errors import ConfigError
from exitkit.objectives import build
from exitkit.objectives.step import Step, plain_labels
from objectives import tiny


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
    step.objective.parts["pskd"].memory[:6] = memory
    out = step(batch, tiny.CLOCK).out
    labels = step.objective.supervise(plain_labels(out.main, batch), batch, tiny.CLOCK)
    # first of four epochs: a quarter of the memory
    hot = torch.nn.functional.one_hot(batch.labels, 5)
    torch.testing.assert_close(labels.targets, (0.75 * hot + 0.25 * memory).expand(3, 6, 5))
    assert labels.weights.tolist() == [1.0, 1.0, 1.0]
