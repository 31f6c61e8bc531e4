import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitkit.errors import BundleError, ConfigError, DataError
from exitkit.policy import criteria, solvers
from exitkit.policy.policy import Policy
from exitkit.policy.solvers import Point
from exitkit.scores import Scores

NETWORK = "c" * 64


def table(confidence: list[list[float]], right: list[list[int]], macs: list[float]) -> Scores:
    """Two classes, every label 0: the answer is 0 where right, with the given confidence."""
    p = np.array(confidence)
    own, other = np.log(p), np.log(1 - p)
    first = np.where(np.array(right) > 0, own, other)
    second = np.where(np.array(right) > 0, other, own)
    logits = np.stack([first, second], axis=2).astype(np.float32)
    n = p.shape[1]
    exits = tuple(range(1, len(p) + 1))
    labels = np.zeros(n, dtype=np.int64)
    return Scores("tune", NETWORK, exits, np.array(macs), logits, labels, np.arange(n))


def policy(scores: Scores, *thresholds: float) -> Policy:
    return Policy(NETWORK, scores.exits, thresholds, (1.0,) * len(scores.exits))


HAND = table(
    [[0.95, 0.80, 0.60, 0.55], [0.60, 0.90, 0.85, 0.60], [0.99, 0.99, 0.99, 0.99]],
    [[1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0]],
    [10.0, 20.0, 40.0],
)


def test_operating_point_by_hand() -> None:
    # At 0.9 and 0.8: image 0 leaves at exit 1 (right), images 1 and 2 at exit 2 (right, wrong),
    # image 3 at exit 3 (wrong).
    point = solvers.operating_point(HAND, policy(HAND, 0.9, 0.8))
    assert point.threshold is None
    assert point.accuracy == 0.5
    assert point.mean_macs == (10 + 20 + 20 + 40) / 4
    assert point.shares == (0.25, 0.5, 0.25)
    assert point.exit_accuracy == (1.0, 0.5, 0.0)
    assert point.deepest_accuracy == 0.75


def test_an_exit_where_nobody_leaves_has_no_accuracy() -> None:
    point = solvers.operating_point(HAND, policy(HAND, 0.0, 0.0))
    assert point.threshold == 0.0
    assert point.shares == (1.0, 0.0, 0.0)
    assert point.exit_accuracy == (0.5, None, None)


def test_a_sweep_goes_from_all_at_the_first_to_all_at_the_deepest() -> None:
    points = solvers.sweep(HAND, (1.0, 1.0, 1.0), NETWORK)
    assert points[0].threshold == 0.0
    assert points[0].shares == (1.0, 0.0, 0.0)
    assert points[-1].threshold == 1.0
    assert points[-1].shares == (0.0, 0.0, 1.0)
    assert points[-1].accuracy == points[-1].deepest_accuracy == 0.75
    costs = [point.mean_macs for point in points]
    assert costs == sorted(costs)


def random_scores(seed: int, exits: int, n: int, classes: int) -> Scores:
    random = np.random.default_rng(seed)
    # Few different values, so that confidences are equal to each other and to thresholds.
    logits = random.integers(-2, 3, (exits, n, classes)).astype(np.float32)
    macs = np.cumsum(random.uniform(1, 5, exits))
    labels = random.integers(0, classes, n)
    numbers = tuple(range(1, exits + 1))
    return Scores("tune", NETWORK, numbers, macs, logits, labels, np.arange(n))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 30), st.integers(2, 4))
def test_the_sweep_equals_one_image_at_a_time(seed: int, exits: int, n: int, classes: int) -> None:
    scores = random_scores(seed, exits, n, classes)
    temperatures = tuple(np.random.default_rng(seed).uniform(0.3, 3, exits))
    for point in solvers.sweep(scores, temperatures, NETWORK):
        left, hits = [0] * exits, [0] * exits
        for i in range(n):
            for k in range(exits):
                z = scores.logits[k, i : i + 1]
                confidence = criteria.max_probability(z, temperatures[k])
                if k == exits - 1 or criteria.leaves(confidence, point.threshold)[0]:
                    left[k] += 1
                    hits[k] += int(z[0].argmax() == scores.labels[i])
                    break
        assert point.shares == pytest.approx([x / n for x in left])
        assert point.accuracy == pytest.approx(sum(hits) / n)
        assert point.mean_macs == pytest.approx(np.dot(left, scores.macs) / n)
        answers = [h / x if x else None for h, x in zip(hits, left, strict=True)]
        assert point.exit_accuracy == pytest.approx(answers)


