"""Segments whose features stay on the device: only images go there, only logits come back.

ONNX Runtime's input and output bindings hand a feature map from one session to the next where it
lies. The rows that go on are taken there as well, by a session with a single Gather.
"""

from functools import cache

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
    """Rows of a feature map on a device; what the engine may do with them is `take`.

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
            session = _gather(self.device)
            binding = session.io_binding()
            binding.bind_ortvalue_input("hidden", self.value)
            wanted = onnxruntime.OrtValue.ortvalue_from_numpy(rows, self.device, 0)
            binding.bind_ortvalue_input("rows", wanted)
            binding.bind_output("kept", self.device)
            session.run_with_iobinding(binding)
            return DeviceRows(binding.get_outputs()[0], self.device)
        except FAILURES as error:
            raise EngineError(
                f"{len(rows)} of {len(self)} rows on {self.device}",
                f"ONNX Runtime failed ({error})",
                "give smaller batches, or run exitkit doctor",
            ) from error

    def numpy(self) -> Floats:
        """Return a copy on the host."""
        copy: Floats = self.value.numpy()
        return copy


class BoundSegment(OrtSegment):
    """One ONNX file of a bundle whose features stay on `device`; logits come to the host."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        exit: int,
        input_shape: tuple[int, ...],
        classes: int,
        provider: str,
        threads: int,
        device: str,
    ) -> None:
        super().__init__(session, exit, input_shape, classes, provider, threads)
        self.device = device

    def run(self, hidden: Floats | DeviceRows) -> tuple[Floats, DeviceRows | None]:  # type: ignore[override]
        """Take images or the rows of the segment before; return logits [n, C] and the next rows.

        Raises:
            EngineError: an input of another shape or type, or the runtime failed.
        """
        self._check(hidden)
        binding = self._session.io_binding()
        try:
            if isinstance(hidden, DeviceRows):
                binding.bind_ortvalue_input("hidden", hidden.value)
            else:
                binding.bind_cpu_input("hidden", np.ascontiguousarray(hidden))
            binding.bind_output("logits", "cpu")
            for name in self._outputs[1:]:
                binding.bind_output(name, self.device)
            self._session.run_with_iobinding(binding)
            logits, *onward = binding.get_outputs()
        except FAILURES as error:
            raise self._failed(error) from error
        rows = DeviceRows(onward[0], self.device) if onward else None
        return logits.numpy(), rows


@cache
def _gather(device: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    provider = "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"
    return onnxruntime.InferenceSession(GATHER, options, providers=[provider], enable_fallback=0)
