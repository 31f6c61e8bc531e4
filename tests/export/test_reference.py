"""The images that travel with a bundle: as many as fit, and nothing that was tampered with."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from exitkit.errors import BundleError
from exitkit.export import reference
from exitkit.export.reference import Reference


def made(sizes: list[int]) -> Reference:
    count = len(sizes)
    logits = np.arange(2 * count * 5, dtype=np.float32).reshape(2, count, 5)
    encoded = tuple(bytes([row % 256]) * size for row, size in enumerate(sizes))
    return Reference("tune", (2, 4), encoded, np.arange(count), logits, 0.25)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    written = made([3, 1, 7])
    written.save(tmp_path / "r.npz")
    read = reference.load(tmp_path / "r.npz")
    assert (read.split, read.exits, read.input_difference) == ("tune", (2, 4), 0.25)
    assert read.encoded == (b"\0\0\0", b"\1", b"\2" * 7)
    np.testing.assert_array_equal(read.labels, [0, 1, 2])
    np.testing.assert_array_equal(read.logits, written.logits)
    assert read.logits.dtype == np.float32


def test_what_fits_travels_whole() -> None:
    whole = made([10, 10, 10])  # an image's logits are 40 bytes, its label and end 16
    assert whole.fitting(3 * 66) is not whole
    assert whole.fitting(3 * 66).encoded == whole.encoded


def test_of_many_images_a_spread_travels() -> None:
    some = made([44] * 11).fitting(300)  # 100 bytes each
    assert [image[0] for image in some.encoded] == [0, 5, 10]
    np.testing.assert_array_equal(some.labels, [0, 5, 10])
    assert some.logits[1, 1, 0] == 1 * 11 * 5 + 5 * 5


def test_unequal_images_stay_below_the_limit() -> None:
    sizes = [10_000 if row % 10 == 0 else 10 for row in range(101)]  # a spread of 11 hits all large
    some = made(sizes).fitting(60_000)
    assert 1 < len(some) < 101
    assert sum(map(len, some.encoded)) + 56 * len(some) <= 60_000
    assert len(made([500]).fitting(10)) == 1  # one at least


@pytest.mark.parametrize(
    "change",
    [
        {"ends": np.array([3, 4])},
        {"ends": np.array([3, 4, 12])},
        {"labels": np.arange(2)},
        {"logits": np.zeros((1, 3, 5), np.float32)},
        {"logits": np.zeros((2, 3), np.float32)},
        {"files": np.zeros(0, np.uint8), "ends": np.zeros(0, np.int64)},
        {"labels": np.array([{}, {}, {}], dtype=object)},
        {"labels": np.zeros(3)},
        {"ends": np.array([3.0, 4.0, 11.0])},
        {"ends": np.array([4, 3, 11])},
        {"ends": np.array(11)},
        {"ends": np.array([-1, 4, 11])},
        {"logits": np.zeros((2, 3, 5))},
        {"logits": np.zeros((2, 3, 0), np.float32)},
        {"logits": np.full((2, 3, 5), np.nan, np.float32)},
        {"exits": np.array(["2", "4"])},
        {"input_difference": np.array([1.0, 2.0])},
        {"schema": np.array("2.0")},
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, np.ndarray]) -> None:
    made([3, 1, 7]).save(tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz") as table:
        parts = {**table, **change}
    np.savez(tmp_path / "r.npz", **parts)
    with pytest.raises(BundleError, match=r"r\.npz: holds no images to verify with"):
        reference.load(tmp_path / "r.npz")


def test_an_archive_that_would_fill_the_memory_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reference.MAX_UNPACKED > 2 * reference.MAX_BYTES
    monkeypatch.setattr(reference, "MAX_UNPACKED", 1_000_000)
    path = tmp_path / "r.npz"
    made([2_000_000]).save(path)
    with np.load(path) as table:
        np.savez_compressed(path, **dict(table))
    assert path.stat().st_size < 10_000
    with pytest.raises(BundleError, match=r"2 MB unpacked, at most 1 are read\); export it"):
        reference.load(path)


def test_an_array_that_says_it_has_no_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    made([3, 1, 7]).save(path)
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (2, 3, 1 << 55)}
    np.lib.format.write_array_header_1_0(header, shape)
    parts = zipfile.ZipFile(path)
    contents = {name: parts.read(name) for name in parts.namelist()}
    parts.close()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (contents | {"logits.npy": header.getvalue()}).items():
            archive.writestr(name, content)
    with pytest.raises(BundleError, match="holds no images to verify with"):
        reference.load(path)


@pytest.mark.parametrize("size", [0, 10, 400])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "r.npz"
    made([3, 1, 7]).save(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(BundleError, match="holds no images to verify with"):
        reference.load(path)
    path.unlink()
    with pytest.raises(BundleError, match="holds no images to verify with"):
        reference.load(path)
