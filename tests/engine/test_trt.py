"""TensorRT engines as segments, on a stand-in of the GPU that computes with ONNX Runtime."""

import threading
from typing import Any

import numpy as np
import pytest

from exitkit import bundle
from exitkit.engine import backends, cuda
from exitkit.engine.engine import Engine, gather
from exitkit.engine.trt_segment import GpuRows
from exitkit.errors import EngineError
from exitkit.export import engines

from .host_gpu import HostCuda, Kind, Machine

LEVELS = (0.0, 0.8, 0.9, 1.0)


@pytest.fixture
def resident(machine: Machine, engine: Engine) -> Engine:
    return Engine(machine.load(), engine.policy)


@pytest.mark.parametrize("count", [1, 64, 150])
def test_engines_answer_as_onnx_runtime_does(
    resident: Engine, engine: Engine, images: np.ndarray, count: int
) -> None:
    many = np.tile(images, (3, 1, 1, 1))[:count]
    for level in LEVELS:
        thresholds = np.full(2, level, dtype=np.float32)
        ours, theirs = (one.answer(many, thresholds) for one in (resident, engine))
        np.testing.assert_array_equal(ours.exit, theirs.exit)
        np.testing.assert_array_equal(ours.label, theirs.label)
        np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-5)


def test_only_images_and_logits_travel(
    resident: Engine, machine: Machine, images: np.ndarray
) -> None:
    answers = resident.answer(images, np.full(2, LEVELS[2], np.float32))
    second, third = (int((answers.exit >= k).sum()) for k in (2, 3))
    assert 0 < third < second < 64
    travelled = [(kind, n) for kind, n in machine.cuda.copies if kind.value < 3]
    up, down = Kind.cudaMemcpyHostToDevice, Kind.cudaMemcpyDeviceToHost
    assert travelled == [(up, images.nbytes), *((down, n * 5 * 4) for n in (64, second, third))]


def test_a_batch_beyond_the_largest_runs_in_parts(
    resident: Engine, machine: Machine, images: np.ndarray
) -> None:
    first, second, _ = resident.segments
    logits, onward = first.run(np.tile(images, (3, 1, 1, 1))[:150])
    assert logits.shape == (150, 5)
    second.run(onward.take(np.arange(20, 150), axis=0))
    assert machine.trt.ran == [64, 64, 22, 64, 64, 2]
    assert bundle.BATCHES[-1] % 64 == 0  # or parts would begin where TensorRT cannot read


@pytest.mark.parametrize("shape", [(70, 2), (70, 2, 3), (70, 2, 3, 3)])
def test_rows_are_taken_as_numpy_takes_them(shape: tuple[int, ...]) -> None:
    host = HostCuda()
    gpu = cuda.attach(host)
    array = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    held = GpuRows(gpu.upload(array), shape)
    assert (len(held), held.shape) == (70, shape)
    for wanted, runs in (([0, 1, 2, 5, 6], 2), ([69], 1), ([], 0), ([4, 0], 2), ([3, 3], 2)):
        before = len(host.copies)
        taken = held.take(np.asarray(wanted, dtype=np.int64), axis=0)
        assert len(host.copies) - before == runs
        np.testing.assert_array_equal(taken.numpy(), array[wanted])
    np.testing.assert_array_equal(held.numpy(), array)  # taking leaves it as it is
    for wanted in ([70], [-1]):
        with pytest.raises(EngineError, match="there are 70"):
            held.take(np.asarray(wanted), axis=0)


def test_rows_of_several_batches_are_joined_on_the_gpu() -> None:
    host = HostCuda()
    gpu = cuda.attach(host)
    random = np.random.default_rng(0)
    arrays = [random.standard_normal((n, 2, 3), dtype=np.float32) for n in (3, 1, 4)]
    first, *others = [GpuRows(gpu.upload(array), array.shape) for array in arrays]
    before = len(host.copies)
    joined = first.concat(others)
    assert [kind for kind, _ in host.copies[before:]] == [Kind.cudaMemcpyDeviceToDevice] * 3
    np.testing.assert_array_equal(joined.numpy(), np.concatenate(arrays))
    np.testing.assert_array_equal(first.numpy(), arrays[0])
    found = gather([(others[1], np.array([0, 3])), (first, None)])
    np.testing.assert_array_equal(found.numpy(), np.concatenate([arrays[2][[0, 3]], arrays[0]]))
    with pytest.raises(EngineError, match="rows of one shape"):
        first.concat([GpuRows(gpu.upload(arrays[0]), (3, 3, 2))])


