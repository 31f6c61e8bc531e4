"""One graph that exits by itself: each segment runs on just the images that are still undecided.

exit 1: run, decide. If any image stays: gather the rows that stay, do the same at the next exit,
scatter its answers over this exit's. The branch is an `If`, so no operator ever sees an empty
batch (of a batch that has images), and once all have left nothing more runs. It needs no more
than ONNX's own operators, so every runtime that knows `If` and `NonZero` runs it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from exitkit.export.forms import contract, pieces, verdict
from exitkit.export.forms.contract import IMAGES, RESULTS, THRESHOLDS
from exitkit.export.forms.drawing import Drawing
from exitkit.export.forms.pieces import Piece


def write(
    files: Sequence[Path],
    exits: Sequence[int],
    temperatures: Sequence[float],
    path: Path,
    metadata: Mapping[str, str],
    *,
    per_row: bool = False,
) -> None:
    """Write the cascade of a bundle's segments.

    Args:
        files: of the segments, shallow to deep.
        exits: their numbers.
        temperatures: of the exits.
        path: of the file to write.
        metadata: what the file says of itself.
        per_row: whether each row has thresholds of its own, [batch, K-1].

    Raises:
        ExportError: the files are no segments of one network.
    """
    read = pieces.read(files, exits, temperatures)
    top = Drawing("decide/")
    top.op("Identity", IMAGES, name=read.rows[0].hidden)
    found = _level(top, read.rows, 0, THRESHOLDS, per_row)
    for name, made in zip(RESULTS, found, strict=True):
        top.op("Identity", made, name=name)
    contract.write(path, top, read, metadata, per_row=per_row)


def _level(
    drawing: Drawing, rows: Sequence[Piece], position: int, thresholds: str, per_row: bool
) -> tuple[str, ...]:
    """Draw the segment at `position` and, in a branch, those below it.

    Returns:
        names of probabilities [n, C], confidence [n] and exit [n] of the n rows that arrive.
    """
    piece = rows[position]
    drawing.paste(piece)
    said = verdict.say(drawing, piece, piece.logits)
    own = (said.probabilities, said.confidence, verdict.number(drawing, piece, said))
    if position == len(rows) - 1:
        return own
    leave = verdict.leaves(drawing, said.confidence, thresholds, position, axis=int(per_row))
    places = drawing.op("NonZero", drawing.op("Not", leave))  # [1, m]
    stay = drawing.op("Squeeze", places, drawing.constant(np.array([0])))
    some = drawing.op("Greater", drawing.op("Size", stay), drawing.constant(np.array(0)))
    return drawing.ops(
        "If",
        some,
        names=("", "", ""),
        then_branch=_deeper(rows, position, stay, thresholds, per_row, own),
        else_branch=_done(piece, own),
    )


def _deeper(
    rows: Sequence[Piece],
    position: int,
    stay: str,
    thresholds: str,
    per_row: bool,
    own: tuple[str, ...],
) -> onnx.GraphProto:
    """Return the branch for the rows that stay, whose answers take the place of this exit's."""
    piece, below = rows[position], rows[position + 1]
    branch = Drawing(f"decide{below.exit}/")
    branch.op("Gather", piece.onward, stay, name=below.hidden, axis=0)
    branch.know(below.hidden, np.float32, (below.batch, *below.shape))
    if per_row:
        thresholds = branch.op("Gather", thresholds, stay, axis=0)
    found = _level(branch, rows, position + 1, thresholds, per_row)
    places = branch.op("Unsqueeze", stay, branch.constant(np.array([1])))  # [m, 1]
    merged = [
        branch.op("ScatterND", mine, places, theirs)
        for mine, theirs in zip(own, found, strict=True)
    ]
    return branch.graph([], contract.results(merged, piece.batch, piece.classes))


def _done(piece: Piece, own: tuple[str, ...]) -> onnx.GraphProto:
    """Return the branch for when all rows leave here."""
    branch = Drawing(f"done{piece.exit}/")
    same = [branch.op("Identity", name) for name in own]
    return branch.graph([], contract.results(same, piece.batch, piece.classes))
