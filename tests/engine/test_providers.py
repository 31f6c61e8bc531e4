"""Providers by name, and features that stay on a device; the device here is the processor."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as native

from exitkit import bundle
from exitkit.engine import backends, bound, ort, providers, session, timing
from exitkit.engine.bound import BoundSegment, DeviceRows
from exitkit.engine.engine import Engine, gather
from exitkit.engine.providers import Provider
from exitkit.errors import ConfigError, EngineError


def rows(array: np.ndarray) -> DeviceRows:
    return DeviceRows(onnxruntime.OrtValue.ortvalue_from_numpy(array, "cpu", 0), "cpu")


class Narrow:
    """A session that takes a few rows at once, as an engine with profiles does."""

    def __init__(self, session: onnxruntime.InferenceSession, largest: int) -> None:
        self.session, self.largest, self.sizes = session, largest, []

    def run_with_iobinding(self, binding: onnxruntime.IOBinding) -> None:
        self.session.run_with_iobinding(binding)
        self.sizes.append(binding.get_outputs()[0].shape()[0])
        assert self.sizes[-1] <= self.largest

    def __getattr__(self, name: str) -> object:
        return getattr(self.session, name)


def on_device(tiny: Path, largest: int | None = None) -> list[BoundSegment]:
    """Segments whose features stay in ONNX Runtime's memory."""
    segments = []
    for piece in bundle.read_manifest(tiny).segments:
        opened = onnxruntime.InferenceSession(str(tiny / piece.file))
        given = opened if largest is None else Narrow(opened, largest)
        segments.append(
            BoundSegment(given, piece.exit, piece.input_shape, 5, "cuda", 1, "cpu", largest)
        )
    return segments


@pytest.fixture
def resident(tiny: Path, engine: Engine) -> Engine:
    """The same bundle with features that stay in ONNX Runtime's memory."""
    return Engine(on_device(tiny), engine.policy)


def test_the_written_out_gather_is_the_one_that_onnx_builds() -> None:
    hidden, kept = onnx.ValueInfoProto(name="hidden"), onnx.ValueInfoProto(name="kept")
    for value in (hidden, kept):  # of any rank
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    numbers = helper.make_tensor_value_info("rows", TensorProto.INT64, ["n"])
    node = helper.make_node("Gather", ["hidden", "rows"], ["kept"])
    graph = helper.make_graph([node], "rows", [hidden, numbers], [kept])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    assert model.SerializeToString() == bound.GATHER


