"""Load-adaptive depth: while too much waits, images leave earlier, down to a stated accuracy.

No thread, no HTTP and no clock of its own: time is handed in, so that the server and the
simulator run the same code. What is controlled is the work that waits, in seconds of the engine,
each image weighed by what its own threshold lets it cost on average. A lower threshold shows in
that at once, when a request is admitted, and not only when the queue before it has been worked
off; so the control has no delay that could make it swing.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exitkit.errors import ConfigError
from exitkit.policy.solvers import Point
from exitkit.serve.scheduling.rate import Rate
from exitkit.serve.scheduling.stages import Stages
from exitkit.serve.tradeoff import Tradeoff

# The lowest threshold is in force when the work that waits takes that long, or when the queue is
# that full of the cheapest images. Below half of that nothing changes: so much may be on its way
# through the stages of a GPU at 70 % of what it can do.
WAIT_S, SHARE, START = 0.5, 0.75, 0.5
# Steps between the policy's threshold and the lowest, and seconds between two steps up again.
STEPS, HOLD_S = 8, 0.2


@dataclass(frozen=True)
class Rung:
    """One threshold that may be in force.

    Attributes:
        thresholds: one per exit but the deepest.
        accuracy: on the tune split.
        mean_macs: multiply-adds an image, on the same split.
        seconds: of the engine for one image, in full batches.
    """

    thresholds: tuple[float, ...]
    accuracy: float
    mean_macs: float
    seconds: float


def keeping(tradeoff: Tradeoff, floor: float) -> list[Point]:
    """Return the policy's own point, and the cheaper ones of its sweep that keep `floor`.

    Raises:
        ConfigError: the policy's own point is not known, is below the floor, or nothing cheaper
            keeps it.
    """
    asked, own = f"accuracy floor {floor:g}", tradeoff.in_force
    if own is None:
        raise ConfigError(
            asked,
            f"thresholds {tradeoff.thresholds} are not on the bundle's sweep",
            "serve with one --threshold for all exits",
        )
    if own.accuracy < floor:
        raise ConfigError(
            asked,
            f"the policy in force reaches {own.accuracy:.4f} on the tune split",
            "lower the floor or raise the threshold",
        )
    found = [own]
    for point in sorted(tradeoff.points, key=lambda point: -point.mean_macs):
        below = _threshold(point) < _threshold(found[-1])
        if point.accuracy >= floor and below and point.mean_macs < found[-1].mean_macs:
            found.append(point)
    if len(found) == 1:
        raise ConfigError(
            asked,
            f"nothing on the sweep costs less than the policy in force ({own.accuracy:.4f}) and "
            "keeps it",
            "lower the floor, or leave it out",
        )
    return found


def ladder(
    points: Sequence[Point], thresholds: tuple[float, ...], stages: Stages
) -> tuple[Rung, ...]:
    """Return what may be in force: at most eight thresholds below the own, evenly apart in cost.

    Args:
        points: see `keeping`; the first is the policy's own.
        thresholds: the policy's own.
        stages: times of the same segments.
    """
    rungs = [_rung(points[0], thresholds, stages)]
    for point in points[1:]:
        one = _rung(point, (_threshold(point),) * len(thresholds), stages)
        if one.seconds < rungs[-1].seconds:
            rungs.append(one)
    return _thinned(rungs)


def describe(rungs: Sequence[Rung], plain_macs: float) -> str:
    """Say in a line how far thresholds may sink."""
    last = rungs[-1]
    lowest = ", ".join(sorted({f"{threshold:.4g}" for threshold in last.thresholds}))
    return (
        f"under load down to threshold {lowest}: accuracy {100 * last.accuracy:.2f} %, "
        f"{100 * last.mean_macs / plain_macs:.1f} % of the plain network's multiply-adds "
        "(computed on the tune split)"
    )


def _threshold(point: Point) -> float:
    return float(point.threshold or 0.0)


def _rung(point: Point, thresholds: tuple[float, ...], stages: Stages) -> Rung:
    reach, seconds = 1.0, 0.0
    for k, share in enumerate(point.shares):
        seconds += reach * stages.least(k)
        reach -= share
    return Rung(thresholds, point.accuracy, point.mean_macs, seconds)


def _thinned(rungs: Sequence[Rung]) -> tuple[Rung, ...]:
    """Keep the first, the last, and what is nearest to even steps of cost between them."""
    first, last = rungs[0].seconds, rungs[-1].seconds
    wanted = [first + (last - first) * step / STEPS for step in range(STEPS + 1)]
    kept = {min(rungs, key=lambda one: abs(one.seconds - w)): None for w in wanted}
    return tuple(kept)


class Depth:
    """Chooses the threshold of requests that name none.

    Requests enter and leave on one thread. `ran` is for another; `choose` may be called from any,
    since a step that two of them take at once is the same step.

    Args:
        rungs: from the policy's own thresholds to the lowest; see `ladder`.
        queue: images that may wait.
    """

    def __init__(self, rungs: Sequence[Rung], queue: int) -> None:
        self.rungs = tuple(rungs)
        self.level = 0
        self._full_s = min(WAIT_S, SHARE * queue * self.rungs[-1].seconds)
        self._work_s = 0.0
        self._pace = Rate()
        self._changed = -math.inf

    @property
    def wait_s(self) -> float:
        """Seconds until everything that was admitted is answered, as predicted."""
        pace = self._pace.per_second
        return self._work_s / pace if pace else self._work_s

    def choose(self, now: float) -> Rung:
        """Return what is in force for a request that comes now.

        Down at once, as far as the wait asks for. Up again only when the wait asks for at least
        one step more than that, and a step at a time.
        """
        share = self.wait_s / self._full_s
        last = len(self.rungs) - 1
        wanted = min(max((share - START) / (1 - START), 0.0), 1.0) * last
        if wanted >= self.level + 1:
            self.level, self._changed = int(wanted), now
        elif wanted <= self.level - 1:
            steps = int(min((now - self._changed) / HOLD_S, last))
            if steps:
                self.level, self._changed = max(self.level - steps, math.ceil(wanted)), now
        return self.rungs[self.level]

    @contextlib.contextmanager
    def holding(self, images: int, rung: Rung | None) -> Iterator[None]:
        """Count a request while the block waits for its answer; see `enter`."""
        work_s = self.enter(images, rung)
        try:
            yield
        finally:
            self.leave(work_s)

    def enter(self, images: int, rung: Rung | None = None) -> float:
        """Count images that were admitted; return their work, which `leave` takes back.

        Args:
            images: of one request.
            rung: that was chosen for it; None: it has wishes of its own.
        """
        work_s = images * (rung or self.rungs[0]).seconds
        self._work_s += work_s
        return work_s

    def leave(self, work_s: float) -> None:
        """Count the end of a request, whatever it was."""
        self._work_s = max(0.0, self._work_s - work_s)

    def ran(self, expected_s: float, seconds: float) -> None:
        """Learn how long a batch took that was expected to take so long; from any one thread."""
        self._pace.add(expected_s, seconds)
