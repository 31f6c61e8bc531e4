"""DLB by hand: one step back, in a second view."""

import math

import pytest
import torch
from torch.nn import functional as F

from exitkit.objectives.dlb import LastMiniBatch
from exitkit.objectives.step import Step
from exitkit.records import Outputs
from objectives import by_hand, tiny
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)


def test_the_terms_by_hand() -> None:
    objective = LastMiniBatch(by_hand.blueprint(1, 2), alpha=0.5, temperature=2.0)
    # step t-1: one image of class 1, of whose first view was said (0, 2 ln 3)
    before = by_hand.batch([1], views=2)
    objective.after_step(Outputs(by_hand.exits([[[0, 2 * LN3]]]), {}), before, CLOCK)
    # step t: three images, of all of which nothing is known; nor of the second view
    batch = by_hand.batch([0, 0, 0], views=2)
    assert objective.passes(batch, CLOCK)["previous"].gradient
    now, back = by_hand.exits([[[0, 0]] * 3]), by_hand.exits([[[0, 0]]])
    assert by_hand.terms(objective, now, batch, CLOCK, {"previous": back}) == {
        "labels": pytest.approx(0.75 * LN2),  # three of the four labels
        "second_view": pytest.approx(0.25 * LN2),
        # KL of (1/4, 3/4) from (1/2, 1/2), times T^2 alpha = 2
        "distillation": pytest.approx(2 * (0.75 * LN3 - LN2)),
    }


def test_the_first_step_is_plain() -> None:
    objective = LastMiniBatch(by_hand.blueprint(1, 2))
    batch = by_hand.batch([0], views=2)
    assert objective.passes(batch, CLOCK) == {}
    found = by_hand.terms(objective, by_hand.exits([[[0, 0]]]), batch, CLOCK)
    assert found == {"labels": pytest.approx(LN2)}


def test_two_steps_equal_the_obvious_form() -> None:
    torch.manual_seed(0)
    network = tiny.build(exits=(3,)).eval()
    step = Step(network, LastMiniBatch(tiny.blueprint((3,))))
    first, second = tiny.batch(0, 6, views=2), tiny.batch(1, 4, views=2)
    out = step(first, CLOCK).out
    step.objective.after_step(out, first, CLOCK)
    total = step(second, CLOCK).total
    z, past = network(second.images)[-1].logits, network(first.images)[-1].logits
    back = network(first.views[1])[-1].logits
    labels = torch.cat([second.labels, first.labels])
    slow = F.cross_entropy(torch.cat([z, back]), labels) + 0.5 * 9 * F.kl_div(
        (back / 3).log_softmax(1), (past / 3).softmax(1), reduction="batchmean"
    )
    torch.testing.assert_close(total, slow)
