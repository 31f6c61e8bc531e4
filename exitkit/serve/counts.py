"""What is counted of one model, in one process: a nested table of numbers that add up."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from exitkit.engine.engine import Answers
from exitkit.serve.buckets import CONFIDENCE, IMAGES, SECONDS
from exitkit.serve.history import History
from exitkit.serve.tables import Table

# Of requests, as [how many, seconds]; the names are Triton's.
SPANS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class Live:
    """How a model stands at this moment.

    Attributes:
        queued: images that wait at each stage, by the number of its exit.
        decoding: image files that wait to be decoded or are.
        rate: images per second that are answered while the engine works.
        thresholds: in force, one per exit but the deepest.
    """

    queued: dict[int, int]
    decoding: int
    rate: float
    thresholds: tuple[float, ...]

    def to_json(self) -> Table:
        """Return the same as a table."""
        return {**vars(self), "queued": {str(exit_): n for exit_, n in self.queued.items()}}


def _empty() -> Table:
    return {
        "exits": {}, "spent": 0.0, "plain": 0.0, "refused": 0, "late": 0, "cancelled": 0,
        "seconds": {}, "spans": {name: [0, 0.0] for name in SPANS},
    }  # fmt: skip


@dataclass
class Ledger:
    """A table and the lock that guards it: all services that count there share both.

    While a model is loaded anew two of them do, the old one for the requests that hold it.
    """

    table: Table = field(default_factory=_empty)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Counts:
    """Counters of one model. All methods may be called from any thread.

    Args:
        exits: numbers of the kept exits.
        macs: multiply-adds of leaving at each of them.
        plain_macs: of the network without exits.
        live: tells how the model stands.
        ledger: of a model of the same name that was loaded before; it goes on counting.
    """

    def __init__(
        self,
        exits: Sequence[int],
        macs: Sequence[float],
        plain_macs: float,
        live: Callable[[], Live],
        ledger: Ledger | None = None,
    ) -> None:
        self.exits, self.plain_macs, self.live = tuple(exits), plain_macs, live
        self.ledger = Ledger() if ledger is None else ledger
        self.table, self._lock = self.ledger.table, self.ledger.lock
        self._history = History(self.table["seconds"])
        self._macs = dict(zip(exits, macs, strict=True))
        with self._lock:
            for exit_ in exits:
                self.table["exits"].setdefault(str(exit_), _of_exit())
        # By the number of an exit, to be found without making text of it.
        self._exits = {exit_: self.table["exits"][str(exit_)] for exit_ in exits}

    def answered(self, answers: Answers, seconds: float, late: int = 0) -> dict[str, int]:
        """Count one request; return its images by the exit that answered.

        Args:
            answers: of those of its images that have one.
            seconds: from its arrival on; all its images took that long, as their answers are
                sent together.
            late: images that its deadline ended, with or without an answer.
        """
        exits, confidences = answers.exit.tolist(), answers.probability.tolist()
        with self._lock:
            table = self.table
            left: dict[str, int] = {}
            spent = total = 0.0
            for exit_, macs in self._macs.items():
                count = exits.count(exit_)
                if not count:
                    continue
                cells = self._exits[exit_]
                cells["taken"] += count
                SECONDS.add(cells["latency"], seconds, count)
                sure = [c for c, k in zip(confidences, exits, strict=True) if k == exit_]
                CONFIDENCE.add_all(cells["confidence"], sure)
                left[str(exit_)] = count
                spent += count * macs
                total += sum(sure)
            table["late"] += late
            table["spent"] += spent
            table["plain"] += sum(left.values()) * self.plain_macs
            self._history.add(time.monotonic(), seconds, left, spent, total)
        return left

    def spent(self, **seconds: float) -> None:
        """Count spans of one request, by the names of SPANS."""
        with self._lock:
            spans = self.table["spans"]
            for name, value in seconds.items():
                spans[name][0] += 1
                spans[name][1] += value

    def worked(self, what: str, seconds: float) -> None:
        """Add to a span that is counted with its request, which has been or will be answered."""
        with self._lock:
            self.table["spans"][what][1] += seconds

    def ran(self, exit_: int, images: int, seconds: float) -> None:
        """Count one run of the stage that ends at an exit."""
        with self._lock:
            cells = self._exits[exit_]
            IMAGES.add(cells["batch"], images)
            SECONDS.add(cells["run"], seconds)

    def refused(self, images: int) -> None:
        """Count images that a queue had no room for."""
        with self._lock:
            self.table["refused"] += images

    def late(self, images: int) -> None:
        """Count images of a request that failed at its deadline."""
        with self._lock:
            self.table["late"] += images

    def cancelled(self) -> None:
        """Count a request whose client went away before its answer."""
        with self._lock:
            self.table["cancelled"] += 1


def _of_exit() -> Table:
    return {
        "taken": 0,
        "latency": SECONDS.empty(),
        "confidence": CONFIDENCE.empty(),
        "batch": IMAGES.empty(),
        "run": SECONDS.empty(),
    }
