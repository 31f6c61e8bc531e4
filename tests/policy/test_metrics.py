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


def test_the_risk_coverage_curve_by_hand() -> None:
    # Surest first: right, wrong, right, wrong. Risks 0, 1/2, 1/3, 2/4; their mean is 1/3.
    right = np.array([False, True, False, True])
    doubts = np.array([0.9, 0.1, 0.4, 0.5])
    assert metrics.aurc(doubts, right) == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    # With both errors last the risks were 0, 0, 1/3, 2/4.
    assert metrics.least_aurc(2, 4) == pytest.approx((1 / 3 + 2 / 4) / 4)
    assert metrics.least_aurc(0, 4) == 0.0
    assert metrics.aurc(doubts, np.ones(4, dtype=bool)) == 0.0
    assert metrics.aurc(doubts, np.zeros(4, dtype=bool)) == 1.0 == metrics.least_aurc(4, 4)


def test_the_risk_coverage_curve_equals_the_loops() -> None:
    random = np.random.default_rng(2)
    logits = random.normal(size=(200, 5)).astype(np.float32)
    labels = random.integers(0, 5, 200)
    right = metrics.correct(logits, labels)
    confidence = [max(math.exp(v) for v in z) / sum(math.exp(v) for v in z) for z in logits]
    order = sorted(range(200), key=lambda row: -confidence[row])
    area = sum(
        sum(not right[row] for row in order[:count]) / count for count in range(1, 201)
    ) / 200  # fmt: skip
    found = metrics.aurc(metrics.doubt(logits), right)
    assert found == pytest.approx(area)
    best = sorted(range(200), key=lambda row: not right[row])
    least = sum(
        sum(not right[row] for row in best[:count]) / count for count in range(1, 201)
    ) / 200  # fmt: skip
    assert metrics.least_aurc(int((~right).sum()), 200) == pytest.approx(least)
    assert found > least


def test_doubt_tells_sure_rows_apart() -> None:
    logits = np.array([[90.0, 0.0, 0.0], [60.0, 0.0, 0.0], [0.0, math.log(3), 0.0]])
    doubts = metrics.doubt(logits.astype(np.float32))
    # The largest of 1 : 3 : 1 has 3/5, so (2/5) / (3/5) remains.
    assert doubts[2] == pytest.approx(2 / 3)
    assert 0 < doubts[0] < doubts[1]
    assert doubts[1] == pytest.approx(2 * math.exp(-60))


def published(logits: np.ndarray, labels: list[int]) -> dict[str, dict[str, float | None]]:
    exits = tuple(range(1, len(logits) + 1))
    table = Scores(
        "test", "n", exits, np.ones(len(exits)), logits, np.array(labels), np.arange(len(labels))
    )
    return {str(row.pop("answer")): row for row in metrics.as_published(table)}


def test_the_papers_rows_by_hand() -> None:
    # Two classes; exit 1 is right on rows 0 and 1, exit 2 on rows 0 and 2, none on row 3. Odds
    # are 1 : 3 or 1 : 9, so confidences are 0.75 and 0.9.
    small, large = math.log(3), math.log(9)
    first = [[small, 0], [small, 0], [0, small], [0, large]]
    second = [[large, 0], [0, large], [large, 0], [0, small]]
    rows = published(np.array([first, second], dtype=np.float32), [0, 0, 0, 0])
    assert list(rows) == ["exit 1", "exit 2", "ensemble", "oracle union"]
    one, both = rows["exit 1"], rows["ensemble"]
    assert one["top1_error"] == rows["exit 2"]["top1_error"] == 0.5
    assert one["nll"] == pytest.approx((2 * math.log(4 / 3) + math.log(4) + math.log(10)) / 4)
    # (0.7, 0.8]: 3 rows, 2 right; (0.8, 0.9]: one row, wrong.
    assert one["ece10"] == pytest.approx(3 / 4 * (0.75 - 2 / 3) + 1 / 4 * 0.9, abs=1e-6)
    # Surest is row 3, wrong; then rows 0, 1 (right) and 2 (wrong): risks 1, 1/2, 1/3, 2/4.
    assert one["aurc_1000"] == pytest.approx(1000 * (1 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    assert one["eaurc_1000"] == pytest.approx(1000 * (1 + 1 / 2) / 4)
    # Mean logits: row 0 right, row 1 (3 : 9) wrong, row 2 right, row 3 wrong.
    assert both["top1_error"] == 0.5
    odds = math.sqrt(27), math.sqrt(1 / 3), math.sqrt(3), math.sqrt(1 / 27)
    assert both["nll"] == pytest.approx(sum(math.log(1 + 1 / o) for o in odds) / 4)
    assert rows["oracle union"]["top1_error"] == 0.25
    assert rows["oracle union"]["top5_error"] == 0.0
    assert rows["oracle union"]["nll"] is None


def test_a_single_exit_has_neither_ensemble_nor_union() -> None:
    assert list(published(LOGITS[None], [0, 3, 0])) == ["exit 1"]


def test_the_excess_is_never_below_zero() -> None:
    # One right row, the surest, and seven wrong ones: the two areas differ in their last bit.
    logits = np.zeros((1, 8, 2), dtype=np.float32)
    logits[0, :, 0] = np.arange(8, 0, -1)
    (one,) = published(logits, [0, 1, 1, 1, 1, 1, 1, 1]).values()
    assert one["eaurc_1000"] == 0.0


def test_the_union_is_the_or_over_exits() -> None:
    random = np.random.default_rng(3)
    logits = random.normal(size=(3, 100, 9)).astype(np.float32)
    labels = random.integers(0, 9, 100)
    rows = published(logits, labels.tolist())
    for key, k in (("top1_error", 1), ("top5_error", 5)):
        hits = [
            any(labels[n] in np.argsort(-logits[i, n])[:k] for i in range(3)) for n in range(100)
        ]
        assert rows["oracle union"][key] == pytest.approx(1 - sum(hits) / 100)
