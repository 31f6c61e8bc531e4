"""Which answer each row has so far, where exits are asked in turn about the whole batch."""

from dataclasses import dataclass

import numpy as np

from exitkit.export.forms import verdict
from exitkit.export.forms.drawing import Drawing
from exitkit.export.forms.pieces import Piece


@dataclass(frozen=True)
class Standing:
    """Names of what is known after some exits.

    Attributes:
        answers: probabilities [batch, C], confidence [batch] and exit [batch]: of the exit where a
            row left, or of the last one that it passed.
        undecided: [batch], whether a row has left nowhere yet; "" after the deepest exit.
    """

    answers: tuple[str, str, str]
    undecided: str


def ask(
    drawing: Drawing,
    piece: Piece,
    logits: str,
    before: Standing | None,
    position: int,
    thresholds: str,
) -> Standing:
    """Draw what the exit at `position` adds, from its logits [batch, C] of all rows.

    `before` is how things stand after the exit before it, None at the first. `thresholds` names
    [K-1], and is "" at the deepest exit, where every row leaves.
    """
    said = verdict.say(drawing, piece, logits)
    if before is None:
        answers = (said.probabilities, said.confidence, verdict.number(drawing, piece, said))
    else:
        answers = _newer(drawing, piece, said, before)
    if not thresholds:
        return Standing(answers, "")
    leave = verdict.leaves(drawing, said.confidence, thresholds, position, axis=0)
    undecided = drawing.op("Not", leave)
    if before is not None:
        undecided = drawing.op("And", before.undecided, undecided)
    return Standing(answers, undecided)


def _newer(
    drawing: Drawing, piece: Piece, said: verdict.Verdict, before: Standing
) -> tuple[str, str, str]:
    """Draw this exit's answers for the rows that reach it and the older ones for the others."""
    here = before.undecided
    columns = drawing.op("Unsqueeze", here, drawing.constant(np.array([1])))  # [batch, 1]
    older = before.answers
    number = drawing.constant(np.array([piece.exit]))
    return (
        drawing.op("Where", columns, said.probabilities, older[0]),
        drawing.op("Where", here, said.confidence, older[1]),
        drawing.op("Where", here, number, older[2]),
    )
