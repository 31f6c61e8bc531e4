"""Segments made node by node, and a plain way to run a file."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
Shape = list[int | str]


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    outputs: dict[str, Shape],
    hidden: Shape,
) -> Path:
    """Write a segment in operator set 20; arrays keep their types."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "segment",
        [value("hidden", FLOAT, hidden)],
        [value(name, FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def run(path: Path, hidden: np.ndarray) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"hidden": hidden})


def constants(path: Path) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


def borders(path: Path) -> list[tuple[str, int]]:
    """Return name and element type of inputs and outputs."""
    graph = onnx.load(path).graph
    values = [*graph.input, *graph.output]
    return [(value.name, value.type.tensor_type.elem_type) for value in values]
