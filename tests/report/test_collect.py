import dataclasses

import numpy as np
import pytest

from exitkit.errors import BundleError
from exitkit.policy import criteria
from exitkit.report import collect
from exitkit.report.collect import Evidence
from exitkit.report.latency import Timing

TIMING = Timing(1.0, 1.0, 1.0, 10, 5)


def slowly(evidence: Evidence, threshold: float) -> tuple[float, float, float]:
    """Accuracy, mean MACs and share of exit 2 at a threshold, image by image."""
    test, right, macs, early = evidence.test, 0, 0.0, 0
    for row, label in enumerate(test.labels):
        shallow, deep = test.logits[1, row], test.logits[3, row]
        sure = criteria.max_probability(shallow[None], evidence.policy.temperatures[0])[0]
        leaves = sure >= np.float32(threshold)
        right += int((shallow if leaves else deep).argmax() == label)
        macs += 18e6 if leaves else 86e6
        early += int(leaves)
    count = len(test.labels)
    return right / count, macs / count, early / count


def test_kept_exits_cost_what_their_segments_cost(evidence: Evidence) -> None:
    kept = collect.kept(evidence.test, evidence.manifest)
    assert kept.exits == (2, 4)
    assert kept.macs.tolist() == [18e6, 86e6]  # 18, then 68 more


def test_the_recommendation_is_chosen_on_tune_and_reached_on_test(evidence: Evidence) -> None:
    found = collect.findings(evidence)
    tune = collect.kept(evidence.tune, evidence.manifest)
    chosen = collect.recommend(tune, evidence.policy)
    assert found.chosen == chosen
    assert chosen.threshold is not None
    accuracy, macs, early = slowly(evidence, chosen.threshold)
    assert found.reached.threshold == chosen.threshold
    assert found.reached.accuracy == pytest.approx(accuracy)
    assert found.reached.mean_macs == pytest.approx(macs)
    assert found.reached.shares[0] == pytest.approx(early)


def test_a_rival_is_one_exit_alone(evidence: Evidence) -> None:
    found = collect.findings(evidence)
    test = evidence.test
    assert [rival.exit for rival in found.rivals] == [1, 2, 3, 4]
    assert [rival.macs for rival in found.rivals] == [9e6, 18e6, 36e6, 80e6]
    third = (test.logits[2].argmax(axis=1) == test.labels).mean()
    assert found.rivals[2].accuracy == pytest.approx(float(third))
    assert found.whole.exit == 4


def test_measured_points_carry_their_own_times(evidence: Evidence) -> None:
    tune = collect.kept(evidence.tune, evidence.manifest)
    thresholds = collect.thresholds_to_measure(tune, evidence.policy)
    assert thresholds == sorted(thresholds)
    assert collect.recommend(tune, evidence.policy).threshold in thresholds
    assert 3 <= len(thresholds) <= collect.MEASURED_POINTS + 1
    swept = {t: dataclasses.replace(TIMING, mean_ms=i) for i, t in enumerate(thresholds)}
    found = collect.findings(dataclasses.replace(evidence, swept=swept))
    assert [point.threshold for point, _ in found.measured] == thresholds
    assert [timing.mean_ms for _, timing in found.measured] == list(range(len(thresholds)))
    assert found.timing == swept[found.reached.threshold]


def test_leavers_are_the_surest_first_and_the_least_sure_last(evidence: Evidence) -> None:
    found = collect.findings(evidence, pictures=5)
    sure = criteria.max_probability(evidence.test.logits[1], evidence.policy.temperatures[0])
    assert {leaver.exit for leaver in found.first} == {2}
    assert {leaver.exit for leaver in found.last} == {4}
    # Five classes in turn, each with its surest image.
    assert len({leaver.truth for leaver in found.first}) == 5
    for leaver in found.first:
        own = np.flatnonzero(evidence.test.labels == int(leaver.truth))
        assert leaver.row == own[np.argmax(sure[own])]
    assert [leaver.row for leaver in found.last] == np.argsort(sure, kind="stable")[:5].tolist()
    one = found.last[0]
    assert one.truth == str(evidence.test.labels[one.row])
    assert one.answer == str(evidence.test.logits[3, one.row].argmax())


def test_a_policy_of_another_network_is_refused(evidence: Evidence) -> None:
    other = dataclasses.replace(evidence.policy, network="b" * 64)
    with pytest.raises(BundleError, match="belongs to network"):
        collect.findings(dataclasses.replace(evidence, policy=other))
