"""Temperatures and thresholds of a bundle, fitted on the tune split's scores."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exitkit.atomic import write_text
from exitkit.policy import solvers, temperature
from exitkit.policy.policy import Policy
from exitkit.policy.solvers import Point
from exitkit.scores import Scores

SCHEMA = "1.0"


@dataclass(frozen=True)
class Fit:
    """What the tune scores suggest.

    Attributes:
        policy: temperature per exit, and the chosen threshold at every exit but the deepest.
        points: the sweep of one shared threshold from 0 to 1.
        chosen: the point whose threshold the policy has.
        images: how many images it was fitted on.
        split: theirs.
    """

    policy: Policy
    points: tuple[Point, ...]
    chosen: Point
    images: int
    split: str


def fit(scores: Scores, exits: tuple[int, ...], macs: Sequence[int]) -> Fit:
    """Fit temperatures per exit, sweep the threshold, choose one.

    Args:
        scores: of every exit of the run.
        exits: those that are kept.
        macs: multiply-adds of leaving at each of them, kept heads on the way included.
    """
    kept = scores.keep(exits, np.asarray(macs, dtype=np.float64))
    temperatures = tuple(temperature.fit(logits, kept.labels) for logits in kept.logits)
    points = solvers.sweep(kept, temperatures, kept.network)
    chosen = solvers.choose(points)
    # Every point of a sweep has one shared threshold.
    thresholds = (float(chosen.threshold or 0.0),) * (len(exits) - 1)
    policy = Policy(kept.network, exits, thresholds, temperatures)
    return Fit(policy, tuple(points), chosen, len(kept.labels), kept.split)


def write_sweep(path: Path, fitted: Fit) -> None:
    """Write sweep.json: every point and the chosen one."""
    table = {
        "schema": SCHEMA,
        "network": fitted.policy.network,
        "split": fitted.split,
        "images": fitted.images,
        "exits": list(fitted.policy.exits),
        "points": [dataclasses.asdict(point) for point in fitted.points],
        "chosen": dataclasses.asdict(fitted.chosen),
    }
    write_text(path, json.dumps(table, indent=1) + "\n")
