"""What an ONNX file takes and answers, as Triton's configuration has to say it."""

from dataclasses import dataclass
from pathlib import Path

import onnx

from exitkit.errors import ExportError

TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.INT64: "TYPE_INT64",
}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a batched model.

    Attributes:
        name: of the tensor.
        data_type: Triton's name of its type.
        shape: of one row; () where the file has a plain number per row, [batch].
    """

    name: str
    data_type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """What a model file takes and answers, in the file's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one row of every tensor by name."""
        return {one.name: one.shape for one in (*self.inputs, *self.outputs)}


def read(file: Path) -> Graph:
    """Read the inputs and outputs of an ONNX file for batches.

    Raises:
        ExportError: no ONNX file, a tensor without a free first axis (Triton batches all tensors
            of a model or none), with another free axis, or of a type that no form has.
    """
    try:
        graph = onnx.load_model(file, load_external_data=False).graph
    except Exception as error:  # protobuf's own error class is no public name
        raise ExportError(str(file), f"cannot be read ({error})", "export it again") from error
    constants = {tensor.name for tensor in graph.initializer}
    return Graph(
        tuple(_spec(file, entry) for entry in graph.input if entry.name not in constants),
        tuple(_spec(file, entry) for entry in graph.output),
    )


def _spec(file: Path, entry: onnx.ValueInfoProto) -> TensorSpec:
    tensor = entry.type.tensor_type
    axes = [axis.dim_value if axis.HasField("dim_value") else "any" for axis in tensor.shape.dim]
    shape = tuple(axis for axis in axes[1:] if isinstance(axis, int) and axis > 0)
    if axes[:1] != ["any"] or len(shape) != len(axes) - 1 or tensor.elem_type not in TYPES:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise ExportError(
            f"{file.name} as a batched model",
            f"{entry.name} is {kind} [{', '.join(map(str, axes))}]",
            "its first axis must be the batch and free, the others fixed, in float32 or int64; "
            "a cascade is written with a row of thresholds per image for it",
        )
    return TensorSpec(entry.name, TYPES[tensor.elem_type], shape)
