"""The bundle's sweep: what each threshold gives and costs, and where the one in force lies."""

import bisect
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from exitkit.bundle import SWEEP, Manifest
from exitkit.errors import BundleError
from exitkit.policy.policy import Policy
from exitkit.policy.solvers import Point

PERCENT = 100


@dataclass(frozen=True)
class Tradeoff:
    """Accuracy against cost on the tune split, and the policy that serves.

    Attributes:
        exits: numbers of the kept exits.
        macs: multiply-adds of leaving at each of them.
        plain_macs: of the network without exits.
        points: of one shared threshold, rising.
        chosen: the point that export chose, None where the bundle names none.
        thresholds: of the policy, one per exit but the deepest.
        in_force: the point of these thresholds, None where the sweep cannot tell.
        exact: whether that point stands in the sweep; otherwise it lies between two that do.
    """

    exits: tuple[int, ...]
    macs: tuple[int, ...]
    plain_macs: int
    points: tuple[Point, ...]
    chosen: Point | None
    thresholds: tuple[float, ...]
    in_force: Point | None
    exact: bool

    def to_json(self, now: Sequence[float]) -> dict[str, Any]:  # Any: whatever JSON can hold
        """Return the whole sweep; every number in it was computed on the tune split.

        Args:
            now: thresholds in force, which `in_force` is the point of.
        """
        point, exact = locate(self.points, self.chosen, now)
        table = asdict(replace(self, in_force=point, exact=exact))
        return {"split": "tune", **table}


def read(folder: Path, manifest: Manifest, policy: Policy) -> Tradeoff:
    """Read a bundle's sweep and find the policy's point on it.

    Raises:
        BundleError: the sweep is missing or is none.
    """
    path = Path(folder) / SWEEP
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        points = tuple(map(_point, table["points"]))
        chosen = table.get("chosen")
        chosen = None if chosen is None else _point(chosen)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(str(path), f"no sweep ({error!r})", "export it again") from error
    point, exact = locate(points, chosen, policy.thresholds)
    return Tradeoff(
        manifest.exits,
        tuple(accumulate(segment.macs for segment in manifest.segments)),
        manifest.plain_macs,
        points,
        chosen,
        policy.thresholds,
        point,
        exact,
    )


def locate(
    points: Sequence[Point], chosen: Point | None, thresholds: Sequence[float]
) -> tuple[Point | None, bool]:
    """Return the point of `thresholds`, and whether it stands in the sweep as it is.

    Between two points of the sweep every number is interpolated linearly. Thresholds that differ
    from exit to exit have no point on a sweep of one shared threshold.
    """
    if not points or len(set(thresholds)) > 1:
        return None, False
    # A single exit has no threshold: every point says the same.
    threshold = float(thresholds[0] if thresholds else points[0].threshold or 0.0)
    by_threshold = {np.float32(p.threshold): p for p in (*points, *([chosen] if chosen else []))}
    if np.float32(threshold) in by_threshold:
        return by_threshold[np.float32(threshold)], True
    grid = sorted(float(p.threshold or 0.0) for p in points)
    if not grid[0] < threshold < grid[-1]:
        return None, False
    above = bisect.bisect(grid, threshold)
    start, end = grid[above - 1], grid[above]
    low, high = by_threshold[np.float32(start)], by_threshold[np.float32(end)]
    share = (threshold - start) / (end - start)

    def mix(a: float, b: float) -> float:
        return a + share * (b - a)

    between = Point(
        threshold=threshold,
        accuracy=mix(low.accuracy, high.accuracy),
        mean_macs=mix(low.mean_macs, high.mean_macs),
        shares=tuple(mix(a, b) for a, b in zip(low.shares, high.shares, strict=True)),
        exit_accuracy=tuple(None for _ in low.shares),
        deepest_accuracy=low.deepest_accuracy,
    )
    return between, False


def describe(tradeoff: Tradeoff) -> list[str]:
    """Say the operating point in force in a few lines of text."""
    names = [f"{t:.4g}" for t in tradeoff.thresholds]
    shared = len(set(names)) == 1
    head = f"threshold {names[0]}" if shared else f"thresholds {', '.join(names) or 'none'}"
    point = tradeoff.in_force
    if point is None:
        return [f"{head}: not on the bundle's sweep, its operating point is unknown"]
    how = "computed on the tune split" + ("" if tradeoff.exact else ", between two points")
    share = PERCENT * point.mean_macs / tradeoff.plain_macs
    shares = ", ".join(
        f"exit {k} {PERCENT * s:.1f} %" for k, s in zip(tradeoff.exits, point.shares, strict=True)
    )
    return [
        f"{head}: accuracy {PERCENT * point.accuracy:.2f} % ({how})",
        f"{point.mean_macs / 1e6:.2f} M MACs an image, {share:.1f} % of the plain network's "
        f"{tradeoff.plain_macs / 1e6:.2f} M (computed)",
        f"images that leave at {shares} (computed)",
    ]


def _point(row: dict[str, Any]) -> Point:  # Any: a JSON value
    columns: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
    return Point(**columns)
