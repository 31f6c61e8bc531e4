"""Engines are built here for real, on the processor, by TensorRT-RTX."""

import sys
from pathlib import Path

import pytest

from exitkit.atomic import sha256
from exitkit.errors import ConfigError, ExportError
from exitkit.export import tensorrt
from exitkit.export.onnx import OnnxFile


@pytest.fixture
def written(tiny_files: list[OnnxFile]) -> Path:
    return tiny_files[0].path


def test_an_engine_is_built_ahead_of_time_for_named_targets(
    written: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    builder = tensorrt.find(("sm89", "sm120"))
    engine = tensorrt.build(builder, written, tmp_path / "segment_2.engine")
    assert (tmp_path / "segment_2.engine").stat().st_size > 10_000
    assert engine == tensorrt.EngineFile(
        "segment_2.engine",
        f"tensorrt_rtx {builder.module.__version__}",
        ("sm89", "sm120"),
        "",
        (1, 8, 64),
        sha256(written),
    )
    assert capfd.readouterr() == ("", "")


def test_float32_is_not_rounded(written: Path) -> None:
    builder = tensorrt.find(("sm89",))
    trt = builder.module
    maker = trt.Builder(trt.Logger())
    network = maker.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, trt.Logger()).parse(written.read_bytes())
    config = tensorrt._config(builder, maker, network)
    assert not config.get_flag(trt.BuilderFlag.TF32)


def test_without_targets_it_builds_for_ampere_ada_and_blackwell() -> None:
    builder = tensorrt.find()
    if builder.name == "tensorrt_rtx":
        assert builder.targets == ("sm80", "sm86", "sm89", "sm120")
    else:
        assert builder.device


def test_a_refusal_carries_the_builders_own_words(written: Path, tmp_path: Path) -> None:
    # Turing has no float32 matrix product in TensorRT-RTX.
    with pytest.raises(ExportError, match=r"segment_2\.onnx for sm75: .*FP32 GEMM") as caught:
        tensorrt.build(tensorrt.find(("sm75",)), written, tmp_path / "x.engine")
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a graph")
    with pytest.raises(ExportError, match=r"broken\.onnx"):
        tensorrt.build(
            tensorrt.find(("sm89",)), tmp_path / "broken.onnx", tmp_path / "broken.engine"
        )
    assert [p.name for p in tmp_path.iterdir()] == ["broken.onnx"]


def test_an_unknown_target_names_the_choices() -> None:
    # H100 and H200: TensorRT-RTX has no sm90.
    with pytest.raises(ConfigError, match="sm120, sm121, sm75, sm80, sm86, sm89") as caught:
        tensorrt.find(("sm90",))
    assert caught.value.exit_code == 2


def test_the_bindings_alone_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # None: as if not installed
    assert tensorrt.find(("sm89",)).module.__name__.startswith("tensorrt_rtx_bindings")


def test_without_any_tensorrt_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ExportError, match=r'pip install "exitkit\[trt-rtx\]"') as caught:
        tensorrt.find()
    assert caught.value.exit_code == 1
