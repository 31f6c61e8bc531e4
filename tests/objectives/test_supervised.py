"""Labels at the deepest exit, or at all."""

import math

import pytest

from exitkit.objectives.supervised import DeepSupervision, LabelsOnly
from objectives import by_hand
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)
# exit 1 knows nothing: ln 2 for every label; exit 2 says (1/4, 3/4) of both images
SEEN = by_hand.exits([[[0, 0], [0, 0]], [[0, LN3], [0, LN3]]])
BATCH = by_hand.batch([1, 0])
DEEPEST = (2 * LN2 - LN3 + 2 * LN2) / 2


def test_labels_only_teach_the_deepest_exit() -> None:
    found = by_hand.terms(LabelsOnly(by_hand.blueprint(2, 2)), SEEN, BATCH, CLOCK)
    assert found == {"labels": pytest.approx(DEEPEST)}


def test_deep_supervision_teaches_every_exit_with_weight_one() -> None:
    found = by_hand.terms(DeepSupervision(by_hand.blueprint(2, 2)), SEEN, BATCH, CLOCK)
    assert found == {"labels": pytest.approx(LN2 + DEEPEST)}
