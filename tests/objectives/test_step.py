"""The step: labels before any method, weights of every shape, extra passes."""

import math

import pytest
import torch

from exitkit.objectives.base import Objective
from exitkit.objectives.step import Step, labels_loss, plain_labels
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
