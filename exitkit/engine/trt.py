"""Load a bundle's own TensorRT engines, and refuse every one that is not for this machine.

An engine belongs to one ONNX file, one version of the package that built it and the GPUs that it
was built for. All three stand in the manifest and are compared before anything is loaded.
"""

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exitkit.bundle import EngineFile, Manifest, Segment
from exitkit.engine import cuda
from exitkit.engine.cuda import Gpu
from exitkit.engine.engine import Segment as Piece
from exitkit.engine.trt_segment import TrtSegment
from exitkit.errors import BundleError, ConfigError, EngineError

log = logging.getLogger(__name__)

# By what name each builder is imported: RTX's bindings also come without the package around them.
MODULES = {
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
EXTRAS = {"tensorrt": "trt", "tensorrt_rtx": "trt-rtx"}


def package(builder: str) -> Any:  # Any: an untyped package, or None
    """Return the package of "tensorrt" or "tensorrt_rtx"; None where it is not installed."""
    for name in MODULES[builder]:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def logger(trt: Any, complaints: list[str]) -> Any:  # Any: two packages with one interface
    """Make a logger of the package's own kind: errors go to `complaints`, all to our log."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                complaints.append(message)
            log.debug("%s: %s", severity, message)

    return Logger()


def load(folder: Path, manifest: Manifest) -> Sequence[Piece]:
    """Load a bundle's engines, shallow to deep, onto the first GPU.

    Raises:
        BundleError: a segment has no engine, or one from another ONNX file.
        ConfigError: the package that built them, or cuda-bindings, is not installed.
        EngineError: they are for another version or another GPU, there is no GPU, or a file is
            not what the manifest says.
    """
    engines = [_own(folder, manifest, piece) for piece in manifest.segments]
    trt = _installed(engines)
    gpu = cuda.find()
    for engine in engines:
        _require_gpu(engine, gpu)
    return assemble(folder, manifest, trt, gpu)


def assemble(folder: Path, manifest: Manifest, trt: Any, gpu: Gpu) -> Sequence[Piece]:
    """Load engines that nothing speaks against.

    Args:
        folder: of the bundle.
        manifest: of the same bundle; every segment has an engine.
        trt: the package that built them.
        gpu: that they were built for.

    Raises:
        EngineError: a file cannot be loaded, or is not what the manifest says.
    """
    complaints: list[str] = []
    runtime = trt.Runtime(logger(trt, complaints))
    segments = []
    shapes = [piece.input_shape for piece in manifest.segments]
    for piece, onward in zip(manifest.segments, [*shapes[1:], None], strict=True):
        assert piece.engine is not None  # load has looked
        file = Path(folder) / piece.engine.file
        engine = runtime.deserialize_cuda_engine(file.read_bytes())
        context = None if engine is None else engine.create_execution_context()
        if context is None:
            why = complaints[0] if complaints else "without a word"
            raise EngineError(str(file), f"TensorRT refused it ({why})", "export it again")
        sizes = {"hidden": piece.input_shape, "logits": (len(manifest.classes),)}
        if onward is not None:
            sizes["hidden_out"] = onward
        _require_sizes(trt, engine, piece.engine, sizes)
        segments.append(
            TrtSegment(
                gpu,
                context,
                complaints,
                piece.exit,
                piece.input_shape,
                len(manifest.classes),
                onward,
                piece.engine.batches[-1],
            )
        )
    return segments


def _own(folder: Path, manifest: Manifest, piece: Segment) -> EngineFile:
    if piece.engine is None:
        raise BundleError(
            f"provider engines for {folder}",
            f"{piece.file} has no TensorRT engine, or one of an older exitkit",
            "run exitkit export --trt",
        )
    if manifest.stale(piece):
        raise BundleError(
            f"{piece.engine.file} of {folder}",
            f"is stale: it was not built from this {piece.file}",
            "run exitkit export --trt again",
        )
    return piece.engine


def _installed(engines: Sequence[EngineFile]) -> Any:  # Any: an untyped package
    builders = {(engine.builder, engine.version) for engine in engines}
    if len(builders) > 1:
        found = ", ".join(sorted(" ".join(one) for one in builders))
        raise BundleError("engines of one bundle", f"built by {found}", "export it again")
    builder, version = builders.pop()
    trt = package(builder)
    if trt is None:
        raise ConfigError(
            "provider engines",
            f"the engines are for {builder} {version}, which is not installed",
            f'pip install "exitkit[{EXTRAS[builder]}]", which has to bring that version',
        )
    if trt.__version__ != version:
        raise EngineError(
            f"engines for {builder} {version}",
            f"{builder} {trt.__version__} is installed, and an engine runs on its own version only",
            "run exitkit export --trt again here, or install that version",
        )
    return trt


def _require_gpu(engine: EngineFile, gpu: Gpu) -> None:
    if gpu.capability in engine.targets and engine.device in ("", gpu.name):
        return
    made = ", ".join(engine.targets) + (f" ({engine.device})" if engine.device else "")
    raise EngineError(
        f"{engine.file}, built for {made}",
        f"this GPU is {gpu.capability} ({gpu.name})",
        "run exitkit export --trt for this GPU, or take another --provider",
    )


def _require_sizes(
    trt: Any, engine: Any, told: EngineFile, sizes: dict[str, tuple[int, ...]]
) -> None:
    """Refuse an engine that takes or answers anything else than float32 of these sizes."""
    wanted: dict[str, object] = {name: (-1, *size) for name, size in sizes.items()}
    found: dict[str, object] = {}
    for position in range(engine.num_io_tensors):
        name = engine.get_tensor_name(position)
        float32 = engine.get_tensor_dtype(name) == trt.float32
        found[name] = tuple(engine.get_tensor_shape(name)) if float32 else "not float32"
    # In parts of another size, a part may begin where TensorRT cannot read.
    wanted["batches"] = told.batches
    if "hidden" in found:
        shapes = engine.get_tensor_profile_shape("hidden", 0)
        found["batches"] = tuple(int(shape[0]) for shape in shapes)
    if found != wanted:
        raise EngineError(f"{told.file} with {wanted}", f"it has {found}", "export it again")
