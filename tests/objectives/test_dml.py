"""DML by hand, and against loops over the networks."""

import math

import pytest
import torch
from torch.nn import functional as F

from exitkit.errors import ConfigError
from exitkit.objectives.dml import MutualLearning
from exitkit.objectives.step import Step
from exitkit.records import Outputs
from objectives import by_hand, tiny
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)


def test_two_networks_by_hand() -> None:
    # the network says (1/4, 3/4), the other one half and half
    plan = by_hand.peers(by_hand.blueprint(1, 2), by_hand.Says([[0, 0]]))
    found = by_hand.terms(
        MutualLearning(plan, distillation=0.5), by_hand.exits([[[0, LN3]]]), by_hand.batch([0]),
        CLOCK,
    )  # fmt: skip
    network_from_other = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    other_from_network = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert found == {
        "labels": pytest.approx(2 * LN2),
        "peers": pytest.approx(LN2),
        "distillation": pytest.approx(0.5 * (network_from_other + other_from_network)),
    }


def test_three_networks_equal_the_obvious_loops() -> None:
    torch.manual_seed(0)
    step = Step(tiny.build(exits=(3,)), MutualLearning(tiny.blueprint((3,)), students=3,
                                                       temperature=2.0)).eval()  # fmt: skip
    batch = tiny.batch(0)
    terms = step(batch, CLOCK).terms
    networks = [step.network, *step.objective.peers]
    z = [network(batch.images)[-1].logits for network in networks]
    told = [F.cross_entropy(one, batch.labels) for one in z]
    torch.testing.assert_close(terms["labels"], told[0])
    torch.testing.assert_close(terms["peers"], told[1] + told[2])
    slow = sum(
        4 * F.kl_div((z[i] / 2).log_softmax(1), (z[j] / 2).softmax(1), reduction="batchmean") / 2
        for i in range(3)
        for j in range(3)
        if j != i
    )
    torch.testing.assert_close(terms["distillation"], slow)


def test_each_network_learns_as_if_it_were_stepped_alone() -> None:
    torch.manual_seed(0)
    step = Step(tiny.build(exits=(3,)), MutualLearning(tiny.blueprint((3,)))).eval()
    batch = tiny.batch(0)
    step(batch, CLOCK).total.backward()
    networks = [step.network, step.objective.peers[0]]
    z = [network(batch.images)[-1].logits for network in networks]
    for own, other, network in zip(z, reversed(z), networks, strict=True):
        alone = F.cross_entropy(own, batch.labels) + F.kl_div(
            own.log_softmax(1), other.detach().softmax(1), reduction="batchmean"
        )
        wanted = torch.autograd.grad(alone, list(network.parameters()))
        for parameter, gradient in zip(network.parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


def test_soft_labels_reach_every_network() -> None:
    plan = by_hand.peers(by_hand.blueprint(1, 2), by_hand.Says([[0, LN3]]))
    made, seen, batch = MutualLearning(plan), by_hand.exits([[[0, 0]]]), by_hand.batch([1])
    labels = by_hand.labels(made, seen, batch, CLOCK)
    labels = labels.with_targets(torch.tensor([[[0.5, 0.5]]]))
    terms = made.terms(Outputs(seen, {}), labels, batch, CLOCK)
    assert terms["peers"].item() == pytest.approx(2 * LN2 - LN3 / 2)


def test_without_distillation_the_others_are_not_run() -> None:
    step = Step(tiny.build(exits=(3,)), MutualLearning(tiny.blueprint((3,)), distillation=0.0))
    assert set(step(tiny.batch(0), CLOCK).terms) == {"labels"}


def test_one_student_is_refused() -> None:
    with pytest.raises(ConfigError, match="students=1: is not 2 or more"):
        MutualLearning(tiny.blueprint((3,)), students=1)
