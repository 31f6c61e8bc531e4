"""TensorRT engines of forms, built for real on the processor by TensorRT-RTX."""

from pathlib import Path

import hand_made
import numpy as np
import pytest
from hand_made import EXITS, TEMPERATURES

from exitkit.errors import ExportError
from exitkit.export import tensorrt
from exitkit.export.forms.table import FORMS
from exitkit.export.precision import calibration, int8

IMAGE = (3, 8, 8)


@pytest.mark.parametrize("name", ["chain", "all"])
def test_an_engine_is_built_with_all_that_decides_inside(
    name: str, files: list[Path], tmp_path: Path
) -> None:
    builder = tensorrt.find(("sm89",))
    FORMS[name](files, EXITS, TEMPERATURES, tmp_path / "form.onnx", {})
    engine = tensorrt.build(builder, tmp_path / "form.onnx", IMAGE, tmp_path / "form.engine")
    assert (tmp_path / "form.engine").stat().st_size > 10_000
    assert engine.batches == (1, 8, 64)


def test_an_engine_of_a_single_exit_is_built(files: list[Path], tmp_path: Path) -> None:
    FORMS["chain"](files[2:], (4,), (1.9,), tmp_path / "form.onnx", {})
    builder = tensorrt.find(("sm89",))
    tensorrt.build(builder, tmp_path / "form.onnx", (6, 4, 4), tmp_path / "form.engine")
    assert (tmp_path / "form.engine").stat().st_size > 10_000


def test_tensorrt_rtx_has_no_operator_for_the_cascade(files: list[Path], tmp_path: Path) -> None:
    # Why there is a chain. Should this fail one day, the chain may no longer be needed.
    FORMS["cascade"](files, EXITS, TEMPERATURES, tmp_path / "form.onnx", {})
    builder = tensorrt.find(("sm89",))
    with pytest.raises(ExportError, match="NonZero"):
        tensorrt.build(builder, tmp_path / "form.onnx", IMAGE, tmp_path / "form.engine")


def test_a_chain_of_int8_is_built_of_the_kind_that_trt_asks_for(
    files: list[Path], tmp_path: Path
) -> None:
    segments, builder = hand_made.load(files), tensorrt.find(("sm89",))
    images = [np.random.default_rng(0).standard_normal((32, *IMAGE), dtype=np.float32)]
    for kind in ("signed", "processor"):
        (tmp_path / kind).mkdir()
        made: list[Path] = []
        for position, file in enumerate(files):
            batches = calibration.hidden(segments, position, images)
            before = made[-1] if made else None
            made.append(tmp_path / kind / file.name)
            int8.quantise(file, made[-1], batches, signed=kind == "signed", before=before)
        FORMS["chain"](made, EXITS, TEMPERATURES, tmp_path / f"{kind}.onnx", {})
    tensorrt.build(builder, tmp_path / "signed.onnx", IMAGE, tmp_path / "signed.engine")
    assert (tmp_path / "signed.engine").stat().st_size > 10_000
    with pytest.raises(ExportError, match="refused it"):
        tensorrt.build(builder, tmp_path / "processor.onnx", IMAGE, tmp_path / "other.engine")
