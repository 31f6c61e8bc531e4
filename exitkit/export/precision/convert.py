"""All segments of a bundle in another precision."""

from collections.abc import Callable
from pathlib import Path

from exitkit.bundle import Manifest
from exitkit.data.split import Split
from exitkit.engine import ort
from exitkit.errors import unknown
from exitkit.export.precision import PRECISIONS, calibration, half, int8


def convert(
    source: Path,
    manifest: Manifest,
    target: Path,
    precision: str,
    tune: Split,
    *,
    tensorrt: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[str, ...]:
    """Write every segment of `source` in another precision to `target`, under the same names.

    Args:
        source: folder of the float32 segments.
        manifest: of these segments.
        target: another folder.
        precision: "fp16" or "int8".
        tune: the split whose images int8 is calibrated with, and fp16 tried on.
        tensorrt: whether the segments will become TensorRT engines; int8 is another kind there.
        progress: told one line per segment.

    Returns:
        What the user should know.

    Raises:
        ConfigError: another precision.
        DataError: too few images for int8.
        ExportError: a segment cannot be converted.
    """
    if precision not in PRECISIONS[1:]:
        raise unknown("precision", precision, PRECISIONS[1:])
    images = calibration.Images(tune, manifest.image)
    if precision == "int8":
        calibration.require(len(images), manifest.name)
    segments = ort.load(source, manifest, pool="private")
    before = None
    for position, piece in enumerate(manifest.segments):
        old, new = source / piece.file, target / piece.file
        batches = calibration.hidden(segments, position, images)
        if precision == "fp16":
            half.convert(old, new, batches)
        else:
            int8.quantise(old, new, batches, signed=tensorrt, before=before)
        before = new
        progress(f"{piece.file}: {precision}, looked at {len(images)} images of the tune split")
    if precision == "fp16":
        return (half.NOTE,)
    return (int8.TENSORRT_NOTE,) if tensorrt else ()
