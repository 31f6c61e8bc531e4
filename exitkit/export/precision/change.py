"""What another precision changed: accuracy and exit shares before and after, on the same images.

Before: the trained float32 network with the policy that was fitted on its scores. After: the
converted one with the policy that was fitted on its own.

What is limited is what each exit answers, not the operating point: there the thresholds are
chosen anew, and may give accuracy for compute as they always may. An exit may lose the share
`Limits.accuracy` of all images, and two standard errors of that loss: where g images were gained
and l lost, (l - g) / N has the standard error sqrt(l + g) / N, and without it a split of some
hundred images would refuse by chance.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from exitkit.errors import DataError, ParityError
from exitkit.export.limits import STANDARD_ERRORS, Limits
from exitkit.policy import metrics, solvers
from exitkit.policy.policy import Policy
from exitkit.policy.solvers import Point
from exitkit.scores import Scores

SCHEMA = "1.0"


@dataclass(frozen=True)
class ExitChange:
    """What one exit answers on all images.

    Attributes:
        exit: its number.
        before, after: share of right answers, 0..1.
        gained, lost: images that only the converted network, or only the trained one, gets right.
        limit: how large a share may be lost.
    """

    exit: int
    before: float
    after: float
    gained: int
    lost: int
    limit: float


@dataclass(frozen=True)
class Change:
    """Both networks on the images of one split.

    Attributes:
        precision: of the converted one.
        split: name of the split.
        images: how many.
        exits: one row per kept exit, shallow to deep.
        before, after: each under its own policy.
        temperatures_before, temperatures_after: of these policies.
    """

    precision: str
    split: str
    images: int
    exits: tuple[ExitChange, ...]
    before: Point
    after: Point
    temperatures_before: tuple[float, ...]
    temperatures_after: tuple[float, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """What is wrong, in words; empty where no exit loses too much."""
        return tuple(
            f"exit {row.exit}: {100 * (row.before - row.after):.2f} points of accuracy are lost "
            f"(limit {100 * row.limit:.2f})"
            for row in self.exits
            if not row.before - row.after <= row.limit
        )

    def require(self) -> None:
        """Raise ParityError unless every exit keeps its accuracy."""
        if self.failures:
            raise ParityError(
                f"{self.precision} as accurate as float32 on {self.images} images of the "
                f"{self.split} split",
                "; ".join(self.failures),
                "nothing was written; export it with --precision float32",
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
    exits = []
    for number, old, new in zip(kept.exits, kept.logits, converted.logits, strict=True):
        right, still = (metrics.correct(z, kept.labels) for z in (old, new))
        gained, lost = int((still & ~right).sum()), int((right & ~still).sum())
        error = math.sqrt(gained + lost) / len(right)
        limit = limits.accuracy + STANDARD_ERRORS * error
        exits.append(
            ExitChange(number, float(right.mean()), float(still.mean()), gained, lost, limit)
        )
    return Change(
        limits.precision,
        converted.split,
        len(converted.labels),
        tuple(exits),
        solvers.operating_point(kept, before),
        solvers.operating_point(converted, after),
        before.temperatures,
        after.temperatures,
    )
