from pathlib import Path

import numpy as np
import onnx as onnx_library
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from tiny_network import network, stage
from torch import Tensor, nn

from exitkit.errors import ConfigError, ExportError
from exitkit.export import onnx, segments
from exitkit.models.exitnet import ExitNet, Head


def axes(value: onnx_library.ValueInfoProto) -> list[str | int]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_names_and_axes_are_what_the_manifest_promises(tiny_files: list[onnx.OnnxFile]) -> None:
    first, last = (onnx_library.load(file.path).graph for file in tiny_files)
    assert [(v.name, axes(v)) for v in first.input] == [("hidden", ["batch", 3, 8, 8])]
    assert [(v.name, axes(v)) for v in first.output] == [
        ("logits", ["batch", 5]),
        ("hidden_out", ["batch", 6, 4, 4]),
    ]
    assert [(v.name, axes(v)) for v in last.input] == [("hidden", ["batch", 6, 4, 4])]
    assert [(v.name, axes(v)) for v in last.output] == [("logits", ["batch", 5])]


@pytest.mark.parametrize("batch", [1, 3, 17])
def test_every_batch_size_gives_the_networks_logits(
    tiny_files: list[onnx.OnnxFile], batch: int
) -> None:
    images = torch.randn(batch, 3, 8, 8)
    with torch.no_grad():
        wanted = [answer.logits.numpy() for answer in network().eval()(images)][1:]
    hidden = images.numpy()
    for file, logits in zip(tiny_files, wanted, strict=True):
        session = onnxruntime.InferenceSession(file.path, providers=["CPUExecutionProvider"])
        found, *rest = session.run(None, {"hidden": hidden})
        np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-5)
        hidden = rest[0] if rest else None


def test_one_file_with_folded_batch_norm_and_the_opset_that_it_says(
    tiny_files: list[onnx.OnnxFile],
) -> None:
    assert sorted(p.name for p in tiny_files[0].path.parent.iterdir()) == [
        "segment_2.onnx",
        "segment_3.onnx",
    ]
    for file in tiny_files:
        model = onnx_library.load(file.path, load_external_data=False)
        assert {o.domain: o.version for o in model.opset_import}[""] == file.opset
        assert model.ir_version == file.ir
        assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_the_file_tells_nothing_of_the_machine_that_wrote_it(
    tiny_files: list[onnx.OnnxFile],
) -> None:
    for file in tiny_files:
        data = file.path.read_bytes()
        assert b".py" not in data
        assert str(Path.cwd()).encode() not in data


def test_the_same_network_gives_the_same_bytes_and_no_chatter(
    tiny_files: list[onnx.OnnxFile], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    piece = segments.cut(network(), (2, 3))[0]
    again = onnx.write(piece, (3, 8, 8), tmp_path / "again.onnx")
    assert again.path.read_bytes() == tiny_files[0].path.read_bytes()
    assert capfd.readouterr() == ("", "")


def test_every_opset_that_is_offered_can_be_written_and_loaded(tmp_path: Path) -> None:
    latest = onnx.latest_opset()
    with pytest.raises(ConfigError, match=f"opset {latest + 1}: .* choose one of 18 to {latest},"):
        onnx.check_opset(latest + 1)
    with pytest.raises(ConfigError, match=r"opset 17: the exporter writes 18 and later"):
        onnx.check_opset(17)
    piece = segments.cut(network(), (2, 3))[0]
    for opset in (18, latest):
        onnx.check_opset(opset)
        file = onnx.write(piece, (3, 8, 8), tmp_path / f"{opset}.onnx", opset)
        assert file.opset == opset
        session = onnxruntime.InferenceSession(file.path, providers=["CPUExecutionProvider"])
        logits, _ = session.run(None, {"hidden": np.zeros((2, 3, 8, 8), np.float32)})
        assert logits.shape == (2, 5)


def test_the_runtime_is_asked_which_opsets_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_library.defs, "onnx_opset_version", lambda: 99)
    assert onnx.latest_opset() < 99
    onnx.check_opset(None)


class Choosy(nn.Module):
    """Looks at the numbers to choose its way, which no fixed graph can do."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden if hidden.sum() > 0 else -hidden


def test_a_network_that_cannot_be_a_graph_is_refused(tmp_path: Path) -> None:
    net = ExitNet([Choosy()], {1: Head(stage(3, 8, 1), 8, 5)})
    with pytest.raises(ExportError, match="exit 1 as ONNX: the exporter refused it") as caught:
        onnx.write(segments.cut(net, (1,))[0], (3, 8, 8), tmp_path / "x.onnx")
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_graph_whose_shapes_contradict_each_other_is_refused(
    tiny_files: list[onnx.OnnxFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx_library.load(tiny_files[1].path)
    (weight,) = [w for w in model.graph.initializer if w.name.endswith("classifier.weight")]
    weight.CopyFrom(numpy_helper.from_array(np.zeros((5, 9), np.float32), weight.name))
    monkeypatch.setattr(onnx, "_graph", lambda *_: model)
    piece = segments.cut(network(), (2, 3))[1]
    with pytest.raises(ExportError, match="exit 3 as ONNX: the exporter refused it"):
        onnx.write(piece, (6, 4, 4), tmp_path / "x.onnx")


class Fixed(nn.Module):
    """Knows how many images come."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.reshape(2, 3, 8, 8)


def test_a_network_with_a_fixed_batch_size_is_refused(tmp_path: Path) -> None:
    net = ExitNet([Fixed()], {1: Head(stage(3, 8, 1), 8, 5)})
    with pytest.raises(ExportError, match="exit 1 as ONNX"):
        onnx.write(segments.cut(net, (1,))[0], (3, 8, 8), tmp_path / "x.onnx")
