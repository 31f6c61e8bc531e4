"""Segments drawn by hand, so that most tests of forms need no training and no torch."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from exitkit.engine.ort import OrtSegment

FLOAT = onnx.TensorProto.FLOAT
CLASSES = 5
# Channels and side of what each segment takes, and at the end of what the last one makes.
MAPS = ((3, 8), (4, 8), (6, 4), (8, 2))
EXITS, TEMPERATURES = (1, 2, 4), (1.0, 0.7, 1.9)


def segment(position: int, path: Path, opset: int = 20, classes: int = CLASSES) -> Path:
    """Write the segment at `position`: convolution, ReLU, pooled linear head."""
    (inside, before), (outside, after) = MAPS[position], MAPS[position + 1]
    last = position == len(MAPS) - 2
    generator = np.random.default_rng(position)
    weights = {
        "kernel": generator.standard_normal((outside, inside, 3, 3)) / np.sqrt(9 * inside) * 2,
        "bias": generator.standard_normal(outside) / 2,
        "matrix": generator.standard_normal((outside, classes)) * 2,
        "share": np.array(1 / after**2),
    }
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    stride = before // after
    nodes = [
        helper.make_node(
            "Conv",
            ["hidden", "kernel", "bias"],
            ["made"],
            name="convolution",
            pads=[1] * 4,
            strides=[stride] * 2,
        ),
        helper.make_node("Relu", ["made"], ["hidden_out"], name="relu"),
        # The mean over a map as torch's exporter writes it.
        helper.make_node("ReduceSum", ["hidden_out", "axes"], ["sum"], name="sum", keepdims=0),
        helper.make_node("Mul", ["sum", "share"], ["pooled"], name="mean"),
        helper.make_node("Gemm", ["pooled", "matrix"], ["logits"], name="head"),
    ]
    outputs = [helper.make_tensor_value_info("logits", FLOAT, ("batch", classes))]
    if not last:
        shape = ("batch", outside, after, after)
        outputs.append(helper.make_tensor_value_info("hidden_out", FLOAT, shape))
    graph = helper.make_graph(
        nodes,
        "segment",
        [helper.make_tensor_value_info("hidden", FLOAT, ("batch", inside, before, before))],
        outputs,
        [axes, *(numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)
    return path


def load(files: list[Path]) -> list[OrtSegment]:
    """Return the segments of exits 1, 2 and 4, each on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return [
        OrtSegment(
            onnxruntime.InferenceSession(str(file), options),
            exit,
            (channels, side, side),
            CLASSES,
            "private",
            1,
        )
        for exit, file, (channels, side) in zip(EXITS, files, MAPS[:-1], strict=True)
    ]


def images(count: int, seed: int = 0) -> np.ndarray:
    """Return [count, 3, 8, 8], scaled so that some are easier than others."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((count, 3, 8, 8), dtype=np.float32)
    return noise + generator.standard_normal((count, 3, 1, 1), dtype=np.float32)
