"""The table of scores: what is no table is named, whatever NumPy makes of it."""

from pathlib import Path

import numpy as np
import pytest

from exitkit import scores
from exitkit.errors import DataError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "scores-test.npz"
    logits = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    table = scores.Scores(
        "test", "abc", (2, 4), np.array([1.0, 2.0]), logits, np.arange(4) % 3, np.arange(4)
    )
    scores.save(table, found)
    return found


def test_what_is_saved_is_loaded(path: Path) -> None:
    table = scores.load(path, "test")
    assert (table.split, table.network, table.exits) == ("test", "abc", (2, 4))
    assert table.logits[1, 3].tolist() == [21.0, 22.0, 23.0]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_table_is_named(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"scores-test\.npz: no table of scores"):
        scores.load(path)


def test_an_edited_table_is_named(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    place = whole.index(b"logits.npy") + 40
    whole[place : place + 8] = bytes(8)
    path.write_bytes(whole)
    with pytest.raises(DataError, match="no table of scores"):
        scores.load(path)


def test_scores_of_another_split_are_refused(path: Path) -> None:
    with pytest.raises(DataError, match="holds test scores"):
        scores.load(path, "tune")
