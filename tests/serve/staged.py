"""An engine of three stages that waits for a word and notes what it runs."""

import threading
from concurrent.futures import Future
from typing import Any

import numpy as np

from exitkit.engine.engine import Answers, Engine
from exitkit.policy.policy import Policy
from exitkit.serve.scheduling.requests import Result
from exitkit.serve.scheduling.scheduler import Scheduler
from exitkit.serve.scheduling.stages import Stages

EXITS = (1, 2, 4)
CLASSES = 11
# The last class has a logit far below all others, which names the image.
FAR = 1000.0
POLICY = Policy("ab" * 32, EXITS, (0.5, 0.5), (1.0, 1.0, 1.0))


class Log:
    """What the stages share: the word, what they ran, and what breaks them."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.started = threading.Semaphore(0)
        self.batches: list[tuple[int, list[int]]] = []
        self.poison: tuple[int, int] | None = None  # stage and image

    def at(self, stage: int) -> list[list[int]]:
        """Return the batches of one stage."""
        return [names for k, names in self.batches if k == stage]


class Stage:
    """Sure of an image of kind k at stage k and behind it; its answer is the name modulo ten."""

    pool, threads, classes, input_shape = "none", 1, CLASSES, (3, 2, 2)

    def __init__(self, stage: int, log: Log) -> None:
        self.stage, self.exit, self.log = stage, EXITS[stage], log

    def run(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        assert hidden.shape[1:] == self.input_shape, "shape"
        self.log.started.release()
        assert self.log.open.wait(20)
        assert (hidden[:, 2, 0, 0] == self.stage).all()  # every stage in its turn
        names, kinds = hidden[:, 0, 0, 0].astype(int), hidden[:, 1, 0, 0]
        self.log.batches.append((self.stage, names.tolist()))
        if self.log.poison is not None and self.log.poison[0] == self.stage:
            assert self.log.poison[1] not in names, "poison"
        logits = np.zeros((len(names), CLASSES), dtype=np.float32)
        logits[np.arange(len(names)), names % 10] = np.where(kinds <= self.stage, 50.0, 0.5)
        logits[:, -1] = -FAR - names
        logits[kinds < 0] = np.nan
        onward = hidden.copy()
        onward[:, 2] += 1
        return logits, onward if self.exit != EXITS[-1] else None


def engine(log: Log) -> Engine:
    """Return the three stages with their policy."""
    return Engine([Stage(k, log) for k in range(3)], POLICY)


def flat(batch: int = 4, seconds: float = 1e-3) -> Stages:
    """Return times like a GPU's: a batch costs what one row costs."""
    return Stages([[seconds] * batch] * 3)


def images(*names: int, kind: int = 0, side: int = 2) -> np.ndarray:
    """Return images of these names that leave at stage `kind`; below 0 none of them is a number."""
    made = np.zeros((len(names), 3, side, side), dtype=np.float32)
    made[:, 0, 0, 0], made[:, 1, 0, 0] = names, kind
    return made


def named(answers: Answers) -> list[int]:
    """Return the names of the images that these are answers to."""
    names = (-FAR - answers.logits[:, -1]).astype(int)
    assert (answers.label == names % 10).all()
    return names.tolist()


def send(scheduler: Scheduler, *names: int, kind: int = 0, **settings: Any) -> "Future[Result]":
    """Submit images of these names and kind."""
    return scheduler.submit(images(*names, kind=kind), **settings)


def occupy(scheduler: Scheduler, log: Log) -> "Future[Result]":
    """Have the engine run image 0, so that what follows waits."""
    future = send(scheduler, 0)
    assert log.started.acquire(timeout=10)
    return future
