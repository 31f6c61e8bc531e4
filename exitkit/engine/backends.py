"""What computes a bundle's segments, asked for by name and never replaced."""

from collections.abc import Sequence
from pathlib import Path

from exitkit.bundle import Manifest
from exitkit.engine import ort, providers, trt
from exitkit.engine.engine import Segment
from exitkit.errors import ConfigError, unknown

NAMES = (*providers.PROVIDERS, "engines", "torch")


def load(
    folder: Path,
    manifest: Manifest,
    pool: str = "private",
    threads: int | None = None,
    provider: str = "cpu",
) -> Sequence[Segment]:
    """Load a bundle's segments, shallow to deep.

    Args:
        folder: of the bundle.
        manifest: of the same bundle.
        pool: of the processor's threads, "private" or "shared" (see exitkit.engine.ort).
        threads: of the pool; all cores that the process may use where None.
        provider: what computes. "cpu", "cuda" and "tensorrt" are ONNX Runtime's, "engines"
            runs the bundle's own TensorRT engines, "torch" CUDA graphs of the network in the run
            that the bundle came from. On all but "cpu" features stay on the GPU between
            segments, and there is no shared pool.

    Raises:
        ConfigError: no such provider or pool, or one that cannot be had here.
        BundleError: a file takes or answers other sizes than the manifest says, or engines are
            missing or stale.
        CheckpointError: provider torch does not find the run.
        EngineError: a file cannot be loaded, or something else would compute.
    """
    if provider not in NAMES:
        raise unknown("provider", provider, NAMES)
    if pool != "private" and provider != "cpu":
        raise ConfigError(
            f"a {pool} pool on provider {provider}",
            "only the processor has thread pools to share",
            'take pool="private"',
        )
    if provider == "engines":
        return trt.load(folder, manifest)
    if provider == "torch":
        return _torch(manifest)
    return ort.load(folder, manifest, pool, threads, provider)


def _torch(manifest: Manifest) -> Sequence[Segment]:
    try:
        # The one import against the arrows of ARCHITECTURE.md: only the learning half can build
        # the network, and nobody else pays for torch.
        from exitkit.export import torch_backend
    except ModuleNotFoundError as error:
        raise ConfigError(
            "provider torch", f"{error.name} is not installed", 'pip install "exitkit[train]"'
        ) from error
    return torch_backend.load(manifest)
