"""The step: labels before any method, weights of every shape, extra passes."""

import math
from dataclasses import replace

import pytest
import torch

from exitkit.objectives.base import Objective
from exitkit.objectives.step import Step, labels_loss, plain_labels, weigh_classes
from exitkit.objectives.supervised import DeepSupervision
from exitkit.records import Batch, Clock, Labels, Pass
from objectives import by_hand, tiny

LN2, LN3 = math.log(2), math.log(3)


def test_plain_labels_speak_to_the_deepest_exit() -> None:
    seen = by_hand.exits([[[0, 0, 0]] * 2] * 3)
    labels = plain_labels(seen, by_hand.batch([2, 0]))
    assert labels.targets.tolist() == [[[0, 0, 1], [1, 0, 0]]] * 3
    assert labels.weights.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([2.0, 0.0], 2 * LN2),
        ([0.0, 1.0], 2 * LN2 - LN3 / 2),
        # per image: both labels of exit 1, and twice the first of exit 2
        ([[1.0, 1.0], [2.0, 0.0]], LN2 + 2 * LN2),
    ],
)
def test_weights_per_exit_and_per_image(weights: list[float], expected: float) -> None:
    # exit 1 knows nothing; exit 2 says (1/4, 3/4) of an image of class 0 and of one of class 1
    seen = by_hand.exits([[[0, 0], [0, 0]], [[0, LN3], [0, LN3]]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).expand(2, 2, 2)
    loss = labels_loss(seen, Labels(targets, torch.tensor(weights)))
    assert loss.item() == pytest.approx(expected)


def test_labels_of_mixed_images_and_of_the_last_exit() -> None:
    # The last exit says (1/4, 3/4) of both images.
    seen = by_hand.exits([[[0, 0], [0, 0]], [[0, LN3], [0, LN3]]])
    targets = torch.tensor([[0.75, 0.25], [0.0, 1.0]])
    batch = replace(by_hand.batch([0, 1]), targets=targets)
    assert torch.equal(plain_labels(seen, batch).targets, targets.expand(2, 2, 2))
    last = plain_labels(seen, batch, "last").targets
    torch.testing.assert_close(last, torch.tensor([0.25, 0.75]).expand(2, 2, 2))
    assert not last.requires_grad


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([2.0, 1.0], [[4.0, 1.0], [2.0, 0.5]]),
        ([[2.0, 2.0], [1.0, 3.0]], [[4.0, 1.0], [2.0, 1.5]]),
    ],
)
def test_class_weights_multiply_those_of_exits_and_images(
    weights: list[float], expected: list[list[float]]
) -> None:
    # An image of class 0 (factor 2), and one of both classes (1/3 of 2 and 2/3 of -1/4: 1/2).
    plain = torch.tensor([[1.0, 0.0], [1 / 3, 2 / 3]])
    labels = Labels(torch.rand(2, 2, 2), torch.tensor(weights))
    weighed = weigh_classes(labels, plain, torch.tensor([2.0, -0.25]))
    torch.testing.assert_close(weighed.weights, torch.tensor(expected))
    assert weighed.targets is labels.targets
    assert weigh_classes(labels, plain, None) is labels


def test_class_weights_reach_whatever_weights_a_method_decides() -> None:
    torch.manual_seed(0)
    network, batch = tiny.build(), tiny.batch(0)
    objective = DeepSupervision(tiny.blueprint((1, 2, 3)))
    factors = torch.tensor([0.5, 2.0, 1.0, 0.0, 3.0])
    step = Step(network, objective, class_weights=factors).eval()
    with torch.no_grad():
        found = step(batch, tiny.CLOCK).terms["labels"]
        expected = torch.zeros(())
        for answer in network(batch.images):
            for logits, label in zip(answer.logits, batch.labels, strict=True):
                expected -= factors[label] * logits.log_softmax(0)[label] / len(batch.labels)
    torch.testing.assert_close(found, expected)


class TwoPasses(Objective):
    """Ask for one pass with and one without gradient."""

    def passes(self, batch: Batch, clock: Clock) -> dict[str, Pass]:
        return {"with": Pass(batch.images, True), "without": Pass(batch.images[:1], False)}


def test_extra_passes_have_their_own_forward() -> None:
    torch.manual_seed(0)
    network = tiny.build()
    tracked = network.stages["1"][1].num_batches_tracked
    step = Step(network, TwoPasses(tiny.blueprint((1, 2, 3))))
    out = step(tiny.batch(0), tiny.CLOCK).out
    assert tracked.item() == 3
    assert out.passes["with"][0].logits.requires_grad
    assert not out.passes["without"][0].logits.requires_grad
    assert out.passes["without"][0].logits.shape == (1, 5)
