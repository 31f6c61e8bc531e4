"""The scheduler alone, with an engine that waits for a word before it answers."""

import contextlib
import threading
import time

import numpy as np
import pytest

from exitkit.engine.engine import Answers
from exitkit.errors import EngineError, Overloaded
from exitkit.serve.scheduler import Closing, Scheduler


class Gated:
    """Answers label = first pixel, exit = max_exit; notes every batch; waits while closed."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.started = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.poison: int | None = None

    def answer(self, images, thresholds=None, max_exit=None) -> Answers:
        self.started.release()
        assert self.open.wait(20)
        labels = images[:, 0, 0, 0].astype(np.int64)
        self.batches.append(labels.tolist())
        if self.poison in labels:
            raise ValueError("poison")
        return Answers(labels, thresholds[:, 0], max_exit, images[:, :, 0, 0])


@pytest.fixture
def engine() -> Gated:
    return Gated()


@pytest.fixture
def scheduler(engine: Gated):
    made = Scheduler(engine, batch=4, queue=6)
    made.start()
    yield made
    engine.open.set()
    made.close(10)


def send(scheduler: Scheduler, *labels: int, side: int = 2, threshold: float = 0.5, exit_: int = 4):
    images = np.zeros((len(labels), 3, side, side), dtype=np.float32)
    images[:, 0, 0, 0] = labels
    thresholds = np.full((len(labels), 1), threshold, dtype=np.float32)
    return scheduler.submit(images, thresholds, np.full(len(labels), exit_, dtype=np.int64))


def occupy(scheduler: Scheduler, engine: Gated):
    """Have the engine run image 0, so that what follows waits."""
    future = send(scheduler, 0)
    assert engine.started.acquire(timeout=10)
    return future


def test_waiting_requests_share_a_batch_and_keep_their_own_rows_and_options(
    scheduler: Scheduler, engine: Gated
) -> None:
    first = occupy(scheduler, engine)
    a = send(scheduler, 1, 2, threshold=0.25, exit_=2)
    b = send(scheduler, 3, threshold=0.75)
    engine.open.set()
    assert first.result(10).answers.label.tolist() == [0]
    assert a.result(10).answers.label.tolist() == [1, 2]
    assert a.result(10).answers.exit.tolist() == [2, 2]
    assert a.result(10).answers.probability.tolist() == [0.25, 0.25]
    assert b.result(10).answers.label.tolist() == [3]
    assert b.result(10).answers.probability.tolist() == [0.75]
    assert engine.batches == [[0], [1, 2, 3]]


def test_a_request_larger_than_the_batch_is_cut_and_joined(
    scheduler: Scheduler, engine: Gated
) -> None:
    occupy(scheduler, engine)
    large = send(scheduler, 1, 2, 3, 4, 5)
    small = send(scheduler, 6)
    engine.open.set()
    assert large.result(10).answers.label.tolist() == [1, 2, 3, 4, 5]
    assert small.result(10).answers.label.tolist() == [6]
    assert engine.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert large.result(10).queue_s > 0


def test_images_of_another_shape_run_in_a_batch_of_their_own(
    scheduler: Scheduler, engine: Gated
) -> None:
    occupy(scheduler, engine)
    futures = [send(scheduler, 1), send(scheduler, 2, side=3), send(scheduler, 3, side=3)]
    engine.open.set()
    assert [f.result(10).answers.label.tolist() for f in futures] == [[1], [2], [3]]
    assert engine.batches == [[0], [1], [2, 3]]


def test_a_full_queue_refuses_and_says_how_long_to_wait(
    scheduler: Scheduler, engine: Gated
) -> None:
    occupy(scheduler, engine)
    kept = send(scheduler, 1, 2, 3, 4)
    assert scheduler.waiting == 4
    with pytest.raises(Overloaded, match=r"3 images: 4 wait already, the queue holds 6") as caught:
        send(scheduler, 5, 6, 7)
    assert caught.value.retry_after_s == 1.0  # nothing was measured yet
    fits = send(scheduler, 5, 6)
    engine.open.set()
    assert kept.result(10).answers.label.tolist() == [1, 2, 3, 4]
    assert fits.result(10).answers.label.tolist() == [5, 6]
    assert scheduler.waiting == 0
    assert scheduler.rate > 0


def test_the_advised_wait_is_what_waits_over_the_measured_rate(
    scheduler: Scheduler, engine: Gated
) -> None:
    engine.open.set()
    send(scheduler, 1).result(10)
    engine.open.clear()
    while engine.started.acquire(blocking=False):
        pass
    occupy(scheduler, engine)
    send(scheduler, 1, 2, 3, 4, 5, 6)
    rate = scheduler.rate
    with pytest.raises(Overloaded) as caught:
        send(scheduler, 7)
    assert caught.value.retry_after_s == pytest.approx(6 / rate)


def test_a_cancelled_request_is_not_run(scheduler: Scheduler, engine: Gated) -> None:
    occupy(scheduler, engine)
    given_up, kept = send(scheduler, 1, 2), send(scheduler, 3)
    assert given_up.cancel()
    engine.open.set()
    assert kept.result(10).answers.label.tolist() == [3]
    assert engine.batches == [[0], [3]]
    assert scheduler.waiting == 0


def test_a_request_that_breaks_the_engine_fails_alone(
    scheduler: Scheduler, engine: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    engine.poison = 2
    occupy(scheduler, engine)
    good, bad, fine = send(scheduler, 1), send(scheduler, 2), send(scheduler, 3)
    engine.open.set()
    assert good.result(10).answers.label.tolist() == [1]
    assert fine.result(10).answers.label.tolist() == [3]
    with pytest.raises(EngineError, match="poison"):
        bad.result(10)
    assert send(scheduler, 4).result(10).answers.label.tolist() == [4]
    assert "ValueError: poison" in caplog.text


def test_a_cut_request_that_fails_in_its_first_part_leaves_the_queue(
    scheduler: Scheduler, engine: Gated
) -> None:
    engine.poison = 1
    occupy(scheduler, engine)
    bad, good = send(scheduler, 1, 2, 3, 4, 5), send(scheduler, 6)
    engine.open.set()
    with pytest.raises(EngineError):
        bad.result(10)
    assert good.result(10).answers.label.tolist() == [6]
    assert scheduler.waiting == 0


def send_until_refused(scheduler: Scheduler) -> None:
    while True:
        with contextlib.suppress(Overloaded):  # full of cancelled requests
            send(scheduler, 2).cancel()
        time.sleep(0.001)


def test_closing_finishes_what_waits_and_takes_nothing_new(
    scheduler: Scheduler, engine: Gated
) -> None:
    first, second = occupy(scheduler, engine), send(scheduler, 1)
    closed: list[bool] = []
    closer = threading.Thread(target=lambda: closed.append(scheduler.close(10)))
    closer.start()
    with pytest.raises(Closing, match="the server is stopping") as caught:
        send_until_refused(scheduler)
    assert caught.value.status == 503
    engine.open.set()
    closer.join()
    assert closed == [True]
    assert first.result(0).answers.label.tolist() == [0]
    assert second.result(0).answers.label.tolist() == [1]


def test_closing_gives_up_after_its_time(scheduler: Scheduler, engine: Gated) -> None:
    running, waiting = occupy(scheduler, engine), send(scheduler, 1)
    threading.Timer(0.3, engine.open.set).start()
    assert not scheduler.close(0.05)
    with pytest.raises(Closing):
        waiting.result(0)
    assert running.result(0).answers.label.tolist() == [0]
    assert engine.batches == [[0]]


def test_every_request_gets_its_own_answer_under_load(engine: Gated) -> None:
    engine.open.set()
    scheduler = Scheduler(engine, batch=4, queue=10_000)
    scheduler.start()
    found: dict[int, list[int]] = {}

    def client(number: int) -> None:
        for k in range(40):
            labels = [1000 * number + 10 * k + i for i in range(1 + (number + k) % 6)]
            found[1000 * number + k] = send(scheduler, *labels).result(10).answers.label.tolist()
            assert found[1000 * number + k] == labels

    clients = [threading.Thread(target=client, args=(n,)) for n in range(6)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert scheduler.close(10)
    assert len(found) == 240
    assert all(len(batch) <= 4 for batch in engine.batches)
