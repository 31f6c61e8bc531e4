"""A bundle's segment files as pieces of one larger graph.

Only the ONNX files are read, so what was done to them before (half precision, quantisation) is
in every form, and torch is not needed.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import compose, inliner

from exitkit.errors import ExportError

# From here on the operators of `verdict.py` take the inputs that it gives them.
LEAST_OPSET = 18


@dataclass(frozen=True)
class Piece:
    """One segment's graph, its names made unlike every other's.

    Attributes:
        exit: number of its exit.
        temperature: by which its logits are divided.
        batch: name of its batch axis.
        hidden, logits, onward: names of what it takes, what it answers and what it hands on; the
            deepest hands nothing on ("").
        shape, onward_shape: of `hidden` and `onward` for one image.
        classes: length of the logits.
        nodes, weights, known: its operators, constants and shapes.
    """

    exit: int
    temperature: float
    batch: str
    hidden: str
    logits: str
    onward: str
    shape: tuple[int, ...]
    onward_shape: tuple[int, ...]
    classes: int
    nodes: tuple[onnx.NodeProto, ...]
    weights: tuple[onnx.TensorProto, ...]
    known: tuple[onnx.ValueInfoProto, ...]


@dataclass(frozen=True)
class Pieces:
    """All segments of a bundle.

    Attributes:
        rows: shallow to deep.
        ir: version of the file format.
        opsets: what the operators belong to.
    """

    rows: tuple[Piece, ...]
    ir: int
    opsets: tuple[onnx.OperatorSetIdProto, ...]


def read(
    files: Sequence[Path],
    exits: Sequence[int],
    temperatures: Sequence[float],
    *,
    one_batch: bool = False,
) -> Pieces:
    """Read segment files, shallow to deep.

    With `one_batch` every segment gets all rows; else the batch of each has a name, and so a
    size, of its own.

    Raises:
        ExportError: a file is no segment, or two files speak different versions of ONNX.
    """
    if not len(files) == len(exits) == len(temperatures) > 0:
        raise ExportError(
            "a form of a bundle",
            f"{len(files)} files, {len(exits)} exits and {len(temperatures)} temperatures",
            "give one of each per kept exit",
        )
    models = [_load(Path(file)) for file in files]
    batches = ["batch", *("batch" if one_batch else f"exit{number}/batch" for number in exits[1:])]
    rows = tuple(
        _piece(model, Path(file), number, temperature, batch)
        for model, file, number, temperature, batch in zip(
            models, files, exits, temperatures, batches, strict=True
        )
    )
    _fit(rows)
    return Pieces(rows, max(model.ir_version for model in models), _opsets(models, files))


def _load(file: Path) -> onnx.ModelProto:
    try:
        model = onnx.load_model(file)
    except Exception as error:  # protobuf's own error class is no public name
        raise ExportError(str(file), f"cannot be read ({error})", "export it again") from error
    return inliner.inline_local_functions(model) if model.functions else model


def _opsets(
    models: Sequence[onnx.ModelProto], files: Sequence[Path]
) -> tuple[onnx.OperatorSetIdProto, ...]:
    found: dict[str, int] = {}
    for model, file in zip(models, files, strict=True):
        used = _domains(model.graph)
        for entry in model.opset_import:
            if entry.domain not in used:  # converters leave some behind that runtimes may not know
                continue
            if found.setdefault(entry.domain, entry.version) != entry.version:
                raise ExportError(
                    f"one graph of {len(files)} segments",
                    f"{Path(file).name} has opset {entry.version}, one before it has "
                    f"{found[entry.domain]}",
                    "export all segments with the same versions of torch and onnx",
                )
    if found.get("", 0) < LEAST_OPSET:
        raise ExportError(
            f"one graph of {len(files)} segments",
            f"they have opset {found.get('')}",
            f"export the segments with opset {LEAST_OPSET} or later",
        )
    return tuple(onnx.helper.make_opsetid(*entry) for entry in found.items())


def _domains(graph: onnx.GraphProto) -> set[str]:
    """Return whose operators a graph has, branches included."""
    found = {node.domain for node in graph.node}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found |= _domains(attribute.g)
    return found


def _piece(
    model: onnx.ModelProto, file: Path, number: int, temperature: float, batch: str
) -> Piece:
    names = [v.name for v in model.graph.input], [v.name for v in model.graph.output]
    if names[0] != ["hidden"] or names[1] not in (["logits"], ["logits", "hidden_out"]):
        raise ExportError(
            f"{file.name} as the segment of exit {number}",
            f"inputs {names[0]} and outputs {names[1]}",
            "give the segment files of one bundle, shallow to deep",
        )
    scope, last = f"exit{number}/", len(names[1]) == 1
    graph = compose.add_prefix_graph(model.graph, scope)
    _name_axes(graph, {_batch(graph): batch}, scope)
    return Piece(
        exit=number,
        temperature=float(temperature),
        batch=batch,
        hidden=scope + "hidden",
        logits=scope + "logits",
        onward="" if last else scope + "hidden_out",
        shape=_sizes(graph.input[0], file),
        onward_shape=() if last else _sizes(graph.output[1], file),
        classes=_sizes(graph.output[0], file)[0],
        nodes=tuple(graph.node),
        weights=tuple(graph.initializer),
        known=tuple(graph.value_info),
    )


def _fit(rows: Sequence[Piece]) -> None:
    """Refuse segments that are each whole and do not belong together."""
    if rows[-1].onward:
        raise ExportError(
            f"exit {rows[-1].exit} as the deepest",
            "its segment hands something on",
            "give all segment files of the bundle, shallow to deep",
        )
    for before, piece in itertools.pairwise(rows):
        given = (before.onward_shape, before.classes)
        if given != (piece.shape, piece.classes):
            raise ExportError(
                f"exit {piece.exit} after exit {before.exit}",
                f"it takes {list(piece.shape)} and names {piece.classes} classes; the one before "
                f"gives {list(before.onward_shape)} and names {before.classes}",
                "give the segment files of one bundle, shallow to deep",
            )


def _batch(graph: onnx.GraphProto) -> str:
    name: str = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    return name


def _name_axes(graph: onnx.GraphProto, known: Mapping[str, str], scope: str) -> None:
    """Rename free axes: two that have one name are taken to be of one size."""
    for values in (graph.input, graph.output, graph.value_info):
        for entry in values:
            for axis in entry.type.tensor_type.shape.dim:
                if axis.dim_param:
                    axis.dim_param = known.get(axis.dim_param, scope + axis.dim_param)


def _sizes(entry: onnx.ValueInfoProto, file: Path) -> tuple[int, ...]:
    """Return the shape of one image's value."""
    axes = entry.type.tensor_type.shape.dim[1:]
    if not axes or not all(axis.dim_value for axis in axes):
        raise ExportError(
            f"{file.name} in one graph with the others",
            f"{entry.name} has axes of unknown size",
            "export it again",
        )
    return tuple(axis.dim_value for axis in axes)
