"""One queue per stage, and what leaves them next: the scheduler's decisions, all of them.

Nothing here has a thread, a clock or an array of features. Time is handed in, rows are counted
and passed on, so that the server and the simulator (`simulate`) run the same code.
"""

import heapq
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitkit.serve.scheduling.stages import Stages

NEVER = float("inf")


@dataclass(eq=False, slots=True)
class Part:
    """Rows of one request that wait at one stage.

    Attributes:
        request: whose they are; told apart by identity.
        samples: [n] their numbers within the request.
        places: [n] where they lie in the block; None where they are all of it, in its order.
        arrived: when the request came, seconds.
        deadline: when it wants an answer, seconds on the same clock.
        block: what holds their features; the queues never look into it.
        entered: when they came to this stage.
        stage: at which they wait; None once they wait no more.
    """

    request: Any  # Any: the server's requests, numbers in the simulator
    samples: NDArray[np.int64]
    places: NDArray[np.int64] | None
    arrived: float
    deadline: float = NEVER
    block: Any = None  # Any: the scheduler's features, nothing in the simulator
    entered: float = 0.0
    stage: int | None = None
    order: tuple[float, int] = (0.0, 0)
    limit: list[Any] | None = None  # Any: its entry among the deadlines

    def __len__(self) -> int:
        return len(self.samples)

    def split(self, rows: int) -> "Part":
        """Keep the first `rows` rows; return the others as a part of their own."""
        places = np.arange(len(self)) if self.places is None else self.places
        rest = Part(
            self.request, self.samples[rows:], places[rows:], self.arrived, self.deadline,
            self.block, self.entered, self.stage, self.order,
        )  # fmt: skip
        self.samples, self.places = self.samples[:rows], places[:rows]
        return rest


@dataclass(eq=False, slots=True)
class Batch:
    """What runs next: parts of one stage."""

    stage: int
    parts: list[Part]

    def __len__(self) -> int:
        return sum(map(len, self.parts))


class Queues:
    """The parts that wait, by stage. Not for several threads at once.

    Within a stage the request that came first goes first, unless another's deadline is nearer
    than `patience_s` after its arrival: nobody is passed for ever.

    Args:
        stages: their times.
        rule: chooses among the stages; it sees these queues and the time.
        patience_s: after which a part that waits at one stage is overdue.
    """

    def __init__(
        self,
        stages: Stages,
        rule: "Callable[[Queues, float], tuple[int, int]]",
        patience_s: float,
    ) -> None:
        self.stages, self.patience_s, self._rule = stages, patience_s, rule
        self.rows = [0] * stages.count
        self._lines: list[list[Part]] = [[] for _ in range(stages.count)]
        self._limits: list[list[Any]] = []  # Any: time, number, and part or None
        self._pushed = self._entries = 0

    @property
    def waiting(self) -> int:
        """Rows at all stages."""
        return sum(self.rows)

    def front(self, stage: int) -> Part | None:
        """Return the part that leaves a stage next."""
        line = self._lines[stage]
        return line[0] if line else None

    def overdue(self, stage: int, now: float) -> bool:
        """Return whether the front part has waited at this stage for longer than it should."""
        line = self._lines[stage]
        return bool(line) and now - line[0].entered > self.patience_s

    def push(self, stage: int, part: Part, now: float) -> None:
        """Let a part wait at a stage."""
        self._pushed += 1
        part.order = (min(part.deadline, part.arrived + self.patience_s), self._pushed)
        part.entered = now
        self._insert(stage, part)

    def next(self, now: float) -> Batch | None:
        """Take what the rule chooses; None where nothing waits."""
        if not any(self.rows):
            return None
        stage, room = self._rule(self, now)
        parts: list[Part] = []
        line = self._lines[stage]
        while line and room:
            part = line.pop(0)
            self.rows[stage] -= len(part)
            _leave(part)
            if len(part) > room:
                self._insert(stage, part.split(room))
            room -= len(part)
            parts.append(part)
        return Batch(stage, parts)

    def expire(self, now: float) -> list[tuple[int, Part]]:
        """Take out, with their stages, the parts for which time is up.

        At the first stage that is when the deadline has passed. Behind it, where an answer is
        there already, it is as soon as the stage takes longer for one row than is left.
        """
        found = []
        while self._limits and self._limits[0][0] < now:
            part = heapq.heappop(self._limits)[2]
            if part is not None:
                found.append((part.stage, part))
                self._remove(part)
        return found

    def drop(self, request: object) -> int:
        """Take out all rows of a request; return how many there were."""
        mine = [part for line in self._lines for part in line if part.request is request]
        for part in mine:
            self._remove(part)
        return sum(map(len, mine))

    def clear(self) -> list[Part]:
        """Take out and return everything."""
        everything = [part for line in self._lines for part in line]
        for part in everything:
            self._remove(part)
        return everything

    def _insert(self, stage: int, part: Part) -> None:
        part.stage = stage
        insort(self._lines[stage], part, key=_order)
        self.rows[stage] += len(part)
        if part.deadline < NEVER:
            spare = self.stages.seconds(stage, 1) if stage else 0.0
            self._entries += 1
            part.limit = [part.deadline - spare, self._entries, part]
            heapq.heappush(self._limits, part.limit)

    def _remove(self, part: Part) -> None:
        assert part.stage is not None
        self._lines[part.stage].remove(part)
        self.rows[part.stage] -= len(part)
        _leave(part)


def _leave(part: Part) -> None:
    part.stage = None
    if part.limit is not None:
        part.limit[2] = None  # a part that is gone must not keep its features alive
        part.limit = None


def _order(part: Part) -> tuple[float, int]:
    return part.order
