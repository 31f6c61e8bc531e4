"""The smallest settings that use every part, and how two runs are compared."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from exitkit import journal, scores
from exitkit.runs import Run
from exitkit.train import checkpoint


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "data": str(folder),
        "arch": "resnet18",
        "width": 0.125,
        "epochs": 3,
        "batch_size": 16,
        "lr": 0.05,
        "image_size": 32,
        "device": "cpu",
        "precision": "float32",
        "tune_share": 0.2,
        "threads": 1,
        **changes,
    }


def assert_same(found: Any, expected: Any, where: str = "state") -> None:
    """Compare nested tables bit by bit."""
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{where}[{number}]")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
        assert found.stride() == expected.stride(), where
    else:
        assert found == expected, where


def assert_same_runs(found: Run, expected: Run) -> None:
    """Compare everything that two runs have learned and said, but the time that they took."""
    assert_same(checkpoint.load(found.checkpoint), checkpoint.load(expected.checkpoint))
    one, other = (checkpoint.load_network(run.network) for run in (found, expected))
    assert_same(one, other, "network.pt")
    one, other = (scores.load(run.scores("tune"), "tune") for run in (found, expected))
    assert one.network == other.network
    np.testing.assert_array_equal(one.logits, other.logits)
    assert _told(found) == _told(expected)
    assert len(list(journal.read(found.journal, "finish"))) == 1


def _told(run: Run) -> list[dict[str, Any]]:
    names = ("epoch", "epochs", "loss", "terms", "observations", "accuracy", "lr", "selected")
    return [{name: row[name] for name in names} for row in journal.epochs(run.journal)]
