"""From the bytes of an image file to the network's input."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exitkit.errors import BadImage, TooLarge
from exitkit.images import ImageSpec, decode, encode_png, fit, from_pil, normalise

SPEC = ImageSpec(4, 4, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    source = np.random.default_rng(0)
    return source.integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_a_png_of_pixels_decodes_to_the_very_pixels() -> None:
    pixels = noise(4, 4)
    assert np.array_equal(decode(encode_png(pixels), SPEC), pixels)


def test_a_lossless_webp_decodes_to_the_very_pixels(tmp_path: Path) -> None:
    pixels = noise(4, 4)
    path = tmp_path / "x.webp"
    Image.fromarray(pixels).save(path, lossless=True)
    assert np.array_equal(decode(path, SPEC), pixels)


def test_a_grey_image_becomes_three_equal_channels() -> None:
    grey = noise(4, 4, 1)
    expected = np.repeat(grey, 3, axis=2)
    assert np.array_equal(decode(encoded(Image.fromarray(grey[:, :, 0])), SPEC), expected)


def test_one_bit_and_palette_images_become_rgb() -> None:
    bits = Image.new("1", (4, 4), 1)
    assert (decode(encoded(bits), SPEC) == 255).all()
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert (decode(encoded(palette), SPEC) == (10, 20, 30)).all()


def test_an_opaque_alpha_channel_is_dropped() -> None:
    pixels = noise(4, 4)
    opaque = np.concatenate([pixels, np.full((4, 4, 1), 255, np.uint8)], axis=2)
    assert np.array_equal(decode(encoded(Image.fromarray(opaque)), SPEC), pixels)


def test_transparent_pixels_are_refused() -> None:
    clear = Image.fromarray(np.full((4, 4, 4), 254, np.uint8))
    with pytest.raises(BadImage, match=r"alpha channel with transparent pixels.*background"):
        decode(encoded(clear), SPEC)
    with pytest.raises(BadImage, match="alpha channel"):
        decode(encoded(Image.new("P", (4, 4)), transparency=0), SPEC)
    with pytest.raises(BadImage, match="alpha channel"):
        from_pil(Image.new("LA", (4, 4)), SPEC)


def test_other_modes_are_refused() -> None:
    deep = Image.fromarray(np.full((4, 4), 1000, np.uint16))
    with pytest.raises(BadImage, match="has mode I;16; convert it to 8-bit RGB or grey"):
        decode(encoded(deep), SPEC)
    with pytest.raises(BadImage, match="has mode CMYK"):
        decode(encoded(Image.new("CMYK", (4, 4)), "JPEG"), SPEC)


def test_an_animation_is_refused() -> None:
    frames = [Image.fromarray(noise(4, 4)), Image.new("RGB", (4, 4))]
    moving = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(BadImage, match="is an animation"):
        decode(moving, SPEC)


@pytest.mark.parametrize("source", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(20)])
def test_what_is_no_image_is_refused(source: bytes) -> None:
    with pytest.raises(BadImage, match=f"image of {len(source)} bytes: cannot be decoded"):
        decode(source, SPEC)


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("not an image")
    with pytest.raises(BadImage, match=r"notes\.png: cannot be decoded.*send a whole PNG"):
        decode(path, SPEC)
    with pytest.raises(BadImage, match=r"absent\.png: cannot be decoded"):
        decode(tmp_path / "absent.png", SPEC)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_file_is_refused(format: str) -> None:
    whole = encoded(Image.fromarray(noise(40, 40)), format)
    with pytest.raises(BadImage):
        decode(whole[: len(whole) // 2], SPEC)


def test_40_megapixels_are_refused_by_the_header() -> None:
    # The header of an 8000x5000 PNG; the pixels that it promises are not even there.
    header = struct.pack(">II5B", 8000, 5000, 8, 2, 0, 0, 0)
    small = encoded(Image.new("RGB", (1, 1)))
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    huge = small[:16] + header + crc + small[33:]
    with pytest.raises(TooLarge, match="8000x5000 pixels, the limit is 25000000; send a smaller"):
        decode(huge, SPEC)
    # So many that Pillow refuses to open it.
    header = struct.pack(">II5B", 20000, 10000, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(TooLarge, match="too many pixels, the limit is 25000000; send a smaller"):
        decode(small[:16] + header + crc + small[33:], SPEC)


def test_the_limit_itself_is_allowed() -> None:
    image = encoded(Image.new("RGB", (10, 10)))
    decode(image, SPEC, max_pixels=100)
    with pytest.raises(TooLarge, match="10x10 pixels, the limit is 99"):
        decode(image, SPEC, max_pixels=99)


def test_a_photograph_taken_sideways_is_turned_upright() -> None:
    pixels = noise(2, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it after a quarter turn clockwise
    spec = ImageSpec(4, 2, SPEC.mean, SPEC.std)
    turned = decode(encoded(Image.fromarray(pixels), exif=exif), spec)
    assert np.array_equal(turned, np.rot90(pixels, k=-1))


def test_the_middle_of_a_wide_image_is_kept() -> None:
    # Columns 0 0 | 9 9 9 9 | 0 0: the square in the middle has no border in it.
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 9
    assert (fit(Image.fromarray(wide), 4, 4) == 9).all()
    assert (fit(Image.fromarray(wide.transpose(1, 0, 2)), 4, 4) == 9).all()


def test_shrinking_to_half_blends_all_the_source_pixels() -> None:
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2] = 200
    middle = fit(Image.fromarray(stripes), 4, 4)[:, 1:3].astype(int)
    assert (abs(middle - 100) <= 1).all()


def test_an_image_of_extreme_shape_needs_no_more_memory_than_itself() -> None:
    strip = Image.new("L", (1_000_000, 1), 7)
    assert (fit(strip.convert("RGB"), 224, 224) == 7).all()


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64), st.integers(1, 64))
@settings(max_examples=100, deadline=None)
def test_any_shape_fits_any_size(height: int, width: int, tall: int, broad: int) -> None:
    found = fit(Image.new("RGB", (width, height), (1, 2, 3)), tall, broad)
    assert found.shape == (tall, broad, 3)
    assert (found == (1, 2, 3)).all()


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about damaged EXIF
@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_files_give_an_image_or_our_error(data: st.DataObject) -> None:
    format = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP"]))
    whole = bytearray(encoded(Image.fromarray(noise(9, 7)), format))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadImage, TooLarge):
        assert decode(bytes(whole), SPEC).shape == (4, 4, 3)


def test_normalising_by_hand() -> None:
    pixels = np.array([[[[0, 255, 51]]]], dtype=np.uint8)  # [1, 1, 1, 3]
    spec = ImageSpec(1, 1, (0.5, 0.5, 0.1), (0.25, 0.5, 0.2))
    found = normalise(pixels, spec)
    assert found.shape == (1, 3, 1, 1)
    assert found.dtype == np.float32
    # (0 - 0.5) / 0.25, (1 - 0.5) / 0.5, (0.2 - 0.1) / 0.2
    np.testing.assert_allclose(found.ravel(), [-2.0, 1.0, 0.5], atol=1e-6)


def test_a_pil_image_gives_what_its_file_gives() -> None:
    image = Image.fromarray(noise(9, 7))
    assert np.array_equal(from_pil(image, SPEC), decode(encoded(image), SPEC))
