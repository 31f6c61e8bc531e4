"""One small trained run for all tests of the area."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_network import network

from exitkit.export import onnx, segments
from exitkit.export.onnx import OnnxFile
from exitkit.runs import Run


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> list[OnnxFile]:
    """Segments of exits 2 and 3 of the tiny network; read-only for their users."""
    folder = tmp_path_factory.mktemp("tiny")
    pieces = segments.cut(network(), (2, 3))
    return [
        onnx.write(piece, shape, folder / f"segment_{piece.exit}.onnx")
        for piece, shape in zip(pieces, segments.input_shapes(pieces, 8, 8), strict=True)
    ]


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, write_digits: Callable[..., Path]) -> Run:
    """A narrow ResNet-18 after two epochs on three digits, `deep`; only its journal grows."""
    from exitkit.train import session

    return session.train(
        name="small",
        root=tmp_path_factory.mktemp("runs"),
        method="deep",
        arch="resnet18",
        width=0.125,
        data=str(write_digits(tmp_path_factory.mktemp("data") / "digits", train=40)),
        tune_share=0.4,
        image_size=32,
        epochs=2,
        batch_size=24,
        precision="float32",
        device="cpu",
        threads=1,
    )
