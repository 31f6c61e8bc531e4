"""Hand-made segments, and the engine that runs them."""

from pathlib import Path

import hand_made
import onnxruntime
import pytest

from exitkit.engine.engine import Engine
from exitkit.engine.ort import OrtSegment
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
    segments = []
    for exit, file, (channels, side) in zip(
        hand_made.EXITS, files, hand_made.MAPS[:-1], strict=True
    ):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(file), options)
        shape = (channels, side, side)
        segments.append(OrtSegment(session, exit, shape, hand_made.CLASSES, "private", 1))
    policy = Policy("hand-made", hand_made.EXITS, (1.0, 1.0), hand_made.TEMPERATURES)
    return Engine(segments, policy)
