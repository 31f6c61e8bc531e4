"""The images that a run was trained on: found again, and told apart from others.

Whoever opens a run's data later must get the same division: after a change of the folder, rows
that were trained on may stand in the tune split, and class numbers may mean other classes.
"""

import hashlib
from pathlib import Path

from exitkit import data
from exitkit.data.split import DataSets
from exitkit.errors import DataError
from exitkit.runs import Run
from exitkit.train import checkpoint


def fingerprint(sets: DataSets) -> str:
    """Return 16 hexadecimal digits that change with the number, order or classes of the images."""
    digest = hashlib.sha256(repr(sets.classes).encode())
    for split in (sets.train, sets.tune):
        digest.update(split.labels.numpy().tobytes() + b"|")
    return digest.hexdigest()[:16]


def load(run: Run, cache: Path | None = None) -> DataSets:
    """Load the data sets that a run with a finished epoch was trained on.

    Raises:
        CheckpointError: the run's checkpoint is missing or damaged.
        DataError: the data are not there, or others than in training.
    """
    sets = data.load(checkpoint.read_config(run), cache=cache)
    refuse_others(run, checkpoint.load(run.checkpoint).get("data"), sets)
    return sets


def refuse_others(run: Run, trained_on: str | None, sets: DataSets) -> None:
    """Refuse data sets whose fingerprint is not the one that the checkpoint holds."""
    if trained_on != fingerprint(sets):
        raise DataError(
            f"the data of run {run.name}",
            f"{sets.name} has other images or other classes now than in training",
            "bring the old data back, or train again",
        )
