"""From the bytes of an image file to what a network takes: the one preprocessing.

Evaluation, the parity gate and the server all call these functions, with PIL and NumPy only.
"""

import io
import struct
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
# What Pillow raises over damaged files, beside its own errors.
DAMAGED = (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, struct.error)
# EXIF tag 274 -> how to turn the stored pixels upright.
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
    source: bytes | Path, spec: ImageSpec, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> NDArray[np.uint8]:
    """Return an encoded PNG, JPEG or WebP image as uint8 pixels [H, W, 3] of the spec's size.

    Grey and palette images become RGB, which loses nothing; an alpha channel is dropped where
    every pixel is opaque; an image that a camera marked as turned is turned upright.

    Args:
        source: the file's bytes, or where it lies.
        spec: what the network wants to see.
        max_pixels: limit of one image.
        name: of the image in errors; its path, or how many bytes it has, where None.

    Raises:
        BadImage: the bytes are no such image, are truncated, move, or have transparent pixels.
        TooLarge: the image has more than `max_pixels` pixels (read from its header).
    """
    if name is None:
        name = str(source) if isinstance(source, Path) else f"image of {len(source)} bytes"
    try:
        with Image.open(
            source if isinstance(source, Path) else io.BytesIO(source), formats=FORMATS
        ) as image:
            _check(image, name, max_pixels)
            image.load()
            return fit(_rgb(image, name), spec.height, spec.width)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLarge(
            name, f"too many pixels, the limit is {max_pixels}", "send a smaller image"
        ) from error
    except UnidentifiedImageError as error:
        raise BadImage(  # the error's own text shows an address in memory
            name, "cannot be decoded (of another kind)", "send a whole PNG, JPEG or WebP file"
        ) from error
    except DAMAGED as error:
        raise BadImage(
            name, f"cannot be decoded ({error})", "send a whole PNG, JPEG or WebP file"
        ) from error


def from_pil(image: Image.Image, spec: ImageSpec, name: str = "image") -> NDArray[np.uint8]:
    """Return a PIL image as uint8 pixels [H, W, 3] of the spec's size, as `decode` would.

    Raises:
        BadImage: a mode that loses something as RGB, transparent pixels, or a damaged file.
    """
    try:
        return fit(_rgb(image, name), spec.height, spec.width)
    except DAMAGED as error:  # PIL reads the file only now
        raise BadImage(name, f"cannot be decoded ({error})", "give a whole image") from error


def _check(image: Image.Image, name: str, max_pixels: int) -> None:
    """Refuse by the header alone, before any memory is spent on pixels."""
    if image.width * image.height > max_pixels:
        raise TooLarge(
            name,
            f"{image.width}x{image.height} pixels, the limit is {max_pixels}",
            "send a smaller image",
        )
    if getattr(image, "is_animated", False):
        raise BadImage(name, "is an animation, one image is wanted", "send a single frame")


def _rgb(image: Image.Image, name: str) -> Image.Image:
    turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
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
    if image.mode != "RGB":  # else it would be copied
        image = image.convert("RGB")
    return image if turn is None else image.transpose(turn)


def fit(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """Resize the middle of the image, as much as has the wanted shape; uint8 [height, width, 3].

    Bilinear over all source pixels. An image that has this size already passes untouched.
    """
    if image.size != (width, height):
        # Only the part that is kept is resized: a strip of 1 x 1,000,000 pixels costs nothing.
        wide, high = float(image.width), float(image.height)
        if image.width * height <= image.height * width:
            high = image.width * height / width
        else:
            wide = image.height * width / height
        left, top = (image.width - wide) / 2, (image.height - high) / 2
        box = (left, top, left + wide, top + high)
        image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image, dtype=np.uint8)


def affine(spec: ImageSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (scale, shift), float32 [3] each: normalising is pixel * scale - shift."""
    std = np.asarray(spec.std, dtype=np.float64)
    scale = (1.0 / (255.0 * std)).astype(np.float32)
    return scale, (np.asarray(spec.mean) / std).astype(np.float32)


def normalise(pixels: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.float32]:
    """Turn uint8 pixels [N, H, W, 3] into the network's input [N, 3, H, W], float32."""
    scale, shift = affine(spec)
    scaled = pixels.astype(np.float32) * scale - shift
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode uint8 pixels [H, W, 3] as a PNG file, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
