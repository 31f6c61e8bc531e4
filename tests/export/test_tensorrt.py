"""Engines are built here for real, on the processor, by TensorRT-RTX."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from exitkit.atomic import sha256
from exitkit.bundle import EngineFile
from exitkit.errors import ConfigError, ExportError
from exitkit.export import onnx, segments, tensorrt
from exitkit.export.onnx import OnnxFile
from exitkit.export.precision import half, int8
from exitkit.models.build import build

SHAPE = (3, 8, 8)


@pytest.fixture
def written(tiny_files: list[OnnxFile]) -> Path:
    return tiny_files[0].path


def test_an_engine_is_built_ahead_of_time_for_named_targets(
    written: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    builder = tensorrt.find(("sm89", "sm120"))
    engine = tensorrt.build(builder, written, SHAPE, tmp_path / "segment_2.engine")
    assert (tmp_path / "segment_2.engine").stat().st_size > 10_000
    assert engine == EngineFile(
        "segment_2.engine",
        "tensorrt_rtx",
        builder.module.__version__,
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
    config = tensorrt._config(builder, maker, "hidden", SHAPE)
    assert not config.get_flag(trt.BuilderFlag.TF32)


def at_a_gpu(patch: pytest.MonkeyPatch, capability: tuple[int, int], *packages: str) -> None:
    """Pretend that there is a GPU, or with (0, 0) none, and which builders are installed."""
    patch.setattr(torch.cuda, "is_available", lambda: capability > (0, 0))
    patch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    patch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    patch.setattr(tensorrt.trt, "package", lambda name: name if name in packages else None)


def test_without_a_gpu_it_builds_for_ampere_ada_and_blackwell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_a_gpu(monkeypatch, (0, 0), "tensorrt", "tensorrt_rtx")
    builder = tensorrt.find()
    assert (builder.name, builder.targets, builder.device) == (
        "tensorrt_rtx",
        ("sm80", "sm86", "sm89", "sm120"),
        "",
    )


def test_at_a_gpu_it_builds_for_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    at_a_gpu(monkeypatch, (9, 0), "tensorrt", "tensorrt_rtx")
    builder = tensorrt.find()
    assert (builder.name, builder.targets, builder.device) == ("tensorrt", ("sm90",), "a GPU")
    assert tensorrt.find(("sm80", "sm89")).name == "tensorrt_rtx"  # others were named
    at_a_gpu(monkeypatch, (8, 9), "tensorrt_rtx")
    builder = tensorrt.find()
    assert (builder.name, builder.targets, builder.device) == ("tensorrt_rtx", ("sm89",), "")


@pytest.mark.parametrize(
    ("capability", "packages"), [((9, 0), ("tensorrt_rtx",)), ((9, 0), ()), ((8, 9), ())]
)
def test_at_a_gpu_it_never_builds_for_others_unasked(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], packages: tuple[str, ...]
) -> None:
    at_a_gpu(monkeypatch, capability, *packages)
    words = r'for a GPU \(sm\d\d\): .*; pip install "exitkit\[trt\]", or name .* --trt-target'
    with pytest.raises(ExportError, match=words):
        tensorrt.find()


def test_a_refusal_carries_the_builders_own_words(written: Path, tmp_path: Path) -> None:
    # Turing has no float32 matrix product in TensorRT-RTX.
    with pytest.raises(ExportError, match=r"segment_2\.onnx for sm75: .*FP32 GEMM") as caught:
        tensorrt.build(tensorrt.find(("sm75",)), written, SHAPE, tmp_path / "x.engine")
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a graph")
    with pytest.raises(ExportError, match=r"broken\.onnx"):
        tensorrt.build(
            tensorrt.find(("sm89",)), tmp_path / "broken.onnx", SHAPE, tmp_path / "broken.engine"
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
        tensorrt.find(("sm89",))
    assert caught.value.exit_code == 1


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, tuple[int, ...]]:
    """Files of a small ResNet-18 up to exits 1 and 2, and what they take."""
    folder = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(0)
    pieces = segments.cut(build("resnet18", 5, width=0.125).eval(), (1, 2))
    return {
        onnx.write(piece, shape, folder / f"segment_{piece.exit}.onnx").path: shape
        for piece, shape in zip(pieces, segments.input_shapes(pieces, 32, 32), strict=True)
    }


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_resnet_in_fewer_bits_is_built(
    resnet: dict[Path, tuple[int, ...]], precision: str, tmp_path: Path
) -> None:
    builder, before = tensorrt.find(("sm89",)), None
    for plain, shape in resnet.items():
        file = tmp_path / plain.name
        if precision == "fp16":
            half.convert(plain, file)
        else:
            images = np.random.default_rng(0).random((40, *shape), dtype=np.float32)
            int8.quantise(plain, file, [images], signed=True, before=before)
        before = file
        built = tensorrt.build(builder, file, shape, file.with_suffix(".engine"))
        assert built.onnx == sha256(file)
        assert file.with_suffix(".engine").stat().st_size > 10_000


def test_the_profile_has_the_manifests_shape(written: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"segment_2\.onnx for sm89: tensorrt_rtx refused it"):
        tensorrt.build(tensorrt.find(("sm89",)), written, (3, 9, 9), tmp_path / "x.engine")


class Config:
    """A builder's configuration, as far as times of kernels go; those of other GPUs it refuses."""

    def __init__(self) -> None:
        self.cache: Any = None

    def create_timing_cache(self, held: bytes) -> Any:
        return None if held == b"damaged" else SimpleNamespace(serialize=lambda: held or b"new")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        if cache.serialize() == b"of another GPU":
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.cache


@pytest.mark.parametrize("held", [b"damaged", b"of another GPU", None])
def test_times_that_do_not_hold_are_measured_anew(tmp_path: Path, held: bytes | None) -> None:
    file = tmp_path / "cache" / "x.timing"
    if held is not None:
        file.parent.mkdir()
        file.write_bytes(held)
    config = Config()
    tensorrt.read_timings(config, file)
    tensorrt.write_timings(config, file)
    assert file.read_bytes() == b"new"
    assert list(file.parent.iterdir()) == [file]
    file.write_bytes(b"measured")
    tensorrt.read_timings(config, file)
    assert config.cache.serialize() == b"measured"


def test_times_hold_for_one_version_and_one_kind_of_gpu(user_cache: Path) -> None:
    def file(version: str, device: str) -> Path:
        module = SimpleNamespace(__version__=version)
        return tensorrt.timing_file(tensorrt.Builder(module, "tensorrt", ("sm89",), device))

    assert file("11.4.0", "NVIDIA L4") == user_cache / "tensorrt" / "11.4.0-NVIDIA-L4.timing"
    names = {file(v, d) for v in ("11.4.0", "11.5.0") for d in ("NVIDIA L4", "NVIDIA L40S")}
    assert len(names) == 4
