"""The scheduler alone, with an engine that waits for a word before it answers."""

from concurrent.futures import CancelledError, wait

import numpy as np
import pytest
from staged import Log, engine, flat, images, named, occupy, send

from exitkit.errors import ConfigError, EngineError, Overloaded
from exitkit.serve.scheduling.scheduler import Scheduler


def test_waiting_requests_share_a_batch_and_keep_their_own_rows_and_options(
    scheduler: Scheduler, log: Log
) -> None:
    first = occupy(scheduler, log)
    a = send(scheduler, 1, 2, kind=2, max_exit=2)
    b = send(scheduler, 3, kind=2, thresholds=[[0.0, 1.0]])
    c = send(scheduler, 4, kind=2)
    log.open.set()
    assert named(first.result(10).answers) == [0]
    assert named(a.result(10).answers) == [1, 2]
    assert a.result(10).answers.exit.tolist() == [2, 2]
    assert named(b.result(10).answers) == [3]
    assert b.result(10).answers.exit.tolist() == [1]
    assert c.result(10).answers.exit.tolist() == [4]
    assert log.batches == [(0, [0]), (0, [1, 2, 3, 4]), (1, [1, 2, 4]), (2, [4])]


def test_every_image_of_a_request_may_have_options_of_its_own(
    scheduler: Scheduler, log: Log
) -> None:
    log.open.set()
    found = send(
        scheduler, 1, 2, 3, kind=2, thresholds=[[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    ).result(10)
    assert found.answers.exit.tolist() == [1, 2, 4]
    found = send(scheduler, 1, 2, 3, kind=2, max_exit=np.array([4, 1, 2])).result(10)
    assert found.answers.exit.tolist() == [4, 1, 2]


def test_survivors_of_several_requests_share_the_batches_of_the_next_stage(log: Log) -> None:
    scheduler = Scheduler(engine(log), flat(), queue=20)
    mixed = [
        np.concatenate([images(10 * k, 10 * k + 1), images(10 * k + 2, 10 * k + 3, kind=2)])
        for k in (1, 2)
    ]
    futures = [scheduler.submit(one) for one in mixed]
    log.open.set()
    scheduler.start()
    assert [named(f.result(10).answers) for f in futures] == [[10, 11, 12, 13], [20, 21, 22, 23]]
    assert log.batches == [
        (0, [10, 11, 12, 13]),
        (0, [20, 21, 22, 23]),
        (1, [12, 13, 22, 23]),
        (2, [12, 13, 22, 23]),
    ]
    assert scheduler.close(10)


def test_what_is_finished_is_answered_before_its_neighbours_are(log: Log) -> None:
    scheduler = Scheduler(engine(log), flat(), queue=20)
    log.poison = (1, 2)  # found out when stage 1 runs, so after stage 0 was answered
    quick, slow = send(scheduler, 1), send(scheduler, 2, kind=2)
    order: list[str] = []
    quick.add_done_callback(lambda _: order.append("quick"))
    slow.add_done_callback(lambda _: order.append("slow"))
    log.open.set()
    scheduler.start()
    assert named(quick.result(10).answers) == [1]
    with pytest.raises(EngineError, match="poison"):
        slow.result(10)
    assert order == ["quick", "slow"]
    assert scheduler.close(10)


def test_a_request_larger_than_the_batch_is_cut_and_joined(scheduler: Scheduler, log: Log) -> None:
    occupy(scheduler, log)
    large, small = send(scheduler, 1, 2, 3, 4, 5), send(scheduler, 6)
    log.open.set()
    assert named(large.result(10).answers) == [1, 2, 3, 4, 5]
    assert named(small.result(10).answers) == [6]
    assert log.at(0) == [[0], [1, 2, 3, 4], [5, 6]]
    assert large.result(10).queue_s > 0
    assert large.result(10).compute_s > 0


def test_no_images_are_no_work(scheduler: Scheduler) -> None:
    assert scheduler.submit(images()).result(10).answers.logits.shape == (0, 11)


def test_what_does_not_fit_is_refused_at_once(scheduler: Scheduler) -> None:
    with pytest.raises(ConfigError, match="max_exit 3"):
        send(scheduler, 1, max_exit=3)
    assert scheduler.waiting == 0


def test_images_of_another_shape_fail_alone(scheduler: Scheduler, log: Log) -> None:
    occupy(scheduler, log)
    good, odd = send(scheduler, 1), scheduler.submit(images(2, side=3))
    log.open.set()
    assert named(good.result(10).answers) == [1]
    with pytest.raises(EngineError, match="shape"):
        odd.result(10)


def test_a_full_queue_refuses_and_says_how_long_to_wait(scheduler: Scheduler, log: Log) -> None:
    occupy(scheduler, log)
    kept = send(scheduler, 1, 2, 3, 4)
    assert scheduler.waiting == 4
    assert scheduler.queued == {1: 4, 2: 0, 4: 0}
    with pytest.raises(Overloaded, match=r"3 images: 4 wait already, the queue holds 6") as caught:
        send(scheduler, 5, 6, 7)
    assert caught.value.retry_after_s == 1.0  # nothing was measured yet
    fits = send(scheduler, 5, 6)
    log.open.set()
    assert named(kept.result(10).answers) == [1, 2, 3, 4]
    assert named(fits.result(10).answers) == [5, 6]
    assert scheduler.waiting == 0
    assert scheduler.rate > 0


def test_the_advised_wait_is_what_waits_over_the_measured_rate(
    scheduler: Scheduler, log: Log
) -> None:
    log.open.set()
    send(scheduler, 1).result(10)
    log.open.clear()
    while log.started.acquire(blocking=False):
        pass
    occupy(scheduler, log)
    send(scheduler, 1, 2, 3, 4, 5, 6)
    rate = scheduler.rate
    with pytest.raises(Overloaded) as caught:
        send(scheduler, 7)
    assert caught.value.retry_after_s == pytest.approx(6 / rate)


def test_a_cancelled_request_leaves_the_queue_at_once_and_is_not_run(
    scheduler: Scheduler, log: Log
) -> None:
    occupy(scheduler, log)
    given_up, kept = send(scheduler, 1, 2), send(scheduler, 3)
    assert given_up.cancel()
    assert scheduler.waiting == 1
    log.open.set()
    assert named(kept.result(10).answers) == [3]
    assert log.batches == [(0, [0]), (0, [3])]
    assert wait([given_up], timeout=10).done == {given_up}


def test_a_request_cancelled_while_it_runs_goes_no_further(scheduler: Scheduler, log: Log) -> None:
    running = send(scheduler, 1, kind=2)
    assert log.started.acquire(timeout=10)
    assert running.cancel()
    other = send(scheduler, 2)
    log.open.set()
    assert named(other.result(10).answers) == [2]
    assert log.batches == [(0, [1]), (0, [2])]
    with pytest.raises(CancelledError):
        running.result(0)


@pytest.mark.parametrize("neighbours", [0, 5])
def test_a_request_may_be_cancelled_by_what_observes_it(log: Log, neighbours: int) -> None:
    scheduler = Scheduler(engine(log), flat(), queue=20)
    futures = [send(scheduler, 1, kind=2, observe=lambda seen: futures[0].cancel())]
    futures += [send(scheduler, 2 + k) for k in range(neighbours)]
    log.open.set()
    scheduler.start()
    assert scheduler.close(10)
    assert futures[0].cancelled()
    assert [named(f.result(0).answers) for f in futures[1:]] == [[2 + k] for k in range(neighbours)]
    assert log.at(1) == []


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_request_that_breaks_a_stage_fails_alone(
    scheduler: Scheduler, log: Log, caplog: pytest.LogCaptureFixture, stage: int
) -> None:
    log.poison = (stage, 2)
    occupy(scheduler, log)
    good, bad, fine = (send(scheduler, name, kind=2) for name in (1, 2, 3))
    log.open.set()
    assert named(good.result(10).answers) == [1]
    assert named(fine.result(10).answers) == [3]
    with pytest.raises(EngineError, match="poison"):
        bad.result(10)
    assert named(send(scheduler, 4).result(10).answers) == [4]
    assert "AssertionError: poison" in caplog.text


def test_a_cut_request_that_fails_in_its_first_part_leaves_the_queue(
    scheduler: Scheduler, log: Log
) -> None:
    log.poison = (0, 1)
    occupy(scheduler, log)
    bad, good = send(scheduler, 1, 2, 3, 4, 5), send(scheduler, 6)
    log.open.set()
    with pytest.raises(EngineError):
        bad.result(10)
    assert named(good.result(10).answers) == [6]
    assert scheduler.waiting == 0


def test_an_answer_that_is_not_finite_fails_its_own_request(scheduler: Scheduler, log: Log) -> None:
    occupy(scheduler, log)
    good, bad = send(scheduler, 1), send(scheduler, 2, kind=-1)
    log.open.set()
    assert named(good.result(10).answers) == [1]
    with pytest.raises(EngineError, match="not finite"):
        bad.result(10)


def test_an_observer_is_told_every_exits_answer(scheduler: Scheduler, log: Log) -> None:
    seen = []
    log.open.set()
    both = np.concatenate([images(7, kind=1), images(8, kind=2)])
    result = scheduler.submit(both, observe=seen.append).result(10)
    assert [(one.exit, one.images.tolist(), one.final.tolist()) for one in seen] == [
        (1, [0, 1], [False, False]),
        (2, [0, 1], [True, False]),
        (4, [1], [True]),
    ]
    assert seen[1].probability[0] == result.answers.probability[0] > 0.9
    assert seen[0].probability[0] < 0.5
    assert 0 < seen[0].seconds < seen[2].seconds


def test_an_observer_that_fails_takes_only_its_own_request_along(
    scheduler: Scheduler, log: Log
) -> None:
    def observe(seen: object) -> None:
        raise ValueError("eye")

    occupy(scheduler, log)
    bad, good = send(scheduler, 1, kind=2, observe=observe), send(scheduler, 2, kind=2)
    log.open.set()
    assert named(good.result(10).answers) == [2]
    with pytest.raises(EngineError, match="eye"):
        bad.result(10)
    assert log.at(1) == [[2]]


def test_a_server_whose_counting_fails_still_answers(log: Log) -> None:
    def count(exit_: int, n: int, seconds: float) -> None:
        raise ValueError("counter")

    scheduler = Scheduler(engine(log), flat(), queue=6, on_batch=count)
    log.open.set()
    scheduler.start()
    for _ in range(2):
        with pytest.raises(EngineError, match="counter"):
            send(scheduler, 1).result(10)
    assert scheduler.close(10)
