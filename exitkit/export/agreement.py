"""Do two tables of logits decide alike? Trained network against exported one, exit by exit.

Nearly equal numbers decide differently where they meet a border: two classes with the same
logit, a confidence on a threshold. Such images are counted apart, not as disagreement. How near
is near follows from how far a logit may be off. Where no logit is off by more than d,

* the difference of two logits is off by at most 2 d;
* the log odds of the largest probability p, (z_top - logsumexp of the others) / T, are off by at
  most 2 d / T, because logsumexp never moves further than its arguments do. So p, whose
  derivative by its log odds is p (1 - p), is off by about 2 d p (1 - p) / T, plus rounding.

Eight bits bound no single logit. There d is measured, the root mean square of the error; how large
it may be is a limit of its own, and so are the shares of classes and decisions that may differ
although nothing was near.

An image that is near may still be decided otherwise, and any number may be near: so all decisions
that differ are limited too, near ones counted, at all settings of thresholds together and at
each alone, where a whole group of equal confidences could change sides (`limits.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exitkit.export.limits import FLOAT32, Limits
from exitkit.policy import criteria
from exitkit.policy.policy import Policy

DECILES = tuple(d / 10 for d in range(1, 10))
# Decisions about one image: at the deciles, at the policy's own thresholds, and the engine's.
SETTINGS = len(DECILES) + 2
ROUNDING = 5e-7  # of a float32 probability, after an exponential and a sum


@dataclass(frozen=True)
class ExitAgreement:
    """What one exit of the exported network does against the trained one.

    Attributes:
        exit: its number.
        images: how many were compared.
        scale: largest |logit| of the trained network.
        limit: how far off a logit counts as equal: what `limits` allow, or for int8 the root
            mean square of the error.
        difference: how far the worst logit is off.
        ties: images whose best two classes are too close to tell apart.
        top1_different: other images that get another class.
        decisions: how often the trained network lets an image leave here, over all decisions
            that were compared.
        near: how often of these the image was too near to a threshold, or a tie.
        exit_different: how often of the rest the exported network takes another exit.
        label_different: how often of the rest it takes this exit and gives another label.
        noise: root mean square of the error over that of the logits, see `Limits`.
        limits: what is allowed.
        raw_different: how often of all decisions, near ones too, it takes another exit or gives
            another label.
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
    noise: float = 0.0
    limits: Limits = FLOAT32
    raw_different: int = 0

    @property
    def failures(self) -> tuple[str, ...]:
        """What is wrong, in words; empty where the exit passes."""
        told = self.decisions - self.near
        few = max(self.limits.classes * self.images, 1) if self.limits.classes else 0
        rare = max(self.limits.decisions * told, SETTINGS) if self.limits.decisions else 0
        found = [
            self._logits(),
            _beyond(self.top1_different, self.images, few, "images get another class"),
            _beyond(self.exit_different, told, rare, "decisions take another exit"),
            _beyond(self.label_different, told, rare, "decisions give another label"),
        ]
        return tuple(f"exit {self.exit}: {text}" for text in found if text)

    def _logits(self) -> str:
        # "Not at most" is true also of a difference that is not a number.
        if self.limits.noise is not None:
            if not self.noise <= self.limits.noise:
                return (
                    f"the logits' error is {self.noise:.3g} of their spread "
                    f"(limit {self.limits.noise:g})"
                )
        elif not self.difference <= self.limit:
            return f"a logit is off by {self.difference:.3g} (limit {self.limit:.3g})"
        return ""


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
        policy: its exits, temperatures and thresholds.
        limits: of the export's precision.
    """

    def __init__(
        self,
        trained: NDArray[np.float32],
        exported: NDArray[np.float32],
        policy: Policy,
        limits: Limits = FLOAT32,
    ) -> None:
        self.policy, self.limits = policy, limits
        self.images = trained.shape[1]
        off = exported.astype(np.float64) - trained
        # [K]
        self.scale = np.abs(trained).max(axis=(1, 2)).astype(np.float64)
        self.difference = np.abs(off).max(axis=(1, 2))
        # What a class has with every image tells no two images apart.
        error = _spread(off)
        spread = _spread(trained - trained.mean(axis=1, keepdims=True, dtype=np.float64))
        judged = ~(error <= 0) & (limits.noise is not None)  # of an error that is no number too
        self.noise = np.divide(error, spread, out=np.where(judged, np.inf, 0.0), where=spread > 0)
        self.limit = error if limits.logit is None else limits.logit * self.scale
        # [K, N]
        best = np.sort(trained, axis=2)[:, :, -2:]
        self.tie = best[:, :, 1] - best[:, :, 0] <= 2 * self.limit[:, None]
        self.label, self.exported_label = trained.argmax(axis=2), exported.argmax(axis=2)
        self.confidence = _confidences(trained, policy)
        self.exported_confidence = _confidences(exported, policy)

    def levels(self) -> NDArray[np.float32]:
        """Return [L, K-1]: each early exit's threshold at one decile of its confidence, row by row.

        The policy's own thresholds are one row more. Rows that are equal stand there once. A
        single exit has one row without thresholds.
        """
        early = self.confidence[:-1].astype(np.float64)
        if len(early) == 0:
            return np.empty((1, 0), dtype=np.float32)
        table = np.quantile(early, DECILES, axis=1).astype(np.float32).clip(0, 1)
        own = np.asarray([self.policy.thresholds], dtype=np.float32)
        return np.unique(np.concatenate([table, own]), axis=0)

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

    def different(self, made: Decisions) -> int:
        """Return how many images take another exit or get another label, near or not."""
        taken, _ = self.trained(made.thresholds)
        elsewhere = made.exit != np.asarray(self.policy.exits)[taken]
        return int((elsewhere | (made.label != self.label[taken, np.arange(self.images)])).sum())

    def rows(self, decisions: Sequence[Decisions]) -> tuple[ExitAgreement, ...]:
        """Return one row per exit; its decisions are those whose trained network leaves there."""
        k, counts = len(self.limit), np.zeros((5, len(self.limit)), dtype=np.int64)
        for made in decisions:
            taken, near = self.trained(made.thresholds)
            label = self.label[taken, np.arange(self.images)]
            elsewhere = made.exit != np.asarray(self.policy.exits)[taken]
            raw = elsewhere | (made.label != label)
            other_exit, other_label = ~near & elsewhere, ~near & ~elsewhere & raw
            for row, chosen in enumerate((np.ones_like(near), near, other_exit, other_label, raw)):
                counts[row] += np.bincount(taken[chosen], minlength=k)
        different = (self.exported_label != self.label) & ~self.tie
        return tuple(
            ExitAgreement(
                exit=number,
                images=self.images,
                scale=float(self.scale[i]),
                limit=float(self.limit[i]),
                difference=float(self.difference[i]),
                ties=int(self.tie[i].sum()),
                top1_different=int(different[i].sum()),
                decisions=int(counts[0, i]),
                near=int(counts[1, i]),
                exit_different=int(counts[2, i]),
                label_different=int(counts[3, i]),
                raw_different=int(counts[4, i]),
                noise=float(self.noise[i]),
                limits=self.limits,
            )
            for i, number in enumerate(self.policy.exits)
        )


def _beyond(count: int, of: int, limit: float, what: str) -> str:
    """Return the sentence about a count that is over its limit, else nothing."""
    if count <= limit:
        return ""
    return f"{count} of {of} {what}" + (f" (limit {int(limit)})" if limit else "")


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [K] the root mean square of values [K, N, C] around each image's own mean."""
    with np.errstate(invalid="ignore"):  # an infinite logit makes it no number, which fails
        deviation: NDArray[np.float64] = np.sqrt(values.var(axis=2).mean(axis=1))
    return deviation


def _confidences(logits: NDArray[np.float32], policy: Policy) -> NDArray[np.float32]:
    """Return [K, N] of logits [K, N, C]."""
    exits = zip(logits, policy.temperatures, strict=True)
    with np.errstate(invalid="ignore"):
        return np.stack([criteria.max_probability(z, t) for z, t in exits])


def _taken(confidence: NDArray[np.float32], thresholds: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return [N] the first position whose confidence reaches its threshold, else the last."""
    k, n = confidence.shape
    taken = np.full(n, k - 1, dtype=np.int64)
    for position in reversed(range(k - 1)):
        taken[criteria.leaves(confidence[position], thresholds[:, position])] = position
    return taken
