"""Queues and rules, with the time handed in: no engine, no thread, no clock."""

import gc
import weakref

import numpy as np
import pytest

from exitkit.engine.costs import Costs
from exitkit.errors import ConfigError
from exitkit.serve.scheduling import rules
from exitkit.serve.scheduling.queues import NEVER, Part, Queues
from exitkit.serve.scheduling.stages import Stages

FLAT = Stages([[1.0] * 4] * 3)
GROWING = Stages([[1.0, 2.0, 3.0, 4.0]] * 3)


class Held:
    """Features, which a test watches being let go."""


def part(request: object, rows: int = 1, arrived: float = 0.0, deadline: float = NEVER) -> Part:
    return Part(request, np.arange(rows), np.arange(rows), arrived, deadline)


def make(stages: Stages = FLAT, patience: float = 100.0, rule=rules.full_first) -> Queues:
    return Queues(stages, rule, patience)


def taken(queues: Queues, now: float = 0.0) -> tuple[int, list[object]]:
    batch = queues.next(now)
    assert batch is not None
    return batch.stage, [(one.request, *one.samples.tolist()) for one in batch.parts]


def test_the_oldest_request_goes_first_at_its_stage() -> None:
    queues = make()
    queues.push(1, part("young", arrived=5.0), 6.0)
    queues.push(1, part("old", arrived=1.0), 7.0)
    assert taken(queues, 8.0) == (1, [("old", 0), ("young", 0)])
    assert queues.next(8.0) is None


def test_a_part_that_does_not_fit_is_cut_and_its_rest_stays_in_front() -> None:
    queues = make()
    queues.push(0, part("a", 3), 0.0)
    queues.push(0, part("b", 3), 0.0)
    assert queues.rows == [6, 0, 0]
    assert taken(queues) == (0, [("a", 0, 1, 2), ("b", 0)])
    queues.push(0, part("c"), 0.0)
    assert taken(queues) == (0, [("b", 1, 2), ("c", 0)])
    assert queues.waiting == 0


def test_a_dropped_request_is_gone_from_all_stages() -> None:
    queues = make()
    for stage in (0, 1, 2):
        queues.push(stage, part("gone", 2), 0.0)
        queues.push(stage, part(f"kept {stage}"), 0.0)
    assert queues.drop("gone") == 6
    assert queues.rows == [1, 1, 1]
    assert queues.drop("gone") == 0
    assert [one.request for one in queues.clear()] == ["kept 0", "kept 1", "kept 2"]
    assert queues.waiting == 0


def test_time_is_up_later_where_nothing_has_answered_yet() -> None:
    queues = make()
    queues.push(0, part("first", deadline=5.0), 0.0)
    queues.push(1, part("second", deadline=5.0), 0.0)
    queues.push(2, part("patient"), 0.0)
    assert queues.expire(4.0) == []  # one row of stage 1 takes a second: just in time
    assert [(k, one.request) for k, one in queues.expire(4.1)] == [(1, "second")]
    assert queues.expire(5.0) == []
    assert [(k, one.request) for k, one in queues.expire(5.1)] == [(0, "first")]
    assert queues.rows == [0, 0, 1]


def test_the_rest_of_a_cut_part_expires_too() -> None:
    queues = make()
    queues.push(0, part("a", 6, deadline=5.0), 0.0)
    queues.next(0.0)
    ((_, rest),) = queues.expire(6.0)
    assert rest.samples.tolist() == [4, 5]


def test_a_part_that_has_left_does_not_keep_its_features_until_its_deadline() -> None:
    queues, held = make(), Held()
    watched = weakref.ref(held)
    one = part("a", deadline=1e9)
    one.block = held
    queues.push(0, one, 0.0)
    del one, held
    queues.next(0.0)
    gc.collect()
    assert watched() is None


def test_a_full_batch_goes_before_what_is_deeper_and_the_deepest_full_one_first() -> None:
    queues = make()
    queues.push(2, part("deep", 2), 0.0)
    queues.push(0, part("fresh", 3), 0.0)
    assert taken(queues)[0] == 2  # nothing is full: straight through
    queues.push(2, part("deep", 2), 0.0)
    queues.push(0, part("more"), 0.0)
    assert taken(queues)[0] == 0
    queues.push(1, part("middle", 4), 0.0)
    queues.push(0, part("fresh", 4), 0.0)
    assert [taken(queues)[0] for _ in range(3)] == [1, 0, 2]


