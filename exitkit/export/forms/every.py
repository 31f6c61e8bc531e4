"""Every exit computed for every image, and beside that the answers at the given thresholds.

It saves nothing: it is for looking at all exits at once, and runs wherever ONNX does. One output
more than the other forms: logits float32 [K, batch, C], shallow to deep.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from exitkit.export.forms import contract, pieces, standing
from exitkit.export.forms.contract import IMAGES, LOGITS, RESULTS, THRESHOLDS
from exitkit.export.forms.drawing import Drawing, value


def write(
    files: Sequence[Path],
    exits: Sequence[int],
    temperatures: Sequence[float],
    path: Path,
    metadata: Mapping[str, str],
) -> None:
    """Write all of a bundle's exits; arguments and errors as `cascade.write` has them."""
    read = pieces.read(files, exits, temperatures, one_batch=True)
    top = Drawing("decide/")
    hidden, now, layers = IMAGES, None, []
    for position, piece in enumerate(read.rows):
        top.op("Identity", hidden, name=piece.hidden)
        top.paste(piece)
        hidden = piece.onward
        now = standing.ask(
            top, piece, piece.logits, now, position, THRESHOLDS if piece.onward else ""
        )
        layers.append(top.op("Unsqueeze", piece.logits, top.constant(np.array([0]))))
    assert now is not None  # there is at least one segment
    for name, made in zip(RESULTS, now.answers, strict=True):
        top.op("Identity", made, name=name)
    top.op("Concat", *layers, name=LOGITS, axis=0)
    first = read.rows[0]
    shape = (len(read.rows), first.batch, first.classes)
    contract.write(path, top, read, metadata, more=[value(LOGITS, np.float32, shape)])
