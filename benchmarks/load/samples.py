"""What a load measured: raw latencies kept small, percentiles, and answers held against others."""

import base64
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from load import wire
from load.drive import Log


@dataclass(frozen=True)
class Expected:
    """What the offline engine answers, image by image: names of labels, exits; and the truth."""

    labels: Sequence[str]
    exits: Sequence[int]
    truth: Sequence[str]


def pack(latency_ms: NDArray[np.float64]) -> str:
    """Return latencies as text, rounded to whole microseconds; NaN, no answer, becomes -1.

    >>> pack(np.array([0.5, float("nan")]))
    'eJz7ycDA8B+IAQwvAvM='
    """
    whole = np.where(np.isnan(latency_ms), -1, np.round(np.asarray(latency_ms) * 1e3))
    return base64.b64encode(zlib.compress(whole.astype("<i4").tobytes(), 9)).decode()


def unpack(text: str) -> NDArray[np.float64]:
    """Return the latencies of `pack` in milliseconds."""
    whole = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i4")
    return np.where(whole < 0, np.nan, whole / 1e3)


def percentile(latency_ms: NDArray[np.float64], share: float) -> float:
    """Return the smallest latency that `share` of all requests kept to.

    A request without an answer is later than all others: inf where the share reaches those.
    """
    ordered = np.sort(np.where(np.isnan(latency_ms), np.inf, latency_ms))
    place = max(0, int(np.ceil(share * len(ordered))) - 1)
    return float(ordered[place])


def rate(log: Log, images: int, warm_s: float, until_s: float) -> float:
    """Return images answered per second between two moments."""
    good = [reply is not None and reply.status == 200 for reply in log.replies]
    inside = np.asarray(good) & (log.answered >= warm_s) & (log.answered < until_s)
    return float(inside.sum()) * images / (until_s - warm_s)


def judge(log: Log, asked: Sequence[Sequence[int]], expected: Expected) -> dict[str, Any]:
    """Hold every answer against the expected one.

    Args:
        log: of the load.
        asked: image numbers of each kind of request; request r is of kind r % len(asked).
        expected: by image number. An exit 0, from a server without exits, is not compared.

    Returns:
        JSON: images `answered`, `wrong` (another label or exit), `accuracy`, `left` by exit;
        requests by `status` other than 200, `broken` for those without any answer.
    """
    status: Counter[str] = Counter()
    left: Counter[int] = Counter()
    answered = wrong = right = 0
    for number, reply in enumerate(log.replies):
        if reply is None or reply.status != 200:
            status["broken" if reply is None else str(reply.status)] += 1
            continue
        images = asked[number % len(asked)]
        labels, exits = wire.read(reply)
        if not len(images) == len(labels) == len(exits):
            raise ValueError(f"{len(labels)} answers to {len(images)} images")
        for image, label, exit_ in zip(images, labels, exits, strict=True):
            same_exit = exit_ in (0, expected.exits[image])
            wrong += label != expected.labels[image] or not same_exit
            right += label == expected.truth[image]
            left[exit_] += 1
        answered += len(images)
    return {
        "answered": answered,
        "wrong": wrong,
        "accuracy": right / answered if answered else 0.0,
        "left": {str(k): count for k, count in sorted(left.items())},
        "status": dict(status),
    }
