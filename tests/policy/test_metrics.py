import math

import numpy as np
import pytest

from exitkit.policy import metrics
from exitkit.scores import Scores

LOGITS = np.array(
    [[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 0.0, 0.0]], dtype=np.float32
)


def test_top_k_by_hand() -> None:
    labels = np.array([1, 3, 1])  # places 2, 1, and 2: of the equal two the first is first
    assert metrics.top(LOGITS, labels, 1) == pytest.approx(1 / 3)
    assert metrics.top(LOGITS, labels, 2) == 1.0
    assert metrics.top(LOGITS, labels, 5) == 1.0
    assert metrics.correct(LOGITS, labels).tolist() == [False, True, False]


def test_top_1_is_what_argmax_says_also_for_equal_logits() -> None:
    random = np.random.default_rng(0)
    logits = random.integers(0, 3, (300, 5)).astype(np.float32)
    labels = random.integers(0, 5, 300)
    assert metrics.top(logits, labels, 1) == metrics.correct(logits, labels).mean()
    order = np.argsort(-logits, axis=1, kind="stable")
    slow = np.mean([labels[i] in order[i, :2] for i in range(300)])
    assert metrics.top(logits, labels, 2) == slow


def test_nll_by_hand() -> None:
    # Two classes 1 : 3: -ln(3/4) for the second, -ln(1/4) for the first; mean of both.
    logits = np.array([[0.0, math.log(3)], [0.0, math.log(3)]], dtype=np.float32)
    expected = (math.log(4 / 3) + math.log(4)) / 2
    assert metrics.nll(logits, np.array([1, 0])) == pytest.approx(expected)
    root = math.sqrt(3)  # at temperature 2 the odds are 1 : sqrt(3)
    expected = (math.log((1 + root) / root) + math.log(1 + root)) / 2
    assert metrics.nll(logits, np.array([1, 0]), 2.0) == pytest.approx(expected)


def test_ece_by_hand() -> None:
    # Bins of 1/15: two images at 0.9, one right, so |0.5 - 0.9| with weight 2/3; one at 0.55,
    # right, so |1 - 0.55| with weight 1/3.
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.55, 0.45]])
    labels = np.array([0, 0, 0])
    assert metrics.ece(probabilities, labels) == pytest.approx(0.4 * 2 / 3 + 0.45 / 3)


def test_bins_are_open_below_and_closed_above() -> None:
    for kind in (np.float32, np.float64):
        table = metrics.reliability(np.array([0.2, 0.21, 1.0], dtype=kind), np.array([1, 0, 1]) > 0)
        assert [row.count for row in table if row.count] == [1, 1, 1]
        assert table[2].count == 1  # (2/15, 3/15] holds 0.2
        assert table[3].accuracy == 0.0
        assert table[14].confidence == 1.0
        assert table[0].accuracy is None
        assert table[14].high == 1.0


def test_ece_equals_the_loop_over_bins() -> None:
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.ones(4), 500).astype(np.float32)
    labels = random.integers(0, 4, 500)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    total = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.ece(probabilities, labels) == pytest.approx(total, abs=1e-6)


def test_one_row_per_exit() -> None:
    logits = np.stack([LOGITS, LOGITS[:, ::-1]])
    scores = Scores(
        "test", "n", (2, 4), np.array([10.0, 30.0]), logits, np.array([0, 3, 0]), np.arange(3)
    )
    rows = metrics.per_exit(scores)
    assert [row["exit"] for row in rows] == [2, 4]
    assert [row["macs"] for row in rows] == [10.0, 30.0]
    assert [row["top1"] for row in rows] == [1.0, 0.0]
    assert [row["top5"] for row in rows] == [1.0, 1.0]
    assert metrics.per_exit(scores, (1.0, 5.0))[1]["nll"] < rows[1]["nll"]
