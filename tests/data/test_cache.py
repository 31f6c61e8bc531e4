"""Decoded images are made once, and made again when their source or their file changed."""

import logging
from pathlib import Path

import numpy as np
import pytest

from exitkit import data
from exitkit.config import TrainConfig
from exitkit.data import cache


class Maker:
    """Counts how often the arrays had to be made."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> cache.Arrays:
        self.times += 1
        return {"pixels": np.arange(3000, dtype=np.uint8), "names": np.array(["a", "bc"])}


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_arrays_are_made_once(tmp_path: Path) -> None:
    make = Maker()
    first = cache.arrays("x", "key", make, tmp_path / "new")
    second = cache.arrays("x", "key", make, tmp_path / "new")
    assert make.times == 1
    for found in (first, second):
        assert np.array_equal(found["pixels"], np.arange(3000, dtype=np.uint8))
        assert found["names"].tolist() == ["a", "bc"]
        assert found.keys() == {"pixels", "names"}


def test_another_key_replaces_the_file(tmp_path: Path) -> None:
    make = Maker()
    cache.arrays("x", "key", make, tmp_path)
    cache.arrays("x", "other", make, tmp_path)
    assert make.times == 2
    only_file(tmp_path)
    cache.arrays("x", "other", make, tmp_path)
    assert make.times == 2


def test_names_do_not_meet(tmp_path: Path) -> None:
    make = Maker()
    for name in ("digits-32", "photos-32\n/a/photos", "photos-32\n/b/photos"):
        cache.arrays(name, "key", make, tmp_path)
    assert make.times == 3
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("damage", ["truncated", "one byte", "empty", "something else"])
def test_a_damaged_file_is_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    make = Maker()
    cache.arrays("x", "key", make, tmp_path)
    path = only_file(tmp_path)
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    if damage == "one byte":
        whole[middle] ^= 1
    damaged = {"truncated": whole[:middle], "one byte": whole, "empty": b""}
    path.write_bytes(damaged.get(damage, b"hello"))
    found = cache.arrays("x", "key", make, tmp_path)
    assert make.times == 2
    assert f"{path} is damaged" in caplog.text
    assert np.array_equal(found["pixels"], np.arange(3000, dtype=np.uint8))
    cache.arrays("x", "key", make, tmp_path)
    assert make.times == 2


def test_pickles_are_never_read(tmp_path: Path) -> None:
    make = Maker()
    cache.arrays("x", "key", make, tmp_path)
    objects = np.array([{"a": 1}], dtype=object)
    with open(only_file(tmp_path), "wb") as file:
        np.savez(file, content_key=np.array("key"), pixels=objects)
    assert cache.arrays("x", "key", make, tmp_path).keys() == {"pixels", "names"}
    assert make.times == 2


def test_a_cache_that_cannot_be_written_only_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    make = Maker()
    assert cache.arrays("x", "key", make, tmp_path / "file")["pixels"].size == 3000
    assert "decoded images are not kept" in caplog.text


def test_the_cache_lies_where_the_user_keeps_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.directory(tmp_path) == tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.directory() == tmp_path / "exitkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache.directory() == Path("/home/someone/.cache/exitkit")


def test_a_changed_image_is_decoded_again(
    tmp_path: Path, write_digits: object, caplog: pytest.LogCaptureFixture
) -> None:
    tree = write_digits(tmp_path / "tree")
    config = TrainConfig(data=str(tree))
    kept = tmp_path / "kept"
    with caplog.at_level(logging.INFO, "exitkit"):
        data.load(config, cache=kept)
        first = data.load(config, cache=kept).test.pixels[0]
        assert caplog.text.count("decoding 54 images") == 1
        two, zero = tree / "test" / "2" / "012.png", tree / "test" / "0" / "012.png"
        zero.write_bytes(two.read_bytes())
        second = data.load(config, cache=kept).test.pixels[0]
    assert caplog.text.count("decoding 54 images") == 2
    assert not first.equal(second)
    only_file(kept)
