"""One ONNX file of a bundle as a segment that runs: a session of ONNX Runtime."""

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as native

from exitkit.engine.engine import require_input
from exitkit.errors import EngineError

# Each of them derives from Exception alone. EPFail is what CUDA and TensorRT report.
FAILURES = (
    native.EPFail,
    native.EngineError,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NoModel,
    native.NoSuchFile,
    native.NotImplemented,
    native.RuntimeException,
    RuntimeError,
)


class OrtSegment:
    """One ONNX file of a bundle in a session of its own; several threads may run it at once."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        exit: int,
        input_shape: tuple[int, ...],
        classes: int,
        pool: str,
        threads: int,
    ) -> None:
        self.exit, self.input_shape = exit, input_shape
        self.pool, self.threads = pool, threads
        self.classes = classes
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]

    def run(
        self, hidden: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Take hidden [n, *input_shape]; return logits [n, C] and the next hidden or None.

        A contiguous input is read where it lies and the outputs are handed over, not copied.

        Raises:
            EngineError: an input of another shape or type, or the runtime failed.
        """
        self._check(hidden)
        try:
            outputs = self._session.run(self._outputs, {"hidden": hidden})
        except FAILURES as error:
            raise self._failed(error) from error
        return outputs[0], outputs[1] if len(outputs) > 1 else None

    def _check(self, hidden: Any) -> None:  # Any: an array, or rows on a device
        require_input(self, hidden)

    def _failed(self, error: Exception) -> EngineError:
        found = f"ONNX Runtime failed ({error})"
        return EngineError(f"exit {self.exit}", found, "run exitkit doctor")
