"""TensorRT engines of a bundle: one per segment, all of them or none."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from exitkit.bundle import EngineFile, Manifest
from exitkit.errors import ExportError
from exitkit.export import tensorrt


def missing(targets: Sequence[str] | None) -> ExportError | None:
    """Return why no engine can be built on this machine; None where one can be.

    Args:
        targets: compute capabilities to build for ahead of time; the GPU at hand where None.

    Raises:
        ConfigError: a target that does not exist, or an empty list of them.
    """
    try:
        tensorrt.find(targets)
    except ExportError as error:
        return error
    return None


def write(
    folder: Path, manifest: Manifest, targets: Sequence[str] | None, progress: Callable[[str], None]
) -> Manifest:
    """Build an engine beside every segment's ONNX file; return the manifest that names them.

    Args:
        folder: of the bundle.
        manifest: of the same bundle.
        targets: compute capabilities to build for ahead of time; the GPU at hand where None.
        progress: told one line per engine.

    Raises:
        ExportError: no builder is installed, or it refuses a segment; no engine is left behind.
    """
    builder = tensorrt.find(targets)
    built: list[EngineFile] = []
    try:
        for segment in manifest.segments:
            file = folder / segment.file
            target = file.with_suffix(".engine")
            built.append(tensorrt.build(builder, file, segment.input_shape, target))
            made = f"{built[-1].builder} {built[-1].version}"
            progress(f"{target.name}: {made} for {', '.join(builder.targets)}")
    except ExportError:
        for engine in built:
            (folder / engine.file).unlink()
        raise
    return dataclasses.replace(
        manifest,
        segments=tuple(
            dataclasses.replace(segment, engine=engine)
            for segment, engine in zip(manifest.segments, built, strict=True)
        ),
    )
