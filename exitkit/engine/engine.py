"""The one loop: run a segment, ask the policy, answer the rows that leave, compact the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exitkit.errors import EngineError
from exitkit.policy.policy import PerRow, Policy, compact

Floats = NDArray[np.float32]


class Segment(Protocol):
    """What a backend gives: one stage with its head, ready to run.

    Attributes:
        exit: number of its exit.
        input_shape: (D, h, w) of what it takes, the images' for the first.
        classes: length of the logits.
        pool, threads: what it computes on, for measurements.
    """

    exit: int
    input_shape: tuple[int, int, int]
    classes: int
    pool: str
    threads: int

    def run(self, hidden: Floats) -> tuple[Floats, Floats | None]:
        """Take hidden [n, D, h, w]; return logits [n, C] and the next segment's hidden.

        The deepest segment returns None for hidden. The caller owns both arrays.
        """


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

    @classmethod
    def blank(cls, n: int, classes: int) -> "Answers":
        """Return room for `n` answers."""
        return cls(
            np.empty(n, dtype=np.int64),
            np.empty(n, dtype=np.float32),
            np.empty(n, dtype=np.int64),
            np.empty((n, classes), dtype=np.float32),
        )

    def put(self, rows: NDArray[np.int64], number: int, confidence: Floats, logits: Floats) -> None:
        """Fill in the rows that leave at exit `number`."""
        self.label[rows] = logits.argmax(axis=1)
        self.probability[rows] = confidence
        self.exit[rows] = number
        self.logits[rows] = logits


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
        answers = Answers.blank(n, self.segments[0].classes)
        rows, hidden = np.arange(n), images
        for position, segment in enumerate(self.segments):
            if len(rows) == 0:
                break
            logits, output = segment.run(hidden)
            leave, confidence, state = self.policy.step(position, logits, state)
            leaving = int(np.count_nonzero(leave))
            if leaving:
                answers.put(rows[leave], segment.exit, confidence[leave], logits[leave])
            if leaving == len(rows):
                break
            assert output is not None  # only the deepest has none, and there all rows leave
            hidden = output
            if leaving:  # where nobody leaves nothing is copied
                stay = np.flatnonzero(~leave)
                rows, hidden, state = rows[stay], output.take(stay, axis=0), compact(state, stay)
        if not np.isfinite(answers.probability).all():
            raise EngineError("answers", "logits that are not finite", "train and export again")
        return answers
