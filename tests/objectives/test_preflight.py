"""The trial before training: what it says, and that no random generator notices it."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from exitkit.errors import TrainingError
from exitkit.objectives import preflight
from exitkit.objectives.base import Objective
from exitkit.objectives.step import Step
from exitkit.objectives.supervised import DeepSupervision
from exitkit.records import Batch, Clock, Labels, Outputs
from objectives import tiny


def draw() -> tuple[float, float, float]:
    """Draw from every generator there is."""
    return random.random(), float(np.random.rand()), torch.rand(1).item()


def test_every_generator_is_left_as_it_was() -> None:
    keeper = preflight.generators_restored()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = draw()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    with keeper:
        assert draw() == expected
        assert draw() != expected
    assert draw() == expected


class Restless(DeepSupervision):
    """Draw while training, and count the images."""

    seen = 0

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        draw()
        type(self).seen = max(type(self).seen, len(batch.labels))
        return {"noise": out.main[-1].logits.mul(torch.rand(1)).sum()}


def test_a_trial_draws_nothing_and_needs_a_few_images_only() -> None:
    objective, network = Restless(tiny.blueprint((1, 2, 3))), tiny.build()
    states = np.random.get_state()[1].tolist(), torch.get_rng_state()
    batches = [tiny.batch(0, 20), tiny.batch(1, 12)]
    preflight.check(Step(network, objective), batches, tiny.CLOCK)
    assert np.random.get_state()[1].tolist() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert Restless.seen == preflight.IMAGES


class Late(Objective):
    """Have something to say in the second step of a one-step epoch, and that it is dead."""

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        assert clock.step < clock.steps
        return {"late": (out.main[-1].logits * 0).sum()} if batch.index[0] else {}


def test_a_term_whose_gradient_is_zero_is_refused_in_the_second_batch_too() -> None:
    clock = replace(tiny.CLOCK, steps=1)
    batches = [tiny.batch(0), tiny.batch(1, start=6)]
    with pytest.raises(TrainingError, match="'late': moves no weight") as caught:
        preflight.check(Step(tiny.build(exits=(3,)), Late(tiny.blueprint((3,)))), batches, clock)
    assert caught.value.exit_code == 1
