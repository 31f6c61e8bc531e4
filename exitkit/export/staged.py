"""The staged form: one ONNX file per kept exit, and the manifest that names them."""

from pathlib import Path
from typing import Any

import exitkit
from exitkit import machine
from exitkit.bundle import Manifest, Segment
from exitkit.export import onnx, segments
from exitkit.export.source import Progress, Source


def write(
    folder: Path, source: Source, kept: tuple[int, ...], opset: int | None, progress: Progress
) -> Manifest:
    """Write the segments of a network in float32; return the manifest so far.

    Args:
        folder: of the bundle.
        source: the run.
        kept: numbers of the exits, ascending.
        opset: version of ONNX's operator set; the exporter's own choice where None.
        progress: told one line per file.

    Raises:
        ExportError: the exporter refuses the network or the operator set.
    """
    card = source.card
    pieces = segments.cut(source.network, kept)
    shapes = segments.input_shapes(pieces, card.image.height, card.image.width)
    macs = source.costs.segments(kept)
    made, opsets = [], {}
    for piece, shape, cost in zip(pieces, shapes, macs, strict=True):
        written = onnx.write(piece, shape, folder / f"segment_{piece.exit}.onnx", opset)
        made.append(Segment(piece.exit, written.path.name, shape, cost))
        opsets[written.path.name] = written.opset
        size = written.path.stat().st_size / 1e6
        progress(f"{written.path.name}: exit {piece.exit}, {size:.1f} MB, opset {written.opset}")
    return Manifest(
        name=source.run.name,
        network=source.digest,
        arch=card.arch,
        method=card.method,
        classes=card.classes,
        image=card.image,
        segments=tuple(made),
        plain_macs=source.costs.plain,
        files={},
        origin=_origin(source, opsets),
    )


def _origin(source: Source, opsets: dict[str, int]) -> dict[str, Any]:  # Any: JSON values
    pruned = source.card.pruned
    return {
        "exitkit": exitkit.__version__,
        "commit": machine.commit(),
        "machine": machine.describe(),
        "run": source.run.name,
        "weights": source.digest,
        "earlier": list(source.earlier),
        "data": source.sets.name,
        "trained_exits": list(source.card.exits),
        "pruned": pruned and {"run": pruned.run, "ratio": pruned.ratio, "of": pruned.network},
        "opset": opsets,
    }
