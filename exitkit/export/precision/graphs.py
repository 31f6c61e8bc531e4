"""What both conversions ask of a segment's graph."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, NodeProto, shape_inference

from exitkit.errors import ExportError

LOGITS = "logits"
POOLING = ("ReduceSum", "ReduceMean", "GlobalAveragePool", "AveragePool")
# What may stand between the pooling and the classifier, and between the classifier and the logits.
_THIN = ("Add", "Div", "Flatten", "Identity", "Mul", "Reshape", "Squeeze")
_CLASSIFIERS = ("Gemm", "MatMul", "Conv")


def read(path: Path) -> onnx.ModelProto:
    """Read a segment that a conversion can understand.

    Raises:
        ExportError: the file is no model, or has operators that are none of ONNX's own, functions
            or branches: of those a conversion would leave parts out in silence.
    """
    try:
        model = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise ExportError(str(path), f"is no ONNX file ({error})", "export it again") from error
    foreign = [node.op_type for node in model.graph.node if node.domain not in ("", "ai.onnx")]
    inner = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    branching = [n.op_type for n in model.graph.node if any(a.type in inner for a in n.attribute)]
    if foreign or branching or model.functions:
        found = ", ".join(sorted({*foreign, *branching, *(f.name for f in model.functions)}))
        raise ExportError(
            f"another precision of {path.name}",
            f"it has {found}, which cannot be converted",
            "export it with --precision float32",
        )
    return model


def opset(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that the model is written in."""
    own = ("", "ai.onnx")
    return next(int(entry.version) for entry in model.opset_import if entry.domain in own)


def types(model: onnx.ModelProto, name: str) -> dict[str, int]:
    """Return the element type of every tensor of the graph.

    Raises:
        ExportError: of some tensor it cannot be told.
    """
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {one.name: int(one.data_type) for one in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        found[value.name] = int(value.type.tensor_type.elem_type)
    unknown = [out for node in graph.node for out in node.output if out and not found.get(out)]
    if unknown:
        raise ExportError(
            f"another precision of {name}",
            f"the type of {unknown[0]} cannot be told",
            "export it with --precision float32",
        )
    return found


def classifier(model: onnx.ModelProto) -> list[NodeProto]:
    """Return the nodes from the last pooling to the logits: some thousand multiply-adds.

    They are followed back from `logits`: what adds, scales and reshapes, one operator with
    weights, and the average over the positions of the map, often a sum and a product, if it
    stands directly before.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    found, weighted, node = [], False, makers.get(LOGITS)
    while node is not None:
        if node.op_type in _CLASSIFIERS:
            if weighted:
                break
            weighted = True
        elif node.op_type not in _THIN and node.op_type not in POOLING:
            break
        found.append(node)
        if node.op_type in POOLING:
            break
        node = next((makers[name] for name in node.input if name in makers), None)
    return found


def check(model: onnx.ModelProto, name: str) -> None:
    """Refuse a model that ONNX itself would not accept.

    Raises:
        ExportError: with the checker's first line.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        raise ExportError(
            f"another precision of {name}",
            f"the result is not valid ({str(error).strip().splitlines()[0]})",
            "export it with --precision float32, and report the network",
        ) from error
