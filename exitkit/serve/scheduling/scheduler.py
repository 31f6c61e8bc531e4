"""One engine thread before one queue per stage; no HTTP inside.

The rows of all requests that wait at the same stage run together, up to the largest batch; what
leaves there is answered at once, what goes on waits at the next stage with rows of other
requests. `queues` and `rules` decide what runs next, `batches` runs it; here are the thread, the
futures and the failures. Everything that waits is bounded in images, so that load turns into an
early, clear refusal.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from exitkit.engine.engine import Engine, Floats
from exitkit.errors import EngineError, Overloaded
from exitkit.policy.policy import PerRow, State
from exitkit.serve.scheduling import batches, rules
from exitkit.serve.scheduling.queues import NEVER, Batch, Part, Queues
from exitkit.serve.scheduling.rate import Rate
from exitkit.serve.scheduling.requests import (
    Closing,
    Observer,
    Request,
    Result,
    distinct,
    empty,
)
from exitkit.serve.scheduling.stages import Stages

logger = logging.getLogger(__name__)

# Deadlines are seconds of this clock.
clock = time.perf_counter
# Rows that wait behind the first stage are overdue after as many passes of full batches.
PASSES = 10
# A run of the engine cannot be stopped, and leaving the process under it would crash.
LAST_RUN_S = 10.0


class Scheduler:
    """Runs requests through an engine, stage by stage, on a thread of its own.

    Args:
        engine: segments and policy; only the scheduler's thread runs them.
        stages: times of the same segments; its `batch` is the most that one run takes.
        queue: images that wait at all stages together when a request is accepted. Those that are
            computed at that moment may come back to a queue on top of it.
        on_batch: told of every run the number of the stage's exit, its images and its seconds,
            on the scheduler's thread.
        rebatch: whether rows that go on wait for those of other requests. Without, a batch goes
            through all stages alone: only for comparison, see benchmarks/serve.py.

    All methods may be called from any thread.
    """

    def __init__(
        self,
        engine: Engine,
        stages: Stages,
        queue: int,
        on_batch: Callable[[int, int, float], None] = lambda exit_, images, seconds: None,
        rebatch: bool = True,
    ) -> None:
        self.engine, self.queue, self.on_batch = engine, queue, on_batch
        self._rebatch = rebatch
        self._queues = Queues(stages, rules.full_first, PASSES * stages.whole(stages.batch))
        self._usual = engine.policy.start(1, engine.policy.thresholds, engine.policy.exits[-1])
        self._change = threading.Condition()
        self._drain = Rate()
        self._closing = self._given_up = False
        self._thread = threading.Thread(target=self._loop, name="exitkit-engine", daemon=True)

    def start(self) -> None:
        """Start the engine thread. Requests may be submitted before that; they wait."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Images in the queues, those that the engine runs now not counted."""
        return self._queues.waiting

    @property
    def queued(self) -> dict[int, int]:
        """Images that wait to be run to each exit, by its number."""
        return dict(zip(self.engine.policy.exits, self._queues.rows, strict=True))

    @property
    def rate(self) -> float:
        """Images per second that are answered while the engine works; 0 before the first."""
        return self._drain.per_second

    def submit(
        self,
        images: Floats,
        thresholds: PerRow | None = None,
        max_exit: PerRow | None = None,
        deadline: float | None = None,
        observe: Observer | None = None,
    ) -> "Future[Result]":
        """Queue one request. Cancelling its future takes its images out of the queues at once.

        Args:
            images: [n, 3, H, W] float32, normalised.
            thresholds: instead of the policy's own: [K-1], or [n, K-1].
            max_exit: number of the exit at which an image leaves at the latest: one, or [n].
            deadline: second of `clock` at which every image is answered by the deepest exit that
                it has come to, a stage's time later at most. An image that has come to none has
                no answer; where that is all of them, the request fails.
            observe: told what every exit says of the images, on the engine's thread.

        Raises:
            ConfigError: thresholds or max_exit do not fit.
            Overloaded: the queue has no room for n more images.
            Closing: the server is stopping.
        """
        n = len(images)
        state = self._start(n, thresholds, max_exit)
        now = clock()
        request = Request(n, now, observe)
        limit = NEVER if deadline is None else deadline
        part = Part(request, np.arange(n), None, now, limit, batches.Block(images, state))
        with self._change:
            if self._closing:
                raise Closing("a request", "the server is stopping", "ask another one")
            waiting = self.waiting
            if waiting + n > self.queue:
                raise Overloaded(
                    f"{n} images",
                    f"{waiting} wait already, the queue holds {self.queue}",
                    "come again after the seconds in Retry-After",
                    self._drain.wait_s(waiting),
                )
            if n:
                self._queues.push(0, part, now)
                self._change.notify()
        if n == 0:
            request.future.set_result(empty(self.engine.segments[0].classes))
        request.future.add_done_callback(lambda future: self._cancelled(request))
        return request.future

    def close(self, drain_s: float) -> bool:
        """Take nothing new, finish what waits; return whether it all was done in `drain_s`.

        What is left after that is given up, but for what the running batch answers.
        """
        with self._change:
            self._closing = True
            self._change.notify()
        if self._thread.ident is not None:
            self._thread.join(drain_s)
        with self._change:
            self._given_up = True
            left = self._queues.clear()
        for part in left:
            part.request.fail(_stopped())
        done = not left and not self._thread.is_alive()
        if self._thread.ident is not None:
            self._thread.join(LAST_RUN_S)
        return done

    def _start(self, n: int, thresholds: PerRow | None, max_exit: PerRow | None) -> State:
        """Return the policy's state; those of all requests have the same arrays, to be joined."""
        policy = self.engine.policy
        if thresholds is None and max_exit is None:
            usual = self._usual
            return usual if n == 1 else {k: np.repeat(v, n, axis=0) for k, v in usual.items()}
        return policy.start(
            n,
            policy.thresholds if thresholds is None else thresholds,
            policy.exits[-1] if max_exit is None else max_exit,
        )

    def _cancelled(self, request: Request) -> None:
        """Forget a request whose future was cancelled; futures call this whenever they end."""
        if not request.future.cancelled():
            return
        request.over = True
        request.future.set_running_or_notify_cancel()  # wakes those who wait for several futures
        with self._change:
            self._queues.drop(request)

    def _loop(self) -> None:
        while True:
            with self._change:
                while not self._queues.waiting and not self._closing:
                    self._change.wait()
                now = clock()
                expired = self._queues.expire(now)
                batch = self._queues.next(now)
                if batch is None and not expired and self._closing:
                    return
            for _, part in expired:
                self._expire(part)
            while batch is not None:
                batch = self._run(batch)

    def _expire(self, part: Part) -> None:
        """Answer rows for which time is up by the exit that they came from."""
        request = part.request
        request.end(part, self.engine.segments[0].classes)
        if request.over or request.left == 0:
            self._finish(request)

    def _run(self, batch: Batch) -> Batch | None:
        """Run a batch and answer what leaves; return the next one where that needs no choice."""
        began = clock()
        try:
            ran = batches.run(self.engine, batch)
        except Exception as error:
            logger.exception("a batch of %d images failed at stage %d", len(batch), batch.stage)
            self._isolate(batch, error)
            return None
        requests = distinct(batch.parts)
        try:
            now = clock()
            self._drain.add(ran.left, now - began)
            self.on_batch(ran.exit, len(batch), now - began)
            for request in requests:
                request.compute_s += now - began
            return self._go_on(batch.stage + 1, batches.deliver(batch, ran, now), now)
        except Exception as error:
            logger.exception("a batch was run, but cannot be answered")
            for request in requests:
                self._fail(request, _failed(error))
            return None
        finally:
            for request in requests:
                if request.over or request.left == 0:
                    self._finish(request)

    def _go_on(self, stage: int, parts: list[Part], now: float) -> Batch | None:
        """Let rows wait at their next stage; where nothing else waits they are the next batch."""
        timed = any(part.deadline < NEVER for part in parts)
        alone = not self._rebatch or not self._queues.waiting
        if parts and alone and not timed and not self._given_up:
            alive = [part for part in parts if not part.request.over]
            return Batch(stage, alive) if alive else None
        with self._change:
            given_up = self._given_up
            for part in () if given_up else parts:
                self._queues.push(stage, part, now)  # what is over is dropped by `_finish`
        if given_up:
            for part in parts:
                part.request.fail(_stopped())
        return None

    def _finish(self, request: Request) -> None:
        """Resolve a request that has all its answers; forget one that is over already."""
        if not request.over:
            request.finish(clock())
            return
        with self._change:
            self._queues.drop(request)

    def _isolate(self, batch: Batch, error: Exception) -> None:
        """Let the requests of a failed batch run alone, so that only the guilty one fails."""
        requests = distinct(batch.parts)
        if len(requests) == 1:
            self._fail(requests[0], _failed(error))
            return
        for request in requests:
            mine = [part for part in batch.parts if part.request is request]
            alone: Batch | None = Batch(batch.stage, mine)
            while alone is not None:
                alone = self._run(alone)

    def _fail(self, request: Request, error: EngineError) -> None:
        request.fail(error)
        with self._change:
            self._queues.drop(request)


def _stopped() -> Closing:
    return Closing("a request", "the server stopped", "ask another")


def _failed(error: Exception) -> EngineError:
    failure = EngineError("a batch", f"the engine failed ({error})", "see the server's log")
    failure.__cause__ = error
    return failure
