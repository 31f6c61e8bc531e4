"""The open table of scores: what every exit said about every image of one split.

Policies, reports and certificates work on this table alone, so anyone's exits can be judged with
it. The file is a plain `.npz` (no pickles) with these arrays:

    schema       int, 1
    split        str: "tune", "certify" or "test"
    network      str: digest of the weights that gave the scores
    exits        [K] int64, exit numbers, shallow to deep
    macs         [K] float64, multiply-adds of leaving at each exit, earlier heads included
    logits       [K, N, C] float32
    labels       [N] int64
    index        [N] int64, row of each image in its data set
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exitkit.atomic import replacing
from exitkit.errors import DataError

SCHEMA = 1
SplitName = Literal["tune", "certify", "test"]
# What NumPy raises over files that are truncated or no archives.
_UNREADABLE = (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Scores:
    """Scores of one split; see the module for shapes and units."""

    split: str
    network: str
    exits: tuple[int, ...]
    macs: NDArray[np.float64]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    index: NDArray[np.int64]

    def __post_init__(self) -> None:
        k, n = len(self.exits), len(self.labels)
        if self.logits.ndim != 3 or self.logits.shape[:2] != (k, n) or self.macs.shape != (k,):
            raise DataError(
                f"scores of {k} exits and {n} images",
                f"logits {self.logits.shape}, macs {self.macs.shape}",
                "give logits [K, N, C] and macs [K]",
            )

    def keep(self, exits: tuple[int, ...], macs: NDArray[np.float64]) -> "Scores":
        """Return the scores of some exits only, with the costs of a network that has just them."""
        rows = [self.exits.index(k) for k in exits]
        return Scores(
            self.split, self.network, exits, macs, self.logits[rows], self.labels, self.index
        )


def save(scores: Scores, path: Path) -> None:
    """Write the table, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            schema=SCHEMA,
            split=scores.split,
            network=scores.network,
            exits=np.asarray(scores.exits, dtype=np.int64),
            macs=scores.macs,
            logits=scores.logits,
            labels=scores.labels,
            index=scores.index,
        )


def load(path: Path, split: SplitName | None = None) -> Scores:
    """Read a table; where `split` is given, refuse scores of another split.

    Raises:
        DataError: the file is missing, no such table, of another schema, or of another split.
    """
    try:
        # Given a path, NumPy leaves the file of a damaged archive open.
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            if int(file["schema"]) != SCHEMA:
                raise DataError(str(path), f"schema {file['schema']}", f"write schema {SCHEMA}")
            scores = Scores(
                str(file["split"]),
                str(file["network"]),
                tuple(int(k) for k in file["exits"]),
                file["macs"],
                file["logits"],
                file["labels"],
                file["index"],
            )
    except _UNREADABLE as error:
        raise DataError(
            str(path), f"no table of scores ({error})", "run exitkit evaluate"
        ) from error
    if split is not None and scores.split != split:
        raise DataError(
            f"{split} scores", f"{path} holds {scores.split} scores", "name the other file"
        )
    return scores
