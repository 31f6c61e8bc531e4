"""The scheduler's decisions on a simulated clock: the same queues and rules, no engine, no threads.

Times come from a table, exits are given image by image, arrivals from a seed or from clients that
wait for their answers. What is simulated takes no time of its own but `Stages`' allowance. With
a `Depth` the threshold of each request is chosen as the server does, when it is admitted.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exitkit.serve.adaptive import Depth
from exitkit.serve.scheduling.queues import NEVER, Part, Queues
from exitkit.serve.scheduling.stages import Stages

Rule = Callable[[Queues, float], tuple[int, int]]


@dataclass(frozen=True)
class Load:
    """Requests to simulate, R of them.

    Attributes:
        exits: [R, n] stage at which each image leaves, 0-based; n images a request. With a `Depth`
            [levels, R, n], at each of its thresholds.
        arrivals: [R] rising seconds; None where clients wait for their answers.
        clients: that send their next request when the last one is answered.
        deadline_s: after arrival, for every request.
    """

    exits: NDArray[np.int64]
    arrivals: NDArray[np.float64] | None = None
    clients: int = 0
    deadline_s: float = NEVER


@dataclass
class Outcome:
    """What happened to R requests of n images.

    Attributes:
        latency_s: [R] from arrival to the last image's answer; nan where refused or failed.
        answered_s: [R, n] when each image was answered; nan where it was not.
        stage: [R, n] of the answer; -1 where there is none.
        level: [R] of the depth when the request was admitted; -1 where it was refused.
        refused: requests that the queue had no room for.
        failed: requests with an image that no stage had seen at the deadline.
        busy_s, end_s: time that batches took; of the last answer.
        batches: (stage, rows) in their order.
        most: rows that waited at once.
        waited_s: the longest that rows behind the first stage waited at one stage.
    """

    latency_s: NDArray[np.float64]
    answered_s: NDArray[np.float64]
    stage: NDArray[np.int64]
    level: NDArray[np.int64]
    refused: int = 0
    failed: int = 0
    busy_s: float = 0.0
    end_s: float = 0.0
    batches: list[tuple[int, int]] = field(default_factory=list)
    most: int = 0
    waited_s: float = 0.0


def poisson(rate: float, requests: int, seed: int) -> NDArray[np.float64]:
    """Return [requests] arrival seconds, `rate` per second on average."""
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, requests))


def draw(shares: Sequence[float], requests: int, images: int, seed: int) -> NDArray[np.int64]:
    """Return [requests, images] stages at which images leave, drawn by their shares.

    With the same seed an image leaves no later under shares that let more images leave at every
    stage, as a lower threshold does.
    """
    return np.random.default_rng(seed).choice(len(shares), (requests, images), p=shares)


def simulate(
    stages: Stages,
    rule: Rule,
    load: Load,
    queue: int,
    patience_s: float,
    whole: bool = False,
    depth: Depth | None = None,
) -> Outcome:
    """Run a load to its end.

    Args:
        stages: times.
        rule: that chooses.
        load: requests.
        queue: rows that may wait when a request is admitted, its own among them.
        patience_s: see `Queues`.
        whole: answer only when nothing waits behind the first stage: with rule `deepest` that is
            a server which runs merged batches to their end.
        depth: that chooses thresholds under load.
    """
    return _Simulation(Queues(stages, rule, patience_s), load, queue, whole, depth).run()


class _Simulation:
    def __init__(
        self, queues: Queues, load: Load, queue: int, whole: bool, depth: Depth | None
    ) -> None:
        self.queues, self.load, self.queue, self.whole = queues, load, queue, whole
        self.depth = depth
        self.exits = load.exits if depth is None else load.exits[0].copy()
        requests, images = self.exits.shape
        self.out = Outcome(
            np.full(requests, np.nan),
            np.full((requests, images), np.nan),
            np.full((requests, images), -1),
            np.full(requests, -1),
        )
        self.work_s = np.zeros(requests)
        self.left = np.full(requests, images)
        self.began = np.zeros(requests)
        first = np.zeros(load.clients) if load.arrivals is None else load.arrivals
        # Times of arrival in their order; closed-loop clients add theirs as they are answered.
        self.coming = first[:requests].tolist()
        self.come = 0
        self.held: list[tuple[int, NDArray[np.int64], int]] = []

    def run(self) -> Outcome:
        now, stages = 0.0, self.queues.stages
        while True:
            self._admit(now)
            for stage, part in self.queues.expire(now):
                if stage:
                    self._answer(part.request, part.samples, stage - 1, now)
                else:
                    self._end(part.request, part.samples, now)
            batch = self.queues.next(now)
            if batch is None:
                if not self.coming:
                    return self.out
                now = max(now, self.coming[0])
                continue
            seconds = stages.seconds(batch.stage, len(batch))
            self.out.batches.append((batch.stage, len(batch)))
            self.out.busy_s += seconds
            if batch.stage:
                waited = max(now - part.entered for part in batch.parts)
                self.out.waited_s = max(self.out.waited_s, waited)
            now += seconds
            self._admit(now)
            for part in batch.parts:
                self._step(batch.stage, part, now)
            if self.whole and not any(self.queues.rows[1:]):
                for request, samples, stage in self.held:
                    self._answer(request, samples, stage, now)
                self.held = []

    def _admit(self, now: float) -> None:
        images = self.exits.shape[1]
        while self.coming and self.coming[0] <= now:
            at = heapq.heappop(self.coming)
            request = self.come
            self.come += 1
            rung = None if self.depth is None else self.depth.choose(at)
            if self.queues.waiting + images > self.queue:
                self.out.refused += 1
                self.left[request] = 0
                continue
            self.began[request], self.out.level[request] = at, 0
            if self.depth is not None:
                level = self.out.level[request] = self.depth.level
                self.exits[request] = self.load.exits[level, request]
                self.work_s[request] = self.depth.enter(images, rung)
            rows = np.arange(images)
            part = Part(request, rows, rows, at, at + self.load.deadline_s)
            self.queues.push(0, part, at)
            self.out.most = max(self.out.most, self.queues.waiting)

    def _step(self, stage: int, part: Part, now: float) -> None:
        leave = self.exits[part.request, part.samples] <= stage
        if leave.any():
            if self.whole:
                self.held.append((part.request, part.samples[leave], stage))
            else:
                self._answer(part.request, part.samples[leave], stage, now)
        if not leave.all():
            rows = part.samples[~leave]
            stay = Part(part.request, rows, rows, part.arrived, part.deadline)
            self.queues.push(stage + 1, stay, now)
            self.out.most = max(self.out.most, self.queues.waiting)

    def _answer(self, request: int, samples: NDArray[np.int64], stage: int, now: float) -> None:
        assert np.isnan(self.out.answered_s[request, samples]).all()  # nobody is answered twice
        self.out.answered_s[request, samples] = now
        self.out.stage[request, samples] = stage
        self.out.end_s = now
        self._end(request, samples, now)

    def _end(self, request: int, samples: NDArray[np.int64], now: float) -> None:
        """Let images wait no more, answered or not."""
        self.left[request] -= len(samples)
        if self.left[request] == 0:
            if (self.out.stage[request] < 0).any():
                self.out.failed += 1
            else:
                self.out.latency_s[request] = now - self.began[request]
            if self.depth is not None:
                self.depth.leave(float(self.work_s[request]))
            self._come_back(now)

    def _come_back(self, now: float) -> None:
        if self.load.arrivals is None and self.come + len(self.coming) < len(self.left):
            heapq.heappush(self.coming, now)
