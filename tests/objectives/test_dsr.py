"""DSR by hand: the order of the classes is forgotten, the shape of the prediction is kept."""

import math

import pytest

from exitkit.objectives.dsr import SortedLogits
from exitkit.records import Outputs
from objectives import by_hand
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)
BATCH = by_hand.batch([0])


def remember(objective: SortedLogits, logits: list[list[float]]) -> None:
    objective.after_step(Outputs(by_hand.exits([logits]), {}), BATCH, CLOCK)


def test_the_term_by_hand() -> None:
    objective = SortedLogits(by_hand.blueprint(1, 2), beta=0.5, temperature=2.0)
    remember(objective, [[2 * LN3, 0]])
    # sorted and at T = 2: (1/4, 3/4) before, (1/2, 1/2) now; T^2 beta = 2
    found = by_hand.terms(objective, by_hand.exits([[[7.0, 7.0]]]), BATCH, CLOCK)
    assert found["sorted"] == pytest.approx(2 * (0.75 * LN3 - LN2), abs=1e-6)


def test_the_same_shape_in_another_order_costs_nothing() -> None:
    objective = SortedLogits(by_hand.blueprint(1, 3))
    remember(objective, [[3.0, 1.0, 2.0]])
    found = by_hand.terms(objective, by_hand.exits([[[1.0, 2.0, 3.0]]]), BATCH, CLOCK)
    assert found["sorted"] == pytest.approx(0, abs=1e-6)


def test_the_first_step_and_batches_of_another_size_have_no_term() -> None:
    objective = SortedLogits(by_hand.blueprint(1, 2))
    assert "sorted" not in by_hand.terms(objective, by_hand.exits([[[1, 2]]]), BATCH, CLOCK)
    remember(objective, [[1, 2]])
    two = by_hand.exits([[[1, 2], [3, 4]]])
    assert "sorted" not in by_hand.terms(objective, two, by_hand.batch([0, 1]), CLOCK)
