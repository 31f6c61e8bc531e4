"""The torch backend, run on the processor without graphs; what needs a GPU says so."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny_network import network
from torch import Tensor, nn

from exitkit.engine.engine import Engine
from exitkit.engine.session import OrtSegment
from exitkit.errors import EngineError
from exitkit.export import graphs, torch_backend
from exitkit.export.graphs import Eager, Graphs, Place
from exitkit.export.onnx import OnnxFile
from exitkit.export.segments import cut, input_shapes
from exitkit.export.torch_backend import TorchRows, TorchSegment
from exitkit.policy.policy import Policy

CPU = torch.device("cpu")


class Overwriting(Eager):
    """Writes where it wrote before, as graphs do."""

    def record(self, module: nn.Module, hidden: Tensor) -> Callable[[], tuple[Tensor, ...]]:
        outputs = module(hidden)

        def again() -> tuple[Tensor, ...]:
            for kept, new in zip(outputs, module(hidden), strict=True):
                kept.copy_(new)
            return outputs

        return again


def loaded(place: Place, exits: tuple[int, ...] = (2, 3)) -> list[TorchSegment]:
    """Segments of the tiny network."""
    pieces = cut(network(), exits)
    shapes = input_shapes(pieces, 8, 8)
    return [TorchSegment(one, shape, 5, place) for one, shape in zip(pieces, shapes, strict=True)]


@pytest.fixture
def segments() -> list[TorchSegment]:
    return loaded(Overwriting(CPU))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).normal(1, 2, (21, 3, 8, 8)).astype(np.float32)


def answered(segments: list[TorchSegment], images: np.ndarray) -> list[np.ndarray]:
    """Logits of every segment for every image."""
    first, onward = segments[0].run(images)
    return [first, segments[1].run(onward)[0]]


def halving(segments: list[TorchSegment], images: np.ndarray) -> Policy:
    """A policy that lets about half of the images leave at exit 2."""
    policy = Policy("e" * 64, (2, 3), (0.0,), (1.0, 1.5))
    sure = Engine(segments, policy).answer(images).probability
    return policy.with_threshold(float(np.quantile(sure, 0.53)))  # between two of them


def test_answers_are_those_of_the_exported_files(
    tiny_files: list[OnnxFile], segments: list[TorchSegment], images: np.ndarray
) -> None:
    import onnxruntime

    exported = [
        OrtSegment(onnxruntime.InferenceSession(str(file.path)), k, one.input_shape, 5, "cpu", 1)
        for k, file, one in zip((2, 3), tiny_files, segments, strict=True)
    ]
    policy = halving(segments, images)
    for thresholds in (None, np.zeros(1, np.float32), np.ones(1, np.float32)):
        ours, theirs = (
            Engine(one, policy).answer(images, thresholds) for one in (segments, exported)
        )
        np.testing.assert_array_equal(ours.exit, theirs.exit)
        np.testing.assert_array_equal(ours.label, theirs.label)
        np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-5)
    assert set(Engine(segments, policy).answer(images).exit) == {2, 3}


def test_a_size_is_recorded_once_and_holds_all_batches_up_to_it(
    segments: list[TorchSegment], images: np.ndarray
) -> None:
    assert [torch_backend.size(n) for n in (0, 1, 2, 3, 4, 5, 64, 65, 1024)] == [
        1, 1, 2, 4, 4, 8, 64, 128, 1024,
    ]  # fmt: skip
    for rows in (1, 3, 4, 5, 3):
        assert segments[0].run(images[:rows])[0].shape == (rows, 5)
    assert sorted(segments[0]._recorded) == [1, 4, 8]


def test_what_an_earlier_batch_left_behind_concerns_nobody(
    segments: list[TorchSegment], images: np.ndarray
) -> None:
    fresh = answered(loaded(Overwriting(CPU)), images[:3])
    assert np.isnan(answered(segments, np.full_like(images[:4], np.nan))).all()
    for ours, wanted in zip(answered(segments, images[:3]), fresh, strict=True):
        np.testing.assert_array_equal(ours, wanted)


def test_what_came_out_stays_when_the_next_batch_runs(
    segments: list[TorchSegment], images: np.ndarray
) -> None:
    logits, onward = segments[0].run(images[:4])
    assert isinstance(onward, TorchRows)
    kept = logits.copy(), onward.numpy()
    segments[0].run(images[4:8])
    np.testing.assert_array_equal(logits, kept[0])
    np.testing.assert_array_equal(onward.numpy(), kept[1])
    assert segments[1].run(onward)[1] is None


def test_large_batches_run_in_parts(
    segments: list[TorchSegment], images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = answered(segments, images)
    monkeypatch.setattr(torch_backend, "LARGEST", 8)
    parts = loaded(Overwriting(CPU))
    for ours, wanted in zip(answered(parts, images), whole, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-5)
    assert sorted(parts[0]._recorded) == sorted(parts[1]._recorded) == [8]  # 8 + 8 + 5 rows


def test_a_batch_of_none_gets_no_answers(segments: list[TorchSegment], images: np.ndarray) -> None:
    logits, onward = segments[0].run(images[:0])
    assert logits.shape == (0, 5)
    assert onward is not None
    assert onward.shape == (0, 6, 4, 4)


@pytest.mark.parametrize("shape", [(5, 2, 3), (5, 2, 3, 4)])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_rows_are_taken_as_numpy_takes_them(
    shape: tuple[int, ...], form: torch.memory_format
) -> None:
    array = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    value = torch.from_numpy(array.copy())
    held = TorchRows(value.contiguous(memory_format=form) if len(shape) == 4 else value, Eager(CPU))
    assert (len(held), held.shape) == (5, shape)
    for wanted in ([0, 2, 4], [3], [], [4, 0]):
        numbers = np.asarray(wanted, dtype=np.int64)
        kept = held.take(numbers, axis=0)
        np.testing.assert_array_equal(kept.numpy(), array[numbers])
        # Whole stretches of memory, as the next segment's convolutions want them.
        assert len(shape) == 3 or kept.value.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(held.numpy(), array)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_rows_of_several_batches_are_joined_on_the_device(form: torch.memory_format) -> None:
    random = np.random.default_rng(0)
    arrays = [random.standard_normal((n, 2, 3, 4), dtype=np.float32) for n in (3, 1, 4)]
    first, *others = [
        TorchRows(torch.from_numpy(array).contiguous(memory_format=form), Eager(CPU))
        for array in arrays
    ]
    joined = first.concat(others)
    np.testing.assert_array_equal(joined.numpy(), np.concatenate(arrays))
    assert joined.value.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(EngineError, match=r"4 rows: torch failed .*smaller batches"):
        first.concat([TorchRows(torch.zeros(1, 2, 2, 2), Eager(CPU))])


def test_images_in_any_memory_order_are_read_right(
    segments: list[TorchSegment], images: np.ndarray
) -> None:
    plain = segments[0].run(images)[0]
    np.testing.assert_array_equal(segments[0].run(np.asfortranarray(images))[0], plain)
    locked = images.copy()
    locked.setflags(write=False)
    np.testing.assert_array_equal(segments[0].run(locked)[0], plain)


def test_a_wrong_input_is_refused_before_torch_sees_it(
    segments: list[TorchSegment], images: np.ndarray
) -> None:
    with pytest.raises(EngineError, match=r"exit 2 expects float32 \[n, 3, 8, 8\]"):
        segments[0].run(images[:, :, 1:])
    with pytest.raises(EngineError, match=r"expects float32 \[n, 3, 8, 8\]: got float64"):
        segments[0].run(images.astype(np.float64))
    with pytest.raises(EngineError, match=r"exit 3 expects float32 \[n, 6, 4, 4\]"):
        segments[1].run(images)


def test_what_torch_refuses_is_an_engine_error(
    segments: list[TorchSegment], images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(module: nn.Module, hidden: Tensor) -> Callable[[], tuple[Tensor, ...]]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(segments[0]._place, "record", full)
    with pytest.raises(EngineError, match=r"exit 2 with 9 rows: .*out of memory.*smaller"):
        segments[0].run(images[:9])
    assert not segments[0]._recorded
    rows = TorchRows(torch.zeros(3, 2, 2), Eager(CPU))
    with pytest.raises(EngineError, match=r"1 of 3 rows: torch failed .*smaller batches"):
        rows.take(np.array([3]))


def test_threads_take_turns(segments: list[TorchSegment], images: np.ndarray) -> None:
    wanted = [answered(segments, images[:n]) for n in (5, 6, 7, 8)]  # all in one buffer
    wrong: list[int] = []

    def ask(n: int) -> None:
        for _ in range(20):
            ours = answered(segments, images[:n])
            if not all(map(np.array_equal, ours, wanted[n - 5])):
                wrong.append(n)

    asking = [threading.Thread(target=ask, args=(n,)) for n in (5, 6, 7, 8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("before", ["none", "tf32"])
def test_float32_is_exact_inside_and_the_process_as_it_was_outside(
    before: str,
) -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def settings() -> tuple[object, ...]:
        return (
            cudnn.conv.fp32_precision, matmul.fp32_precision, cudnn.benchmark, cudnn.deterministic,
        )  # fmt: skip

    untouched = settings()
    try:
        matmul.fp32_precision, cudnn.benchmark, cudnn.deterministic = before, False, False
        outside = settings()
        with graphs.exact():
            assert settings() == ("ieee", "ieee", True, True)
        assert settings() == outside
    finally:
        _, matmul.fp32_precision, cudnn.benchmark, cudnn.deterministic = untouched


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs_answer_as_kernels_launched_one_by_one(images: np.ndarray) -> None:
    many = np.concatenate([images] * 50)  # 1050: two parts
    eager, place = loaded(Eager(CPU)), Graphs()
    captured = loaded(place)
    for rows in (1, 3, 21, 1, 4, 1050, 3):  # some are captured, some replayed
        kept = answered(captured, many[:rows])
        copied = [one.copy() for one in kept]
        answered(captured, many[-rows:] * 3)
        for ours, copy, wanted in zip(kept, copied, answered(eager, many[:rows]), strict=True):
            np.testing.assert_array_equal(ours, copy)
            np.testing.assert_allclose(ours, wanted, atol=1e-5)
    assert sorted(captured[0]._recorded) == [1, 4, 32, 1024]
    policy = halving(eager, images)
    ours, theirs = (Engine(one, policy).answer(many) for one in (captured, eager))
    np.testing.assert_array_equal(ours.exit, theirs.exit)
    assert set(ours.exit) == {2, 3}  # rows were gathered on the GPU
