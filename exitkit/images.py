"""From the bytes of an image file to what a network takes: the one preprocessing.

Evaluation, the parity gate and the server all call these functions, with PIL and NumPy only.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from exitkit.errors import BadImage, TooLarge

MAX_PIXELS = 25_000_000
FORMATS = ("PNG", "JPEG", "WEBP")
# Modes whose pixels become RGB without losing or inventing anything.
LOSSLESS = {"RGB", "L", "1", "P"}


@dataclass(frozen=True)
class ImageSpec:
    """What the network wants to see.

    Attributes:
        height, width: pixels.
        mean, std: per channel, of pixel values scaled to 0..1.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> "ImageSpec":  # Any: a JSON object
        """Make it from what `dataclasses.asdict` and JSON made of another one."""
        mean, std = tuple(table["mean"]), tuple(table["std"])
        return cls(int(table["height"]), int(table["width"]), mean, std)


def decode(
    source: bytes | Path, spec: ImageSpec, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Return an encoded PNG, JPEG or WebP image as uint8 pixels [H, W, 3] of the spec's size.

    Grey and palette images become RGB, which loses nothing; an alpha channel is dropped where
    every pixel is opaque.

    Raises:
        BadImage: the bytes are no such image, are truncated, or have transparent pixels.
        TooLarge: the image has more than `max_pixels` pixels (read from its header).
    """
    name = str(source) if isinstance(source, Path) else f"image of {len(source)} bytes"
    try:
        with Image.open(
            source if isinstance(source, Path) else io.BytesIO(source), formats=FORMATS
        ) as image:
            pixels = image.width * image.height
            if pixels > max_pixels:
                raise TooLarge(
                    name,
                    f"{image.width}x{image.height} pixels, the limit is {max_pixels}",
                    "send a smaller image",
                )
            image.load()
            return fit(_rgb(image, name), spec.height, spec.width)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise BadImage(
            name, f"cannot be decoded ({error})", "send a whole PNG, JPEG or WebP file"
        ) from error
    except Image.DecompressionBombError as error:
        raise TooLarge(name, str(error), "send a smaller image") from error


def _rgb(image: Image.Image, name: str) -> Image.Image:
    transparent = "transparency" in image.info or "A" in image.getbands()
    if transparent:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise BadImage(
                name,
                "has an alpha channel with transparent pixels, which have no colour",
                "put it on a background first",
            )
    elif image.mode not in LOSSLESS:
        raise BadImage(name, f"has mode {image.mode}", "convert it to 8-bit RGB or grey")
    return image.convert("RGB")


def fit(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """Resize so that the image covers height x width, keep the middle; uint8 [height, width, 3].

    An image that has this size already passes through untouched.
    """
    if image.size != (width, height):
        scale = max(width / image.width, height / image.height)
        size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR)
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image, dtype=np.uint8)


def normalise(pixels: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.float32]:
    """Turn uint8 pixels [N, H, W, 3] into the network's input [N, 3, H, W], float32."""
    scale = (1.0 / (255.0 * np.asarray(spec.std, dtype=np.float64))).astype(np.float32)
    shift = (np.asarray(spec.mean) / np.asarray(spec.std)).astype(np.float32)
    scaled = pixels.astype(np.float32) * scale - shift
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode uint8 pixels [H, W, 3] as a PNG file, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
