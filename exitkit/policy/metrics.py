"""How good and how honest each exit is, from a table of scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from exitkit.policy import criteria
from exitkit.scores import Scores

BINS = 15
PAPER_BINS = 10  # of the expected calibration error that papers print


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
    return float(among(logits, labels, k).mean())


def among(
    logits: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"], k: int
) -> NDArray[np.bool_]:
    """Tell which rows have their label among the k largest logits; of equal ones the first."""
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    rank = (logits > own).sum(axis=1) + ((logits == own) & earlier).sum(axis=1)
    inside: NDArray[np.bool_] = rank < k
    return inside


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


def doubt(logits: Float[np.ndarray, "N C"]) -> Float[np.ndarray, " N"]:
    """Return (1 - p) / p of the largest softmax probability p: rises as confidence falls.

    Unlike p, which is 1 for every sure row, it still tells sure rows apart.
    """
    z = logits.astype(np.float64)
    top_class = z.argmax(axis=1)
    z -= z.max(axis=1, keepdims=True)
    others = np.exp(z)
    others[np.arange(len(z)), top_class] = 0.0
    total: NDArray[np.float64] = others.sum(axis=1)
    return total


def aurc(doubts: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"]) -> float:
    """Return the area under the risk-coverage curve (Geifman and El-Yaniv 2017), 0..1.

    The surest i rows are covered; risk is the share of errors among them; the mean over i = 1..N.
    Of equal doubts the earlier row counts as surer.
    """
    wrong = ~right[np.argsort(doubts, kind="stable")]
    return float((np.cumsum(wrong) / np.arange(1, len(wrong) + 1)).mean())


def least_aurc(errors: int, rows: int) -> float:
    """Return the area where every error is less sure than every right row.

    E-AURC (Geifman, Uziel and El-Yaniv 2019) is `aurc` minus this.
    """
    j = np.arange(1, errors + 1)
    return float((j / (rows - errors + j)).sum() / rows)


def as_published(scores: Scores) -> list[dict[str, str | float | None]]:
    """Return the rows that papers print, one per exit and two over all exits.

    The ensemble is the mean of all exits' logits. The oracle union counts a row as right if any
    exit is right (some papers call that an ensemble); nobody knows which exit to ask, so it has
    neither likelihood nor calibration. A single exit has neither of the two.

    Keys: answer, top1_error, top5_error, nll, ece10 (shares, 0..1, ten bins), aurc_1000,
    eaurc_1000 (times 1000).
    """
    found = [
        _published(f"exit {number}", logits, scores.labels)
        for number, logits in zip(scores.exits, scores.logits, strict=True)
    ]
    if len(found) == 1:
        return found
    union: dict[str, str | float | None] = {"answer": "oracle union"}
    for key, k in (("top1_error", 1), ("top5_error", 5)):
        hits = [among(logits, scores.labels, k) for logits in scores.logits]
        union[key] = float(1 - np.logical_or.reduce(hits).mean())
    union |= dict.fromkeys(("nll", "ece10", "aurc_1000", "eaurc_1000"))
    mean = scores.logits.mean(axis=0, dtype=np.float64)
    return [*found, _published("ensemble", mean, scores.labels), union]


def _published(
    answer: str, logits: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"]
) -> dict[str, str | float | None]:
    right = correct(logits, labels)
    area = aurc(doubt(logits), right)
    return {
        "answer": answer,
        "top1_error": 1 - top(logits, labels, 1),
        "top5_error": 1 - top(logits, labels, 5),
        "nll": nll(logits, labels),
        "ece10": ece(criteria.probabilities(logits, 1.0), labels, PAPER_BINS),
        "aurc_1000": 1000 * area,
        "eaurc_1000": max(0.0, 1000 * (area - least_aurc(int((~right).sum()), len(right)))),
    }


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
