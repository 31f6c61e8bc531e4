"""A real bundle small enough to write in a test: it names the brightest channel of an image."""

import io
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from exitkit import bundle
from exitkit.bundle import Manifest, Segment
from exitkit.images import ImageSpec
from exitkit.policy.policy import Policy

CLASSES = ("red", "green", "blue")
# logits = SHARPNESS * mean of each channel, as the network sees it
SHARPNESS = {2: 2.0, 4: 8.0}


def segment(exit_: int, deepest: bool, loops: int = 0) -> onnx.ModelProto:
    """Global mean -> scaled logits; `hidden_out` is the image at half the size.

    `loops` squarings of a 256 x 256 matrix come first, for a server that has to wait.
    """
    weights = numpy_helper.from_array(np.eye(3, dtype=np.float32) * SHARPNESS[exit_], "weights")
    side = 32 if exit_ == 2 else 16
    start = "warm" if loops else "hidden"
    nodes = _slow(loops) if loops else []
    nodes += [
        helper.make_node("GlobalAveragePool", [start], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    shape = ["n", 3, side, side]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])]
    if not deepest:
        node = helper.make_node(
            "AveragePool", ["hidden"], ["hidden_out"], kernel_shape=[2, 2], strides=[2, 2]
        )
        nodes.append(node)
        half = ["n", 3, side // 2, side // 2]
        outputs.append(helper.make_tensor_value_info("hidden_out", TensorProto.FLOAT, half))
    graph = helper.make_graph(
        nodes,
        "segment",
        [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, shape)],
        outputs,
        [weights, *(_slow_constants(loops) if loops else [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _slow(loops: int) -> list[onnx.NodeProto]:
    """Multiply a matrix by itself in a loop; add nothing of it to the input."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "matrix"], ["after"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            info("step", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("before", TensorProto.FLOAT, [256, 256]),
        ],
        [info("on", TensorProto.BOOL, []), info("after", TensorProto.FLOAT, [256, 256])],
    )
    return [
        helper.make_node("Loop", ["loops", "", "matrix"], ["product"], body=body),
        helper.make_node("ReduceMax", ["product"], ["largest"], keepdims=0),
        helper.make_node("Add", ["hidden", "largest"], ["warm"]),
    ]


def _slow_constants(loops: int) -> list[onnx.TensorProto]:
    return [
        numpy_helper.from_array(np.asarray(loops, dtype=np.int64), "loops"),
        numpy_helper.from_array(np.zeros((256, 256), dtype=np.float32), "matrix"),
    ]


def write_bundle(folder: Path, loops: int = 0) -> Path:
    """Write a bundle with exits 2 and 4, 1,000 and 3,000 multiply-adds, 5,000 without exits."""
    folder.mkdir(parents=True)
    for exit_ in (2, 4):
        model = segment(exit_, deepest=exit_ == 4, loops=loops if exit_ == 2 else 0)
        (folder / f"segment_{exit_}.onnx").write_bytes(model.SerializeToString())
    Policy("ab" * 32, (2, 4), (0.6,), (1.0, 0.5)).write(folder / bundle.POLICY)
    points = [
        point(0.0, 0.75, 1000.0, (1.0, 0.0)),
        point(0.5, 0.875, 2000.0, (0.5, 0.5)),
        point(1.0, 1.0, 3000.0, (0.0, 1.0)),
    ]
    sweep = {"points": points, "chosen": point(0.6, 0.9375, 2250.0, (0.375, 0.625))}
    (folder / bundle.SWEEP).write_text(json.dumps(sweep))
    manifest = Manifest(
        name="deep-means-1",
        network="ab" * 32,
        arch="means",
        method="deep",
        classes=CLASSES,
        image=ImageSpec(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        segments=(
            Segment(2, "segment_2.onnx", (3, 32, 32), 1000),
            Segment(4, "segment_4.onnx", (3, 16, 16), 2000),
        ),
        plain_macs=5000,
        files={},
        origin={},
    )
    bundle.write_manifest(folder, manifest)
    return folder


def point(threshold: float, accuracy: float, macs: float, shares: tuple[float, float]) -> dict:
    return {
        "threshold": threshold,
        "accuracy": accuracy,
        "mean_macs": macs,
        "shares": shares,
        "exit_accuracy": [None, None],
        "deepest_accuracy": 1.0,
    }


def picture(red: int, green: int, blue: int, kind: str = "PNG", side: int = 32) -> bytes:
    """Encode an image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (red, green, blue)).save(buffer, format=kind)
    return buffer.getvalue()
