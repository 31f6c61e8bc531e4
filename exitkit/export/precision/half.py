"""A segment with float16 weights and arithmetic inside, float32 at its borders.

`hidden` and `hidden_out` are cast where they enter and leave. From its weights on, the operator
that makes the logits stays float32: rounded to float16, logits near 16 would lie 1/64 apart, so
that classes tie and the confidence moves in steps. Where the operator set gives an input or an
output no float16 type (the scales of Resize, all of Range), it stays float32 between casts.

Own pass and not onnxruntime's `float16` module: that one clamps what float16 cannot hold, lifts
what it would round to zero, rounds the outputs of operators that were to stay float32, and writes
its casts behind the nodes that need them, which the checker refuses.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import TensorsData

from exitkit.atomic import replacing
from exitkit.errors import ExportError
from exitkit.export.precision import graphs, ranges
from exitkit.export.precision.scratch import scratch

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
LARGEST = float(np.finfo(np.float16).max)
# Told with every export of this kind; measured in docs/results.md ("forms").
NOTE = (
    "fp16 is for GPUs: on a processor without float16 arithmetic ONNX Runtime casts the weights "
    "back and computes in float32: no faster as segments, and down to half as fast inside a "
    "cascade or chain, where it casts them at every call"
)


def convert(
    source: Path, target: Path, batches: Iterable[NDArray[np.float32]] | None = None
) -> None:
    """Write the segment `source` with float16 inside to `target`.

    Args:
        source: float32 segment.
        target: file to write.
        batches: of the segment's `hidden`, each read once: no value that arises from them may be
            too large. Not looked at where None. (Processors compute in float32 and would not
            notice; a GPU answers infinity.)

    Raises:
        ExportError: a weight, a constant or a value between two operators that float16 cannot
            hold (named, with the value), or an operator that is none of ONNX's own; or there is no
            room beside `target` for what ONNX Runtime writes on the way.
    """
    model = graphs.read(source)
    rewritten = _Pass(model, source.name)
    rewritten.run()
    if batches is not None:
        half = {name for name, kind in rewritten.types.items() if kind == HALF}
        with scratch(target, f"float16 for {source.name}") as place:
            found = ranges.measure(source, ranges.Batches(batches), place)
        _check_values(source, found, half)
    graphs.check(model, source.name)
    with replacing(target) as temporary:
        onnx.save_model(model, temporary)


class _Pass:
    """One walk over the nodes in their order; every float tensor gets the type its user wants."""

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        self.graph, self.name = model.graph, name
        self.opset = graphs.opset(model)
        self.types = graphs.types(model, name)
        self.kept = {name for node in graphs.classifier(model) for name in node.output}
        self.constants = {one.name: one for one in self.graph.initializer}
        self.nodes: list[NodeProto] = []
        self.made: dict[tuple[str, int], str] = {}  # (tensor, type) -> name of that version

    def run(self) -> None:
        """Rewrite the graph."""
        outputs = {value.name for value in self.graph.output}
        nodes = list(self.graph.node)
        for node in nodes:
            float32 = not self.kept.isdisjoint(node.output)
            schema = onnx.defs.get_schema(node.op_type, self.opset, node.domain)
            for i, name in enumerate(node.input):
                formal = schema.inputs[min(i, len(schema.inputs) - 1)]
                want = FLOAT if float32 or "tensor(float16)" not in formal.types else HALF
                node.input[i] = self._as(name, want)
            if not float32:
                _retype(node, self.name)
            renamed = self._outputs(node, schema, float32, outputs)
            self.nodes.append(node)
            for inner, name in renamed:
                self.nodes.append(_cast(inner, name, FLOAT))
        used = {name for node in self.nodes for name in node.input} | outputs
        del self.graph.node[:], self.graph.value_info[:], self.graph.initializer[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(one for one in self.constants.values() if one.name in used)

    def _outputs(
        self,
        node: NodeProto,
        schema: onnx.defs.OpSchema,
        float32: bool,
        outputs: set[str],
    ) -> list[tuple[str, str]]:
        """Note the new types of what a node gives; return (float16 name, segment output) pairs."""
        renamed = []
        for i, name in enumerate(node.output):
            formal = schema.outputs[min(i, len(schema.outputs) - 1)]
            if float32 or self.types.get(name) != FLOAT or "tensor(float16)" not in formal.types:
                continue
            self.types[name] = HALF
            if name in outputs:  # the inside goes on with float16, the border gets float32
                node.output[i] = self.made[name, HALF] = f"{name}_half"
                renamed.append((node.output[i], name))
        return renamed

    def _as(self, name: str, want: int) -> str:
        """Return the name of the tensor's version of the wanted type, made where there is none."""
        have = self.types.get(name)
        if have not in (FLOAT, HALF) or (have == want and (name, want) not in self.made):
            return name  # whole numbers and truth values, absent inputs, and what fits already
        if (name, want) not in self.made:
            inner = f"{name}_half" if want == HALF else f"{name}_float"
            if name in self.constants:
                values = numpy_helper.to_array(self.constants[name])
                self.constants[inner] = numpy_helper.from_array(
                    rounded(values, name, self.name), inner
                )
            else:
                self.nodes.append(_cast(name, inner, want))
            self.made[name, want] = inner
        return self.made[name, want]


def _check_values(source: Path, found: TensorsData | None, inside: set[str]) -> None:
    if found is None:  # there were no images
        return
    for name in sorted(inside & set(found)):
        extremes = np.concatenate([np.ravel(value) for value in found[name].range_value])
        _fitting(extremes, name, source.name)


def rounded(values: NDArray[np.float32], name: str, where: str) -> NDArray[np.float16]:
    """Return float32 values as float16.

    Raises:
        ExportError: a finite value is too large, or a single number would become zero: it may
            stand there so that nothing is divided by zero. (Of weights, what is that small adds
            nothing.)
    """
    half = _fitting(values, name, where)
    if values.size == 1 and values.any() and not half.any():
        raise _refusal(where, f"tensor {name} holds {values.max():.3g}, which would become 0")
    return half


def _fitting(values: NDArray[np.float32], name: str, where: str) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    lost = np.isinf(half) & np.isfinite(values)
    if lost.any():
        worst = values[lost][np.abs(values[lost]).argmax()]
        raise _refusal(where, f"tensor {name} holds {worst:.6g}, float16 ends at {LARGEST:.0f}")
    return half


def _refusal(where: str, found: str) -> ExportError:
    do = "export it with --precision float32 or int8"
    return ExportError(f"{where} with float16 arithmetic", found, do)


def _retype(node: NodeProto, where: str) -> None:
    """Make the node itself give float16 where it names a type."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == FLOAT:
            attribute.i = HALF
        elif attribute.type == AttributeProto.TENSOR and attribute.t.data_type == FLOAT:
            values = rounded(numpy_helper.to_array(attribute.t), node.output[0], where)
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            numbers = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            values = rounded(np.asarray(numbers, np.float32), node.output[0], where)
            tensor = numpy_helper.from_array(values)
            attribute.CopyFrom(helper.make_attribute("value", tensor))
    if node.op_type == "ConstantOfShape" and not node.attribute:
        zero = numpy_helper.from_array(np.zeros(1, np.float16))
        node.attribute.append(helper.make_attribute("value", zero))


def _cast(name: str, result: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [name], [result], name=f"{result}_cast", to=to)
