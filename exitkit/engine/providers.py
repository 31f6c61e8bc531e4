"""What computes: ONNX Runtime's execution providers, asked for by name and never replaced."""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from exitkit import machine
from exitkit.atomic import sha256
from exitkit.bundle import BATCHES
from exitkit.errors import ConfigError, EngineError, unknown

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
CUDA = {
    # By itself the provider rounds the factors of float32 products to 10 bits on GPUs that can
    # (TF32), which is further from the trained network than the parity gate allows.
    "use_tf32": "0",
    # By itself it tries every algorithm of a convolution on the first batch of each size, for
    # hundreds of milliseconds; early exits make all sizes. This asks cuDNN for its best guess.
    "cudnn_conv_algo_search": "HEURISTIC",
}


@dataclass(frozen=True)
class Provider:
    """A provider that this installation of ONNX Runtime has.

    Attributes:
        name: "cpu", "cuda" or "tensorrt".
        device: where it keeps its tensors, as ONNX Runtime names it.
    """

    name: str
    device: str

    @property
    def largest(self) -> int | None:
        """How many rows a session takes at once; None where it takes any number."""
        return BATCHES[-1] if self.name == "tensorrt" else None

    def options(
        self, input_shape: tuple[int, ...], file: Path
    ) -> list[tuple[str, dict[str, Any]]]:  # Any: ONNX Runtime takes words and numbers
        """Return what a session is opened with; make the folder of TensorRT's engines.

        Args:
            input_shape: of the segment's "hidden", without the batch.
            file: of the segment. ONNX Runtime finds engines again by the names in a graph, not
                by its weights, so those of every file have a folder of their own.
        """
        if self.name != "tensorrt":
            return [(PROVIDERS[self.name], CUDA if self.name == "cuda" else {})]
        cache = machine.cache_folder() / "tensorrt" / sha256(file)[:16]
        cache.mkdir(parents=True, exist_ok=True)  # ONNX Runtime makes the last folder only
        low, best, high = ("x".join(map(str, (batch, *input_shape))) for batch in BATCHES)
        table = {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": str(cache),
            "trt_profile_min_shapes": f"hidden:{low}",
            "trt_profile_opt_shapes": f"hidden:{best}",
            "trt_profile_max_shapes": f"hidden:{high}",
        }
        # What TensorRT leaves over is computed by CUDA.
        return [(PROVIDERS["tensorrt"], table), (PROVIDERS["cuda"], CUDA)]

    def require(self, session: onnxruntime.InferenceSession, file: str) -> None:
        """Refuse a session in which another provider took the place of this one.

        ONNX Runtime goes on with the processor, with no more than a line in its log, where a
        provider's libraries are not found.

        Raises:
            EngineError: another provider came.
        """
        came = session.get_providers()[0]
        if came != PROVIDERS[self.name]:
            raise EngineError(
                f"{file} on provider {self.name}",
                f"ONNX Runtime took {came} instead",
                "see exitkit doctor; its libraries must be found, of the versions that "
                f"onnxruntime {onnxruntime.__version__} was built with",
            )


def find(name: str) -> Provider:
    """Return a provider by name.

    Raises:
        ConfigError: no such name, or this installation of ONNX Runtime was built without it.
    """
    if name not in PROVIDERS:
        raise unknown("provider", name, PROVIDERS)
    there = onnxruntime.get_available_providers()
    if PROVIDERS[name] not in there:
        built = [short for short, long in PROVIDERS.items() if long in there]
        raise ConfigError(
            f"provider {name}",
            f"onnxruntime {onnxruntime.__version__} is built with {', '.join(built)}",
            'pip uninstall onnxruntime, then pip install "exitkit[serve-gpu]"',
        )
    if name == "cpu":
        return Provider(name, "cpu")
    # torch's and NVIDIA's wheels bring the CUDA libraries, in folders that no linker looks into.
    # What it does not find it tells stdout, which is for results.
    with contextlib.redirect_stdout(sys.stderr):
        onnxruntime.preload_dlls()
    return Provider(name, "cuda")
