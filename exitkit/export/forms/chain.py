"""One `If` per stage, side by side: a stage runs if any image of the batch is still undecided.

The whole batch goes on together, so this form saves nothing until all its images are sure: it is
for one image at a time, and for TensorRT, which has no operator that picks the rows that stay
and cannot compile one `If` inside another for any batch size. A stage that does not run hands on
zeros of the same shape, which nothing reads.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from exitkit.export.forms import contract, pieces, standing
from exitkit.export.forms.contract import IMAGES, RESULTS, THRESHOLDS
from exitkit.export.forms.drawing import Drawing, value
from exitkit.export.forms.pieces import Piece


def write(
    files: Sequence[Path],
    exits: Sequence[int],
    temperatures: Sequence[float],
    path: Path,
    metadata: Mapping[str, str],
) -> None:
    """Write the chain of a bundle's segments; arguments and errors as `cascade.write` has them."""
    read = pieces.read(files, exits, temperatures, one_batch=True)
    rows = read.rows
    top = Drawing("decide/")
    top.op("Identity", IMAGES, name=rows[0].hidden)
    top.paste(rows[0])
    if len(rows) > 1:
        top.op("Identity", rows[0].onward, name=rows[1].hidden)
    logits, now = rows[0].logits, None
    for position, piece in enumerate(rows):
        following = rows[position + 1] if piece.onward else None
        if now is not None:
            logits = _stage(top, piece, following, now.undecided)
        now = standing.ask(top, piece, logits, now, position, THRESHOLDS if piece.onward else "")
    assert now is not None  # there is at least one segment
    for name, made in zip(RESULTS, now.answers, strict=True):
        top.op("Identity", made, name=name)
    contract.write(path, top, read, metadata)


def _stage(top: Drawing, piece: Piece, following: Piece | None, undecided: str) -> str:
    """Draw one segment that runs if any row is undecided; return the name of its logits."""
    axes = top.constant(np.array([0]))
    count = top.op("Cast", undecided, to=onnx.TensorProto.FLOAT)
    most = top.op("ReduceMax", count, axes, keepdims=0)
    some = top.op("Cast", most, to=onnx.TensorProto.BOOL)
    made = top.ops(
        "If",
        some,
        names=("",) if following is None else ("", following.hidden),
        then_branch=_run(piece),
        else_branch=_skip(piece),
    )
    return made[0]


def _outputs(piece: Piece, names: Sequence[str]) -> list[onnx.ValueInfoProto]:
    shapes = ((piece.classes,), piece.onward_shape)
    return [
        value(name, np.float32, (piece.batch, *shape))
        for name, shape in zip(names, shapes, strict=False)  # the deepest has no second one
    ]


def _run(piece: Piece) -> onnx.GraphProto:
    branch = Drawing(f"run{piece.exit}/")
    branch.paste(piece)
    names = [piece.logits, piece.onward] if piece.onward else [piece.logits]
    return branch.graph([], _outputs(piece, names))


def _skip(piece: Piece) -> onnx.GraphProto:
    branch = Drawing(f"skip{piece.exit}/")
    batch = branch.op("Shape", piece.hidden, start=0, end=1)
    shapes = [(piece.classes,), piece.onward_shape] if piece.onward else [(piece.classes,)]
    names = []
    for shape in shapes:
        sizes = branch.op("Concat", batch, branch.constant(np.array(shape)), axis=0)
        names.append(branch.op("ConstantOfShape", sizes))
    return branch.graph([], _outputs(piece, names))
