"""Do two tables of logits decide alike? Trained network against exported one, exit by exit.

Nearly equal numbers decide differently where they meet a border: two classes with the same
logit, a confidence on a threshold. Such images are counted apart, not as disagreement. How near
is near follows from how far a logit may be off. Where no logit is off by more than d,

* the difference of two logits is off by at most 2 d;
* the log odds of the largest probability p, (z_top - logsumexp of the others) / T, are off by at
  most 2 d / T, because logsumexp never moves further than its arguments do. So p, whose
  derivative by its log odds is p (1 - p), is off by about 2 d p (1 - p) / T, plus rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exitkit.policy import criteria
from exitkit.policy.policy import Policy

SHARE = 1e-4  # of the largest logit: how far a logit may be off
DECILES = tuple(d / 10 for d in range(1, 10))
ROUNDING = 5e-7  # of a float32 probability, after an exponential and a sum


@dataclass(frozen=True)
class ExitAgreement:
    """What one exit of the exported network does against the trained one.

    Attributes:
        exit: its number.
        images: how many were compared.
        scale: largest |logit| of the trained network.
        limit: how far a logit may be off.
        difference: how far the worst logit is off.
        ties: images whose best two classes are too close to tell apart.
        top1_different: other images that get another class.
        decisions: how often the trained network lets an image leave here, over all decisions
            that were compared.
        near: how often of these the image was too near to a threshold, or a tie.
        exit_different: how often of the rest the exported network takes another exit.
        label_different: how often of the rest it takes this exit and gives another label.
    """

    exit: int
    images: int
    scale: float
    limit: float
    difference: float
    ties: int
    top1_different: int
    decisions: int = 0
    near: int = 0
    exit_different: int = 0
    label_different: int = 0

    @property
    def failures(self) -> tuple[str, ...]:
        """What is wrong, in words; empty where the exit passes."""
        told = self.decisions - self.near
        found = []
        if not self.difference <= self.limit:  # true also of a difference that is not a number
            found.append(f"a logit is off by {self.difference:.3g} (limit {self.limit:.3g})")
        if self.top1_different:
            found.append(f"{self.top1_different} of {self.images} images get another class")
        if self.exit_different:
            found.append(f"{self.exit_different} of {told} decisions take another exit")
        if self.label_different:
            found.append(f"{self.label_different} of {told} decisions give another label")
        return tuple(f"exit {self.exit}: {text}" for text in found)


@dataclass(frozen=True)
class Decisions:
    """What the exported network decides.

    Attributes:
        thresholds: [N, K-1], each image's own.
        exit: [N] number of the exit that answers.
        label: [N] class that it names.
    """

    thresholds: NDArray[np.float32]
    exit: NDArray[np.int64]
    label: NDArray[np.int64]


class Comparison:
    """Trained logits against exported ones, and the decisions of both.

    Args:
        trained: [K, N, C] float32, the yardstick.
        exported: [K, N, C] float32.
        policy: its exits and temperatures; its thresholds are not used.
    """

    def __init__(
        self, trained: NDArray[np.float32], exported: NDArray[np.float32], policy: Policy
    ) -> None:
        self.policy = policy
        self.images = trained.shape[1]
        # [K]
        self.scale = np.abs(trained).max(axis=(1, 2)).astype(np.float64)
        self.limit = SHARE * self.scale
        self.difference = np.abs(trained.astype(np.float64) - exported).max(axis=(1, 2))
        # [K, N]
        best = np.sort(trained, axis=2)[:, :, -2:]
        self.tie = best[:, :, 1] - best[:, :, 0] <= 2 * self.limit[:, None]
        self.label, self.exported_label = trained.argmax(axis=2), exported.argmax(axis=2)
        self.confidence = _confidences(trained, policy)
        self.exported_confidence = _confidences(exported, policy)

    def levels(self) -> NDArray[np.float32]:
        """Return [L, K-1]: row by row, each early exit's threshold at one decile of its confidence.

        Rows that are equal stand there once. A single exit has one row without thresholds.
        """
        early = self.confidence[:-1].astype(np.float64)
        if len(early) == 0:
            return np.empty((1, 0), dtype=np.float32)
        table = np.quantile(early, DECILES, axis=1).astype(np.float32).clip(0, 1)
        return np.unique(table, axis=0)

    def by_logits(self, level: NDArray[np.float32]) -> Decisions:
        """Return what follows from the exported logits if all images have the thresholds [K-1]."""
        thresholds = np.broadcast_to(level, (self.images, len(level)))
        taken = _taken(self.exported_confidence, thresholds)
        label = self.exported_label[taken, np.arange(self.images)]
        return Decisions(thresholds, np.asarray(self.policy.exits)[taken], label)

    def trained(
        self, thresholds: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return where the trained network lets each image leave, and whether that can be told.

        Args:
            thresholds: [N, K-1].

        Returns:
            taken: [N] position among the kept exits.
            near: [N] whether a threshold on the way is too near, or the label is a tie.
        """
        taken = _taken(self.confidence, thresholds)
        near = self.tie[taken, np.arange(self.images)]
        for k, threshold in enumerate(thresholds.T):
            confidence = self.confidence[k]
            spread = np.maximum(confidence * (1 - confidence), threshold * (1 - threshold))
            reach = 2 * self.limit[k] / self.policy.temperatures[k] * spread + ROUNDING
            near |= (taken >= k) & (np.abs(confidence - threshold) <= reach)
        return taken, near

    def rows(self, decisions: Sequence[Decisions]) -> tuple[ExitAgreement, ...]:
        """Return one row per exit; its decisions are those whose trained network leaves there."""
        k, counts = len(self.limit), np.zeros((4, len(self.limit)), dtype=np.int64)
        for made in decisions:
            taken, near = self.trained(made.thresholds)
            label = self.label[taken, np.arange(self.images)]
            other_exit = ~near & (made.exit != np.asarray(self.policy.exits)[taken])
            other_label = ~near & ~other_exit & (made.label != label)
            for row, chosen in enumerate((np.ones_like(near), near, other_exit, other_label)):
                counts[row] += np.bincount(taken[chosen], minlength=k)
        different = (self.exported_label != self.label) & ~self.tie
        return tuple(
            ExitAgreement(
                number,
                self.images,
                float(self.scale[i]),
                float(self.limit[i]),
                float(self.difference[i]),
                int(self.tie[i].sum()),
                int(different[i].sum()),
                *(int(count) for count in counts[:, i]),
            )
            for i, number in enumerate(self.policy.exits)
        )


def _confidences(logits: NDArray[np.float32], policy: Policy) -> NDArray[np.float32]:
    """Return [K, N] of logits [K, N, C]."""
    exits = zip(logits, policy.temperatures, strict=True)
    return np.stack([criteria.max_probability(z, t) for z, t in exits])


def _taken(confidence: NDArray[np.float32], thresholds: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return [N] the first position whose confidence reaches its threshold, else the last."""
    k, n = confidence.shape
    taken = np.full(n, k - 1, dtype=np.int64)
    for position in reversed(range(k - 1)):
        taken[criteria.leaves(confidence[position], thresholds[:, position])] = position
    return taken
