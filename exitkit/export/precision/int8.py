"""A segment whose convolutions compute with 8-bit integers: static quantisation, explicit Q/DQ.

ONNX Runtime's quantiser writes the pairs of QuantizeLinear and DequantizeLinear; this module says
what they mean. `hidden`, `logits` and `hidden_out` stay float32 outside.

* For processors (`signed=False`): activations uint8 with a zero point, weights int8 per output
  channel. On a processor with VNNI that is the pair that its instruction multiplies; int8
  activations ran 2.7 times slower there.
* For TensorRT (`signed=True`), which knows no zero points: both int8 and symmetric, Q/DQ stands
  before convolutions only, and biases stay float32. ONNX Runtime computes that in float32, a
  little slower than the float32 segment.

Ranges are the smallest and largest value that calibration saw: on CIFAR-100 entropy chose the
same, and percentiles lost no fewer points and cut off what sure images need (at 99.99 the worst
logit was three times as far off). From the last pooling to the logits everything stays float32:
8 bits there made a third more images change their class, and cost no time.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import QDQQuantizer, QuantType, TensorsData
from onnxruntime.quantization.quant_utils import add_infer_metadata

from exitkit.atomic import replacing
from exitkit.errors import ExportError
from exitkit.export.precision import calibration, graphs, ranges
from exitkit.export.precision.scratch import scratch

# Operators for which ONNX Runtime has 8-bit kernels on processors. Others (softmax, norms) compute
# in float32 between the pairs of their neighbours.
PROCESSOR = (
    "Add", "AveragePool", "Clip", "Concat", "Conv", "Flatten", "Gemm", "GlobalAveragePool",
    "LeakyRelu", "MatMul", "MaxPool", "Mul", "Pad", "Relu", "Reshape", "Sigmoid", "Slice",
    "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
# TensorRT fuses what stands between two of these by itself.
TENSORRT = ("Conv", "Gemm", "MatMul")
# ONNX Runtime's integer product gives float32 as cheaply as integers, so that is not rounded.
# (Of Gemm too, but there a ReLU that follows would make it compute in float32.)
PRODUCT = "MatMul"
# What brings several tensors on one scale, and what hands on a tensor as it is.
MERGING = ("Add", "Concat", "Mul")
PASSING = ("Flatten", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
TENSORRT_NOTE = (
    "int8 segments for TensorRT save nothing on a processor, where ONNX Runtime computes them in "
    "float32; export without --trt for int8 there"
)


def quantise(
    source: Path,
    target: Path,
    batches: Iterable[NDArray[np.float32]],
    *,
    signed: bool = False,
    before: Path | None = None,
) -> None:
    """Write the segment `source` with 8-bit convolutions to `target`; the same bytes every time.

    Args:
        source: float32 segment.
        target: file to write.
        batches: of the segment's `hidden`, each read once and not kept.
        signed: whether for TensorRT instead of processors.
        before: the segment before this one, already quantised. `hidden` then gets the very scale
            of its `hidden_out`, so that quantising again changes nothing, and a runtime that
            leaves it out in a graph of several segments changes nothing either.

    Raises:
        DataError: fewer calibration images than `calibration.LEAST`.
        ExportError: the segment has operators that cannot be quantised, or there is no room beside
            `target` for what ONNX Runtime writes on the way.
    """
    graphs.read(source)
    with scratch(target, f"int8 for {source.name}") as place:
        prepared = place / "prepared.onnx"
        _prepare(source, prepared)
        reader = ranges.Batches(batches)
        found = ranges.measure(prepared, reader, place)
        calibration.require(reader.images, source.name)
        assert found is not None  # there were images
        model = _quantised(prepared, found, signed, {} if before is None else _border(before))
    graphs.check(model, source.name)
    with replacing(target) as temporary:
        onnx.save_model(model, temporary)


def _prepare(source: Path, prepared: Path) -> None:
    """Fold constants and note the shapes of all tensors, without which none is quantised."""
    options = ranges.options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(prepared)
    onnxruntime.InferenceSession(str(source), options, providers=ranges.PROVIDERS)
    onnx.shape_inference.infer_shapes_path(str(prepared), str(prepared))


def _border(before: Path) -> dict[str, Any]:  # Any: whatever ONNX Runtime's options hold
    """Return what `hidden` must be quantised with: nothing where `hidden_out` is not."""
    constants = {one.name: one for one in onnx.load(before).graph.initializer}
    scale = constants.get("hidden_out_scale")
    zero = constants.get("hidden_out_zero_point")
    if scale is None or zero is None:
        return {}
    scale, zero = numpy_helper.to_array(scale), numpy_helper.to_array(zero)
    return {"TensorQuantOverrides": {"hidden": [{"scale": scale, "zero_point": zero}]}}


def _quantised(
    prepared: Path, found: TensorsData, signed: bool, border: dict[str, Any]
) -> onnx.ModelProto:
    model = onnx.load(prepared)
    for position, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{position}"  # by which nodes are excluded; not all have one
    # Its shapes are known: else ONNX Runtime would write it to the system's temporary folder.
    add_infer_metadata(model)
    kept = _kept(model)
    operators = TENSORRT if signed else PROCESSOR
    options = {"OpTypesToExcludeOutputQuantization": [PRODUCT], **border}
    if signed:
        options |= {
            "ActivationSymmetric": True,
            "QuantizeBias": False,
            "DedicatedQDQPair": True,
            "OpTypesToExcludeOutputQuantization": list(TENSORRT),
        }
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if signed else QuantType.QUInt8,
        tensors_range=found,
        nodes_to_quantize=[],
        nodes_to_exclude=sorted(kept),
        op_types_to_quantize=list(operators),
        extra_options=options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    made: onnx.ModelProto = quantizer.model.model
    _require_quantised(made, kept)
    del made.metadata_props[:]
    del made.graph.value_info[:]  # shapes of tensors that are no longer there
    version = graphs.opset(made)
    del made.opset_import[:]  # ONNX Runtime names all the operators that it knows
    made.opset_import.append(onnx.helper.make_opsetid("", version))
    return made


def _kept(model: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes that stay float32 although they could be quantised.

    The classifier; products of two activations, as in attention; and what is merged beside or
    before something that computes in float32, as before the batch norms of a DenseNet or in the
    residual stream of a transformer: one scale for all that comes together there loses what a
    norm would bring back, and saves nothing.
    """
    nodes = model.graph.node
    constants = {one.name for one in model.graph.initializer}
    makers = {name: node.op_type for node in nodes for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    kept = {node.name for node in graphs.classifier(model)}
    kept |= {n.name for n in nodes if n.op_type == PRODUCT and n.input[1] not in constants}
    # Backwards, so that a node is asked after its readers.
    for node in reversed(nodes):
        read = [reader for name in node.output for reader in readers.get(name, [])]
        float32 = any(one.op_type not in PROCESSOR or one.name in kept for one in read)
        if node.op_type in MERGING:
            float32 |= any(makers.get(name) == PRODUCT for name in node.input)
        if float32 and node.op_type in (*MERGING, *PASSING):
            kept.add(node.name)
    return kept


def _require_quantised(model: onnx.ModelProto, kept: set[str]) -> None:
    """Refuse a segment of which a part stayed float32 in silence."""
    constants = {one.name for one in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type not in TENSORRT or node.name in kept:
            continue
        sources = [makers.get(name) for name in node.input[:2]]
        whole = [one is None or one.op_type != "DequantizeLinear" for one in sources]
        # A product of two activations is not meant: neither side is a weight.
        if node.input[1] in constants or (whole[0] and not whole[1]):
            raise ExportError(
                f"int8 for {node.op_type} with {node.input[1]}",
                "ONNX Runtime left it in float32",
                "report the network with the version of onnxruntime, or export it as float32",
            )
