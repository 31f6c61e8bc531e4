"""One request on its way through the stages: its answers so far, and its future."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exitkit.engine.engine import Answers, Floats
from exitkit.errors import EngineError, ExitkitError, RequestError
from exitkit.serve.scheduling.queues import Part

logger = logging.getLogger(__name__)


class Closing(RequestError):
    """The server stops and takes nothing new."""

    status = 503


class DeadlineExceeded(RequestError):
    """The deadline came before any exit had answered."""

    status = 504

    def __init__(self) -> None:
        super().__init__("an answer", "no exit had answered in time", "allow more time")


@dataclass(frozen=True)
class Result:
    """Answers to one request.

    Attributes:
        answers: in the order of its images. Where no exit had answered at the deadline, the exit
            is 0 and nothing else means anything; at least one image has an answer.
        queue_s: seconds in which none of its images was computed.
        compute_s: seconds of the batches that its images were in.
        late: numbers of the images that the deadline ended, not the policy.
        thresholds: that the images were held against, at every exit but the deepest; or [n] one of
            each image, at all exits.
    """

    answers: Answers
    queue_s: float
    compute_s: float
    late: frozenset[int] = frozenset()
    thresholds: tuple[float, ...] | NDArray[np.float32] = ()

    def require_all(self) -> None:
        """Refuse to be a result in which some image has no answer.

        Raises:
            DeadlineExceeded: some image has none.
        """
        if self.answered() is not self.answers:
            raise DeadlineExceeded()

    def threshold(self, image: int) -> float | list[float] | None:
        """Return what an image was held against: one number, or one per exit where they differ.

        None where the deepest exit is the only one.
        """
        used = self.thresholds
        if isinstance(used, np.ndarray):
            return float(used[image])
        if not used:
            return None
        return used[0] if len(set(used)) == 1 else list(used)

    def answered(self) -> Answers:
        """Return the answers of those images that have one."""
        found = self.answers
        if not self.late or found.exit.all():
            return found
        rows = found.exit > 0
        return Answers(
            found.label[rows], found.probability[rows], found.exit[rows], found.logits[rows]
        )


@dataclass(frozen=True)
class Seen:
    """What one exit said of some of a request's images.

    Attributes:
        exit: its number.
        images: [m] their numbers within the request.
        logits: [m, C].
        probability: [m] of each one's own answer, calibrated.
        final: [m] whether that is the answer.
        seconds: since the request came.
    """

    exit: int
    images: NDArray[np.int64]
    logits: Floats
    probability: Floats
    final: NDArray[np.bool_]
    seconds: float


Observer = Callable[[Seen], None]


class Request:
    """What a request of `images` images still waits for. Used by one thread, but for `over`.

    Attributes:
        future: of its result.
        left: images without their final answer.
        over: nobody waits any more: answered, failed or cancelled. From any thread.
    """

    def __init__(self, images: int, arrived: float, observe: Observer | None) -> None:
        self.images, self.arrived, self.observe = images, arrived, observe
        self.future: Future[Result] = Future()
        self.over = False
        self.compute_s = 0.0
        self.left = images
        self._late: frozenset[int] = frozenset()
        self._exit: NDArray[np.int64]
        self._logits: Floats
        self._probability: Floats

    def put(
        self, samples: NDArray[np.int64], exit: int, logits: Floats, probability: Floats
    ) -> None:
        """Take final answers [m], [m, C] for some images."""
        if len(samples) == self.images:  # all at once, in their order
            self._logits, self._probability = logits, probability
            self._exit = np.full(self.images, exit)
            self.left = 0
            return
        if self.left == self.images:
            self._logits = np.empty((self.images, logits.shape[1]), dtype=np.float32)
            self._probability = np.empty(self.images, dtype=np.float32)
            self._exit = np.empty(self.images, dtype=np.int64)
        self.left -= len(samples)
        self._logits[samples], self._probability[samples] = logits, probability
        self._exit[samples] = exit

    def end(self, part: Part, classes: int) -> None:
        """Answer a part's images, whose time is up, by the exit that they came from, if any."""
        block, rows = part.block, slice(None) if part.places is None else part.places
        if block.logits is None:
            n = len(part)
            self.put(part.samples, 0, np.zeros((n, classes), np.float32), np.zeros(n, np.float32))
        else:
            self.put(part.samples, block.exit, block.logits[rows], block.probability[rows])
        self._late |= set(part.samples.tolist())

    def show(self, seen: Seen) -> None:
        """Tell the observer, if there is one; its failure is this request's alone."""
        if self.observe is None:
            return
        try:
            self.observe(seen)
        except Exception as error:
            logger.exception("what observes a request failed")
            self.fail(EngineError("a request", f"its observer failed ({error})", "see the log"))

    def finish(self, now: float) -> None:
        """Resolve the future: every image has its answer, or its time was up before it had one."""
        probability = self._probability[self._exit > 0] if self._late else self._probability
        if len(probability) == 0:
            self.fail(DeadlineExceeded())
            return
        # The smallest of numbers with one among them that is none is none itself.
        if not probability.min() > 0.0:
            self.fail(
                EngineError("answers", "logits that are not finite", "train and export again")
            )
            return
        answers = Answers(self._logits.argmax(axis=1), self._probability, self._exit, self._logits)
        self.over = True
        queue_s = max(0.0, now - self.arrived - self.compute_s)
        # Cancelled just now: then nobody wants to know.
        with contextlib.suppress(InvalidStateError):
            self.future.set_result(Result(answers, queue_s, self.compute_s, self._late))

    def fail(self, error: ExitkitError) -> None:
        """Let whoever waits know that there will be no answers."""
        self.over = True
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)


def empty(classes: int) -> Result:
    """Return the result of a request without images."""
    none = np.zeros(0, dtype=np.int64)
    floats = np.zeros(0, dtype=np.float32)
    return Result(Answers(none, floats, none, np.zeros((0, classes), np.float32)), 0.0, 0.0)


def distinct(parts: Sequence[Part]) -> list[Request]:
    """Return the requests of some parts, each once, in the order of their first mention."""
    if len(parts) == 1:
        return [parts[0].request]
    return list(dict.fromkeys([part.request for part in parts]))
