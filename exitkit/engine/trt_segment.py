"""A TensorRT engine as a segment; features stay on the GPU between segments.

Only images go to the GPU and only logits come back. The rows that go on are copied there run by
run: of 64 rows of which any half goes on, 16 runs on average. (A Gather as one more engine was
built and weighed: it has a largest batch of its own, needs the numbers of the rows on the GPU,
and cannot start sooner than a few copies can.)
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitkit.engine.cuda import Gpu, Memory
from exitkit.engine.engine import Floats, require_input
from exitkit.errors import EngineError

FLOAT = 4  # bytes


class GpuRows:
    """Float32 rows [n, ...] of a feature map on the GPU; see exitkit.engine.engine.DeviceRows."""

    def __init__(self, memory: Memory, shape: tuple[int, ...]) -> None:
        self.memory, self.shape = memory, shape

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, rows: NDArray[np.int64], axis: int = 0) -> "GpuRows":
        """Return some rows, copied on the GPU, without waiting.

        Raises:
            EngineError: a row that is not there, or the GPU has no memory for them.
        """
        assert axis == 0  # the batch
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise EngineError(f"rows {rows.tolist()}", f"there are {len(self)}", "take those")
        gpu, one = self.memory.gpu, _bytes(self.shape[1:])
        kept = gpu.memory(len(rows) * one)
        place = 0
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            if len(run):
                source = self.memory.address + int(run[0]) * one
                gpu.copy(kept.address + place * one, source, len(run) * one)
                place += len(run)
        return GpuRows(kept, (len(rows), *self.shape[1:]))

    def concat(self, others: "Sequence[GpuRows]") -> "GpuRows":
        """Return these rows and behind them those of `others`, copied on the GPU, without waiting.

        Raises:
            EngineError: rows of another shape, or the GPU has no memory for them.
        """
        pieces = [self, *others]
        if any(piece.shape[1:] != self.shape[1:] for piece in others):
            shapes = ", ".join(str(piece.shape[1:]) for piece in pieces)
            raise EngineError("rows of one shape", f"shapes {shapes}", "join those of one stage")
        gpu, sizes = self.memory.gpu, [_bytes(piece.shape) for piece in pieces]
        joined = gpu.memory(sum(sizes))
        place = joined.address
        for piece, size in zip(pieces, sizes, strict=True):
            gpu.copy(place, piece.memory.address, size)
            place += size
        return GpuRows(joined, (sum(map(len, pieces)), *self.shape[1:]))

    def numpy(self) -> Floats:
        """Return a copy on the host."""
        copy = np.empty(self.shape, np.float32)
        self.memory.gpu.download(self.memory.address, copy)
        return copy


class TrtSegment:
    """One engine of a bundle; several threads may run it at once.

    Args:
        gpu: where it is loaded.
        context: TensorRT's IExecutionContext, made for that GPU.
        complaints: where TensorRT's logger puts its errors, the last one last.
        exit: number of its exit.
        input_shape: of one image's "hidden".
        classes: length of the logits.
        onward: of one image's "hidden_out"; None for the deepest segment.
        largest: rows that the engine takes at once; more of them run in parts.
    """

    def __init__(
        self,
        gpu: Gpu,
        context: Any,  # Any: two packages with one interface, neither of them typed
        complaints: list[str],
        exit: int,
        input_shape: tuple[int, ...],
        classes: int,
        onward: tuple[int, ...] | None,
        largest: int,
    ) -> None:
        self.exit, self.input_shape, self.classes = exit, input_shape, classes
        self.pool, self.threads = "engines", 1
        self._gpu, self._context, self._complaints = gpu, context, complaints
        self._largest = largest
        self._shapes = {"hidden": input_shape, "logits": (classes,)}
        if onward is not None:
            self._shapes["hidden_out"] = onward
        self._lock = threading.Lock()  # a context holds one call's shapes and addresses

    def run(self, hidden: Floats | GpuRows) -> tuple[Floats, GpuRows | None]:
        """Take images or the rows of the segment before; return logits [n, C] and the next rows.

        Raises:
            EngineError: an input of another shape or type, or TensorRT or the GPU failed.
        """
        require_input(self, hidden)
        n = len(hidden)
        if isinstance(hidden, GpuRows):
            given = hidden.memory
        else:
            given = self._gpu.upload(np.ascontiguousarray(hidden))
        memory = {"hidden": given}
        for name in list(self._shapes)[1:]:
            memory[name] = self._gpu.memory(n * _bytes(self._shapes[name]))
        with self._lock:
            for start in range(0, n, self._largest):
                self._enqueue(start, min(self._largest, n - start), memory)
        logits = np.empty((n, self.classes), np.float32)
        self._gpu.download(memory["logits"].address, logits)
        if "hidden_out" not in memory:
            return logits, None
        return logits, GpuRows(memory["hidden_out"], (n, *self._shapes["hidden_out"]))

    def _enqueue(self, start: int, rows: int, memory: dict[str, Memory]) -> None:
        """Ask for rows start to start + rows, without waiting."""
        done = self._context.set_input_shape("hidden", (rows, *self.input_shape))
        for name, held in memory.items():
            address = held.address + start * _bytes(self._shapes[name])
            done = done and self._context.set_tensor_address(name, address)
        if not (done and self._context.execute_async_v3(self._gpu.stream)):
            why = self._complaints[-1] if self._complaints else "without a word"
            raise EngineError(
                f"exit {self.exit} on {rows} images",
                f"TensorRT failed ({why})",
                "run exitkit doctor",
            )


def _bytes(shape: tuple[int, ...]) -> int:
    return FLOAT * int(np.prod(shape))
