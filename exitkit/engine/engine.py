"""The one loop: run a segment, ask the policy, answer the rows that leave, compact the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from exitkit.errors import EngineError
from exitkit.policy.policy import PerRow, Policy, compact

Floats = NDArray[np.float32]


class Rows(Protocol):
    """Features of several images, wherever they lie: an array, or rows on a device."""

    def __len__(self) -> int: ...

    def take(self, indices: NDArray[np.int64], /, axis: int) -> "Rows":
        """Return some of the rows, copied."""


class DeviceRows(Rows, Protocol):
    """Rows that are no array; with `concat`, those of several batches become one."""

    def concat(self, others: "Sequence[DeviceRows]", /) -> "DeviceRows":
        """Return these rows and behind them those of the others, copied where they lie."""


class Segment(Protocol):
    """What a backend gives: one stage with its head, ready to run.

    Attributes:
        exit: number of its exit.
        input_shape: of what it takes: images first, then maps (D, h, w) or tokens (N, D).
        classes: length of the logits.
        pool, threads: what it computes on, for measurements: "private" or "shared" for the
            processor's threads, else the name of the provider.
    """

    exit: int
    input_shape: tuple[int, ...]
    classes: int
    pool: str
    threads: int

    def run(self, hidden: Any) -> tuple[Floats, Any]:  # Any: Floats, or the backend's own Rows
        """Take hidden [n, *input_shape]; return logits [n, C] and the next segment's hidden.

        The first segment takes an array. What the others take is what the one before them gave,
        or rows of it. The deepest segment returns None for hidden. The caller owns both.
        """


def require_input(segment: Segment, hidden: Any) -> None:  # Any: an array, or rows on a device
    """Refuse what a segment cannot take.

    Raises:
        EngineError: another shape or type than float32 [n, *input_shape].
    """
    dtype = getattr(hidden, "dtype", np.float32)
    if hidden.shape[1:] != segment.input_shape or dtype != np.float32:
        shape = ", ".join(map(str, segment.input_shape))
        raise EngineError(
            f"exit {segment.exit} expects float32 [n, {shape}]",
            f"got {dtype} {list(hidden.shape)}",
            "was it made for another network, or not preprocessed?",
        )


def all_logits(segments: Sequence[Segment], images: Floats) -> Floats:
    """Return the logits [K, n, C] of images [n, 3, H, W] at every exit; none leaves early.

    Raises:
        EngineError: images of another shape or type, or a segment cannot be run.
    """
    answers, hidden = [], images
    for segment in segments:
        logits, onward = segment.run(hidden)
        answers.append(logits)
        hidden = onward  # of the deepest there is none, and nobody takes it
    return np.stack(answers)


@dataclass(frozen=True)
class Answers:
    """Answers in the order of the images.

    Attributes:
        label: [N] class numbers.
        probability: [N] of that class, calibrated.
        exit: [N] number of the exit that answered.
        logits: [N, C] of that exit.
    """

    label: NDArray[np.int64]
    probability: Floats
    exit: NDArray[np.int64]
    logits: Floats


class Engine:
    """Segments and the policy that decides between them; holds no state, so threads may share it.

    Args:
        segments: shallow to deep, one per exit of the policy.
        policy: whose exits are the segments'.
    """

    def __init__(self, segments: Sequence[Segment], policy: Policy) -> None:
        found = tuple(segment.exit for segment in segments)
        if found != policy.exits:
            raise EngineError(
                f"segments for exits {policy.exits}",
                f"segments for exits {found}",
                "load segments and policy from one bundle",
            )
        self.segments = tuple(segments)
        self.policy = policy

    def with_policy(self, policy: Policy) -> "Engine":
        """Return an engine with another policy on the same segments."""
        return Engine(self.segments, policy)

    def answer(
        self,
        images: Floats,
        thresholds: PerRow | None = None,
        max_exit: PerRow | None = None,
    ) -> Answers:
        """Answer every image at the first exit where the policy lets it leave.

        Args:
            images: [N, 3, H, W] float32, normalised; N may be 0.
            thresholds: instead of the policy's own: [K-1] for all rows, or [N, K-1].
            max_exit: number of the exit at which a row leaves at the latest: one, or [N].

        Raises:
            ConfigError: thresholds or max_exit do not fit.
            EngineError: images of another shape, or an exit answered something not finite.
        """
        n = len(images)
        state = self.policy.start(n, thresholds, max_exit)
        latest = _Latest(n, self.segments[0].classes)
        hidden: Rows = images
        for position, segment in enumerate(self.segments if n else ()):
            logits, output = segment.run(hidden)
            leave, confidence, state = self.policy.step(position, logits, state)
            latest.put(segment.exit, logits, confidence)
            stay = np.flatnonzero(~leave)
            if len(stay) == 0:
                break
            assert output is not None  # only the deepest has none, and there all rows leave
            hidden = output
            if len(stay) < len(leave):  # where nobody leaves nothing is copied
                hidden, state = output.take(stay, axis=0), compact(state, stay)
                latest.keep(stay)
        return latest.answers()


def gather(pieces: Sequence[tuple[Rows, NDArray[np.int64] | None]]) -> Rows:
    """Return rows of one or several batches, one after the other, where they lie.

    Args:
        pieces: batches, each with the places of the rows that are wanted of it, None for all. A
            single batch wanted whole is returned itself.
    """
    rows, places = pieces[0]
    if len(pieces) == 1:
        return rows if places is None else rows.take(places, axis=0)
    if isinstance(rows, np.ndarray):
        return _gather_arrays(cast("list[tuple[Floats, NDArray[np.int64] | None]]", list(pieces)))
    held = [
        cast(DeviceRows, rows if places is None else rows.take(places, axis=0))
        for rows, places in pieces
    ]
    return held[0].concat(held[1:])


def _gather_arrays(pieces: Sequence[tuple[Floats, NDArray[np.int64] | None]]) -> Floats:
    if all(places is None for _, places in pieces):
        return np.concatenate([rows for rows, _ in pieces])
    sizes = [len(rows if places is None else places) for rows, places in pieces]
    joined = np.empty((sum(sizes), *pieces[0][0].shape[1:]), dtype=np.float32)
    stop = 0
    for (rows, places), size in zip(pieces, sizes, strict=True):
        part = joined[stop : stop + size]
        stop += size
        if places is None:
            part[:] = rows
        else:
            # By itself NumPy would check the places in a buffer, and copy twice.
            np.take(rows, places, axis=0, out=part, mode="clip")
    return joined


class _Latest:
    """What each row answered last: in the end, at the exit where it left.

    Few calls and no copies as long as all rows run: after a segment the caches are cold, and
    every call of NumPy costs ten times what it does in a loop of its own.
    """

    def __init__(self, n: int, classes: int) -> None:
        self.rows: NDArray[np.int64] | None = None  # those that still run, None for all
        self.logits = np.empty((n, classes), dtype=np.float32)
        self.probability = np.empty(n, dtype=np.float32)
        self.exit = np.empty(n, dtype=np.int64)

    def put(self, number: int, logits: Floats, confidence: Floats) -> None:
        """Take the answers of exit `number` for the rows that still run."""
        if self.rows is None:
            self.logits, self.probability = logits, confidence
            self.exit.fill(number)
        else:
            self.logits[self.rows] = logits
            self.probability[self.rows] = confidence
            self.exit[self.rows] = number

    def keep(self, stay: NDArray[np.int64]) -> None:
        """Let only some of the rows that run go on; `stay` are places among them."""
        self.rows = stay if self.rows is None else self.rows[stay]

    def answers(self) -> Answers:
        """Return the answers.

        Raises:
            EngineError: one is not finite.
        """
        # The smallest of numbers with one among them that is none is none itself.
        if not self.probability.min(initial=1.0) > 0.0:
            raise EngineError("answers", "logits that are not finite", "train and export again")
        return Answers(self.logits.argmax(axis=1), self.probability, self.exit, self.logits)
