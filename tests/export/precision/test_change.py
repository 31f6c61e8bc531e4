import json
import math

import numpy as np
import pytest

from exitkit.errors import BundleError, DataError, ParityError
from exitkit.export.limits import LIMITS
from exitkit.export.precision import change
from exitkit.policy.policy import Policy
from exitkit.scores import Scores

INT8 = LIMITS["int8"]
BEFORE, AFTER = Policy("a", (2, 4), (0.9,), (1.0, 1.0)), Policy("b", (2, 4), (0.7,), (1.0, 2.0))


def scores(network: str, first: str, second: str, exits: tuple[int, ...] = (2, 4)) -> Scores:
    """Two classes, class 0 is right; each letter is an image.

    R is right and W wrong; so are ? and !, unsure.
    """
    value = {"R": (4.0, 0.0), "W": (0.0, 4.0), "?": (1.0, 0.0), "!": (0.0, 1.0)}
    logits = np.array([[value[one] for one in row] for row in (first, second)], np.float32)
    n = len(first)
    return Scores(
        "tune", network, exits, np.array([10.0, 30.0]), logits, np.zeros(n, np.int64), np.arange(n)
    )


def test_accuracy_and_shares_of_both_sides() -> None:
    # Confidences: R and W 0.982, ? 0.731. Before, ? goes on (0.9); after, it leaves (0.7).
    found = change.compare(
        scores("a", "RR?W", "RWRR"), BEFORE, scores("b", "RR?W", "RRWR"), AFTER, INT8
    )
    assert (found.precision, found.split, found.images) == ("int8", "tune", 4)
    assert (found.before.accuracy, found.after.accuracy) == (0.75, 0.75)
    assert (found.before.shares, found.after.shares) == ((0.75, 0.25), (1.0, 0.0))
    assert (found.before.mean_macs, found.after.mean_macs) == (15.0, 10.0)
    assert (found.before.threshold, found.after.threshold) == (0.9, 0.7)
    assert found.temperatures_after == (1.0, 2.0)
    first, second = found.exits
    assert (first.exit, first.before, first.after, first.gained, first.lost) == (
        2,
        0.75,
        0.75,
        0,
        0,
    )
    assert first.limit == 0.005
    # Image 1 was gained, image 2 lost: 0.5 points and two times sqrt(2) / 4.
    assert (second.gained, second.lost) == (1, 1)
    assert second.limit == pytest.approx(0.005 + 2 * math.sqrt(2) / 4)
    assert (found.policy.exit, found.policy.gained, found.policy.lost) == (None, 0, 0)
    assert found.failures == ()
    assert [row["answer"] for row in found.rows()] == ["exit 2", "exit 4", "policy"]
    table = json.loads(json.dumps(found.to_json()))
    assert table["passed"] is True
    assert table["after"]["shares"] == [1.0, 0.0]


def test_an_exit_that_loses_more_than_chance_explains_fails() -> None:
    n = 1000
    before = scores("a", "R" * n, "R" * n)
    # Of 1,000 images k are lost and none gained: k / 1000 against 0.005 + 2 sqrt(k) / 1000.
    for lost, fails in ((11, False), (12, True)):  # limits 0.01163 and 0.01193
        after = scores("b", "R" * n, "W" * lost + "R" * (n - lost))
        found = change.compare(before, BEFORE, after, AFTER, INT8)
        assert bool(found.failures) is fails
    assert found.failures == ("exit 4: 1.20 points of accuracy are lost (limit 1.19)",)
    assert found.to_json()["passed"] is False
    with pytest.raises(ParityError, match="int8 as accurate as float32 on 1000 images of the tune"):
        found.require()


def test_a_policy_that_loses_more_than_chance_explains_fails() -> None:
    n = 1000
    for lost, fails in ((11, False), (12, True)):
        # Unsure and wrong at exit 2: before these go on to exit 4 (0.9), after they stay (0.7).
        first = "!" * lost + "R" * (n - lost)
        before, after = scores("a", first, "R" * n), scores("b", first, "R" * n)
        found = change.compare(before, BEFORE, after, AFTER, INT8)
        assert (found.policy.before, found.policy.after) == (1.0, 1 - lost / n)
        assert (found.policy.gained, found.policy.lost) == (0, lost)
        assert bool(found.failures) is fails
    assert found.failures == ("the policy: 1.20 points of accuracy are lost (limit 1.19)",)
    assert all(row.before == row.after for row in found.exits)


def test_it_says_when_the_images_are_too_few_to_tell() -> None:
    def notes(images: int, lost: int) -> tuple[str, ...]:
        after = scores("b", "R" * images, "W" * lost + "R" * (images - lost))
        before = scores("a", "R" * images, "R" * images)
        return change.compare(before, BEFORE, after, AFTER, INT8).notes(INT8)

    # Two standard errors: 2 / 32 is 6.25 points, 2 x 2 / 1000 is 0.4 points.
    assert notes(32, 1) == (
        "32 images of the tune split cannot tell 0.5 points of accuracy from chance: int8 was "
        "allowed to lose 6.8 at exit 4; hold more images out (--set tune_share)",
    )
    assert notes(1000, 4) == notes(32, 0) == ()


def test_exits_that_are_not_kept_are_left_out() -> None:
    trained = scores("a", "RR", "RW", exits=(1, 4))
    one = scores("b", "WW", "RR")
    only = Scores("tune", "b", (4,), np.array([30.0]), one.logits[1:], one.labels, one.index)
    policies = Policy("a", (4,), (), (1.0,)), Policy("b", (4,), (), (1.0,))
    found = change.compare(trained, policies[0], only, policies[1], INT8)
    assert [(row.exit, row.before, row.after) for row in found.exits] == [(4, 0.5, 1.0)]
    assert found.before.mean_macs == 30.0


def test_scores_of_other_images_and_policies_of_other_networks_are_refused() -> None:
    trained, other = scores("a", "RR", "RR"), scores("b", "RRR", "RRR")
    with pytest.raises(DataError, match=r"scores of other images \(tune: 2, tune: 3\)"):
        change.compare(trained, BEFORE, other, AFTER, INT8)
    with pytest.raises(BundleError, match="belongs to network a"):
        change.compare(trained, BEFORE, scores("b", "RR", "RR"), BEFORE, INT8)
