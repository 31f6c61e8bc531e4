"""What the engine answers, once for all forms that are made of its segments."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exitkit.engine.engine import Engine, all_logits
from exitkit.errors import DataError
from exitkit.export.agreement import ROUNDING, Comparison
from exitkit.policy import criteria

BATCH = 32
MOST = 0.01  # that a probability may be off, however far its logits may be

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Expected:
    """What a form is held against.

    Attributes:
        images: [N, 3, H, W], normalised.
        thresholds: [L, K-1].
        exit, label: [L, N].
        confidence: [L, N].
        near: [L, N], whether a threshold on the way is too near to tell, or two classes are.
        logits: [K, N, C], of every exit.
        limit: [K], how far a logit may be off.
        probabilities: [K, N, C], of every exit.
        reach: [K, N], how far they may be off.
        exits: numbers of the kept exits.
        temperatures: theirs.
    """

    images: Floats
    thresholds: Floats
    exit: Numbers
    label: Numbers
    confidence: Floats
    near: NDArray[np.bool_]
    logits: Floats
    limit: NDArray[np.float64]
    probabilities: Floats
    reach: Floats
    exits: tuple[int, ...]
    temperatures: tuple[float, ...]


def expect(engine: Engine, images: Floats) -> Expected:
    """Return what the engine answers for images [N, 3, H, W] at deciles of each exit's confidence.

    Raises:
        DataError: there are no images.
    """
    if len(images) == 0:
        raise DataError("a check of forms", "no images", "give some")
    logits = np.concatenate(
        [all_logits(engine.segments, rows) for rows in _batches(images)], axis=1
    )
    # Both sides are the same here: what is wanted is the deciles, and how near is near.
    same = Comparison(logits, logits, engine.policy)
    thresholds = same.levels()
    # What the engine answers at each setting follows from these logits; asking it would run the
    # network once more for each, and that it answers so is the gate's part to prove.
    told = [same.trained(np.broadcast_to(row, (len(images), len(row)))) for row in thresholds]
    taken, near = (np.stack(one) for one in zip(*told, strict=True))  # [L, N]
    chosen = taken, np.arange(len(images))
    temperatures = np.asarray(engine.policy.temperatures)
    steep = same.confidence * (1 - same.confidence)  # [K, N], by the log odds
    reach = np.minimum((2 * same.limit / temperatures)[:, None] * steep, MOST) + ROUNDING
    return Expected(
        images,
        thresholds,
        np.asarray(engine.policy.exits)[taken],
        same.label[chosen],
        same.confidence[chosen],
        near,
        logits,
        same.limit,
        shares(logits, engine.policy.temperatures),
        reach.astype(np.float32),
        engine.policy.exits,
        engine.policy.temperatures,
    )


def shares(logits: Floats, temperatures: Sequence[float]) -> Floats:
    """Return the probabilities [K, N, C] that logits [K, N, C] mean."""
    exits = zip(logits, temperatures, strict=True)
    with np.errstate(invalid="ignore"):  # an infinite logit makes them no numbers, which fails
        return np.stack([criteria.probabilities(z, t) for z, t in exits])


def _batches(images: Floats) -> Iterator[Floats]:
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH]
