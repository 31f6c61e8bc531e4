"""Hand-made segments, and the engine that runs them."""

from pathlib import Path

import hand_made
import pytest

from exitkit.engine.engine import Engine
from exitkit.policy.policy import Policy


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Segments of exits 1, 2 and 4; read-only for their users."""
    folder = tmp_path_factory.mktemp("segments")
    return [
        hand_made.segment(position, folder / f"segment_{exit}.onnx")
        for position, exit in enumerate(hand_made.EXITS)
    ]


@pytest.fixture(scope="session")
def engine(files: list[Path]) -> Engine:
    """The engine on these segments, at whose thresholds nobody leaves early."""
    policy = Policy("hand-made", hand_made.EXITS, (1.0, 1.0), hand_made.TEMPERATURES)
    return Engine(hand_made.load(files), policy)
