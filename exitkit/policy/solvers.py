"""What thresholds would cost and give, read off a table of scores.

Every exit's logits are known for every image, so no network runs here. With one threshold t for
all exits, image i has left by exit k exactly where the running maximum of its confidences
M_k = max_{j <= k} g_j reaches t. Sorting each M_k once answers for every t: O(K N log N) in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exitkit.errors import ConfigError, DataError
from exitkit.policy import criteria, metrics
from exitkit.policy.policy import Policy
from exitkit.scores import Scores

GRID = 150


@dataclass(frozen=True)
class Point:
    """One operating point: what a policy does on one split.

    Attributes:
        threshold: the one that all exits share, or None where they differ.
        accuracy: share of right answers, 0..1.
        mean_macs: multiply-adds per image, mean over images.
        shares: per exit, the share of images that leave there.
        exit_accuracy: per exit, of the images that leave there; None where none does.
        deepest_accuracy: of the deepest exit on all images: what leaving early is held against.
    """

    threshold: float | None
    accuracy: float
    mean_macs: float
    shares: tuple[float, ...]
    exit_accuracy: tuple[float | None, ...]
    deepest_accuracy: float


def exits_taken(scores: Scores, policy: Policy) -> NDArray[np.int64]:
    """Return [N] the position, 0-based among the kept exits, at which each image leaves."""
    policy.require(scores.network, scores.exits)
    n = len(scores.labels)
    taken = np.full(n, len(scores.exits) - 1, dtype=np.int64)
    running = np.ones(n, dtype=np.bool_)
    state = policy.start(n)
    for position in range(len(scores.exits) - 1):
        # The whole table is asked at every exit: an image that has left stays where it was.
        leave, _, state = policy.step(position, scores.logits[position], state)
        taken[running & leave] = position
        running &= ~leave
    return taken


def operating_point(scores: Scores, policy: Policy) -> Point:
    """Return what `policy` would do on the images of `scores`.

    Raises:
        BundleError: the policy belongs to another network or to other exits.
    """
    _images(scores)
    taken = exits_taken(scores, policy)
    right = np.stack([metrics.correct(z, scores.labels) for z in scores.logits])
    k = len(scores.exits)
    left = np.bincount(taken, minlength=k)
    hits = np.bincount(taken, weights=right[taken, np.arange(len(taken))], minlength=k)
    first = set(policy.thresholds)
    shared = policy.thresholds[0] if len(first) == 1 else None
    return _point(shared, left, hits, scores.macs, float(right[-1].mean()))


def sweep(scores: Scores, temperatures: Sequence[float], network: str) -> list[Point]:
    """Return the operating points of one shared threshold, rising from 0 to 1.

    The grid is 0, 1 and quantiles of every exit's confidences, about 150 thresholds; each is a
    float32 number, as the comparison is.

    Args:
        scores: of the kept exits.
        temperatures: per exit.
        network: digest that the scores must carry.

    Raises:
        DataError: the scores are of another network, or there are no images.
    """
    _images(scores)
    if scores.network != network:
        raise DataError(
            f"scores of network {network[:12]}",
            f"these are of network {scores.network[:12]}",
            "run exitkit evaluate again",
        )
    right = np.stack([metrics.correct(z, scores.labels) for z in scores.logits])
    confidence = np.stack(
        [criteria.max_probability(z, t) for z, t in zip(scores.logits, temperatures, strict=True)]
    )
    thresholds = _grid(confidence[:-1])
    left, hits = _counts(confidence[:-1], right, thresholds)
    deepest = float(right[-1].mean())
    return [
        _point(float(t), left[i], hits[i], scores.macs, deepest) for i, t in enumerate(thresholds)
    ]


def choose(points: Sequence[Point], drop: float = 0.005, least_share: float = 0.1) -> Point:
    """Return the cheapest point that loses at most `drop` against the deepest exit's accuracy.

    Points at which every exit answers at least `least_share` of the images come first; without
    such a one the cheapest within `drop`; without that the most accurate. Of equally cheap
    points the more accurate wins, then the higher threshold.
    """
    if not points:
        raise ConfigError("a threshold", "no operating points", "sweep a table of scores first")
    within = [p for p in points if p.accuracy >= p.deepest_accuracy - drop - 1e-12]
    busy = [p for p in within if min(p.shares) >= least_share]
    pool = busy or within
    if pool:
        return min(pool, key=lambda p: (p.mean_macs, -p.accuracy, -(p.threshold or 0.0)))
    return max(points, key=lambda p: (p.accuracy, -p.mean_macs, p.threshold or 0.0))


def _grid(confidence: NDArray[np.float32]) -> NDArray[np.float32]:
    if len(confidence) == 0:  # a single exit: whatever the threshold, everything leaves there
        return np.zeros(1, dtype=np.float32)
    steps = np.linspace(0.0, 1.0, (GRID - 2) // len(confidence))
    found = np.quantile(confidence, steps, axis=1, method="higher").ravel()
    return np.unique(np.concatenate([found, [0.0, 1.0]]).astype(np.float32))


def _counts(
    confidence: NDArray[np.float32], right: NDArray[np.bool_], thresholds: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return [T, K] how many images leave at each exit, and how many of those are right."""
    n, exits = right.shape[1], len(right)
    left = np.zeros((len(thresholds), exits), dtype=np.int64)
    hits = np.zeros_like(left)
    gone = np.zeros(len(thresholds), dtype=np.int64)
    best = np.full(n, -np.inf, dtype=np.float32)
    # order: the images by rising M_k; those from `place` on have left by exit k.
    order, place = np.arange(n), np.full(len(thresholds), n)
    for k in range(exits):
        # Right answers of exit k among the images that had left before it do not count.
        before = _right_from(right[k][order], place)
        if k < exits - 1:
            best = np.maximum(best, confidence[k])
            order = np.argsort(best, kind="stable")
            place = np.searchsorted(best[order], thresholds, side="left")
        else:
            place = np.zeros_like(place)
        left[:, k] = (n - place) - gone
        hits[:, k] = _right_from(right[k][order], place) - before
        gone = n - place
    return left, hits


def _right_from(right: NDArray[np.bool_], place: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the right answers at and after each place."""
    after = np.concatenate([[0], np.cumsum(right[::-1])])[::-1]
    counts: NDArray[np.int64] = after[place]
    return counts


def _point(
    threshold: float | None,
    left: NDArray[np.int64],
    hits: NDArray[np.int64] | NDArray[np.float64],
    macs: NDArray[np.float64],
    deepest: float,
) -> Point:
    n = int(left.sum())
    return Point(
        threshold,
        float(hits.sum() / n),
        float((left * macs).sum() / n),
        tuple(float(x / n) for x in left),
        tuple(float(h / x) if x else None for h, x in zip(hits, left, strict=True)),
        deepest,
    )


def _images(scores: Scores) -> None:
    if len(scores.labels) == 0:
        raise DataError("an operating point", "scores of no images", "score a split with images")
    if not np.isfinite(scores.logits).all():
        raise DataError("an operating point", "logits that are not finite", "train again")
