"""Build one TensorRT engine per segment, for the GPU at hand or ahead of time without any.

Two builders, both fed with the segment's ONNX file:

* package `tensorrt` and a GPU: an engine for exactly that GPU;
* package `tensorrt_rtx` (or its bindings alone, `tensorrt_rtx_bindings`): an engine for named
  targets, built on the processor; the GPU's final kernels are compiled where the engine is loaded.

Precision is what the ONNX file says. (TensorRT 11 has one flag of precision left, TF32.)
"""

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exitkit.atomic import replacing, sha256
from exitkit.errors import ExportError, unknown

log = logging.getLogger(__name__)

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
# What TensorRT-RTX covers by itself: one engine for Ampere, Ada and Blackwell. Turing (sm75) has
# no float32 matrix product there, so it must be asked for and may be refused by the builder.
DEFAULT_TARGETS = ("sm80", "sm86", "sm89", "sm120")
BATCHES = (1, 8, 64)  # smallest, the one that is optimised for, largest
RTX_NAMES = ("tensorrt_rtx", "tensorrt_rtx_bindings")


@dataclass(frozen=True)
class Builder:
    """A TensorRT that can build here.

    Attributes:
        module: the imported package.
        name: "tensorrt" or "tensorrt_rtx".
        targets: compute capabilities of the engines, such as "sm89".
        device: name of the GPU at hand, or "" when built without one.
    """

    module: Any  # Any: two packages with one interface, neither of them typed
    name: str
    targets: tuple[str, ...]
    device: str


@dataclass(frozen=True)
class EngineFile:
    """One engine, as the manifest's origin records it.

    Attributes:
        file: its name inside the bundle.
        builder: package and version that built it.
        targets: compute capabilities that it is for.
        device: name of the GPU that it was built on, or "".
        batches: smallest, optimised-for and largest batch.
        onnx: SHA-256 of the ONNX file that it was built from.
    """

    file: str
    builder: str
    targets: tuple[str, ...]
    device: str
    batches: tuple[int, int, int]
    onnx: str


def check(targets: Sequence[str]) -> None:
    """Refuse a target that TensorRT-RTX cannot build for; needs no TensorRT.

    Raises:
        ConfigError: with the choices.
    """
    for target in targets:
        if target not in TARGETS:
            raise unknown("TensorRT target", target, TARGETS)


def find(targets: Sequence[str] | None = None) -> Builder:
    """Choose a builder: with `targets` always ahead of time, else the GPU at hand if it can be.

    Raises:
        ConfigError: a target that does not exist.
        ExportError: no TensorRT is installed that can build here; names the extra to install.
    """
    check(targets or ())
    if targets is None and torch.cuda.is_available():
        module = _import(("tensorrt",))
        if module is not None:
            major, minor = torch.cuda.get_device_capability()
            return Builder(module, "tensorrt", (f"sm{major}{minor}",), torch.cuda.get_device_name())
    module = _import(RTX_NAMES)
    if module is not None:
        return Builder(module, "tensorrt_rtx", tuple(targets or DEFAULT_TARGETS), "")
    raise ExportError(
        "TensorRT engines (--trt)",
        "no TensorRT that can build on this machine is installed",
        'pip install "exitkit[trt-rtx]" (needs no GPU), or "exitkit[trt]" for the GPU at hand',
    )


def build(builder: Builder, onnx_file: Path, engine_file: Path) -> EngineFile:
    """Build and write the engine of one segment, for batches of 1 to 64.

    Raises:
        ExportError: the builder refuses the segment; the message carries its first complaint.
    """
    trt = builder.module
    complaints: list[str] = []
    logger = _logger(trt, complaints)
    maker = trt.Builder(logger)
    flag = int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = maker.create_network(1 << flag)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_file.read_bytes()):
        raise _refused(builder, onnx_file, complaints)
    plan = maker.build_serialized_network(network, _config(builder, maker, network))
    if plan is None:
        raise _refused(builder, onnx_file, complaints)
    with replacing(engine_file) as temporary:
        temporary.write_bytes(bytes(plan))
    return EngineFile(
        engine_file.name,
        f"{builder.name} {trt.__version__}",
        builder.targets,
        builder.device,
        BATCHES,
        sha256(onnx_file),
    )


def _config(builder: Builder, maker: Any, network: Any) -> Any:
    trt, config = builder.module, maker.create_builder_config()
    # On by default: float32 factors rounded to 10 bits, further off than the parity gate allows.
    config.clear_flag(trt.BuilderFlag.TF32)
    profile = maker.create_optimization_profile()
    hidden = network.get_input(0)
    profile.set_shape(hidden.name, *((batch, *tuple(hidden.shape)[1:]) for batch in BATCHES))
    config.add_optimization_profile(profile)
    if builder.name == "tensorrt_rtx":
        config.num_compute_capabilities = len(builder.targets)
        for position, target in enumerate(builder.targets):
            capability = trt.ComputeCapability.__members__[target.upper()]
            config.set_compute_capability(capability, position)
    return config


def _logger(trt: Any, complaints: list[str]) -> Any:
    """Make a logger of the package's own kind: errors are kept, the rest goes to our log."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                complaints.append(message)
            log.debug("%s: %s", severity, message)

    return Logger()


def _refused(builder: Builder, onnx_file: Path, complaints: list[str]) -> ExportError:
    return ExportError(
        f"TensorRT engine of {onnx_file.name} for {', '.join(builder.targets)}",
        f"{builder.name} refused it ({complaints[0] if complaints else 'without a word'})",
        "choose other targets with --trt-target, or serve the ONNX file",
    )


def _import(names: Sequence[str]) -> Any:  # Any: an untyped package, or None
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
