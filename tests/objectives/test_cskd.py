"""CS-KD by hand, and against the obvious form."""

import math

import pytest
import torch
from torch.nn import functional as F

from exitkit.errors import ConfigError
from exitkit.objectives.cskd import ClasswiseConsistency
from exitkit.objectives.step import Step
from objectives import by_hand, tiny
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)


def test_the_term_by_hand() -> None:
    # the image says half and half, its partner (0, 2 ln 3): (1/4, 3/4) at T = 2
    made = ClasswiseConsistency(by_hand.blueprint(1, 2), distillation=3.0, temperature=2.0)
    passes = {"partners": by_hand.exits([[[0, 2 * LN3]]])}
    found = by_hand.terms(made, by_hand.exits([[[0, 0]]]), by_hand.batch([1]), CLOCK, passes)
    assert found == {
        "labels": pytest.approx(LN2),
        "distillation": pytest.approx(3 * 4 * (0.75 * LN3 - LN2)),
    }


def test_the_step_is_that_of_the_obvious_form() -> None:
    torch.manual_seed(0)
    network, batch = tiny.build(exits=(3,)).eval(), tiny.batch(0)
    result = Step(network, ClasswiseConsistency(tiny.blueprint((3,)))).eval()(batch, CLOCK)
    z, partner = network(batch.images)[-1].logits, network(batch.partners)[-1].logits
    slow = F.cross_entropy(z, batch.labels) + 16 * F.kl_div(
        (z / 4).log_softmax(1), (partner.detach() / 4).softmax(1), reduction="batchmean"
    )
    torch.testing.assert_close(result.total, slow)
    wanted = torch.autograd.grad(slow, list(network.parameters()))
    for found, gradient in zip(
        torch.autograd.grad(result.total, list(network.parameters())), wanted, strict=True
    ):
        torch.testing.assert_close(found, gradient)


def test_partners_are_a_pass_without_gradient_that_batch_normalisation_counts() -> None:
    step = Step(tiny.build(exits=(3,)), ClasswiseConsistency(tiny.blueprint((3,)))).train()
    out = step(tiny.batch(0), CLOCK).out
    assert not out.passes["partners"][-1].logits.requires_grad
    counted = step.network.state_dict()["stages.1.1.num_batches_tracked"]
    assert counted == 2


def test_without_distillation_the_partners_are_not_run() -> None:
    made = ClasswiseConsistency(tiny.blueprint((3,)), distillation=0.0)
    result = Step(tiny.build(exits=(3,)), made)(tiny.batch(0), CLOCK)
    assert set(result.terms) == {"labels"}
    assert result.out.passes == {}


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"temperature=0\.0: is not above 0"):
        ClasswiseConsistency(tiny.blueprint((3,)), temperature=0.0)
    with pytest.raises(ConfigError, match=r"distillation=-1\.0: is not 0 or more"):
        ClasswiseConsistency(tiny.blueprint((3,)), distillation=-1.0)
