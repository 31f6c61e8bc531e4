"""From encoded image files to what the network takes, several at once, each failing alone."""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exitkit import images
from exitkit.errors import RequestError
from exitkit.images import ImageSpec
from exitkit.serve.scheduling.requests import DeadlineExceeded


@dataclass(frozen=True)
class Decoded:
    """The images of one request.

    Attributes:
        inputs: normalised [n,3,H,W] float32, of the files that are images.
        failures: one entry per file, in order: None, or why there is no image.
        seconds: that this took, waiting not counted.
    """

    inputs: NDArray[np.float32]
    failures: tuple[RequestError | None, ...]
    seconds: float

    @property
    def late(self) -> int:
        """Files that were not decoded in time."""
        return sum(isinstance(failure, DeadlineExceeded) for failure in self.failures)


class Decoding:
    """The PNG, JPEG or WebP files of one request while they become what evaluation would see.

    One thread at a time takes a turn at them. Others may set `over`, and ask at any moment for
    what is there by then.

    Args:
        files: the encoded images.
        spec: what the network wants to see.
        limit: of pixels of one image.

    Attributes:
        over: nobody waits for the rest: a turn ends after the file at hand.
        seconds: that all turns took to decode.
    """

    def __init__(self, files: Sequence[bytes], spec: ImageSpec, limit: int) -> None:
        self.over, self.seconds = False, 0.0
        self._files, self._spec, self._limit = files, spec, limit
        self._pixels: list[NDArray[np.uint8]] = []
        self._failures: list[RequestError | None] = []

    @property
    def left(self) -> int:
        """Files that have not been decoded yet."""
        return len(self._files) - len(self._failures)

    def turn(self, seconds: float) -> Decoded | None:
        """Decode one file, and more until so many seconds have passed; after the last return all.

        Returns:
            None where files are left.
        """
        began = time.perf_counter()
        while self.left and not self.over:
            self._next()
            if time.perf_counter() - began >= seconds:
                break
        self.seconds += time.perf_counter() - began
        return None if self.left else self.finished()

    def _next(self) -> None:
        failure = None
        try:
            encoded = self._files[len(self._failures)]
            self._pixels.append(images.decode(encoded, self._spec, self._limit))
        except RequestError as error:
            failure = error
        self._failures.append(failure)  # last: from now on others may look at the image

    def finished(self) -> Decoded:
        """Return what there is by now; files that are still to be decoded are late."""
        began = time.perf_counter()
        failures = tuple(self._failures)
        rest = len(self._files) - len(failures)
        good = self._pixels[: failures.count(None)]
        shape = (0, self._spec.height, self._spec.width, 3)
        stacked = np.stack(good) if good else np.empty(shape, np.uint8)
        inputs = images.normalise(stacked, self._spec)
        seconds = self.seconds + time.perf_counter() - began
        return Decoded(inputs, failures + (DeadlineExceeded(),) * rest, seconds)


def warm(spec: ImageSpec) -> None:
    """Decode one image of each format: PIL loads what it needs with the first."""
    for kind in images.FORMATS:
        buffer = io.BytesIO()
        Image.new("RGB", (spec.width, spec.height)).save(buffer, kind)
        images.decode(buffer.getvalue(), spec)
