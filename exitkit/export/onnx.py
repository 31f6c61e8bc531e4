"""Write one segment as one ONNX file with a dynamic batch axis."""

from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
import torch

from exitkit.atomic import replacing
from exitkit.engine.session import FAILURES
from exitkit.errors import ConfigError, ExportError
from exitkit.export.segments import SegmentModule

# An example batch of 0 or 1 would be taken for a constant; any larger one stays dynamic.
EXAMPLE_BATCH = 2
OLDEST_OPSET = 18  # of the exporter's own operator library
OLDEST_IR = 8  # version of the file format that goes with it


@dataclass(frozen=True)
class OnnxFile:
    """What was written.

    Attributes:
        path: the file.
        opset: version of the operator set, read back from the file: the exporter may deliver
            another one than was asked for.
        ir: version of the file format.
    """

    path: Path
    opset: int
    ir: int


def check_opset(opset: int | None) -> None:
    """Refuse an operator set that the exporter cannot write or ONNX Runtime cannot load.

    Raises:
        ConfigError: with the possible ones.
    """
    if opset is None:
        return
    latest = latest_opset()
    if not OLDEST_OPSET <= opset <= latest:
        raise ConfigError(
            f"opset {opset}",
            f"the exporter writes {OLDEST_OPSET} and later, and ONNX Runtime "
            f"{onnxruntime.__version__} loads no later one than {latest}",
            f"choose one of {OLDEST_OPSET} to {latest}, or leave --opset out",
        )


def latest_opset() -> int:
    """Return the latest operator set that the installed ONNX Runtime loads; it is asked."""
    known = range(onnx.defs.onnx_opset_version(), OLDEST_OPSET - 1, -1)
    return next((opset for opset in known if _loads(opset)), OLDEST_OPSET)


def _loads(opset: int) -> bool:
    """Return whether ONNX Runtime loads a graph of one operator in an operator set."""
    end, start = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "yx")
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "one", [start], [end]),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
        ir_version=OLDEST_IR,
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except FAILURES:
        return False
    return True


def write(
    segment: SegmentModule, shape: tuple[int, ...], path: Path, opset: int | None = None
) -> OnnxFile:
    """Export a segment: input "hidden" [batch, *shape] -> "logits" and perhaps "hidden_out".

    Batch norms are folded into the convolutions before them. Weights are inside the file.

    Args:
        segment: what is exported.
        shape: of its input, without the batch.
        path: the file to write.
        opset: version of the operator set; the exporter's own choice where None.

    Raises:
        ExportError: the exporter or the checker refuses the network, or another operator set
            came out than was asked for.
    """
    try:
        model = _graph(segment, shape, opset)
        onnx.checker.check_model(model, full_check=True)
    except (
        torch.onnx.OnnxExporterError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as error:
        raise ExportError(
            f"exit {segment.exit} as ONNX",
            f"the exporter refused it ({_first_line(error)})",
            "report the network, or leave the exit out with --exits",
        ) from error
    _check_batch(model, segment)
    if opset is not None and _opset(model) != opset:
        raise ExportError(
            f"exit {segment.exit} as ONNX with opset {opset}",
            f"the exporter could not convert it and delivered opset {_opset(model)}",
            f"export with --opset {_opset(model)}, or leave it out",
        )
    with replacing(path) as temporary:
        onnx.save_model(model, temporary)
    return OnnxFile(path, _opset(model), model.ir_version)


def _graph(segment: SegmentModule, shape: tuple[int, ...], opset: int | None) -> onnx.ModelProto:
    program = torch.onnx.export(
        segment,
        (torch.zeros(EXAMPLE_BATCH, *shape),),
        input_names=["hidden"],
        output_names=list(segment.outputs),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise ExportError(f"exit {segment.exit} as ONNX", "no graph came back", "update torch")
    model = program.model_proto
    _strip(model)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: source paths of the building machine, tracing details."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]


def _check_batch(model: onnx.ModelProto, segment: SegmentModule) -> None:
    names = {"hidden": model.graph.input, **dict.fromkeys(segment.outputs, model.graph.output)}
    for name, values in names.items():
        axes = next((v.type.tensor_type.shape.dim for v in values if v.name == name), None)
        if axes is None or not axes[0].dim_param:
            raise ExportError(
                f"exit {segment.exit} as ONNX with any batch size",
                f"{name} is missing or its batch axis is fixed",
                "look for a stage that reshapes with a constant batch size",
            )


def _opset(model: onnx.ModelProto) -> int:
    return next(int(entry.version) for entry in model.opset_import if entry.domain == "")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
