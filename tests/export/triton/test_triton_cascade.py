"""Variant A: the file that exits by itself, run as a client would see it."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tiny_export import Tiny


def answers(
    repository: Path, images: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(str(repository / "tiny" / "1" / "model.onnx"))
    found = session.run(
        ["exit", "confidence", "probabilities"], {"images": images, "thresholds": thresholds}
    )
    return found[0], found[1], found[2]


@pytest.mark.parametrize("rows", [1, 5, 24])
def test_it_takes_the_exits_of_the_engine(tiny: Tiny, repository: Path, rows: int) -> None:
    own = np.tile(np.float32(tiny.policy.thresholds), (rows, 1))
    exits, confidence, probabilities = answers(repository, tiny.images[:rows], own)
    wanted = tiny.engine.answer(tiny.images[:rows])
    assert exits.tolist() == wanted.exit.tolist()
    assert rows < 24 or set(exits.tolist()) == {1, 2, 3}
    np.testing.assert_allclose(confidence, wanted.probability, rtol=1e-5)
    assert probabilities.argmax(axis=1).tolist() == wanted.label.tolist()


def test_every_row_has_its_own_thresholds(tiny: Tiny, repository: Path) -> None:
    own = np.random.default_rng(0).choice(np.float32([0, 0.5, 0.9, 1]), (24, 2))
    exits, *_ = answers(repository, tiny.images, own)
    assert exits.tolist() == tiny.engine.answer(tiny.images, thresholds=own).exit.tolist()
    assert len(set(exits.tolist())) == 3
