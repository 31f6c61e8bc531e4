"""The last minute of one model, second by second: what the page draws.

Seconds are of `time.monotonic`, which all processes of a machine share, so that rows of several
of them add up.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from exitkit.serve.tables import Table, sums

SECONDS = 60
# "Now" is the last so many seconds: long enough to be steady, short enough to follow the load.
NOW_S = 10
# Latencies are kept in buckets, each so many times the one before: percentiles are right to 1 %.
GROWTH = math.log(1.02)


class History:
    """Counts requests in rows of one second; those older than a minute are forgotten.

    Args:
        rows: to go on with, by their second.
    """

    def __init__(self, rows: dict[str, Table] | None = None) -> None:
        self.rows = {} if rows is None else rows

    def add(
        self,
        now: float,
        seconds: float,
        exits: Mapping[str, int],
        macs: float,
        confidence: float,
    ) -> None:
        """Count one request that was answered at `now`.

        Args:
            now: of `time.monotonic`.
            seconds: that the request took.
            exits: images by the exit that answered.
            macs: multiply-adds of all its images.
            confidence: sum of the calibrated confidences of its images' answers.
        """
        key = str(int(now))
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = _empty()
            while len(self.rows) > SECONDS:
                del self.rows[next(iter(self.rows))]
        row["requests"] += 1
        row["macs"] += macs
        row["confidence"] += confidence
        left = row["exits"]
        for exit_, images in exits.items():
            row["images"] += images
            left[exit_] = left.get(exit_, 0) + images
        bucket = str(round(math.log(max(seconds, 1e-6)) / GROWTH))
        row["latency"][bucket] = row["latency"].get(bucket, 0) + 1


def recent(
    rows: Mapping[str, Table], exits: Sequence[int], plain_macs: float, now: float, uptime_s: float
) -> dict[str, Any]:  # Any: whatever JSON can hold
    """Return the numbers of the page: the last minute, its seconds, and the last ten of them.

    Args:
        rows: of all processes.
        exits: numbers of the kept exits.
        plain_macs: multiply-adds of one image in the network without exits.
        now: of `time.monotonic`.
        uptime_s: of the server; rates of a younger one are of that time.
    """
    empty = {**_empty(), "exits": {str(exit_): 0 for exit_ in exits}}
    seconds = [sums([empty, rows.get(str(int(now) - age), {})]) for age in range(SECONDS)]
    late, minute = sums(seconds[:NOW_S]), sums(seconds)
    # The second that has just begun counts as what it is: a part of one.
    span = min(NOW_S - 1 + now % 1, max(uptime_s, 1.0))
    point = None
    if late["images"]:
        point = {
            "seconds": NOW_S,
            "images": late["images"],
            "macs_fraction": late["macs"] / (late["images"] * plain_macs),
            "confidence": late["confidence"] / late["images"],
            "p50_ms": percentile(late["latency"], 0.5),
        }
    return {
        "images_per_s": late["images"] / span,
        "requests_per_s": late["requests"] / span,
        "latency_ms": {**_percentiles(minute["latency"], ""), "requests": minute["requests"]},
        "now": point,
        "history": [_second(age, row) for age, row in reversed(list(enumerate(seconds)))],
    }


def percentile(latency: Mapping[str, int], share: float) -> float | None:
    """Return milliseconds that `share` of the requests did not pass; None where there is none."""
    wanted = share * sum(latency.values())
    passed = 0
    for bucket in sorted(map(int, latency)):
        passed += latency[str(bucket)]
        if passed >= wanted:
            return round(math.exp(bucket * GROWTH) * 1e3, 3)
    return None


def _empty() -> Table:
    return {"requests": 0, "images": 0, "macs": 0.0, "confidence": 0.0, "exits": {}, "latency": {}}


def _second(age: int, row: Table) -> dict[str, Any]:  # Any: whatever JSON can hold
    return {
        "age_s": age,
        "requests": row["requests"],
        "images": row["images"],
        **_percentiles(row["latency"], "_ms"),
        "exits": row["exits"],
    }


def _percentiles(latency: Mapping[str, int], unit: str) -> dict[str, float | None]:
    return {f"p{p}{unit}": percentile(latency, p / 100) for p in (50, 95, 99)}
