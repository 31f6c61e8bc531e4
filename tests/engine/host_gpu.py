"""A GPU and a TensorRT that are none: the same calls, memory of the host, ONNX Runtime inside.

As on a GPU, nothing happens before somebody waits for the stream; only then do copies and engines
run, in the order in which they were asked for. An "engine" is the bytes of its ONNX file.
"""

import ctypes
import dataclasses
import enum
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

from exitkit import bundle
from exitkit.atomic import sha256
from exitkit.bundle import EngineFile, Manifest
from exitkit.engine import backends

STREAM = 7


class Status(enum.Enum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorNoDevice = 100


class Kind(enum.Enum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class HostCuda:
    """What exitkit calls of cuda.bindings.runtime; `limit` bytes of memory, 8.9."""

    cudaError_t, cudaMemcpyKind, cudaStreamNonBlocking = Status, Kind, 1

    def __init__(self, limit: int = 1 << 30, devices: int = 1) -> None:
        self.limit, self.devices = limit, devices
        self.held: dict[int, Any] = {}
        self.mallocs = 0
        self.copies: list[tuple[Kind, int]] = []
        self.streams: set[int] = set()
        self._todo: list[Callable[[], None]] = []
        self._lock = threading.RLock()

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return (Status.cudaSuccess if self.devices else Status.cudaErrorNoDevice), self.devices

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        assert device == 0
        return Status.cudaSuccess, SimpleNamespace(major=8, minor=9, name=b"Host 4090")

    def cudaGetErrorString(self, status: Status) -> tuple[Any, ...]:
        return Status.cudaSuccess, {2: b"out of memory", 100: b"no device"}[status.value]

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        self.streams.add(STREAM)
        return Status.cudaSuccess, STREAM

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        self.streams.remove(stream)
        return (Status.cudaSuccess,)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if size + sum(len(block) for block in self.held.values()) > self.limit:
            return Status.cudaErrorMemoryAllocation, None
        block = (ctypes.c_char * (size + 256))()
        address = (ctypes.addressof(block) + 255) // 256 * 256
        ctypes.memset(address, 0xFF, size)  # float32 that is not a number
        self.held[address] = block
        self.mallocs += 1
        return Status.cudaSuccess, address

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        del self.held[address]
        return (Status.cudaSuccess,)

    def cudaMemcpyAsync(
        self, target: int, source: int, size: int, kind: Kind, stream: int
    ) -> tuple[Any, ...]:
        assert stream == STREAM
        self.copies.append((kind, size))
        if kind is not Kind.cudaMemcpyHostToDevice:
            self.own(source, size)
        if kind is not Kind.cudaMemcpyDeviceToHost:
            self.own(target, size)
        if kind is Kind.cudaMemcpyHostToDevice:
            staged = ctypes.string_at(source, size)  # as CUDA does with memory that may be paged
            self.later(lambda: ctypes.memmove(target, staged, size))
        else:
            self.later(lambda: ctypes.memmove(target, source, size))
        return (Status.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        assert stream == STREAM
        with self._lock:
            while self._todo:
                self._todo.pop(0)()
        return (Status.cudaSuccess,)

    def later(self, action: Callable[[], object]) -> None:
        with self._lock:
            self._todo.append(lambda: (action(), None)[1])

    def own(self, address: int, size: int) -> None:
        """Fail unless the bytes lie in memory that was given out."""
        assert any(
            base <= address and address + size <= base + len(block) - 256
            for base, block in self.held.items()
        ), f"{size} bytes at {address} are nobody's"


class HostTrt:
    """What exitkit calls of package tensorrt: Runtime -> engine -> context, on a HostCuda."""

    __version__, float32 = "11.4.0", "float32"

    class ILogger:
        class Severity(enum.IntEnum):
            ERROR = 1

        def __init__(self) -> None:
            pass

    def __init__(self, cuda: HostCuda, batches: tuple[int, int, int] = (1, 8, 64)) -> None:
        self.cuda, self.batches = cuda, batches
        self.ran: list[int] = []  # rows of each execution
        self.broken = False

    def Runtime(self, logger: Any) -> "HostTrt":
        self.logger = logger
        return self

    def complain(self, words: str) -> None:
        self.logger.log(self.ILogger.Severity.ERROR, words)

    def deserialize_cuda_engine(self, plan: bytes) -> "HostEngine | None":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            return HostEngine(self, onnxruntime.InferenceSession(plan, options))
        except Exception:  # ONNX Runtime's errors have no common base
            self.complain("magic number does not match")
            return None


class HostEngine:
    def __init__(self, trt: HostTrt, session: onnxruntime.InferenceSession) -> None:
        self.trt, self.session = trt, session
        self._nodes = {n.name: n for n in (*session.get_inputs(), *session.get_outputs())}
        self.num_io_tensors = len(self._nodes)

    def get_tensor_name(self, position: int) -> str:
        return list(self._nodes)[position]

    def get_tensor_dtype(self, name: str) -> str:
        return {"tensor(float)": "float32"}.get(self._nodes[name].type, "another")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(n if isinstance(n, int) else -1 for n in self._nodes[name].shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(batch, *self.get_tensor_shape(name)[1:]) for batch in self.trt.batches]

    def create_execution_context(self) -> "HostContext":
        return HostContext(self)


class HostContext:
    def __init__(self, engine: HostEngine) -> None:
        self._engine, self._trt = engine, engine.trt
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine.get_tensor_profile_shape(name, 0)
        if not all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True)):
            self._trt.complain(f"{shape} is outside of the profile")
            return False
        self._shape = tuple(shape)
        time.sleep(0.001)  # a moment in which another thread can spoil it
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        if address % 256:
            self._trt.complain(f"{name} is not aligned")
            return False
        self._addresses[name] = address
        time.sleep(0.001)
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == STREAM
        if self._trt.broken:
            self._trt.complain("no kernel image")
            return False
        self._trt.ran.append(self._shape[0])
        shape, addresses = self._shape, dict(self._addresses)
        self._trt.cuda.later(lambda: self._compute(shape, addresses))
        return True

    def _compute(self, shape: tuple[int, ...], addresses: dict[str, int]) -> None:
        size = 4 * int(np.prod(shape))
        self._trt.cuda.own(addresses["hidden"], size)
        given = np.frombuffer(ctypes.string_at(addresses["hidden"], size), np.float32)
        names = [name for name in addresses if name != "hidden"]
        values = self._engine.session.run(names, {"hidden": given.reshape(shape)})
        for name, value in zip(names, values, strict=True):
            self._trt.cuda.own(addresses[name], value.nbytes)
            ctypes.memmove(addresses[name], value.tobytes(), value.nbytes)


def with_engines(folder: Path) -> Manifest:
    """Give every segment of a bundle an engine for the stand-in: its own ONNX file."""
    manifest = bundle.read_manifest(folder)
    pieces = []
    for piece in manifest.segments:
        file = Path(piece.file).with_suffix(".engine").name
        (folder / file).write_bytes((folder / piece.file).read_bytes())
        about = EngineFile(
            file, "tensorrt", "11.4.0", ("sm89",), "Host 4090", (1, 8, 64), sha256(folder / file)
        )
        pieces.append(dataclasses.replace(piece, engine=about))
    bundle.write_manifest(folder, dataclasses.replace(manifest, segments=tuple(pieces)))
    return bundle.read_manifest(folder)


@dataclass
class Machine:
    """One with the stand-ins, and a bundle with engines for them."""

    folder: Path
    manifest: Manifest
    cuda: HostCuda
    trt: HostTrt

    def load(self, **changes: Any) -> Any:
        """Load with the first segment's engine changed."""
        first, *others = self.manifest.segments
        assert first.engine is not None
        first = dataclasses.replace(first, engine=dataclasses.replace(first.engine, **changes))
        told = dataclasses.replace(self.manifest, segments=(first, *others))
        return backends.load(self.folder, told, provider="engines")
