"""The whole network in plain ONNX Runtime: what every rival answers with."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from exitkit import bundle, images


class Whole:
    """A bundle with the deepest exit alone, one thread.

    Args:
        folder: of the bundle.
    """

    def __init__(self, folder: Path) -> None:
        manifest = bundle.read_manifest(folder)
        (segment,) = manifest.segments
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            folder / segment.file, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._spec, self._classes = manifest.image, manifest.classes

    def decode(self, file: bytes) -> NDArray[np.float32]:
        """Return an image file as [1, 3, H, W]."""
        return images.normalise(images.decode(file, self._spec)[None], self._spec)

    def labels(self, inputs: NDArray[np.float32]) -> list[str]:
        """Return the names of the classes of [n, 3, H, W]."""
        logits = self._session.run(None, {self._input: inputs})[0]
        return [self._classes[k] for k in logits.argmax(axis=1)]
