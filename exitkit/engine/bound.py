"""Segments whose features stay on the device: only images go there, only logits come back.

ONNX Runtime's input and output bindings hand a feature map from one session to the next where it
lies. The rows that go on are taken there as well, by a session with a single Gather. A batch that
is larger than a session takes runs in parts, which read and write their rows of whole maps.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from exitkit.engine.session import FAILURES, OrtSegment
from exitkit.errors import EngineError

Floats = NDArray[np.float32]

# A model of one node: Gather(hidden, rows) -> kept, along the first axis, for float32 of any
# rank. Written out because the running half works without package onnx; a test builds it again.
GATHER = (
    b'\x08\x08:W\n\x1c\n\x06hidden\n\x04rows\x12\x04kept"\x06Gather\x12\x04rows'
    b"Z\x0e\n\x06hidden\x12\x04\n\x02\x08\x01Z\x13\n\x04rows\x12\x0b\n\t\x08\x07\x12\x05\n\x03\x12\x01n"
    b"b\x0c\n\x04kept\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x12"
)


class DeviceRows:
    """Rows of a feature map on a device; what one may do with them is `take` and `concat`.

    Args:
        value: float32 [n, ...] on the device.
    """

    def __init__(self, value: onnxruntime.OrtValue, device: str) -> None:
        self.value, self.device = value, device

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all rows together."""
        return tuple(self.value.shape())

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, rows: NDArray[np.int64], axis: int = 0) -> "DeviceRows":
        """Return some rows, copied on the device; only their numbers travel there.

        Raises:
            EngineError: the runtime failed, for want of memory perhaps.
        """
        assert axis == 0  # the batch
        try:
            binding = self._wanted(rows)
            binding.bind_output("kept", self.device)
            _gather(self.device).run_with_iobinding(binding)
            return DeviceRows(binding.get_outputs()[0], self.device)
        except FAILURES as error:
            raise self._failed(f"{len(rows)} of {len(self)} rows", error) from error

    def concat(self, others: "Sequence[DeviceRows]") -> "DeviceRows":
        """Return these rows and behind them those of `others`, each copied once on the device.

        Raises:
            EngineError: rows of another shape, or the runtime failed.
        """
        pieces = [self, *others]
        total = sum(map(len, pieces))
        if any(piece.shape[1:] != self.shape[1:] for piece in others):
            shapes = ", ".join(str(piece.shape[1:]) for piece in pieces)
            raise EngineError("rows of one shape", f"shapes {shapes}", "join those of one stage")
        try:
            joined = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                [total, *self.shape[1:]], np.float32, self.device, 0
            )
            at, size = joined.data_ptr(), 4 * int(np.prod(self.shape[1:]))
            for piece in pieces:
                # All rows are gathered, to where they belong in the larger map.
                binding = piece._wanted(np.arange(len(piece)))
                binding.bind_output("kept", self.device, 0, np.float32, piece.shape, at)
                _gather(self.device).run_with_iobinding(binding)
                at += size * len(piece)
            return DeviceRows(joined, self.device)
        except FAILURES as error:
            raise self._failed(f"{total} rows of {len(pieces)} batches", error) from error

    def _wanted(self, rows: NDArray[np.int64]) -> onnxruntime.IOBinding:
        """Bind what the Gather takes: these rows, and the numbers of those wanted."""
        binding = _gather(self.device).io_binding()
        binding.bind_ortvalue_input("hidden", self.value)
        numbers = onnxruntime.OrtValue.ortvalue_from_numpy(rows, self.device, 0)
        binding.bind_ortvalue_input("rows", numbers)
        return binding

    def _failed(self, asked: str, error: Exception) -> EngineError:
        return EngineError(
            f"{asked} on {self.device}",
            f"ONNX Runtime failed ({error})",
            "give smaller batches, or run exitkit doctor",
        )

    def numpy(self) -> Floats:
        """Return a copy on the host."""
        copy: Floats = self.value.numpy()
        return copy


class BoundSegment(OrtSegment):
    """One ONNX file of a bundle whose features stay on `device`; logits come to the host.

    Args:
        session: of the file.
        exit: number of its exit.
        input_shape: of one image's "hidden".
        classes: length of the logits.
        provider: what computes.
        threads: of the processor, for what the provider leaves over.
        device: where the features stay, as ONNX Runtime names it.
        largest: rows that the session takes at once; None for any number.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        exit: int,
        input_shape: tuple[int, ...],
        classes: int,
        provider: str,
        threads: int,
        device: str,
        largest: int | None = None,
    ) -> None:
        super().__init__(session, exit, input_shape, classes, provider, threads)
        self.device, self.largest = device, largest
        self._onward = [output.shape[1:] for output in session.get_outputs()[1:]]

    def run(self, hidden: Floats | DeviceRows) -> tuple[Floats, DeviceRows | None]:  # type: ignore[override]
        """Take images or the rows of the segment before; return logits [n, C] and the next rows.

        Raises:
            EngineError: an input of another shape or type, or the runtime failed.
        """
        self._check(hidden)
        try:
            if self.largest is None or len(hidden) <= self.largest:
                return self._at_once(hidden)
            return self._in_parts(hidden, self.largest)
        except FAILURES as error:
            raise self._failed(error) from error

    def _at_once(self, hidden: Floats | DeviceRows) -> tuple[Floats, DeviceRows | None]:
        binding = self._session.io_binding()
        if isinstance(hidden, DeviceRows):
            binding.bind_ortvalue_input("hidden", hidden.value)
        else:
            binding.bind_cpu_input("hidden", np.ascontiguousarray(hidden))
        binding.bind_output("logits", "cpu")
        for name in self._outputs[1:]:
            binding.bind_output(name, self.device)
        self._session.run_with_iobinding(binding)
        logits, *onward = binding.get_outputs()
        return logits.numpy(), DeviceRows(onward[0], self.device) if onward else None

    def _in_parts(
        self, hidden: Floats | DeviceRows, largest: int
    ) -> tuple[Floats, DeviceRows | None]:
        # The parts lie side by side in one map, so nothing has to be joined afterwards.
        onward = [self._room((len(hidden), *shape)) for shape in self._onward]
        parts = []
        for start in range(0, len(hidden), largest):
            stop = min(start + largest, len(hidden))
            binding = self._session.io_binding()
            if isinstance(hidden, DeviceRows):
                binding.bind_input("hidden", *self._place(hidden.value, start, stop))
            else:
                binding.bind_cpu_input("hidden", np.ascontiguousarray(hidden[start:stop]))
            binding.bind_output("logits", "cpu")
            for name, whole in zip(self._outputs[1:], onward, strict=True):
                binding.bind_output(name, *self._place(whole, start, stop))
            self._session.run_with_iobinding(binding)
            parts.append(binding.get_outputs()[0].numpy())
        return np.concatenate(parts), DeviceRows(onward[0], self.device) if onward else None

    def _room(self, shape: tuple[int, ...]) -> onnxruntime.OrtValue:
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, self.device, 0)

    def _place(self, whole: onnxruntime.OrtValue, start: int, stop: int) -> tuple[Any, ...]:
        """Return where rows of a map lie, as a binding is told: device, type, shape, address."""
        shape = whole.shape()[1:]
        address = whole.data_ptr() + start * math.prod(shape) * np.dtype(np.float32).itemsize
        return self.device, 0, np.float32, (stop - start, *shape), address


@cache
def _gather(device: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    provider = "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"
    return onnxruntime.InferenceSession(GATHER, options, providers=[provider], enable_fallback=0)
