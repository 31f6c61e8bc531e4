"""A graph while it is drawn: nodes, constants and the shapes that are known."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from exitkit.export.forms.pieces import Piece

Dims = tuple[int | str, ...]
TYPES = {
    np.dtype(np.float32): onnx.TensorProto.FLOAT,
    np.dtype(np.int64): onnx.TensorProto.INT64,
}


def value(name: str, dtype: type[np.generic], dims: Dims) -> onnx.ValueInfoProto:
    """Return what a graph says of one of its values; a dimension with a name is any size."""
    return helper.make_tensor_value_info(name, TYPES[np.dtype(dtype)], dims)


class Drawing:
    """One graph: the whole file's, or a branch of an `If`.

    Args:
        scope: what the names of its own values begin with; unlike any other graph's in the file,
            since a branch sees the names of the graphs around it.
    """

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._known: list[onnx.ValueInfoProto] = []

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add an operator with one output and return the output's name, given or made up."""
        return self.ops(kind, *inputs, names=(name,), **attributes)[0]

    # Any: whatever an operator's attributes are, graphs among them
    def ops(
        self, kind: str, *inputs: str, names: tuple[str, ...], **attributes: Any
    ) -> tuple[str, ...]:
        """Add an operator and return its outputs' names; an empty one is made up."""
        node = f"{self.scope}{kind}_{len(self._nodes)}"
        outputs = tuple(name or f"{node}_{i}" for i, name in enumerate(names))
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=node, **attributes))
        return outputs

    def constant(self, number: NDArray[Any]) -> str:
        """Add a constant and return its name; equal ones stand in the graph once."""
        words = "_".join(map(str, number.ravel().tolist()))
        name = f"{self.scope}{number.dtype}{list(number.shape)}_{words}"
        self._constants.setdefault(name, numpy_helper.from_array(number, name))
        return name

    def paste(self, piece: Piece) -> None:
        """Add a segment's nodes, weights and known shapes."""
        self._nodes.extend(piece.nodes)
        self._constants |= {tensor.name: tensor for tensor in piece.weights}
        self._known.extend(piece.known)

    def know(self, name: str, dtype: type[np.generic], dims: Dims) -> None:
        """Say what cannot be inferred: the shape of a value."""
        self._known.append(value(name, dtype, dims))

    def graph(
        self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.GraphProto:
        """Return the finished graph."""
        return helper.make_graph(
            self._nodes,
            f"{self.scope}graph",
            inputs,
            outputs,
            list(self._constants.values()),
            value_info=self._known,
        )
