"""Deadlines, on a clock that only the engine moves: a stage takes one second."""

from collections.abc import Callable

import numpy as np
import pytest
from staged import Log, Stage, engine, flat, images, named

from exitkit.engine.engine import Engine
from exitkit.serve.scheduling import scheduler as scheduling
from exitkit.serve.scheduling.requests import DeadlineExceeded
from exitkit.serve.scheduling.scheduler import Scheduler


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Timed(Stage):
    """A stage that takes one second of that clock."""

    clock: Clock

    def run(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        self.clock.now += 1.0
        return super().run(hidden)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(scheduling, "clock", made)
    monkeypatch.setattr(Timed, "clock", made, raising=False)
    return made


@pytest.fixture
def make(clock: Clock):
    made: list[Scheduler] = []

    def build(log: Log, batch: int = 4, queue: int = 20) -> Scheduler:
        log.open.set()
        policy = engine(log).policy
        stages = [Timed(k, log) for k in range(3)]
        made.append(Scheduler(Engine(stages, policy), flat(batch, 1.0), queue))
        return made[-1]

    yield build
    for one in made:
        one.close(10)


@pytest.mark.parametrize(
    ("deadline", "exit_"), [(101.0, 1), (101.9, 1), (102.0, 2), (102.9, 2), (103.0, 4), (900.0, 4)]
)
def test_the_deepest_exit_that_is_finished_in_time_answers(
    make: Callable[..., Scheduler], deadline: float, exit_: int
) -> None:
    log = Log()
    scheduler = make(log)
    future = scheduler.submit(images(1, 2, kind=2), deadline=deadline)
    scheduler.start()
    answers = future.result(10).answers
    assert answers.exit.tolist() == [exit_, exit_]
    assert named(answers) == [1, 2]
    assert len(log.batches) == {1: 1, 2: 2, 4: 3}[exit_]  # what would be late is not begun


def test_without_any_exit_the_deadline_is_an_error(
    make: Callable[..., Scheduler], clock: Clock
) -> None:
    log = Log()
    scheduler = make(log)
    late = scheduler.submit(images(1), deadline=100.5)
    kept = scheduler.submit(images(2))
    clock.now = 100.6
    scheduler.start()
    assert named(kept.result(10).answers) == [2]
    with pytest.raises(DeadlineExceeded, match="no exit had answered in time") as caught:
        late.result(10)
    assert caught.value.status == 504
    assert log.at(0) == [[2]]
    assert scheduler.waiting == 0


def test_images_that_no_exit_has_seen_in_time_do_not_fail_the_others(
    make: Callable[..., Scheduler],
) -> None:
    # The first four run at once, a full batch; when the fifth and sixth would run they are late.
    log = Log()
    scheduler = make(log)
    request = scheduler.submit(images(1, 2, 3, 4, 5, 6, kind=2), deadline=100.9)
    scheduler.start()
    result = request.result(10)
    assert result.answers.exit.tolist() == [1, 1, 1, 1, 0, 0]
    assert result.answers.label[:4].tolist() == [1, 2, 3, 4]
    assert result.late == {0, 1, 2, 3, 4, 5}
    with pytest.raises(DeadlineExceeded):
        result.require_all()
    assert log.batches == [(0, [1, 2, 3, 4])]


def test_only_what_the_deadline_ended_is_called_late(make: Callable[..., Scheduler]) -> None:
    log = Log()
    scheduler = make(log)
    mixed = np.concatenate([images(1, 2, kind=0), images(3, 4, kind=2)])
    request = scheduler.submit(mixed, deadline=101.5)
    scheduler.start()
    result = request.result(10)
    assert (named(result.answers), result.answers.exit.tolist()) == ([1, 2, 3, 4], [1] * 4)
    assert result.late == {2, 3}
    result.require_all()


def test_a_near_deadline_goes_before_older_requests(make: Callable[..., Scheduler]) -> None:
    log = Log()
    scheduler = make(log)
    old = scheduler.submit(images(1, 2, 3, 4))
    hasty = scheduler.submit(images(5), deadline=101.2)
    scheduler.start()
    assert named(hasty.result(10).answers) == [5]
    assert named(old.result(10).answers) == [1, 2, 3, 4]
    assert log.at(0) == [[5, 1, 2, 3], [4]]


def test_a_first_answer_that_would_be_late_goes_before_deeper_stages(
    make: Callable[..., Scheduler], clock: Clock
) -> None:
    log = Log()
    scheduler = make(log)
    deep = scheduler.submit(
        images(1, 2, 3, 4, kind=2),
        observe=lambda seen: hasty() if seen.exit == 1 else None,
    )
    futures = []

    def hasty() -> None:
        futures.append(scheduler.submit(images(5), deadline=clock.now + 1.5))

    scheduler.start()
    assert deep.result(10).answers.exit.tolist() == [4] * 4
    assert futures[0].result(10).answers.exit.tolist() == [1]
    assert [stage for stage, _ in log.batches] == [0, 0, 1, 2]
