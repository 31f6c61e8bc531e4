import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitkit.errors import DataError
from exitkit.policy import temperature


def two_classes(right: int, wrong: int) -> tuple[np.ndarray, np.ndarray]:
    logits = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (right + wrong, 1))
    return logits, np.array([0] * right + [1] * wrong)


def test_two_classes_by_hand() -> None:
    # Every image says class 0 with a margin of 1, and so does the pseudo-image, half of whose
    # label is class 0: 3.5 of 5 are right. The best probability of class 0 is 0.7, which is
    # sigmoid(1 / T) at 1 / T = ln(0.7 / 0.3).
    assert temperature.fit(*two_classes(3, 1)) == pytest.approx(1 / math.log(7 / 3), rel=1e-9)


def test_a_split_without_errors_keeps_a_temperature_above_zero() -> None:
    # 9.5 of 10 are right: sigmoid(1 / T) = 0.95 at 1 / T = ln 19.
    assert temperature.fit(*two_classes(9, 0)) == pytest.approx(1 / math.log(19), rel=1e-9)


def test_a_network_that_is_mostly_wrong_gets_the_largest_temperature() -> None:
    assert temperature.fit(*two_classes(1, 3)) == pytest.approx(1000.0, rel=1e-6)


def test_equal_logits_have_nothing_to_scale() -> None:
    assert temperature.fit(np.zeros((5, 3), dtype=np.float32), np.zeros(5, dtype=np.int64)) == 1.0


def loss(logits: np.ndarray, labels: np.ndarray, t: float) -> float:
    """Sum over images of -ln softmax(z / t)[label], one pseudo-image added; in plain loops."""
    classes = logits.shape[1]
    typical = [sum(sorted(row)[c] for row in logits.tolist()) / len(logits) for c in range(classes)]
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        total += math.log(sum(math.exp((z - row[label]) / t) for z in row))
    for said in typical:
        total += math.log(sum(math.exp((z - said) / t) for z in typical)) / classes
    return total


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 6))
def test_no_other_temperature_is_better(seed: int, n: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (n, classes)).astype(np.float32)
    labels = random.integers(0, classes, n)
    t = temperature.fit(logits, labels)
    best = loss(logits, labels, t)
    for factor in (0.5, 0.99, 1.01, 2.0):
        if 1e-3 < 1 / (t * factor) < 1e3:
            assert loss(logits, labels, t * factor) >= best - 1e-9


def test_it_scales_with_the_logits_and_is_deterministic() -> None:
    random = np.random.default_rng(3)
    logits, labels = random.normal(0, 2, (200, 10)), random.integers(0, 10, 200)
    logits[np.arange(150), labels[:150]] += 4
    t = temperature.fit(logits, labels)
    assert temperature.fit(logits, labels) == t
    assert temperature.fit(logits * 10, labels) == pytest.approx(10 * t, rel=1e-9)


@pytest.mark.parametrize("logits", [np.zeros((0, 3)), np.zeros((4, 1)), np.array([[0.0, np.nan]])])
def test_what_cannot_be_fitted_is_refused(logits: np.ndarray) -> None:
    with pytest.raises(DataError, match="a temperature"):
        temperature.fit(logits, np.zeros(len(logits), dtype=np.int64))
