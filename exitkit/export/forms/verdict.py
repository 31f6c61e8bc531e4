"""What one exit says, drawn as `exitkit.policy.criteria` computes it, in float32 throughout."""

from dataclasses import dataclass

import numpy as np
from onnx import numpy_helper

from exitkit.export.forms.drawing import Drawing
from exitkit.export.forms.pieces import Piece


@dataclass(frozen=True)
class Verdict:
    """Names of one exit's answers.

    Attributes:
        probabilities: [n, C], softmax(logits / temperature).
        confidence: [n], the largest of each row.
    """

    probabilities: str
    confidence: str


def say(drawing: Drawing, piece: Piece, logits: str) -> Verdict:
    """Draw probabilities and confidence of an exit from its logits [n, C]."""
    columns = drawing.constant(np.array([1]))
    top = drawing.op("ReduceMax", logits, columns, keepdims=1)
    shifted = drawing.op("Sub", logits, top)
    if piece.temperature != 1.0:
        divisor = drawing.constant(np.array(piece.temperature, dtype=np.float32))
        shifted = drawing.op("Div", shifted, divisor)
    weights = drawing.op("Exp", shifted)
    total = drawing.op("ReduceSum", weights, columns, keepdims=1)
    # The largest weight is exp(0) = 1, so this is the largest probability.
    confidence = drawing.op("Reciprocal", drawing.op("Squeeze", total, columns))
    return Verdict(drawing.op("Div", weights, total), confidence)


def number(drawing: Drawing, piece: Piece, verdict: Verdict) -> str:
    """Draw the exit's number, once per row: [n] int64."""
    rows = drawing.op("Shape", verdict.confidence)
    constant = numpy_helper.from_array(np.array([piece.exit], dtype=np.int64))
    return drawing.op("ConstantOfShape", rows, value=constant)


def leaves(drawing: Drawing, confidence: str, thresholds: str, position: int, axis: int) -> str:
    """Draw which rows leave at the exit at `position`: confidence >= threshold.

    A confidence that is not a number does not leave. The thresholds have the exits on `axis`:
    on 0 all rows share them, on 1 each has its own.
    """
    own = drawing.op("Gather", thresholds, drawing.constant(np.array(position)), axis=axis)
    return drawing.op("GreaterOrEqual", confidence, own)
