"""DMFL by hand, and against loops over images and channels."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from exitkit.errors import ConfigError
from exitkit.objectives.dmfl import MutualFeatures
from exitkit.objectives.step import plain_labels
from exitkit.records import Exit, Exits, Outputs
from objectives import by_hand
from objectives.tiny import CLOCK

LN3 = math.log(3)
BATCH = by_hand.batch([0])


def term(objective: MutualFeatures, embeddings: Tensor) -> Tensor:
    """The term on exits with these embeddings [K, B, D]."""
    logits = torch.zeros(embeddings.shape[1], 2)
    exits = Exits(tuple(Exit(k, logits, f, f) for k, f in enumerate(embeddings, 1)), ())
    labels = plain_labels(exits, by_hand.batch([0] * len(logits)))
    return objective.terms(Outputs(exits, {}), labels, BATCH, CLOCK)["mutual"]


def test_the_term_and_its_gradients_by_hand() -> None:
    # channels (1/4, 3/4), (3/4, 1/4), and (1/2, 1/2) of the deepest: KL one way plus the other
    # is sum (u - v)(log u - log v) = ln 3 / 4 for both shallow exits
    embeddings = torch.tensor([[[0, LN3]], [[LN3, 0]], [[0, 0]]], requires_grad=True)
    found = term(MutualFeatures(by_hand.blueprint(3, 2, width=2), weight=8.0), embeddings)
    assert found.item() == pytest.approx(8 * LN3 / 4)
    (gradient,) = torch.autograd.grad(found, embeddings)
    # each learner moves by what it says minus what it is told, here times 8 / 2
    expected = [[[-1.0, 1.0]], [[1.0, -1.0]], [[0.0, 0.0]]]
    torch.testing.assert_close(gradient, torch.tensor(expected))


@pytest.mark.parametrize("live", [False, True])
def test_the_term_equals_loops(live: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    embeddings = torch.randn(3, 4, 5, generator=draw).requires_grad_()
    fast = term(MutualFeatures(by_hand.blueprint(3, 2, width=5), live=live), embeddings)
    slow = torch.zeros(())
    for i in range(2):
        for b in range(4):
            u, v = embeddings[i, b].softmax(0), embeddings[2, b].softmax(0)
            told_u, told_v = (u, v) if live else (u.detach(), v.detach())
            for c in range(5):
                slow = slow + told_v[c] * (told_v[c] / u[c]).log() / (2 * 4)
                slow = slow + told_u[c] * (told_u[c] / v[c]).log() / (2 * 4)
    torch.testing.assert_close(fast, slow)
    ours, theirs = (torch.autograd.grad(loss, embeddings)[0] for loss in (fast, slow))
    torch.testing.assert_close(ours, theirs)


def test_alone_it_gives_the_labels_weight_1_at_every_exit() -> None:
    objective = MutualFeatures(by_hand.blueprint(3, 2))
    labels = by_hand.labels(objective, by_hand.exits([[[0, 0]]] * 3), BATCH, CLOCK)
    assert labels.weights.tolist() == [1, 1, 1]


def test_a_single_exit_and_unequal_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs two exits"):
        MutualFeatures(by_hand.blueprint(1, 2))
    unequal = replace(by_hand.blueprint(2, 2), embeddings=(1, 2))
    with pytest.raises(ConfigError, match=r"the exits' are \(1, 2\) wide"):
        MutualFeatures(unequal)
