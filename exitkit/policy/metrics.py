"""How good and how honest each exit is, from a table of scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from exitkit.policy import criteria
from exitkit.scores import Scores

BINS = 15


@dataclass(frozen=True)
class Bin:
    """One bin (low, high] of confidence; confidence and accuracy are None where it is empty."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def correct(logits: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"]) -> NDArray[np.bool_]:
    """Tell which rows are answered right; of equal logits the first counts, as argmax has it."""
    right: NDArray[np.bool_] = logits.argmax(axis=1) == labels
    return right


def top(logits: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"], k: int) -> float:
    """Return the share of rows whose label is among the k largest logits, 0..1."""
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    rank = (logits > own).sum(axis=1) + ((logits == own) & earlier).sum(axis=1)
    return float((rank < k).mean())


def nll(
    logits: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"], temperature: float = 1.0
) -> float:
    """Return the mean negative log-likelihood of the labels, in nats."""
    z = logits.astype(np.float64) / temperature
    z -= z.max(axis=1, keepdims=True)
    return float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(labels)), labels]).mean())


def reliability(
    confidence: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"], bins: int = BINS
) -> list[Bin]:
    """Return equal bins (lo, hi] of confidence with their mean confidence and accuracy."""
    # The edges are numbers of the confidences' own type, so that 0.2 lies in (0, 0.2].
    edges = np.linspace(0.0, 1.0, bins + 1).astype(confidence.dtype)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    told = np.bincount(place, weights=confidence, minlength=bins)
    hits = np.bincount(place, weights=right, minlength=bins)
    return [
        Bin(
            b / bins,
            (b + 1) / bins,
            int(count[b]),
            float(told[b] / count[b]) if count[b] else None,
            float(hits[b] / count[b]) if count[b] else None,
        )
        for b in range(bins)
    ]


def calibration_error(table: Sequence[Bin]) -> float:
    """Return the mean distance of accuracy and confidence, bins weighted by their counts."""
    total = sum(row.count for row in table)
    gaps = (
        row.count * abs(row.accuracy - row.confidence)
        for row in table
        if row.accuracy is not None and row.confidence is not None
    )
    return sum(gaps) / total


def ece(
    probabilities: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"], bins: int = BINS
) -> float:
    """Return the expected calibration error of the largest probability, 0..1, equal bins."""
    right = correct(probabilities, labels)
    return calibration_error(reliability(probabilities.max(axis=1), right, bins))


def per_exit(
    scores: Scores, temperatures: Sequence[float] | None = None
) -> list[dict[str, float | int]]:
    """Return one row per exit over all images: exit, top1, top5, nll, ece, macs.

    Args:
        scores: the table.
        temperatures: per exit; without them the probabilities are judged as trained.
    """
    told = temperatures if temperatures is not None else (1.0,) * len(scores.exits)
    return [
        {
            "exit": number,
            "top1": top(logits, scores.labels, 1),
            "top5": top(logits, scores.labels, 5),
            "nll": nll(logits, scores.labels, temperature),
            "ece": ece(criteria.probabilities(logits, temperature), scores.labels),
            "macs": float(macs),
        }
        for number, logits, macs, temperature in zip(
            scores.exits, scores.logits, scores.macs, told, strict=True
        )
    ]
