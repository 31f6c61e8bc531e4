"""Every kind of heads leaves as one graph whose maps have fixed sides."""

from pathlib import Path

import numpy as np
import onnx as onnx_library
import onnxruntime
import pytest
import torch

from exitkit import names
from exitkit.export import onnx, segments
from exitkit.models.build import build

FREE = {"Shape", "If", "Loop", "NonZero"}  # what a graph needs to look at sizes while it runs


@pytest.mark.parametrize("kind", names.HEADS)
def test_a_kind_of_heads_leaves_with_equal_answers(kind: str, tmp_path: Path) -> None:
    size = 75  # the ImageNet stem leaves 19, 10, 5 and 3 pixels: gates must be cut, patches filled
    torch.manual_seed(2)
    network = build("resnet18", 4, size, kind, width=0.125, stem="imagenet")
    for _ in range(3):  # batch norms have seen data
        network(torch.randn(8, 3, size, size))
    (piece,) = segments.cut(network, (1,))
    file = onnx.write(piece, (3, size, size), tmp_path / "head.onnx")
    assert not FREE & {node.op_type for node in onnx_library.load(file.path).graph.node}
    session = onnxruntime.InferenceSession(file.path, providers=["CPUExecutionProvider"])
    images = torch.randn(3, 3, size, size)
    with torch.no_grad():
        wanted = network.eval()(images)[0].logits.numpy()
    (logits,) = session.run(None, {"hidden": images.numpy()})
    np.testing.assert_allclose(logits, wanted, rtol=1e-3, atol=1e-4)
