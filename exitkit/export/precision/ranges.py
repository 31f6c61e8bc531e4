"""The smallest and largest value of every tensor of a segment, over calibration batches."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, MinMaxCalibrater, TensorsData

from exitkit import machine

PROVIDERS = ["CPUExecutionProvider"]


class Batches(CalibrationDataReader):
    """Hands batches of `hidden` on one by one, and counts their images."""

    def __init__(self, batches: Iterable[NDArray[np.float32]]) -> None:
        self.images = 0
        self._rest = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return what a session is fed with, or None at the end."""
        batch = next(self._rest, None)
        if batch is None:
            return None
        self.images += len(batch)
        return {"hidden": batch}


def options() -> onnxruntime.SessionOptions:
    """Return the options of a session that shares the machine with others."""
    chosen = onnxruntime.SessionOptions()
    chosen.log_severity_level = 3
    chosen.intra_op_num_threads = machine.cores()
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return chosen


def measure(segment: Path, batches: Batches, folder: Path) -> TensorsData | None:
    """Run every batch once; return ranges by name of tensor, or None where there was no batch.

    The tensors themselves stay inside the runtime: only two numbers of each come out.

    Args:
        segment: its file.
        batches: of its `hidden`.
        folder: for files on the way; nothing is left there.
    """
    # ONNX Runtime writes beside the file that it reads.
    with tempfile.TemporaryDirectory(dir=folder, prefix="ranges.") as place:
        own = Path(place) / "segment.onnx"
        own.write_bytes(segment.read_bytes())
        augmented = Path(place) / "ranges.onnx"
        calibrator = MinMaxCalibrater(own, augmented_model_path=str(augmented))
        calibrator.augment_graph()
        # Not create_inference_session(): its threads would spin on all cores of the machine.
        calibrator.infer_session = onnxruntime.InferenceSession(
            str(augmented), options(), providers=PROVIDERS
        )
        try:
            calibrator.collect_data(batches)
        except ValueError:  # its word for no data
            if batches.images == 0:
                return None
            raise
        found: TensorsData = calibrator.compute_data()
        return found
