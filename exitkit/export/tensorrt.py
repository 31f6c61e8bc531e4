"""Build one TensorRT engine per segment, for the GPU at hand or ahead of time without any.

Two builders, both fed with the segment's ONNX file:

* package `tensorrt` and a GPU: an engine for exactly that GPU;
* package `tensorrt_rtx` (or its bindings alone, `tensorrt_rtx_bindings`): an engine for named
  targets, built on the processor; the GPU's final kernels are compiled where the engine is loaded.

Precision is what the ONNX file says. (TensorRT 11 has one flag of precision left, TF32.)

Package `tensorrt` tries many kernels on the GPU and keeps their times in the user's cache folder,
so that the next engine is built sooner. (TensorRT-RTX tries none before an engine is loaded.)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exitkit import machine
from exitkit.atomic import replacing, sha256
from exitkit.bundle import BATCHES, EngineFile
from exitkit.engine import trt
from exitkit.errors import ConfigError, ExportError, unknown

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
# What TensorRT-RTX covers by itself: one engine for Ampere, Ada and Blackwell. Turing (sm75) has
# no float32 matrix product there, so it must be asked for and may be refused by the builder.
DEFAULT_TARGETS = ("sm80", "sm86", "sm89", "sm120")


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


def check(targets: Sequence[str] | None) -> None:
    """Refuse targets that TensorRT-RTX cannot build for; needs no TensorRT.

    Args:
        targets: None where none were named.

    Raises:
        ConfigError: with the choices.
    """
    if targets is not None and not targets:
        raise ConfigError(
            "TensorRT targets", "none are named", f"name some of {', '.join(TARGETS)}"
        )
    for target in targets or ():
        if target not in TARGETS:
            raise unknown("TensorRT target", target, TARGETS)


def find(targets: Sequence[str] | None = None) -> Builder:
    """Choose a builder: with `targets` always ahead of time, else for the GPU at hand, if any.

    Raises:
        ConfigError: a target that does not exist, or an empty list of them.
        ExportError: no TensorRT is installed that can build here, or none for the GPU at hand;
            names the extra to install.
    """
    check(targets)
    if targets is None and torch.cuda.is_available():
        return _at_hand()
    module = trt.package("tensorrt_rtx")
    if module is not None:
        chosen = DEFAULT_TARGETS if targets is None else tuple(targets)
        return Builder(module, "tensorrt_rtx", chosen, "")
    raise ExportError(
        "TensorRT engines (--trt)",
        "no TensorRT that can build on this machine is installed",
        'pip install "exitkit[trt-rtx]" (needs no GPU), or "exitkit[trt]" for the GPU at hand',
    )


def _at_hand() -> Builder:
    """Choose a builder for the GPU at hand, and for no other."""
    major, minor = torch.cuda.get_device_capability()
    own, device = f"sm{major}{minor}", torch.cuda.get_device_name()
    module = trt.package("tensorrt")
    if module is not None:
        return Builder(module, "tensorrt", (own,), device)
    module = trt.package("tensorrt_rtx") if own in TARGETS else None
    if module is not None:
        return Builder(module, "tensorrt_rtx", (own,), "")
    raise ExportError(
        f"TensorRT engines (--trt) for {device} ({own})",
        "no TensorRT that builds for this GPU is installed",
        'pip install "exitkit[trt]", or name other GPUs with --trt-target',
    )


def build(
    builder: Builder, onnx_file: Path, input_shape: tuple[int, ...], engine_file: Path
) -> EngineFile:
    """Build and write the engine of one segment, for the batches of `bundle.BATCHES`.

    Args:
        builder: of `find`.
        onnx_file: of the segment.
        input_shape: of one image's "hidden", as the manifest says it.
        engine_file: to write.

    Raises:
        ExportError: the builder refuses the segment; the message carries its first complaint.
    """
    module = builder.module
    complaints: list[str] = []
    logger = trt.logger(module, complaints)
    maker = module.Builder(logger)
    flag = int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = maker.create_network(1 << flag)
    parser = module.OnnxParser(network, logger)
    if not parser.parse(onnx_file.read_bytes()):
        raise _refused(builder, onnx_file, complaints)
    config = _config(builder, maker, network.get_input(0).name, input_shape)
    if builder.name == "tensorrt":
        read_timings(config, timing_file(builder))
    plan = maker.build_serialized_network(network, config)
    if plan is None:
        raise _refused(builder, onnx_file, complaints)
    if builder.name == "tensorrt":
        write_timings(config, timing_file(builder))
    with replacing(engine_file) as temporary:
        temporary.write_bytes(bytes(plan))
    return EngineFile(
        engine_file.name,
        builder.name,
        module.__version__,
        builder.targets,
        builder.device,
        BATCHES,
        sha256(onnx_file),
    )


def timing_file(builder: Builder) -> Path:
    """Return where the times of kernels lie: they hold for one version on one kind of GPU."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{builder.module.__version__} {builder.device}")
    return machine.cache_folder() / "tensorrt" / f"{name}.timing"


def read_timings(config: Any, file: Path) -> None:  # Any: TensorRT's IBuilderConfig
    """Let a build begin with the times in `file`, or with none where TensorRT refuses them."""
    for held in (file.read_bytes() if file.is_file() else b"", b""):
        cache = config.create_timing_cache(held)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return


def write_timings(config: Any, file: Path) -> None:  # Any: TensorRT's IBuilderConfig
    """Keep the times that a build began with and measured; whole, or as they were."""
    with replacing(file) as temporary:
        temporary.write_bytes(bytes(config.get_timing_cache().serialize()))


def _config(builder: Builder, maker: Any, name: str, shape: tuple[int, ...]) -> Any:
    module, config = builder.module, maker.create_builder_config()
    # On by default: float32 factors rounded to 10 bits, further off than the parity gate allows.
    config.clear_flag(module.BuilderFlag.TF32)
    profile = maker.create_optimization_profile()
    profile.set_shape(name, *((batch, *shape) for batch in BATCHES))
    config.add_optimization_profile(profile)
    if builder.name == "tensorrt_rtx":
        config.num_compute_capabilities = len(builder.targets)
        for position, target in enumerate(builder.targets):
            capability = module.ComputeCapability.__members__[target.upper()]
            config.set_compute_capability(capability, position)
    return config


def _refused(builder: Builder, onnx_file: Path, complaints: list[str]) -> ExportError:
    return ExportError(
        f"TensorRT engine of {onnx_file.name} for {', '.join(builder.targets)}",
        f"{builder.name} refused it ({complaints[0] if complaints else 'without a word'})",
        "choose other targets with --trt-target, or serve the ONNX file",
    )