def test_the_sweep_equals_the_policy_that_is_shipped() -> None:
    random = np.random.default_rng(5)
    logits = random.normal(0, 2, (4, 400, 10)).astype(np.float32)
    labels, macs = random.integers(0, 10, 400), np.array([1.0, 2.0, 3.0, 4.0])
    scores = Scores("tune", NETWORK, (1, 2, 3, 4), macs, logits, labels, np.arange(400))
    temperatures = (0.5, 1.0, 1.5, 2.0)
    shipped = Policy(NETWORK, scores.exits, (0.5, 0.5, 0.5), temperatures)
    points = solvers.sweep(scores, temperatures, NETWORK)
    assert 100 < len(points) <= 150
    for point in points:
        assert point.threshold is not None
        assert solvers.operating_point(scores, shipped.with_threshold(point.threshold)) == point


def test_a_single_exit_has_one_point() -> None:
    scores = HAND.keep((3,), np.array([40.0]))
    (point,) = solvers.sweep(scores, (1.0,), NETWORK)
    assert (point.accuracy, point.mean_macs, point.shares) == (0.75, 40.0, (1.0,))
    assert solvers.choose([point]) is point


def made(macs: int, accuracy: float, *shares: float) -> Point:
    return Point(0.5, accuracy, float(macs), shares, (None,) * len(shares), 0.9)


def test_choose_takes_the_cheapest_that_is_good_and_uses_every_exit() -> None:
    idle = made(10, 0.90, 0.97, 0.03)
    busy = made(20, 0.895, 0.80, 0.20)
    dear = made(30, 0.91, 0.50, 0.50)
    poor = made(5, 0.894, 0.90, 0.10)
    assert solvers.choose([dear, poor, busy, idle]) is busy
    assert solvers.choose([dear, poor, busy, idle], least_share=0.0) is idle
    assert solvers.choose([poor, idle]) is idle  # none with the share rule: within the drop
    assert solvers.choose([poor, made(50, 0.5, 1.0, 0.0)]) is poor  # none within: most accurate
    assert solvers.choose([dear, poor], drop=0.006) is poor


def test_choose_breaks_ties_by_accuracy_then_by_threshold() -> None:
    better = made(20, 0.91, 0.5, 0.5)
    assert solvers.choose([made(20, 0.9, 0.5, 0.5), better, made(20, 0.9, 0.5, 0.5)]) is better
    low, high = (Point(t, 0.9, 20.0, (0.5, 0.5), (0.9, 0.9), 0.9) for t in (0.2, 0.3))
    assert solvers.choose([low, high]) is solvers.choose([high, low]) is high


def test_what_cannot_be_solved_is_refused() -> None:
    other = Policy("d" * 64, HAND.exits, (0.5, 0.5), (1.0,) * 3)
    with pytest.raises(BundleError, match="belongs to network"):
        solvers.operating_point(HAND, other)
    with pytest.raises(DataError, match="these are of network"):
        solvers.sweep(HAND, (1.0,) * 3, "d" * 64)
    with pytest.raises(ConfigError, match="no operating points"):
        solvers.choose([])
    empty = Scores("tune", NETWORK, (1,), np.ones(1), np.zeros((1, 0, 2), np.float32),
                   np.zeros(0, np.int64), np.zeros(0, np.int64))  # fmt: skip
    with pytest.raises(DataError, match="no images"):
        solvers.sweep(empty, (1.0,), NETWORK)
    HAND.logits[0, 0, 0], kept = np.nan, HAND.logits[0, 0, 0]
    with pytest.raises(DataError, match="not finite"):
        solvers.operating_point(HAND, policy(HAND, 0.5, 0.5))
    HAND.logits[0, 0, 0] = kept
