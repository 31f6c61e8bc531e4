"""What computes: ONNX Runtime's execution providers, asked for by name and never replaced."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from exitkit.errors import ConfigError, EngineError, unknown

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# Smallest batch, the one that TensorRT optimises for, and the largest.
BATCHES = (1, 8, 64)


@dataclass(frozen=True)
class Provider:
    """A provider that this installation of ONNX Runtime has.

    Attributes:
        name: "cpu", "cuda" or "tensorrt".
        device: where it keeps its tensors, as ONNX Runtime names it.
    """

    name: str
    device: str

    def options(
        self, input_shape: tuple[int, ...], cache: Path
    ) -> list[tuple[str, dict[str, Any]]]:  # Any: ONNX Runtime takes words and numbers
        """Return what a session is opened with.

        Args:
            input_shape: of the segment's "hidden", without the batch.
            cache: folder in which TensorRT keeps its engines and timings.
        """
        if self.name != "tensorrt":
            return [(PROVIDERS[self.name], {})]
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
        return [(PROVIDERS["tensorrt"], table), (PROVIDERS["cuda"], {})]

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
    onnxruntime.preload_dlls()
    return Provider(name, "cuda")