def test_where_time_grows_with_the_rows_every_batch_is_full() -> None:
    queues = make(GROWING)
    queues.push(0, part("fresh", 4), 0.0)
    queues.push(2, part("deep"), 0.0)
    assert [taken(queues)[0] for _ in range(2)] == [2, 0]


def test_what_waits_too_long_is_not_kept_waiting_by_full_batches() -> None:
    queues = make(patience=10.0)
    queues.push(1, part("rare"), 0.0)
    queues.push(0, part("fresh", 12), 0.0)
    assert taken(queues, 9.0)[0] == 0
    assert taken(queues, 10.0)[0] == 0
    assert taken(queues, 10.5) == (1, [("rare", 0)])


def test_simple_rules_look_at_depth_alone() -> None:
    for rule, order in ((rules.deepest, [2, 1, 0]), (rules.shallowest, [0, 1, 2])):
        queues = make(rule=rule, patience=0.0)
        for stage in (1, 0, 2):
            queues.push(stage, part(stage, stage + 1), 0.0)
        assert [taken(queues, 50.0)[0] for _ in range(3)] == order


def test_a_batch_is_no_larger_than_the_deadline_in_front_allows() -> None:
    queues = make(GROWING)
    queues.push(0, part("hasty", deadline=2.5), 0.0)
    queues.push(0, part("others", 2, deadline=50.0), 0.0)
    assert taken(queues) == (0, [("hasty", 0), ("others", 0)])
    flat = make()  # but a full batch does not shrink to one that wastes the machine
    half = Stages([[1.0, 1.1, 1.2, 1.3]] * 3)
    flat = make(half)
    flat.push(0, part("hasty", deadline=1.05), 0.0)
    flat.push(0, part("others", 3), 0.0)
    assert len(taken(flat)[1][1]) == 4


def test_a_first_answer_that_would_be_late_goes_before_deeper_rows() -> None:
    queues = make()
    queues.push(2, part("deep"), 0.0)
    queues.push(0, part("hasty", deadline=1.5), 0.0)
    assert [taken(queues)[0] for _ in range(2)] == [0, 2]
    queues.push(2, part("deep"), 0.0)
    queues.push(0, part("calm", deadline=2.5), 0.0)
    assert [taken(queues)[0] for _ in range(2)] == [2, 0]


def test_a_disturbed_measurement_makes_no_batch_dearer_than_a_larger_one() -> None:
    costs = Costs(
        "n" * 64, (1,), "private", 1, (1, 2, 4), ((9.0, 2.0, 3.0),), (9.0, 2.0, 3.0), 3, "f", {}
    )
    stages = Stages.of(costs, 4, besides_ms=0.0)
    assert [stages.seconds(0, b) * 1e3 for b in (1, 2, 3, 4)] == pytest.approx([2, 2, 2.5, 3])


def test_times_of_stages_come_from_a_measured_table() -> None:
    costs = Costs(
        "n" * 64, (1, 3), "private", 1, (1, 3), ((1.0, 2.0), (5.0, 5.0)), (6.0, 7.0), 3, "f", {}
    )
    stages = Stages.of(costs, 6, besides_ms=0.0)
    assert (stages.count, stages.batch) == (2, 6)
    assert [stages.seconds(0, b) * 1e3 for b in (1, 2, 3, 6)] == pytest.approx([1, 1.5, 2, 4])
    assert [stages.use(0, b) for b in (1, 3, 6)] == pytest.approx([2 / 3, 1, 1])
    assert stages.whole(3) == pytest.approx(7e-3)
    assert [stages.within(0, s) for s in (0.0009, 0.0015, 9.0)] == [0, 2, 6]
    with_deciding = Stages.of(costs, 6, besides_ms=1.0)
    assert with_deciding.seconds(0, 1) == pytest.approx(2e-3)
    with pytest.raises(ConfigError, match="measure them again"):
        Stages([[1.0], [0.0]])
