"""The last minute of one model, second by second: what the page draws.

Seconds are of `time.monotonic`, which all processes of a machine share, so that rows of several
of them add up.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from exitkit.serve.tables import Table

SECONDS = 60
# "Now" is the last so many seconds: long enough to be steady, short enough to follow the load.
NOW_S = 10
# Latencies are kept in buckets, each so many times the one before: percentiles are right to 2 %.
GROWTH = math.log(1.04)
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


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
    seconds = [rows.get(str(int(now) - age)) or _empty() for age in range(SECONDS)]
    # Buckets as numbers, once: this runs on the event loop, and a minute has thousands.
    spreads = [Counter({int(b): n for b, n in row["latency"].items()}) for row in seconds]
    late, minute = seconds[:NOW_S], Counter[int]()
    for spread in spreads:
        minute.update(spread)
    requests, images = (sum(row[name] for row in late) for name in ("requests", "images"))
    # The second that has just begun counts as what it is: a part of one.
    span = min(NOW_S - 1 + now % 1, max(uptime_s, 1.0))
    point = None
    if images:
        macs, confidence = (sum(row[name] for row in late) for name in ("macs", "confidence"))
        point = {
            "seconds": NOW_S,
            "images": images,
            "macs_fraction": macs / (images * plain_macs),
            "confidence": confidence / images,
            "p50_ms": percentiles(sum(spreads[:NOW_S], Counter()))["p50"],
        }
    return {
        "images_per_s": images / span,
        "requests_per_s": requests / span,
        "latency_ms": {**percentiles(minute), "requests": minute.total()},
        "now": point,
        "history": [
            {
                "age_s": age,
                "requests": seconds[age]["requests"],
                "images": seconds[age]["images"],
                **{f"{name}_ms": ms for name, ms in percentiles(spreads[age]).items()},
                "exits": {str(k): seconds[age]["exits"].get(str(k), 0) for k in exits},
            }
            for age in reversed(range(SECONDS))
        ],
    }


def percentiles(spread: Mapping[int, int]) -> dict[str, float | None]:
    """Return milliseconds that 50, 95 and 99 % of the requests did not pass; None without any."""
    found: dict[str, float | None] = dict.fromkeys(SHARES)
    total, passed = sum(spread.values()), 0
    left = iter(SHARES.items())
    name, share = next(left)
    for bucket in sorted(spread):
        passed += spread[bucket]
        while passed >= share * total:
            found[name] = round(math.exp(bucket * GROWTH) * 1e3, 3)
            name, share = next(left, ("", 2.0))
    return found


def _empty() -> Table:
    return {"requests": 0, "images": 0, "macs": 0.0, "confidence": 0.0, "exits": {}, "latency": {}}
