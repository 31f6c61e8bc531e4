"""The verdict on findings whose numbers are set by hand."""

import dataclasses

import pytest

from exitkit.policy.solvers import Point
from exitkit.report import collect, frontier
from exitkit.report.collect import Evidence, Findings, Rival
from exitkit.report.latency import Timing


def timing(ms: float) -> Timing:
    return Timing(ms, ms, ms, 100, 5)


@pytest.fixture
def findings(evidence: Evidence) -> Findings:
    """90 % at 40 M and 4 ms; the whole network 90 % at 80 M and 8 ms; a cut: 85 % at 3 ms."""
    found = collect.findings(dataclasses.replace(evidence, swept={}))
    chosen = Point(0.8, 0.91, 40e6, (0.6, 0.4), (0.95, 0.8), 0.91)
    return dataclasses.replace(
        found,
        evidence=dataclasses.replace(found.evidence, swept={0.8: timing(4.0)}),
        chosen=chosen,
        reached=dataclasses.replace(chosen, accuracy=0.9),
        rivals=(Rival(2, 0.85, 30e6, timing(3.0)), Rival(4, 0.9, 80e6, timing(8.0))),
    )


def with_rivals(findings: Findings, *rivals: Rival) -> Findings:
    return dataclasses.replace(findings, rivals=rivals)


def test_half_the_time_at_the_same_accuracy_pays(findings: Findings) -> None:
    told = frontier.verdict(findings)
    assert told.pays
    assert told.headline == ("Early exit pays here: 50% less time per image, at the same accuracy.")
    assert any("4.00 ms on average, 8.00 ms" in reason for reason in told.reasons)
    assert any("(measured on 100 test images" in reason for reason in told.reasons)


def test_without_times_multiply_adds_decide_and_the_words_say_so(findings: Findings) -> None:
    bare = dataclasses.replace(findings, evidence=dataclasses.replace(findings.evidence, swept={}))
    told = frontier.verdict(bare)
    assert told.headline == (
        "Early exit pays here: 50% fewer multiply-adds per image, at the same accuracy."
    )


def test_a_cut_that_is_as_good_and_as_cheap_wins(findings: Findings) -> None:
    told = frontier.verdict(
        with_rivals(findings, Rival(2, 0.9, 30e6, timing(4.0)), findings.rivals[1])
    )
    assert not told.pays
    assert "the network cut at exit 2" in told.headline


def test_a_small_saving_does_not_pay(findings: Findings) -> None:
    told = frontier.verdict(with_rivals(findings, Rival(4, 0.9, 80e6, timing(4.2))))
    assert told.headline == (
        "Early exit does not pay here: it saves only 5% of the time per image."
    )


def test_more_time_than_without_exits_does_not_pay(findings: Findings) -> None:
    told = frontier.verdict(with_rivals(findings, Rival(4, 0.91, 80e6, timing(3.2))))
    assert not told.pays
    # 4.0 ms is 25 % more than 3.2 ms.
    whole = with_rivals(findings, Rival(4, 0.89, 80e6, timing(3.2)))
    assert "25% more time per image" in frontier.verdict(whole).headline


def test_a_large_loss_does_not_pay(findings: Findings) -> None:
    told = frontier.verdict(with_rivals(findings, Rival(4, 0.92, 80e6, timing(8.0))))
    assert told.headline == "Early exit does not pay here: it loses 2.00 points of accuracy."


def test_one_exit_has_nothing_to_leave_early_at(findings: Findings) -> None:
    alone = Point(0.0, 0.9, 80e6, (1.0,), (0.9,), 0.9)
    told = frontier.verdict(dataclasses.replace(findings, reached=alone))
    assert told.headline == "This bundle has one exit: no image can leave early."
