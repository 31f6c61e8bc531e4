"""KDCL by hand: what networks say together, and who sees which view."""

import math

import pytest
import torch
from torch.nn import functional as F

from exitkit.errors import ConfigError
from exitkit.objectives import build
from exitkit.objectives.kdcl import CollaborativeLearning, mean, minlogit, naive
from exitkit.objectives.step import Step
from objectives import by_hand, tiny
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)


def test_two_networks_by_hand() -> None:
    # the network says (0, 2 ln 3), the other (0, 0): their mean is (0, ln 3)
    plan = by_hand.peers(by_hand.blueprint(1, 2), by_hand.Says([[0, 0]]))
    made = CollaborativeLearning(plan, alpha=0.25, temperature=1.0)
    found = by_hand.terms(made, by_hand.exits([[[0, 2 * LN3]]]), by_hand.batch([1], views=2), CLOCK)
    network = 0.25 * math.log(0.25 / 0.1) + 0.75 * math.log(0.75 / 0.9)
    other = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert found == {
        "labels": pytest.approx(-0.75 * math.log(0.9)),
        "peers": pytest.approx(0.75 * LN2),
        "distillation": pytest.approx(0.25 * (network + other)),
    }


def test_targets_by_hand() -> None:
    # two networks, two images of classes 0 and 2; each is right about one of them
    logits = torch.tensor([[[3.0, 1, 0], [5, 0, 1]], [[1.0, 4, 2], [0, 1, 3]]])
    labels = torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    assert mean(logits, labels).tolist() == [[2, 2.5, 1], [2.5, 0.5, 2]]
    assert naive(logits, labels).tolist() == [[3, 1, 0], [0, 1, 3]]
    # less the label's own: (0, -2, -3) and (0, 3, 1); (4, -1, 0) and (-3, -2, 0)
    assert minlogit(logits, labels).tolist() == [[0, -2, -3], [-3, -2, 0]]


def test_targets_equal_the_obvious_loops() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, 5, generator=draw)
    classes = torch.randint(0, 5, (7,), generator=draw)
    labels = F.one_hot(classes, 5).float()
    for image, label in enumerate(classes.tolist()):
        z = logits[:, image]
        losses = [F.cross_entropy(one, classes[image]).item() for one in z]
        torch.testing.assert_close(naive(logits, labels)[image], z[losses.index(min(losses))])
        least = [min((one[c] - one[label]).item() for one in z) for c in range(5)]
        torch.testing.assert_close(minlogit(logits, labels)[image], torch.tensor(least))


@pytest.mark.parametrize("target", ["mean", "naive", "minlogit"])
def test_each_network_sees_its_own_view_and_learns_as_if_alone(target: str) -> None:
    torch.manual_seed(0)
    made = CollaborativeLearning(tiny.blueprint((3,)), students=3, target=target)
    assert made.views == 3
    step, batch = Step(tiny.build(exits=(3,)), made).eval(), tiny.batch(0, views=3)
    step(batch, CLOCK).total.backward()
    networks = [step.network, *made.peers]
    pairs = zip(networks, batch.views, strict=True)
    z = torch.stack([network(view)[-1].logits for network, view in pairs])
    labels = F.one_hot(batch.labels, 5).float()
    said = {"mean": mean, "naive": naive, "minlogit": minlogit}[target](z.detach(), labels)
    for own, network in zip(z, networks, strict=True):
        alone = 0.5 * F.cross_entropy(own, batch.labels) + 0.5 * 16 * F.kl_div(
            (own / 4).log_softmax(1), (said / 4).softmax(1), reduction="batchmean"
        )
        wanted = torch.autograd.grad(alone, list(network.parameters()), retain_graph=True)
        for parameter, gradient in zip(network.parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_a_sum_asks_for_as_many_views_as_there_are_networks() -> None:
    assert build.build("dsr+kdcl(students=4)", tiny.blueprint((3,))).views == 4


def test_weights_at_the_ends() -> None:
    plain = Step(tiny.build(exits=(3,)), CollaborativeLearning(tiny.blueprint((3,)), alpha=0.0))
    assert set(plain(tiny.batch(0, views=2), CLOCK).terms) == {"labels"}
    full = Step(tiny.build(exits=(3,)), CollaborativeLearning(tiny.blueprint((3,)), alpha=1.0))
    terms = full(tiny.batch(0, views=2), CLOCK).terms
    assert set(terms) == {"labels", "distillation"}
    assert terms["labels"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"students": 1}, "students=1: is not 2 or more"),
        ({"alpha": 1.5}, "alpha=1.5: is no share"),
        ({"target": "naiv"}, "target of method 'kdcl' 'naiv': .*did you mean 'naive'"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CollaborativeLearning(tiny.blueprint((3,)), **options)
