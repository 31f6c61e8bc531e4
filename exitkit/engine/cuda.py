"""One GPU through CUDA's runtime library: checked calls, one stream, memory that is used again.

All work goes to one stream and happens there in the order in which it was asked for. So memory
may go to its next user as soon as its last use was asked for, without waiting for that use.
"""

import importlib
from typing import Any

from numpy.typing import NDArray

from exitkit.errors import ConfigError, EngineError

LEAST = 256  # bytes; CUDA gives out no less


class Gpu:
    """The first GPU that this process sees; several threads may use it at once.

    Args:
        runtime: module cuda.bindings.runtime.
        stream: of that module, for everything that is asked of this object.
        capability: such as "sm89".
        name: as the driver tells it.
    """

    def __init__(self, runtime: Any, stream: Any, capability: str, name: str) -> None:
        self._runtime, self._stream = runtime, stream
        self.capability, self.name = capability, name
        self.spare: dict[int, list[int]] = {}  # size -> addresses that nobody uses

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream)

    def memory(self, size: int) -> "Memory":
        """Return at least `size` bytes with whatever was there before.

        Raises:
            EngineError: the GPU has no more.
        """
        # Few different sizes, so that what was given back fits the next who asks.
        whole = max(LEAST, 1 << (size - 1).bit_length())
        try:
            address = self.spare.get(whole, []).pop()
        except IndexError:
            answer = self._runtime.cudaMalloc(whole)
            address = int(_checked(self._runtime, f"{whole} bytes on {self.name}", answer))
        return Memory(self, address, whole)

    def upload(self, array: NDArray[Any]) -> "Memory":  # Any: arrays of every type
        """Return a copy of a contiguous array on the GPU; the array may change afterwards.

        Raises:
            EngineError: the GPU has no memory for it, or failed.
        """
        memory = self.memory(array.nbytes)
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(memory.address, array.ctypes.data, array.nbytes, kind)
        return memory

    def download(self, address: int, array: NDArray[Any]) -> None:  # Any: arrays of every type
        """Fill a contiguous array from the GPU; wait for all that was asked before.

        Raises:
            EngineError: the GPU failed, here or in something that was asked before.
        """
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, address, array.nbytes, kind)
        answer = self._runtime.cudaStreamSynchronize(self._stream)
        _checked(self._runtime, f"work on {self.name}", answer)

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy `size` bytes from one address on the GPU to another, without waiting.

        Raises:
            EngineError: the GPU failed.
        """
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._copy(target, source, size, kind)

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        if size:
            answer = self._runtime.cudaMemcpyAsync(target, source, size, kind, self._stream)
            _checked(self._runtime, f"copying {size} bytes on {self.name}", answer)

    def __del__(self) -> None:
        # Unchecked: at the end of a process CUDA may be gone before this is.
        for address in (one for addresses in self.spare.values() for one in addresses):
            self._runtime.cudaFree(address)
        self._runtime.cudaStreamDestroy(self._stream)


class Memory:
    """Bytes on a GPU, given back once nothing refers to this object any more."""

    def __init__(self, gpu: Gpu, address: int, size: int) -> None:
        self.gpu, self.address, self.size = gpu, address, size

    def __del__(self) -> None:
        self.gpu.spare.setdefault(self.size, []).append(self.address)


def find() -> Gpu:
    """Return the first GPU that this process sees, with a stream of its own.

    Raises:
        ConfigError: package cuda-bindings is not installed.
        EngineError: there is no GPU, or its driver is too old.
    """
    try:
        runtime = importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise ConfigError(
            "provider engines",
            "package cuda-bindings is not installed",
            'pip install "exitkit[trt]", or "exitkit[trt-rtx]" for engines built without a GPU',
        ) from error
    return attach(runtime)


def attach(runtime: Any) -> Gpu:
    """Return the first GPU that `runtime`, module cuda.bindings.runtime, sees.

    Raises:
        EngineError: there is no GPU, or its driver is too old.
    """
    status, count = runtime.cudaGetDeviceCount()
    if status != runtime.cudaError_t.cudaSuccess or count == 0:
        found = (
            "no device" if status == runtime.cudaError_t.cudaSuccess else _words(runtime, status)
        )
        raise EngineError(
            "provider engines",
            f"CUDA finds no GPU here ({found})",
            "run it where an NVIDIA GPU and its driver are, or take --provider cpu",
        )
    about = _checked(runtime, "GPU 0", runtime.cudaGetDeviceProperties(0))
    flag = runtime.cudaStreamNonBlocking  # one that does not wait for the stream of others
    stream = _checked(runtime, "a stream on GPU 0", runtime.cudaStreamCreateWithFlags(flag))
    return Gpu(runtime, stream, f"sm{about.major}{about.minor}", about.name.decode())


def _checked(runtime: Any, asked: str, answer: tuple[Any, ...]) -> Any:  # Any: CUDA's values
    """Return what a call gave; each gives its status first."""
    status, *values = answer
    if status != runtime.cudaError_t.cudaSuccess:
        found = f"CUDA failed ({_words(runtime, status)})"
        raise EngineError(asked, found, "give smaller batches, or run exitkit doctor")
    return values[0] if values else None


def _words(runtime: Any, status: Any) -> str:
    text = runtime.cudaGetErrorString(status)[1]
    return text.decode() if isinstance(text, bytes) else str(text)
