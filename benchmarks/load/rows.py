"""From the rounds of a load to a row: ratios within rounds, percentiles over all samples."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from exitkit.serve.scheduling.stages import Stages
from load import samples

Found = dict[str, Any]  # Any: what `python -m load` prints


def gains(static: Sequence[Found], exiting: Sequence[Found], macs_share: float) -> Found:
    """Return throughputs, their ratio within rounds, and how much of the possible gain that is."""
    gain = ratio(rates(exiting), rates(static))
    return {
        "static_per_s": statistics.median(rates(static)),
        "exits_per_s": statistics.median(rates(exiting)),
        "gain": gain,
        "gain_over_saved": gain * macs_share,
    }


def rates(found: Sequence[Found]) -> list[float]:
    """Return images per second, round by round."""
    return [one["per_s"] for one in found]


def ratio(upper: Sequence[float], lower: Sequence[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(upper, lower, strict=True))


def pool(found: Sequence[Found]) -> str:
    """Return the raw latencies of all rounds, one round behind the other."""
    return samples.pack(np.concatenate([samples.unpack(one["samples"]) for one in found]))


def latency(name: str, found: Sequence[Found]) -> Found:
    """Return percentiles over all rounds' samples, those without an answer among them."""
    every = samples.unpack(pool(found))
    prefix = f"{name}_" if name else ""
    return {
        f"{prefix}p50_ms": samples.percentile(every, 0.5),
        f"{prefix}p99_ms": samples.percentile(every, 0.99),
    }


def ratios(found: Found) -> Found:
    """Return how much sooner, or later, answers come with exits than without."""
    return {f"{p}_ratio": found[f"exits_{p}_ms"] / found[f"static_{p}_ms"] for p in ("p50", "p99")}


def checks(found: Sequence[Found]) -> Found:
    """Return what else was seen: answers, wrong ones, failures, and the generator's own share."""
    return {
        "answered": sum(one["answered"] for one in found),
        "wrong": sum(one["wrong"] for one in found),
        "failed": sum(sum(one["status"].values()) for one in found),
        "late_p99_ms": max(one["late_p99_ms"] for one in found),
        "others": max(one["others"] for one in found),
        "generator_cpu": max(one["generator_cpu"] for one in found),
    }


def dearer(seconds: Sequence[Sequence[float]], beside_ms: float) -> Stages:
    """Return stages of which the first costs `beside_ms` more for every row."""
    first = [s + beside_ms / 1e3 * (b + 1) for b, s in enumerate(seconds[0])]
    return Stages([first, *seconds[1:]])
