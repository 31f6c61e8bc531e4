"""What another precision changed: accuracy and exit shares before and after, on the same images.

Before: the trained float32 network with the policy that was fitted on its scores. After: the
converted one with the policy that was fitted on its own.

Each exit by itself, and the policy, may lose the share `Limits.accuracy` of all images, and two
standard errors of that loss: where g images were gained and l lost, (l - g) / N has the standard
error sqrt(l + g) / N, and without it a split of some hundred images would refuse by chance. That
is much on few images, so whoever exports is told when it is more than the share itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitkit.errors import DataError, ParityError
from exitkit.export.limits import STANDARD_ERRORS, Limits
from exitkit.policy import metrics, solvers
from exitkit.policy.policy import Policy
from exitkit.policy.solvers import Point
from exitkit.scores import Scores

SCHEMA = "1.1"


@dataclass(frozen=True)
class ExitChange:
    """What one exit, or the policy, answers on all images.

    Attributes:
        exit: its number; None of the policy.
        before, after: share of right answers, 0..1.
        gained, lost: images that only the converted network, or only the trained one, gets right.
        limit: how large a share may be lost.
    """

    exit: int | None
    before: float
    after: float
    gained: int
    lost: int
    limit: float

    @property
    def failure(self) -> str:
        """What is wrong, in words; empty where no more is lost than may be."""
        if self.before - self.after <= self.limit:
            return ""
        answer = "the policy" if self.exit is None else f"exit {self.exit}"
        return (
            f"{answer}: {100 * (self.before - self.after):.2f} points of accuracy are lost "
            f"(limit {100 * self.limit:.2f})"
        )


@dataclass(frozen=True)
class Change:
    """Both networks on the images of one split.

    Attributes:
        precision: of the converted one.
        split: name of the split.
        images: how many.
        exits: one row per kept exit, shallow to deep.
        policy: each network under its own.
        before, after: their operating points.
        temperatures_before, temperatures_after: of these policies.
    """

    precision: str
    split: str
    images: int
    exits: tuple[ExitChange, ...]
    policy: ExitChange
    before: Point
    after: Point
    temperatures_before: tuple[float, ...]
    temperatures_after: tuple[float, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """What is wrong, in words; empty where neither an exit nor the policy loses too much."""
        return tuple(row.failure for row in (*self.exits, self.policy) if row.failure)

    def notes(self, limits: Limits) -> tuple[str, ...]:
        """Return what the user should know: that the images are too few to tell a loss."""
        worst = max((*self.exits, self.policy), key=lambda row: row.limit)
        if worst.limit <= 2 * limits.accuracy:
            return ()
        where = "under the policy" if worst.exit is None else f"at exit {worst.exit}"
        return (
            f"{self.images} images of the {self.split} split cannot tell "
            f"{100 * limits.accuracy:.1f} points of accuracy from chance: {self.precision} was "
            f"allowed to lose {100 * worst.limit:.1f} {where}; hold more images out "
            "(--set tune_share)",
        )

    def require(self) -> None:
        """Raise ParityError unless every exit and the policy keep their accuracy."""
        if self.failures:
            raise ParityError(
                f"{self.precision} as accurate as float32 on {self.images} images of the "
                f"{self.split} split",
                "; ".join(self.failures),
                "nothing was written; export it with --precision float32",
                self.to_json(),
                self.rows(),
            )

    def rows(self) -> list[dict[str, Any]]:  # Any: numbers and words of a table
        """Return one table row per exit and one for the policy, for people."""
        return rows(self.to_json())

    def to_json(self) -> dict[str, Any]:  # Any: a JSON value
        """Return the table of parity.json."""
        return {"schema": SCHEMA, "passed": not self.failures, **asdict(self)}


def rows(change: Mapping[str, Any]) -> list[dict[str, Any]]:  # Any: JSON values
    """Return one table row per exit and one for the policy, of what `Change.to_json` gave.

    Raises:
        KeyError, TypeError, ValueError: it is something else.
    """
    before, after = change["before"], change["after"]
    exits = [
        {
            "answer": f"exit {row['exit']}",
            "accuracy before": float(row["before"]),
            "accuracy after": float(row["after"]),
            "share before": float(left),
            "share after": float(leaves),
        }
        for row, left, leaves in zip(
            change["exits"], before["shares"], after["shares"], strict=True
        )
    ]
    policy = {
        "answer": "policy",
        "accuracy before": float(before["accuracy"]),
        "accuracy after": float(after["accuracy"]),
        "share before": 1.0,
        "share after": 1.0,
    }
    return [*exits, policy]


def compare(
    trained: Scores, before: Policy, converted: Scores, after: Policy, limits: Limits
) -> Change:
    """Compare two networks on the images of one split.

    Args:
        trained: scores of the trained network; exits that are not kept are left out.
        before: the policy fitted on them.
        converted: scores of the converted segments, of the kept exits.
        after: the policy fitted on them.
        limits: of the precision.

    Raises:
        DataError: the scores are of other images.
        BundleError: a policy belongs to other scores.
    """
    kept = trained.keep(converted.exits, converted.macs)
    pairs = ((kept.index, converted.index), (kept.labels, converted.labels))
    if kept.split != converted.split or not all(np.array_equal(a, b) for a, b in pairs):
        raise DataError(
            f"accuracy before and after {limits.precision}",
            f"scores of other images ({kept.split}: {len(kept.labels)}, "
            f"{converted.split}: {len(converted.labels)})",
            "score the same split with both",
        )
    labels = kept.labels
    right, still = (
        _policy_right(side, policy) for side, policy in ((kept, before), (converted, after))
    )
    return Change(
        limits.precision,
        converted.split,
        len(labels),
        by_exit(kept.exits, kept.logits, converted.logits, labels, limits),
        _change(None, right, still, limits, STANDARD_ERRORS),
        solvers.operating_point(kept, before),
        solvers.operating_point(converted, after),
        before.temperatures,
        after.temperatures,
    )


def by_exit(
    exits: Sequence[int],
    trained: NDArray[np.float32],
    converted: NDArray[np.float32],
    labels: NDArray[np.int64],
    limits: Limits,
    errors: float = STANDARD_ERRORS,
) -> tuple[ExitChange, ...]:
    """Return what each exit answers rightly before and after.

    Args:
        exits: their K numbers.
        trained: [K, N, C] logits of the trained network.
        converted: [K, N, C].
        labels: [N] true classes.
        limits: of the precision.
        errors: how many standard errors of the loss are allowed beyond them.
    """
    return tuple(
        _change(number, metrics.correct(old, labels), metrics.correct(new, labels), limits, errors)
        for number, old, new in zip(exits, trained, converted, strict=True)
    )


def _policy_right(scores: Scores, policy: Policy) -> NDArray[np.bool_]:
    """Return [N] which images are answered rightly where the policy lets them leave."""
    taken = solvers.exits_taken(scores, policy)
    right: NDArray[np.bool_] = (
        scores.logits[taken, np.arange(len(taken))].argmax(axis=1) == scores.labels
    )
    return right


def _change(
    number: int | None,
    right: NDArray[np.bool_],
    still: NDArray[np.bool_],
    limits: Limits,
    errors: float,
) -> ExitChange:
    gained, lost = int((still & ~right).sum()), int((right & ~still).sum())
    limit = limits.accuracy + errors * math.sqrt(gained + lost) / len(right)
    return ExitChange(number, float(right.mean()), float(still.mean()), gained, lost, limit)