@pytest.mark.parametrize("shape", [(5, 2), (5, 2, 3), (5, 2, 3, 3)])
def test_rows_are_taken_as_numpy_takes_them(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    held = rows(array)
    assert (len(held), held.shape) == (5, shape)
    for wanted in ([0, 2, 4], [3], [], [4, 0]):
        numbers = np.asarray(wanted, dtype=np.int64)
        np.testing.assert_array_equal(held.take(numbers, axis=0).numpy(), array[numbers])
    np.testing.assert_array_equal(held.numpy(), array)  # taking leaves it as it is


@pytest.mark.parametrize("shape", [(2,), (2, 3), (1, 3, 3)])
def test_rows_of_several_batches_are_joined_on_the_device(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    arrays = [random.standard_normal((n, *shape), dtype=np.float32) for n in (3, 1, 4)]
    first, *others = [rows(array) for array in arrays]
    joined = first.concat(others)
    np.testing.assert_array_equal(joined.numpy(), np.concatenate(arrays))
    np.testing.assert_array_equal(first.numpy(), arrays[0])
    picked = [(rows(arrays[2]), np.array([0, 3])), (first, None)]
    found = gather(picked)
    assert isinstance(found, DeviceRows)
    np.testing.assert_array_equal(found.numpy(), np.concatenate([arrays[2][[0, 3]], arrays[0]]))
    assert gather([(first, None)]) is first


def test_rows_of_different_stages_are_not_joined() -> None:
    with pytest.raises(EngineError, match=r"rows of one shape: shapes \(2,\), \(3,\)"):
        rows(np.zeros((1, 2), np.float32)).concat([rows(np.zeros((1, 3), np.float32))])


def test_joined_rows_are_run_like_their_own(resident: Engine, images: np.ndarray) -> None:
    first, second, _ = resident.segments
    one, two = first.run(images[:4])[1], first.run(images[4:9])[1]
    together, _ = second.run(gather([(one, np.array([1, 3])), (two, None)]))
    apart, _ = second.run(first.run(images[:9])[1])
    np.testing.assert_allclose(together, apart[[1, 3, 4, 5, 6, 7, 8]], atol=1e-5)


def test_answers_are_the_same_wherever_features_stay(
    engine: Engine, resident: Engine, images: np.ndarray
) -> None:
    for level in (0.0, 0.3, 0.5, 1.0):
        thresholds = np.full(2, level, dtype=np.float32)
        ours, theirs = (one.answer(images, thresholds) for one in (resident, engine))
        np.testing.assert_array_equal(ours.exit, theirs.exit)
        np.testing.assert_array_equal(ours.label, theirs.label)
        np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-5)
    assert len(set(engine.answer(images).exit)) > 1  # rows left and went on


@pytest.mark.parametrize("rows", [1, 7, 8, 14, 15, 64])
def test_a_batch_larger_than_a_session_takes_runs_in_parts(
    tiny: Path, engine: Engine, images: np.ndarray, rows: int
) -> None:
    narrow = on_device(tiny, largest=7)
    first, second, third = narrow
    (logits, maps), (same, whole) = (one.run(images[:rows]) for one in (first, engine.segments[0]))
    np.testing.assert_allclose(logits, same, atol=1e-5)
    np.testing.assert_allclose(maps.numpy(), whole, atol=1e-5)
    assert maps.shape == whole.shape
    assert third.run(second.run(maps)[1])[1] is None
    thresholds = np.full(2, 0.3, dtype=np.float32)
    ours = Engine(narrow, engine.policy).answer(images[:rows], thresholds)
    theirs = engine.answer(images[:rows], thresholds)
    np.testing.assert_array_equal(ours.exit, theirs.exit)
    np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-5)
    sizes = first._session.sizes
    assert sum(sizes) == 2 * rows
    assert len(sizes) == 2 * -(-rows // 7)


def test_only_tensorrt_has_a_largest_batch() -> None:
    assert Provider("tensorrt", "cuda").largest == 64
    assert Provider("cuda", "cuda").largest is Provider("cpu", "cpu").largest is None


def test_times_on_a_device_are_kept_apart_from_the_processors(
    resident: Engine, engine: Engine, tmp_path: Path
) -> None:
    for one, provider in ((engine, "cpu"), (resident, "cuda")):
        timing.write(timing.path_of(tmp_path, provider), timing.measure(one, (1,), rounds=1))
    for provider in ("cpu", "cuda"):
        kept = timing.read(timing.path_of(tmp_path, provider), provider=provider)
        assert kept.provider == provider


def test_features_are_not_brought_to_the_host(resident: Engine, images: np.ndarray) -> None:
    first, second, _ = resident.segments
    logits, onward = first.run(images)
    assert isinstance(onward, DeviceRows)
    assert isinstance(logits, np.ndarray)
    kept = logits.copy()
    assert isinstance(second.run(onward.take(np.arange(3), axis=0))[1], DeviceRows)
    for _ in range(5):
        first.run(images * 2)
    np.testing.assert_array_equal(logits, kept)  # the runtime does not write there again


def test_a_wrong_input_is_refused_before_the_runtime_sees_it(resident: Engine) -> None:
    first, second, _ = resident.segments
    with pytest.raises(EngineError, match=r"expects float32 \[n, 3, 8, 8\]"):
        first.run(np.zeros((1, 3, 9, 8), np.float32))
    with pytest.raises(EngineError, match=r"expects float32 \[n, 3, 8, 8\]: got float64"):
        first.run(np.zeros((1, 3, 8, 8), np.float64))
    with pytest.raises(EngineError, match=r"expects float32 \[n, 4, 8, 8\]"):
        second.run(rows(np.zeros((1, 4, 8, 9), np.float32)))


def test_images_in_any_memory_order_are_read_right(resident: Engine, images: np.ndarray) -> None:
    turned = np.asfortranarray(images)
    first = resident.segments[0]
    np.testing.assert_array_equal(first.run(turned)[0], first.run(images)[0])


def test_an_unknown_provider_names_the_choices(tiny: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such provider.*cpu, cuda, engines, tensorrt"):
        backends.load(tiny, bundle.read_manifest(tiny), provider="gpu")


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_built_in_names_the_package(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ConfigError, match=r"is built with cpu; .*exitkit\[serve-gpu\]") as caught:
        ort.load(tiny, bundle.read_manifest(tiny), provider=name)
    assert f"provider {name}: " in str(caught.value)


def test_another_provider_never_takes_the_place(tiny: Path) -> None:
    opened = onnxruntime.InferenceSession(str(tiny / "segment_1.onnx"))
    with pytest.raises(EngineError, match="on provider cuda: ONNX Runtime took CPUExecution"):
        Provider("cuda", "cuda").require(opened, "segment_1.onnx")
    Provider("cpu", "cpu").require(opened, "segment_1.onnx")


def test_only_the_processor_has_a_shared_pool(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="a shared pool on provider cuda"):
        backends.load(tiny, bundle.read_manifest(tiny), pool="shared", provider="cuda")


def test_tensorrt_is_told_the_shapes_and_falls_back_to_cuda_only(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "there"))
    first, last = tiny / "segment_1.onnx", tiny / "segment_3.onnx"
    (one, options), (two, rest) = Provider("tensorrt", "cuda").options((3, 8, 8), first)
    assert (one, two) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert rest == providers.CUDA
    assert options["trt_profile_min_shapes"] == "hidden:1x3x8x8"
    assert options["trt_profile_opt_shapes"] == "hidden:8x3x8x8"
    assert options["trt_profile_max_shapes"] == "hidden:64x3x8x8"
    kept = options["trt_engine_cache_path"]
    assert kept == options["trt_timing_cache_path"]
    assert Path(kept).is_dir()
    # ONNX Runtime tells engines apart by names in a graph; other weights need another folder.
    (_, again), _ = Provider("tensorrt", "cuda").options((3, 8, 8), first)
    (_, other), _ = Provider("tensorrt", "cuda").options((3, 8, 8), last)
    assert again["trt_engine_cache_path"] == kept != other["trt_engine_cache_path"]


def test_float32_stays_float32_on_a_gpu(tiny: Path) -> None:
    file = tiny / "segment_1.onnx"
    ((name, options),) = Provider("cuda", "cuda").options((3, 8, 8), file)
    assert (name, options["use_tf32"]) == ("CUDAExecutionProvider", "0")
    assert Provider("cpu", "cpu").options((3, 8, 8), file) == [("CPUExecutionProvider", {})]


def test_a_new_batch_size_makes_no_gpu_try_every_algorithm(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("cuda", "tensorrt"):
        *_, (_, options) = Provider(name, "cuda").options((3, 8, 8), tiny / "segment_1.onnx")
        assert options["cudnn_conv_algo_search"] == "HEURISTIC"


def test_what_the_runtime_says_of_libraries_is_no_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load x"))  # noqa: T201
    assert providers.find("cuda") == Provider("cuda", "cuda")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "Failed to load x\n")


def test_no_session_falls_back_by_itself(tiny: Path) -> None:
    for segment in ort.load(tiny, bundle.read_manifest(tiny)):
        assert segment._session._enable_fallback is False  # type: ignore[attr-defined]
    assert bound._gather("cpu")._enable_fallback is False


def test_rows_that_cannot_be_taken_are_an_engine_error() -> None:
    held = rows(np.zeros((3, 2), np.float32))
    with pytest.raises(EngineError, match=r"1 of 3 rows on cpu: ONNX Runtime failed .*smaller"):
        held.take(np.array([3]), axis=0)


def test_every_failure_of_the_runtime_is_known() -> None:
    meant = {
        error
        for error in vars(native).values()
        if isinstance(error, type) and issubclass(error, Exception)
    }
    # What only compiling, cancelling or a lost WebGPU device raises.
    strange = {"DeviceReset", "ModelLoadCanceled", "ModelLoaded", "ModelRequiresCompilation"}
    names = {error.__name__ for error in meant} - strange - {"NotFound"}
    assert names == {error.__name__ for error in session.FAILURES} - {"RuntimeError"}


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs a GPU"
)
def test_a_gpu_takes_the_same_exits(tiny: Path, engine: Engine, images: np.ndarray) -> None:
    segments = ort.load(tiny, bundle.read_manifest(tiny), provider="cuda")
    found = Engine(segments, engine.policy).answer(images)
    np.testing.assert_array_equal(found.exit, engine.answer(images).exit)
