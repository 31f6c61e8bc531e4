from pathlib import Path

import numpy as np
import onnx as onnx_library
import onnxruntime
import pytest
import torch
from tiny_network import network, stage
from torch import Tensor, nn

from exitkit.errors import ExportError
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


class Fixed(nn.Module):
    """Knows how many images come."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.reshape(2, 3, 8, 8)


def test_a_network_with_a_fixed_batch_size_is_refused(tmp_path: Path) -> None:
    net = ExitNet([Fixed()], {1: Head(stage(3, 8, 1), 8, 5)})
    with pytest.raises(ExportError, match="exit 1 as ONNX"):
        onnx.write(segments.cut(net, (1,))[0], (3, 8, 8), tmp_path / "x.onnx")
