import os
import re
import resource
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import drawn
import numpy as np
import onnx
import pytest
from onnx import helper

from exitkit.bundle import Manifest
from exitkit.errors import DataError, ExportError
from exitkit.export import tensorrt
from exitkit.export.precision import half, int8

AGAIN = """
import sys, numpy as np
from pathlib import Path
from exitkit.export.precision import int8
table = np.load(sys.argv[2])
int8.quantise(Path(sys.argv[1]), Path(sys.argv[3]), [table["a"], table["b"]])
"""


@pytest.fixture(scope="module")
def batches() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal((20, 3, 8, 8), dtype=np.float32) for _ in range(2)]


@pytest.fixture(scope="module")
def quantised(
    tiny: tuple[Path, Manifest],
    batches: list[np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("int8") / "segment_2.onnx"
    int8.quantise(tiny[0] / "segment_2.onnx", path, iter(batches))
    return path


def test_weights_are_int8_and_the_borders_and_the_classifier_float32(quantised: Path) -> None:
    assert drawn.borders(quantised) == [("hidden", 1), ("logits", 1), ("hidden_out", 1)]
    model = onnx.load(quantised)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 20)]
    stored = drawn.constants(quantised)
    makers = {name: node for node in model.graph.node for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 3
    for node in convolutions:
        weight, scale, zero = (stored[name] for name in makers[node.input[1]].input)
        assert weight.dtype == np.int8
        assert scale.shape == (len(weight),)  # one per output channel
        assert not zero.any()
        assert stored[makers[node.input[0]].input[2]].dtype == np.uint8
    (classifier,) = [node for node in model.graph.node if node.op_type == "Gemm"]
    assert all(stored[name].dtype == np.float32 for name in classifier.input[1:])


def test_it_computes_what_eight_bits_say(tmp_path: Path) -> None:
    """One convolution with two channels, by hand.

    hidden lies in [-1, 3]: scale 4 / 255, zero point 64. Channel 0 multiplies by 0.5, channel 1 by
    -0.25: as int8 both are +-127 times 0.5 / 127 and 0.25 / 127. After the ReLU values lie in
    [0, 1.5]: scale 1.5 / 255.
    """
    nodes = [
        helper.make_node("Conv", ["hidden", "kernel", "bias"], ["map"], kernel_shape=[1, 1]),
        helper.make_node("Relu", ["map"], ["hidden_out"]),
        helper.make_node("GlobalAveragePool", ["hidden_out"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix"], ["logits"]),
    ]
    constants = {
        "kernel": np.array([0.5, -0.25], np.float32).reshape(2, 1, 1, 1),
        "bias": np.zeros(2, np.float32),
        "matrix": np.eye(2, dtype=np.float32),
    }
    outputs: dict[str, drawn.Shape] = {"logits": ["b", 2], "hidden_out": ["b", 2, 1, 1]}
    source = drawn.write(tmp_path / "a.onnx", nodes, constants, outputs, ["b", 1, 1, 1])
    seen = np.linspace(-1, 3, 40, dtype=np.float32).reshape(40, 1, 1, 1)
    int8.quantise(source, tmp_path / "b.onnx", [seen])

    hidden = np.array([-1, 0, 0.5, 2, 3, 5], np.float32)
    whole = np.clip(np.round(hidden / (4 / 255)) + 64, 0, 255) - 64
    real = (whole * (4 / 255))[:, None] * [0.5, -0.25]
    expected = np.clip(np.round(real / (1.5 / 255)), 0, 255) * (1.5 / 255)
    assert expected[1].tolist() == [0, 0]  # zero stays zero
    logits, onward = drawn.run(tmp_path / "b.onnx", hidden.reshape(6, 1, 1, 1))
    np.testing.assert_allclose(onward[:, :, 0, 0], expected, atol=1e-6)
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    # What was never seen is cut off at the largest value that was.
    assert logits[4, 0] == logits[5, 0] == pytest.approx(1.5, abs=0.01)


def test_the_error_is_that_of_eight_bits(
    quantised: Path, tiny: tuple[Path, Manifest], batches: list[np.ndarray]
) -> None:
    plain = drawn.run(tiny[0] / "segment_2.onnx", batches[0])
    for ours, theirs in zip(drawn.run(quantised, batches[0]), plain, strict=True):
        off = np.sqrt(np.square(ours - theirs).mean()) / theirs.std()
        assert 1e-4 < off < 0.04


def test_the_same_bytes_in_any_process(
    quantised: Path, tiny: tuple[Path, Manifest], batches: list[np.ndarray], tmp_path: Path
) -> None:
    np.savez(tmp_path / "batches.npz", a=batches[0], b=batches[1])
    source, target = tiny[0] / "segment_2.onnx", tmp_path / "again.onnx"
    told = subprocess.run(
        [sys.executable, "-c", AGAIN, str(source), str(tmp_path / "batches.npz"), str(target)],
        env={**os.environ, "PYTHONHASHSEED": "4"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert target.read_bytes() == quantised.read_bytes()
    assert (told.stdout, told.stderr) == ("", "")


def test_batches_are_read_one_by_one(tiny: tuple[Path, Manifest], tmp_path: Path) -> None:
    alive: list[weakref.ref[np.ndarray]] = []

    def stream() -> Iterator[np.ndarray]:
        random = np.random.default_rng(0)
        for _ in range(6):
            batch = random.standard_normal((8, 3, 8, 8), dtype=np.float32)
            alive.append(weakref.ref(batch))
            yield batch
            del batch
            # The one that was handed out last may still be held by its reader.
            assert sum(one() is not None for one in alive) <= 1

    int8.quantise(tiny[0] / "segment_2.onnx", tmp_path / "segment_2.onnx", stream())
    assert len(alive) == 6


def test_what_a_norm_reads_is_not_put_on_one_scale(tmp_path: Path) -> None:
    """Two channels of size 100 and 0.1 meet before a norm, which brings both to 1."""
    node = helper.make_node
    nodes = [
        node("Conv", ["hidden", "large"], ["a"], kernel_shape=[1, 1]),
        node("Conv", ["hidden", "small"], ["b"], kernel_shape=[1, 1]),
        node("Concat", ["a", "b"], ["both"], axis=1),
        node("BatchNormalization", ["both", "scale", "zero", "zero", "one"], ["normed"]),
        node("Conv", ["normed", "pair"], ["map"], kernel_shape=[1, 1]),
        node("GlobalAveragePool", ["map"], ["mean"]),
        node("Flatten", ["mean"], ["flat"]),
        node("Gemm", ["flat", "matrix"], ["logits"]),
    ]
    constants = {
        "large": np.full((1, 1, 1, 1), 100, np.float32),
        "small": np.full((1, 1, 1, 1), 0.1, np.float32),
        "scale": np.array([0.01, 10], np.float32),
        "zero": np.zeros(2, np.float32),
        "one": np.ones(2, np.float32),
        "pair": np.eye(2, dtype=np.float32)[:, :, None, None],
        "matrix": np.eye(2, dtype=np.float32),
    }
    source = drawn.write(
        tmp_path / "a.onnx", nodes, constants, {"logits": ["b", 2]}, ["b", 1, 1, 1]
    )
    seen = np.linspace(-1, 1, 40, dtype=np.float32).reshape(40, 1, 1, 1)
    int8.quantise(source, tmp_path / "b.onnx", [seen])
    # On one scale the small channel would have one step of 0.78 in 0.1, so nothing would remain.
    (found,) = drawn.run(tmp_path / "b.onnx", seen)
    np.testing.assert_allclose(found[:, 1], seen.ravel(), atol=0.03)


def test_attention_is_quantised_where_weights_are(tmp_path: Path) -> None:
    """Queries times keys, then a residual that a norm reads: of that only the weights' products."""
    node, random = helper.make_node, np.random.default_rng(0)
    nodes = [
        node("MatMul", ["hidden", "query"], ["q"]),
        node("MatMul", ["hidden", "key"], ["k"]),
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["seen"]),
        node("Softmax", ["seen"], ["share"]),
        node("MatMul", ["share", "hidden"], ["mixed"]),
        node("Add", ["hidden", "mixed"], ["sum"]),
        node("LayerNormalization", ["sum", "one"], ["hidden_out"]),
        node("ReduceMean", ["hidden_out", "axis"], ["mean"], keepdims=0),
        node("Gemm", ["mean", "matrix"], ["logits"]),
    ]
    constants = {
        "query": random.standard_normal((4, 4)).astype(np.float32),
        "key": random.standard_normal((4, 4)).astype(np.float32),
        "one": np.ones(4, np.float32),
        "axis": np.array([1]),
        "matrix": random.standard_normal((4, 3)).astype(np.float32),
    }
    outputs: dict[str, drawn.Shape] = {"logits": ["b", 3], "hidden_out": ["b", 5, 4]}
    source = drawn.write(tmp_path / "a.onnx", nodes, constants, outputs, ["b", 5, 4])
    hidden = random.standard_normal((64, 5, 4), dtype=np.float32)
    int8.quantise(source, tmp_path / "b.onnx", [hidden])
    graph = onnx.load(tmp_path / "b.onnx").graph
    makers = {name: one.op_type for one in graph.node for name in one.output}
    kinds = [[makers.get(name) for name in n.input] for n in graph.node if n.op_type == "MatMul"]
    weighted, read = ["DequantizeLinear"] * 2, ["Softmax", "DequantizeLinear"]
    assert sorted(kinds) == [weighted, weighted, ["MatMul", "Transpose"], read]
    assert [n.op_type for n in graph.node].count("QuantizeLinear") == 1
    eight, plain = drawn.run(tmp_path / "b.onnx", hidden), drawn.run(source, hidden)
    for ours, theirs in zip(eight, plain, strict=True):
        assert 1e-4 < np.sqrt(np.square(ours - theirs).mean()) / theirs.std() < 0.02


def test_a_convolution_that_stayed_float32_is_refused(
    quantised: Path, tiny: tuple[Path, Manifest]
) -> None:
    int8._require_quantised(onnx.load(quantised), {"Gemm_8"})
    with pytest.raises(ExportError, match=r"int8 for Gemm with .*weight: ONNX Runtime left it"):
        int8._require_quantised(onnx.load(quantised), set())
    with pytest.raises(ExportError, match="int8 for Conv with piece"):
        int8._require_quantised(onnx.load(tiny[0] / "segment_2.onnx"), set())


@pytest.mark.parametrize("sizes", [(), (31,)])
def test_too_few_images_are_refused(
    tiny: tuple[Path, Manifest], tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    few = (np.zeros((size, 3, 8, 8), np.float32) for size in sizes)
    words = rf"{sum(sizes)} calibration images, at least 32 are needed; .*--set tune_share"
    with pytest.raises(DataError, match=words) as caught:
        int8.quantise(tiny[0] / "segment_2.onnx", tmp_path / "segment_2.onnx", few)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.5, 1.2])
def test_a_disk_that_fills_up_is_no_bug(
    share: float, tiny: tuple[Path, Manifest], batches: list[np.ndarray], tmp_path: Path
) -> None:
    source = tiny[0] / "segment_2.onnx"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = int(share * source.stat().st_size)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))  # no file grows larger
    try:
        with pytest.raises(ExportError, match=r"int8 for segment_2\.onnx: it failed") as caught:
            int8.quantise(source, tmp_path / "segment_2.onnx", batches)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert re.search(rf"files in {tmp_path}, which has [\d,]+ MB free \(", caught.value.found)
    assert caught.value.do.startswith("make room there")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_elsewhere(
    tiny: tuple[Path, Manifest],
    batches: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Whoever asks for the system's temporary folder is refused.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    with pytest.raises(FileNotFoundError):
        tempfile.mkdtemp()
    made = tmp_path / "segment_2.onnx", tmp_path / "segment_2_half.onnx"
    int8.quantise(tiny[0] / "segment_2.onnx", made[0], batches)
    half.convert(tiny[0] / "segment_2.onnx", made[1], batches)
    assert sorted(tmp_path.iterdir()) == sorted(made)


def test_nothing_is_left_beside_the_segment(quantised: Path) -> None:
    assert [path.name for path in quantised.parent.iterdir()] == ["segment_2.onnx"]


def test_hidden_gets_the_scale_of_the_segment_before(
    quantised: Path, tiny: tuple[Path, Manifest], tmp_path: Path
) -> None:
    hidden = np.random.default_rng(1).random((40, 6, 4, 4), dtype=np.float32)
    target = tmp_path / "segment_3.onnx"
    int8.quantise(tiny[0] / "segment_3.onnx", target, [hidden], before=quantised)
    before, after = drawn.constants(quantised), drawn.constants(target)
    assert after["hidden_scale"] == before["hidden_out_scale"]
    assert after["hidden_scale"] != pytest.approx(1 / 255, rel=1e-2)  # which it saw itself
    assert after["hidden_zero_point"] == before["hidden_out_zero_point"]


def test_tensorrt_builds_the_signed_kind(
    tiny: tuple[Path, Manifest], batches: list[np.ndarray], tmp_path: Path
) -> None:
    signed = tmp_path / "segment_2.onnx"
    int8.quantise(tiny[0] / "segment_2.onnx", signed, batches, signed=True)
    stored = drawn.constants(signed)
    zeros = [array for name, array in stored.items() if name.endswith("zero_point")]
    assert zeros
    assert all(array.dtype == np.int8 and not array.any() for array in zeros)
    tensorrt.build(tensorrt.find(("sm89",)), signed, (3, 8, 8), tmp_path / "segment_2.engine")
    plain = drawn.run(tiny[0] / "segment_2.onnx", batches[0])[0]
    off = np.sqrt(np.square(drawn.run(signed, batches[0])[0] - plain).mean()) / plain.std()
    assert 1e-4 < off < 0.04
