"""One engine thread behind a bounded queue; no HTTP inside.

Requests wait in one line. When the engine is free, the rows at the front of the line that have
the same shape run together, up to `batch` of them; a larger request is cut. Nobody waits for a
batch to fill. The queue is bounded in images, so that load turns into an early, clear refusal.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exitkit.engine.engine import Answers
from exitkit.errors import EngineError, Overloaded, RequestError

logger = logging.getLogger(__name__)

# Weight of the newest batch in the running mean of the drain rate.
NEWEST = 0.2
# A run of the engine cannot be stopped, and leaving the process under it would crash.
LAST_RUN_S = 10.0


class Closing(RequestError):
    """The server stops and takes nothing new."""

    status = 503


class Answering(Protocol):
    """What the scheduler calls: `exitkit.engine.engine.Engine`, or anything like it."""

    def answer(
        self,
        images: NDArray[np.float32],
        thresholds: NDArray[np.float32] | None = None,
        max_exit: NDArray[np.int64] | None = None,
    ) -> Answers:
        """Answer [N,3,H,W] images, with thresholds [N,K-1] and deepest allowed exits [N]."""
        ...


@dataclass(frozen=True)
class Result:
    """Answers to one request, the seconds it waited, and the seconds the engine worked on it."""

    answers: Answers
    queue_s: float
    compute_s: float


@dataclass(eq=False)
class _Work:
    images: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    max_exit: NDArray[np.int64]
    future: "Future[Result]" = field(default_factory=Future)
    arrived: float = field(default_factory=time.perf_counter)
    taken: int = 0
    queue_s: float = 0.0
    compute_s: float = 0.0
    parts: list[Answers] = field(default_factory=list)


@dataclass(frozen=True)
class _Rows:
    """Rows start to stop of one request, as part of a batch."""

    work: _Work
    start: int
    stop: int


class Scheduler:
    """Runs requests through an engine in batches, on a thread of its own.

    Args:
        engine: what answers; only the scheduler's thread calls it.
        batch: images that one run takes at most.
        queue: images that wait at most.
        on_batch: told the images and seconds of every run, on the scheduler's thread.

    All methods may be called from any thread.
    """

    def __init__(
        self,
        engine: Answering,
        batch: int,
        queue: int,
        on_batch: Callable[[int, float], None] = lambda images, seconds: None,
    ) -> None:
        self.engine, self.batch, self.queue, self.on_batch = engine, batch, queue, on_batch
        self._line: deque[_Work] = deque()
        self._change = threading.Condition()
        self._waiting = 0
        self._rate = 0.0  # images per second while the engine runs
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="exitkit-engine", daemon=True)

    def start(self) -> None:
        """Start the engine thread. Requests may be submitted before that; they wait."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Images in the queue, those that the engine runs now not counted."""
        return self._waiting

    @property
    def rate(self) -> float:
        """Images per second that the engine answers when it is busy; 0 before the first batch."""
        return self._rate

    def submit(
        self,
        images: NDArray[np.float32],
        thresholds: NDArray[np.float32],
        max_exit: NDArray[np.int64],
    ) -> "Future[Result]":
        """Queue one request: images [n,3,H,W], thresholds [n,K-1], deepest allowed exits [n].

        Raises:
            Overloaded: the queue has no room for n more images.
            Closing: the server is stopping.
        """
        work = _Work(images, thresholds, max_exit)
        with self._change:
            if self._closing:
                raise Closing("a request", "the server is stopping", "ask another one")
            if self._waiting + len(images) > self.queue:
                raise Overloaded(
                    f"{len(images)} images",
                    f"{self._waiting} wait already, the queue holds {self.queue}",
                    "come again after the seconds in Retry-After",
                    self._waiting / self._rate if self._rate else 1.0,
                )
            self._line.append(work)
            self._waiting += len(images)
            self._change.notify()
        return work.future

    def close(self, drain_s: float) -> bool:
        """Take nothing new, finish what waits; return whether it all was done in `drain_s`.

        What is left after that is given up, but for the batch that the engine runs.
        """
        with self._change:
            self._closing = True
            self._change.notify()
        if self._thread.ident is not None:
            self._thread.join(drain_s)
        with self._change:
            left, self._waiting = list(self._line), 0
            self._line.clear()
        for work in left:
            if not work.future.done():
                work.future.set_exception(Closing("a request", "the server stopped", "ask another"))
        done = not left and not self._thread.is_alive()
        if self._thread.ident is not None:
            self._thread.join(LAST_RUN_S)
        return done

    def _loop(self) -> None:
        while rows := self._take():
            self._run(rows)

    def _take(self) -> list[_Rows]:
        """Wait for work; return the next batch, or nothing when closing and done."""
        with self._change:
            while True:
                rows = self._fill()
                if rows or self._closing:
                    return rows
                self._change.wait()

    def _fill(self) -> list[_Rows]:
        rows: list[_Rows] = []
        room = self.batch
        while self._line and room:
            work = self._line[0]
            left = len(work.images) - work.taken
            if rows and work.images.shape[1:] != rows[0].work.images.shape[1:]:
                break
            if _is_given_up(work):
                self._line.popleft()
                self._waiting -= left
                continue
            count = min(room, left)
            rows.append(_Rows(work, work.taken, work.taken + count))
            if work.taken == 0:
                work.queue_s = time.perf_counter() - work.arrived
            work.taken += count
            room -= count
            self._waiting -= count
            if count == left:
                self._line.popleft()
        return rows

    def _run(self, rows: list[_Rows]) -> None:
        began = time.perf_counter()
        try:
            answers = self._answer(rows)
        except Exception as error:
            logger.exception("a batch of %d requests failed", len(rows))
            self._isolate(rows, error)
            return
        seconds = time.perf_counter() - began
        count = sum(r.stop - r.start for r in rows)
        newest = count / seconds
        self._rate = newest if self._rate == 0 else self._rate + NEWEST * (newest - self._rate)
        self.on_batch(count, seconds)
        at = 0
        for part in rows:
            size = part.stop - part.start
            _deliver(part, _cut(answers, at, at + size), seconds)
            at += size

    def _answer(self, rows: list[_Rows]) -> Answers:
        return self.engine.answer(
            np.concatenate([r.work.images[r.start : r.stop] for r in rows]),
            np.concatenate([r.work.thresholds[r.start : r.stop] for r in rows]),
            np.concatenate([r.work.max_exit[r.start : r.stop] for r in rows]),
        )

    def _isolate(self, rows: list[_Rows], error: Exception) -> None:
        """Let the requests of a failed batch run alone, so that only the guilty one fails."""
        if len(rows) > 1:
            for part in rows:
                self._run([part])
            return
        failure = EngineError("a batch", f"the engine failed ({error})", "see the server's log")
        failure.__cause__ = error
        if not rows[0].work.future.done():
            rows[0].work.future.set_exception(failure)


def _is_given_up(work: _Work) -> bool:
    """Whether nobody waits for this request any more: cancelled, or failed in an earlier part."""
    if work.taken == 0:
        return not work.future.set_running_or_notify_cancel()
    return work.future.done()


def _deliver(part: _Rows, answers: Answers, seconds: float) -> None:
    work = part.work
    work.parts.append(answers)
    work.compute_s += seconds
    if part.stop == len(work.images) and not work.future.done():
        work.future.set_result(Result(_join(work.parts), work.queue_s, work.compute_s))


def _cut(answers: Answers, start: int, stop: int) -> Answers:
    return Answers(**{f.name: getattr(answers, f.name)[start:stop] for f in fields(answers)})


def _join(parts: list[Answers]) -> Answers:
    if len(parts) == 1:
        return parts[0]
    columns = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Answers)}
    return Answers(**columns)
