"""TensorRT engines of forms, built for real on the processor by TensorRT-RTX."""

from pathlib import Path

import pytest
from hand_made import EXITS, TEMPERATURES

from exitkit.errors import ExportError
from exitkit.export import tensorrt
from exitkit.export.forms.table import FORMS


@pytest.mark.parametrize("name", ["chain", "all"])
def test_an_engine_is_built_with_all_that_decides_inside(
    name: str, files: list[Path], tmp_path: Path
) -> None:
    builder = tensorrt.find(("sm89",))
    FORMS[name](files, EXITS, TEMPERATURES, tmp_path / "form.onnx", {})
    engine = tensorrt.build(builder, tmp_path / "form.onnx", tmp_path / "form.engine")
    assert (tmp_path / "form.engine").stat().st_size > 10_000
    assert engine.batches == (1, 8, 64)


def test_an_engine_of_a_single_exit_is_built(files: list[Path], tmp_path: Path) -> None:
    FORMS["chain"](files[2:], (4,), (1.9,), tmp_path / "form.onnx", {})
    tensorrt.build(tensorrt.find(("sm89",)), tmp_path / "form.onnx", tmp_path / "form.engine")
    assert (tmp_path / "form.engine").stat().st_size > 10_000


def test_tensorrt_rtx_has_no_operator_for_the_cascade(files: list[Path], tmp_path: Path) -> None:
    # Why there is a chain. Should this fail one day, the chain may no longer be needed.
    FORMS["cascade"](files, EXITS, TEMPERATURES, tmp_path / "form.onnx", {})
    with pytest.raises(ExportError, match="NonZero"):
        tensorrt.build(tensorrt.find(("sm89",)), tmp_path / "form.onnx", tmp_path / "form.engine")
