"""From encoded image files to what the network takes, several at once, each failing alone."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exitkit import images
from exitkit.errors import RequestError
from exitkit.images import ImageSpec


@dataclass(frozen=True)
class Decoded:
    """The images of one request.

    Attributes:
        inputs: normalised [n,3,H,W] float32, of the files that are images.
        failures: one entry per file, in order: None, or why it is no image.
    """

    inputs: NDArray[np.float32]
    failures: tuple[RequestError | None, ...]


def decode(files: Sequence[bytes], spec: ImageSpec, pixels: int) -> Decoded:
    """Decode, resize and normalise PNG, JPEG or WebP files as evaluation does.

    Args:
        files: the encoded images.
        spec: what the network wants to see.
        pixels: limit of one image.
    """
    good: list[NDArray[np.uint8]] = []
    failures: list[RequestError | None] = []
    for encoded in files:
        try:
            good.append(images.decode(encoded, spec, pixels))
            failures.append(None)
        except RequestError as error:
            failures.append(error)
    shape = (len(good), spec.height, spec.width, 3)
    stacked = np.stack(good) if good else np.empty(shape, np.uint8)
    return Decoded(images.normalise(stacked, spec), tuple(failures))


def warm(spec: ImageSpec) -> None:
    """Decode one image of each format: PIL loads what it needs with the first."""
    for kind in images.FORMATS:
        buffer = io.BytesIO()
        Image.new("RGB", (spec.width, spec.height)).save(buffer, kind)
        images.decode(buffer.getvalue(), spec)
