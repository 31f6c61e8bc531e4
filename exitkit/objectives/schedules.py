"""Weights that change during training, as functions of the share of the run that is done."""

import math


def ramp(done: float, share: float) -> float:
    """Return exp(-5 (1 - x)^2) where x rises from 0 to 1 while `done` rises from 0 to `share`.

    Args:
        done: share of the run, 0 to 1.
        share: share of the run that the ramp takes; 0 is no ramp.
    """
    x = min(done / share, 1.0) if share > 0 else 1.0
    return math.exp(-5.0 * (1.0 - x) ** 2)
