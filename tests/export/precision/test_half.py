from pathlib import Path

import drawn
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exitkit.bundle import Manifest
from exitkit.errors import ExportError
from exitkit.export.precision import half

BORDERS = [("hidden", 1), ("logits", 1), ("hidden_out", 1)]


@pytest.fixture
def converted(tiny: tuple[Path, Manifest], tmp_path: Path) -> Path:
    half.convert(tiny[0] / "segment_2.onnx", tmp_path / "segment_2.onnx")
    return tmp_path / "segment_2.onnx"


def test_the_inside_is_float16_and_the_borders_are_float32(converted: Path) -> None:
    assert drawn.borders(converted) == BORDERS
    nodes = onnx.load(converted).graph.node
    types = {name: array.dtype for name, array in drawn.constants(converted).items()}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert len(convolutions) == 3
    assert {types[name] for node in convolutions for name in node.input[1:]} == {
        np.dtype(np.float16)
    }
    (classifier,) = [node for node in nodes if node.op_type == "Gemm"]
    assert {types[name] for name in classifier.input[1:]} == {np.dtype(np.float32)}
    # One cast in, one out to the next segment, one before the pooling.
    assert [node.op_type for node in nodes].count("Cast") == 3


def test_it_answers_as_float16_does(converted: Path, tiny: tuple[Path, Manifest]) -> None:
    hidden = np.random.default_rng(0).standard_normal((40, 3, 8, 8), dtype=np.float32)
    plain = drawn.run(tiny[0] / "segment_2.onnx", hidden)
    for ours, theirs in zip(drawn.run(converted, hidden), plain, strict=True):
        assert ours.dtype == np.float32
        off = np.abs(ours - theirs).max() / np.abs(theirs).max()
        assert 1e-5 < off < 4e-3


def test_the_same_segment_gives_the_same_bytes(
    converted: Path, tiny: tuple[Path, Manifest], tmp_path: Path
) -> None:
    half.convert(tiny[0] / "segment_2.onnx", tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == converted.read_bytes()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (7e4, r"tensor .*weight_bias holds 70000, float16 ends at 65504"),
        (-1e30, r"tensor .*weight_bias holds -1e\+30, float16"),
    ],
)
def test_a_weight_that_float16_cannot_hold_is_refused(
    tiny: tuple[Path, Manifest], tmp_path: Path, value: float, words: str
) -> None:
    model = onnx.load(tiny[0] / "segment_2.onnx")
    bias = next(one for one in model.graph.initializer if one.name.endswith("weight_bias"))
    values = numpy_helper.to_array(bias).copy()
    values[0] = value
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, tmp_path / "large.onnx")
    with pytest.raises(ExportError, match=words) as caught:
        half.convert(tmp_path / "large.onnx", tmp_path / "half.onnx")
    assert "--precision float32 or int8" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["large.onnx"]


def test_a_value_that_arises_and_is_too_large_is_refused(
    tiny: tuple[Path, Manifest], tmp_path: Path
) -> None:
    hidden = np.random.default_rng(0).standard_normal((8, 3, 8, 8), dtype=np.float32)
    source, target = tiny[0] / "segment_2.onnx", tmp_path / "half.onnx"
    half.convert(source, target, [hidden, hidden])
    target.unlink()
    # Processors compute in float32 and see nothing; named is the first tensor that overflows.
    words = r"segment_2\.onnx with float16 arithmetic: tensor \w+ holds .*float16 ends at 65504"
    with pytest.raises(ExportError, match=words):
        half.convert(source, target, [hidden, 3e5 * hidden])
    assert list(tmp_path.iterdir()) == []


def test_values_are_rounded_and_never_clamped_or_lifted() -> None:
    values = np.array([1 / 3, 65504, 65519, -np.inf, 1e-9, 0], np.float32)
    found = half.rounded(values, "w", "s")
    assert found.tolist() == [0.333251953125, 65504, 65504, -np.inf, 0, 0]
    with pytest.raises(ExportError, match="tensor w holds 65520, float16 ends at 65504"):
        half.rounded(np.array([1, 65520], np.float32), "w", "s")
    # Weights may vanish, a number that keeps a divisor from zero may not.
    assert half.rounded(np.array([1e-9, -1e-9], np.float32), "w", "s").tolist() == [0, 0]
    with pytest.raises(ExportError, match="tensor epsilon holds 1e-12, which would become 0"):
        half.rounded(np.array(1e-12, np.float32), "epsilon", "s")


def test_what_has_no_float16_type_stays_float32(tmp_path: Path) -> None:
    """Resize's scales and all of Range; constants inside nodes and casts are converted."""
    node = helper.make_node
    nodes = [
        node("Resize", ["hidden", "", "scales"], ["large"], mode="nearest"),
        node("Constant", [], ["third"], value_float=1 / 3),
        node("Mul", ["large", "third"], ["less"]),
        node("Shape", ["less"], ["shape"]),
        node("Cast", ["shape"], ["sizes"], to=TensorProto.FLOAT),
        node("ReduceMax", ["sizes"], ["most"], keepdims=0),
        node("Range", ["zero", "most", "one"], ["line"]),  # 0, 1, 2, 3
        node("ConstantOfShape", ["shape"], ["nothing"]),
        node("Add", ["less", "nothing"], ["same"]),
        node("Add", ["same", "line"], ["sum"]),
        node("GlobalAveragePool", ["sum"], ["mean"]),
        node("Flatten", ["mean"], ["flat"]),
        node("Gemm", ["flat", "matrix"], ["logits"]),
    ]
    constants = {
        "scales": np.array([1, 1, 2, 2], np.float32),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "matrix": np.eye(3, dtype=np.float32),
    }
    source = drawn.write(
        tmp_path / "a.onnx", nodes, constants, {"logits": ["b", 3]}, ["b", 3, 2, 2]
    )
    half.convert(source, tmp_path / "b.onnx")
    hidden = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    # Means 1.5, 5.5, 9.5; a third of them in float16, and 1.5 for the line.
    (found,) = drawn.run(tmp_path / "b.onnx", hidden)
    np.testing.assert_allclose(found, [[2.0, 3.3333, 4.6667]], rtol=1e-3)
    assert found.tolist() != drawn.run(source, hidden)[0].tolist()
    assert drawn.constants(tmp_path / "b.onnx")["scales"].dtype == np.float32


def test_operators_that_could_be_left_out_in_silence_are_refused(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["hidden"], ["x"])],
        "branch",
        [],
        [helper.make_tensor_value_info("x", drawn.FLOAT, None)],
    )
    branching = [
        helper.make_node("If", ["yes"], ["logits"], then_branch=branch, else_branch=branch)
    ]
    constants = {"yes": np.array(True)}
    path = drawn.write(tmp_path / "if.onnx", branching, constants, {"logits": ["b", 3]}, ["b", 3])
    with pytest.raises(ExportError, match=r"if\.onnx: it has If, which cannot be converted"):
        half.convert(path, tmp_path / "out.onnx")
    foreign = [helper.make_node("Gelu", ["hidden"], ["logits"], domain="com.microsoft")]
    path = drawn.write(tmp_path / "own.onnx", foreign, {}, {"logits": ["b", 3]}, ["b", 3])
    with pytest.raises(ExportError, match="it has Gelu, which cannot be converted"):
        half.convert(path, tmp_path / "out.onnx")
    (tmp_path / "text.onnx").write_bytes(b"not a graph")
    with pytest.raises(ExportError, match=r"text\.onnx: is no ONNX file"):
        half.convert(tmp_path / "text.onnx", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
