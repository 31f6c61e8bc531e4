"""A scheduler that stops, and one that many clients use and leave."""

import contextlib
import threading
import time

import numpy as np
import pytest
from staged import EXITS, Log, engine, flat, images, named, occupy, send

from exitkit.errors import Overloaded
from exitkit.serve.scheduling.requests import Closing
from exitkit.serve.scheduling.scheduler import Scheduler


def send_until_refused(scheduler: Scheduler) -> None:
    while True:
        with contextlib.suppress(Overloaded):
            send(scheduler, 2).cancel()
        time.sleep(0.001)


def test_closing_finishes_what_waits_and_takes_nothing_new(scheduler: Scheduler, log: Log) -> None:
    first, second = occupy(scheduler, log), send(scheduler, 1, kind=2)
    closed: list[bool] = []
    closer = threading.Thread(target=lambda: closed.append(scheduler.close(10)))
    closer.start()
    with pytest.raises(Closing, match="the server is stopping") as caught:
        send_until_refused(scheduler)
    assert caught.value.status == 503
    log.open.set()
    closer.join()
    assert closed == [True]
    assert named(first.result(0).answers) == [0]
    assert named(second.result(0).answers) == [1]


def test_closing_gives_up_after_its_time(scheduler: Scheduler, log: Log) -> None:
    running, waiting = occupy(scheduler, log), send(scheduler, 1)
    threading.Timer(0.3, log.open.set).start()
    assert not scheduler.close(0.05)
    with pytest.raises(Closing):
        waiting.result(0)
    assert named(running.result(0).answers) == [0]
    assert log.batches == [(0, [0])]


def test_what_the_last_run_does_not_finish_is_given_up(scheduler: Scheduler, log: Log) -> None:
    running = send(scheduler, 1, kind=2)
    assert log.started.acquire(timeout=10)
    threading.Timer(0.3, log.open.set).start()
    assert not scheduler.close(0.05)
    with pytest.raises(Closing):
        running.result(10)
    assert log.batches == [(0, [1])]


def test_every_request_gets_its_own_answers_while_others_are_cancelled(log: Log) -> None:
    log.open.set()
    scheduler = Scheduler(engine(log), flat(), queue=10_000)
    scheduler.start()
    wrong: list[str] = []

    def client(number: int) -> None:
        random = np.random.default_rng(number)
        for k in range(40):
            names = [1000 * number + 10 * k + i for i in range(random.integers(1, 7))]
            kinds = random.integers(0, 3, len(names))
            asked = images(*names)
            asked[:, 1, 0, 0] = kinds
            future = scheduler.submit(asked)
            if random.random() < 0.2 and future.cancel():
                continue
            answers = future.result(20).answers
            if named(answers) != names or answers.exit.tolist() != [EXITS[c] for c in kinds]:
                wrong.append(f"{names} of kinds {kinds}: {named(answers)} at {answers.exit}")

    clients = [threading.Thread(target=client, args=(number,)) for number in range(6)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert scheduler.close(10)
    assert wrong == []
    assert scheduler.waiting == 0
    assert max(len(batch) for _, batch in log.batches) <= 4