def test_logits_are_the_callers_own(resident: Engine, images: np.ndarray) -> None:
    first = resident.segments[0]
    logits, _ = first.run(images)
    kept = logits.copy()
    for _ in range(3):
        first.run(images * 2)
    np.testing.assert_array_equal(logits, kept)


def test_memory_is_used_again_and_given_back_in_the_end(
    machine: Machine, engine: Engine, images: np.ndarray
) -> None:
    resident = Engine(machine.load(), engine.policy)
    resident.answer(images)
    needed = machine.cuda.mallocs
    for _ in range(5):
        resident.answer(images)
    assert machine.cuda.mallocs == needed
    assert len(machine.cuda.held) == needed
    del resident
    assert (machine.cuda.held, machine.cuda.streams) == ({}, set())


def test_memory_in_use_is_not_given_to_others() -> None:
    gpu = cuda.attach(HostCuda())
    first, second = gpu.memory(1000), gpu.memory(1000)
    assert first.address != second.address
    before = first.address
    del first
    assert gpu.memory(600).address == before  # of the same size class
    assert gpu.memory(1025).address not in (before, second.address)


def test_threads_do_not_disturb_each_other(
    resident: Engine, engine: Engine, images: np.ndarray
) -> None:
    parts = np.array_split(images, 4)
    found: list[Any] = [None] * 4

    def answer(place: int) -> None:
        found[place] = [resident.answer(parts[place]) for _ in range(3)]

    threads = [threading.Thread(target=answer, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for part, answers in zip(parts, found, strict=True):
        wanted = engine.answer(part)
        for answer_ in answers:
            np.testing.assert_array_equal(answer_.exit, wanted.exit)
            np.testing.assert_allclose(answer_.logits, wanted.logits, atol=1e-5)


def test_a_wrong_input_is_refused_before_the_gpu_sees_it(
    resident: Engine, machine: Machine, images: np.ndarray
) -> None:
    first, _, third = resident.segments
    with pytest.raises(EngineError, match=r"expects float32 \[n, 3, 8, 8\]: got float64"):
        first.run(images.astype(np.float64))
    assert machine.cuda.copies == []
    with pytest.raises(EngineError, match=r"exit 3 expects float32 \[n, 6, 8, 8\]"):
        third.run(first.run(images)[1])


def test_images_in_any_memory_order_are_read_right(resident: Engine, images: np.ndarray) -> None:
    first = resident.segments[0]
    np.testing.assert_array_equal(first.run(np.asfortranarray(images))[0], first.run(images)[0])


def test_a_failing_engine_says_why(resident: Engine, machine: Machine, images: np.ndarray) -> None:
    machine.trt.broken = True
    with pytest.raises(EngineError, match=r"exit 1 on 64 images: TensorRT failed \(no kernel"):
        resident.answer(images)
    machine.trt.broken = False
    resident.answer(images)  # and nothing is left over of it


def test_no_memory_is_an_engine_error(
    resident: Engine, machine: Machine, images: np.ndarray
) -> None:
    machine.cuda.limit = 100_000
    with pytest.raises(EngineError, match=r"bytes on Host 4090: CUDA failed \(out of memory\)"):
        resident.answer(images)


@pytest.mark.gpu
def test_a_gpu_runs_real_engines(make_bundle: Any, engine: Engine, images: np.ndarray) -> None:
    pytest.importorskip("cuda.bindings", reason="needs a GPU with TensorRT")
    try:
        cuda.find()
    except EngineError:
        pytest.skip("needs a GPU with TensorRT")
    folder = make_bundle()
    manifest = engines.write(folder, bundle.read_manifest(folder), None, lambda line: None)
    bundle.write_manifest(folder, manifest)
    loaded = backends.load(folder, bundle.read_manifest(folder), provider="engines")
    many = np.tile(images, (3, 1, 1, 1))[:150]
    for level in LEVELS:
        thresholds = np.full(2, level, dtype=np.float32)
        ours = Engine(loaded, engine.policy).answer(many, thresholds)
        np.testing.assert_array_equal(ours.exit, engine.answer(many, thresholds).exit)
