"""What every form takes and answers, and how its file is written.

* images, float32 [batch, 3, H, W]: normalised, as the first segment takes them;
* thresholds, float32 [K-1]: one per exit but the deepest, or [batch, K-1] where each row has its
  own; where there is a single exit there is no such input;
* probabilities, float32 [batch, C]: softmax(logits / temperature) of the exit that answers;
* confidence, float32 [batch]: the largest of them;
* exit, int64 [batch]: the number of that exit.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from exitkit.atomic import replacing
from exitkit.errors import ExportError
from exitkit.export.forms.drawing import Dims, Drawing, value
from exitkit.export.forms.pieces import Pieces

IMAGES, THRESHOLDS = "images", "thresholds"
PROBABILITIES, CONFIDENCE, EXIT, LOGITS = "probabilities", "confidence", "exit", "logits"
RESULTS = (PROBABILITIES, CONFIDENCE, EXIT)
PRODUCER = "exitkit"


def results(names: Sequence[str], batch: str, classes: int) -> list[onnx.ValueInfoProto]:
    """Return what a graph says of probabilities, confidence and exit under these names."""
    shapes: tuple[tuple[type[np.generic], Dims], ...] = (
        (np.float32, (batch, classes)),
        (np.float32, (batch,)),
        (np.int64, (batch,)),
    )
    return [value(name, *shape) for name, shape in zip(names, shapes, strict=True)]


def write(
    path: Path,
    drawing: Drawing,
    pieces: Pieces,
    metadata: Mapping[str, str],
    *,
    per_row: bool = False,
    more: Sequence[onnx.ValueInfoProto] = (),
) -> None:
    """Write a finished drawing that has `RESULTS` and `more` as outputs.

    Raises:
        ExportError: ONNX's checker refuses it.
    """
    first, k = pieces.rows[0], len(pieces.rows)
    inputs = [value(IMAGES, np.float32, (first.batch, *first.shape))]
    if k > 1:
        shape: Dims = (first.batch, k - 1) if per_row else (k - 1,)
        inputs.append(value(THRESHOLDS, np.float32, shape))
    outputs = [*results(RESULTS, first.batch, first.classes), *more]
    model = helper.make_model(
        drawing.graph(inputs, outputs),
        ir_version=pieces.ir,
        opset_imports=list(pieces.opsets),
        producer_name=PRODUCER,
    )
    helper.set_model_props(model, dict(metadata))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"{path.name} of {k} segments",
            f"ONNX's checker refused it ({str(error).strip().splitlines()[0]})",
            "report the network, or leave the form out",
        ) from error
    with replacing(path) as temporary:
        onnx.save_model(model, temporary)
