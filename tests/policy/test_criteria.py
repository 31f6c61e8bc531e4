import math

import numpy as np
import pytest

from exitkit.policy import criteria


def test_max_probability_by_hand() -> None:
    # exp(0) : exp(ln 3) = 1 : 3, so the larger class has 3/4; at temperature 2 it is
    # sqrt 3 : 1, so sqrt(3) / (1 + sqrt(3)) = 0.6340.
    logits = np.array([[0.0, math.log(3.0)]], dtype=np.float32)
    assert criteria.max_probability(logits, 1.0)[0] == pytest.approx(0.75, abs=1e-6)
    assert criteria.max_probability(logits, 2.0)[0] == pytest.approx(0.6339746, abs=1e-6)


def test_max_probability_is_the_largest_of_the_probabilities() -> None:
    logits = np.random.default_rng(0).normal(0, 4, (50, 7)).astype(np.float32)
    slow = [max(math.exp(z / 1.7) for z in row) / sum(math.exp(z / 1.7) for z in row)
            for row in logits.tolist()]  # fmt: skip
    assert np.allclose(criteria.max_probability(logits, 1.7), slow, atol=1e-6)
    assert np.allclose(criteria.probabilities(logits, 1.7).max(axis=1), slow, atol=1e-6)
    assert np.allclose(criteria.probabilities(logits, 1.7).sum(axis=1), 1.0, atol=1e-6)


def test_max_probability_survives_large_logits_and_changes_nothing() -> None:
    logits = np.array([[1e4, -1e4, 0.0]], dtype=np.float32)
    before = logits.copy()
    confidence = criteria.max_probability(logits, 0.5)
    assert confidence.dtype == np.float32
    assert confidence[0] == 1.0
    assert (logits == before).all()


def test_a_confidence_on_the_threshold_leaves() -> None:
    confidence = np.array([0.7, 0.699, 0.701], dtype=np.float32)
    # 0.7 as float32 is 0.69999999: compared as float64 it would stay.
    assert criteria.leaves(confidence, 0.7).tolist() == [True, False, True]
    assert criteria.leaves(confidence, np.array([0.71, 0.6, 0.701])).tolist() == [False, True, True]


def test_what_is_not_a_number_never_leaves() -> None:
    assert criteria.leaves(np.array([np.nan], dtype=np.float32), 0.0).tolist() == [False]
