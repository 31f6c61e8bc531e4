"""Operating points: thresholds on the tune split, by what they lose or by what they save."""

from collections.abc import Sequence

from exitkit.policy.solvers import Point, choose

EQUAL = "equal accuracy"
# Points of accuracy that count as equal.
DROP = 0.003


def equal(points: Sequence[Point]) -> float:
    """Return the cheapest threshold that loses at most `DROP` against the deepest exit."""
    found = choose(points, DROP, least_share=0.0).threshold
    assert found is not None
    return found


def saving(points: Sequence[Point], plain_macs: float, share: float) -> float:
    """Return the threshold that saves nearest to `share` of the plain network's multiply-adds."""
    best = min(points, key=lambda point: abs(1 - point.mean_macs / plain_macs - share))
    assert best.threshold is not None
    return best.threshold
