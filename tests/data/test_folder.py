"""Image folders: what is read, what is refused, in memory and streamed."""

import logging
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from exitkit import data, images
from exitkit.config import TrainConfig
from exitkit.data import DataSets, Loader, folder
from exitkit.errors import ConfigError, DataError

CPU = torch.device("cpu")
Write = Callable[..., Path]


def load(path: Path, **settings: object) -> DataSets:
    return data.load(TrainConfig(data=str(path), **settings))


@pytest.fixture
def digit_tree(tmp_path: Path, write_digits: Write) -> Path:
    return write_digits(tmp_path / "threes")


def test_a_folder_becomes_splits(digit_folder: Path) -> None:
    found = load(digit_folder)
    assert found.name == "threes"
    assert found.classes == ("0", "1", "2")
    # A tenth of 12 is 1 per class.
    assert (len(found.train), len(found.tune), len(found.test)) == (33, 3, 18)
    assert torch.bincount(found.tune.labels).tolist() == [1, 1, 1]
    assert torch.bincount(found.test.labels).tolist() == [6, 6, 6]
    assert found.train.pixels.shape == (33, 3, 32, 32)
    assert found.defaults.flip
    assert found.defaults.shift == 4


def test_encoded_images_are_the_files_and_decode_to_the_very_pixels(digit_folder: Path) -> None:
    found = load(digit_folder)
    files = {path.read_bytes() for path in digit_folder.glob("train/*/*.png")}
    for split in (found.train, found.tune, found.test):
        for row in range(len(split)):
            pixels = images.decode(split.encoded(row), found.image)
            assert np.array_equal(pixels, split.pixels[row].permute(1, 2, 0).numpy())
    assert found.train.encoded(0) in files


def test_mean_and_deviation_are_those_of_the_training_images(digit_folder: Path) -> None:
    found = load(digit_folder)
    scaled = found.train.pixels.double() / 255
    assert found.image.mean == pytest.approx([float(scaled.mean())] * 3, abs=1e-4)
    assert found.image.std == pytest.approx([float(scaled.std(correction=0))] * 3, abs=1e-4)


def test_measuring_by_hand() -> None:
    pixels = np.zeros((2, 1, 2, 3), dtype=np.uint8)
    pixels[0] = (255, 0, 51)
    pixels[1, 0, 0, 1] = 255
    mean, std = folder.measure(pixels, Path("x"))
    # Red: 1 1 0 0. Green: 0 0 1 0. Blue: .2 .2 0 0.
    assert mean == (0.5, 0.25, 0.1)
    assert std == (0.5, round((3 / 16) ** 0.5, 4), 0.1)


@pytest.mark.data
def test_real_cifar100(cifar100: Path) -> None:
    found = load(cifar100)
    assert found.classes == ("apple", "aquarium_fish", "baby", "bear", "beaver")
    assert (len(found.train), len(found.tune), len(found.test)) == (90, 10, 50)
    assert found.image.height == 32
    row = images.decode(found.test.encoded(7), found.image)
    assert np.array_equal(row, found.test.pixels[7].permute(1, 2, 0).numpy())


def test_formats_shapes_and_grey_images_mix(tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    for part in ("train", "val"):
        for name, shape in (
            ("a.png", (40, 60, 3)),
            ("b.JPG", (60, 40, 3)),
            ("c.webp", (50, 50, 3)),
        ):
            for label in ("cat", "dog"):
                (tmp_path / part / label).mkdir(parents=True, exist_ok=True)
                pixels = source.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / label / name)
        Image.fromarray(pixels[:, :, 0]).save(tmp_path / part / "dog" / "grey.jpeg")
    found = load(tmp_path)
    assert found.image.height == 40  # the median of 40 40 50 40 40 50 50
    assert len(found.test) == 7  # val/ serves as test split
    assert load(tmp_path, image_size=20).train.pixels.shape[2:] == (20, 20)


@pytest.mark.parametrize(("side", "expected"), [(8, 32), (32, 32), (96, 96), (300, 224)])
def test_the_usual_size(tmp_path: Path, side: int, expected: int) -> None:
    Image.new("RGB", (side + 10, side)).save(tmp_path / "x.png")
    assert folder.usual_size([tmp_path / "x.png"]) == expected


def test_a_val_folder_beside_test_is_the_tune_split(digit_tree: Path) -> None:
    shutil.copytree(digit_tree / "test", digit_tree / "val")
    found = load(digit_tree)
    assert (len(found.train), len(found.tune), len(found.test)) == (36, 18, 18)
    # A run that wrote its resolved settings down finds the same data again.
    again = load(digit_tree, tune_share=found.defaults.tune_share)
    assert torch.equal(again.tune.pixels, found.tune.pixels)
    with pytest.raises(ConfigError, match=r"tune_share 0\.2: .*has its own val/.*leave tune_share"):
        load(digit_tree, tune_share=0.2)


def test_hidden_files_are_ignored(digit_tree: Path) -> None:
    (digit_tree / "train" / ".DS_Store").write_text("x")
    (digit_tree / "train" / "0" / ".thumbs").write_text("x")
    assert len(load(digit_tree).train) == 33


def test_a_read_only_folder_is_enough(digit_tree: Path) -> None:
    before = set(digit_tree.rglob("*"))
    for path in [digit_tree, *before]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    load(digit_tree)
    assert set(digit_tree.rglob("*")) == before


# Folders that are refused.


def test_one_class_is_refused(tmp_path: Path, write_digits: Write) -> None:
    path = write_digits(tmp_path / "one", classes=1)
    with pytest.raises(DataError, match=r"one/train: 1 folder \(0\), a classifier needs two"):
        load(path)


@pytest.mark.parametrize("part", ["train", "test"])
def test_missing_parts_are_refused(digit_tree: Path, part: str) -> None:
    shutil.rmtree(digit_tree / part)
    with pytest.raises(DataError, match=r"threes: has only (train|test)/; make train/<class>/ and"):
        load(digit_tree)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has none of train/, test/ and val/"):
        load(tmp_path)


def test_other_classes_in_test_are_refused(digit_tree: Path) -> None:
    (digit_tree / "test" / "2").rename(digit_tree / "test" / "two")
    with pytest.raises(
        DataError, match=r"train and .*test: they differ \(only in train/: 2; only in test/: two\)"
    ):
        load(digit_tree)


def test_an_empty_class_is_refused(digit_tree: Path) -> None:
    shutil.rmtree(digit_tree / "test" / "1")
    (digit_tree / "test" / "1").mkdir()
    with pytest.raises(DataError, match=r"class '1': .*test/1 is empty"):
        load(digit_tree)


def test_a_file_that_is_no_image_by_name_is_refused(digit_tree: Path) -> None:
    (digit_tree / "train" / "1" / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"train/1/notes\.txt is no \.png, \.jpg"):
        load(digit_tree)


def test_files_that_cannot_be_decoded_are_all_counted_and_named(digit_tree: Path) -> None:
    bad = digit_tree / "train" / "1"
    (bad / "000.png").write_text("hello")
    (bad / "001.png").write_bytes((bad / "001.png").read_bytes()[:50])
    Image.new("RGBA", (8, 8)).save(bad / "002.png")
    with pytest.raises(DataError) as error:
        load(digit_tree)
    text = str(error.value)
    assert text.startswith("54 image files: 3 cannot be used: ")
    assert all(f"train/1/00{number}.png " in text for number in range(3))
    assert "alpha channel" in text
    assert text.endswith("; remove or replace them")


def test_an_image_of_40_megapixels_is_refused(digit_tree: Path) -> None:
    path = digit_tree / "train" / "1" / "000.png"
    header = struct.pack(">II5B", 8000, 5000, 8, 0, 0, 0, 0)
    whole = path.read_bytes()
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    path.write_bytes(whole[:16] + header + crc + whole[33:])
    with pytest.raises(DataError, match=r"train/1/000\.png 8000x5000 pixels, the limit"):
        load(digit_tree)


def test_images_of_one_colour_are_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / part / label / f"{number}.png")
    with pytest.raises(DataError, match="same value in every pixel"):
        load(tmp_path)


def test_a_file_that_vanishes_is_named(digit_tree: Path) -> None:
    found = load(digit_tree)
    shutil.rmtree(digit_tree / "test")
    with pytest.raises(DataError, match=r"test/0/012\.png: cannot be read any more"):
        found.test.encoded(0)


# Folders that do not fit into memory.


def streamed(path: Path, workers: int = 0, limit: int = 0) -> DataSets:
    return load(path, cache_mb=limit, workers=workers)


def test_a_streamed_folder_gives_the_batches_of_one_in_memory(digit_folder: Path) -> None:
    kept, read = load(digit_folder), streamed(digit_folder)
    assert not isinstance(read.train.pixels, torch.Tensor)
    assert read.image == kept.image
    for one, two in ((kept.tune, read.tune), (kept.test, read.test)):
        pairs = zip(one.batches(5, CPU, kept.image), two.batches(5, CPU, read.image), strict=True)
        for (images_one, labels_one, index_one), (images_two, labels_two, index_two) in pairs:
            assert torch.equal(images_one, images_two)
            assert torch.equal(labels_one, labels_two)
            assert torch.equal(index_one, index_two)
        assert one.encoded(2) == two.encoded(2)


def test_streamed_training_depends_on_seed_and_epoch_only(digit_folder: Path) -> None:
    here, there = streamed(digit_folder), streamed(digit_folder, workers=1)
    first = list(Loader(here.train, here, 8, 0, CPU, views=2).epoch(1))
    second = list(Loader(there.train, there, 8, 0, CPU, views=2).epoch(1))
    assert [len(batch.labels) for batch in first] == [8, 8, 8, 8]  # 33: one is left out
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one.index, two.index)
        for view_one, view_two in zip(one.views, two.views, strict=True):
            assert torch.equal(view_one, view_two)
    assert not torch.equal(*first[0].views)
    assert first[0].images.is_contiguous(memory_format=torch.channels_last)
    third = next(Loader(here.train, here, 8, 0, CPU).epoch(2))
    assert not torch.equal(first[0].index, third.index)


def test_streaming_and_memory_take_the_same_order(digit_folder: Path) -> None:
    kept, read = load(digit_folder), streamed(digit_folder)
    one = next(Loader(kept.train, kept, 8, 0, CPU, augment=False).epoch(0))
    two = next(Loader(read.train, read, 8, 0, CPU, augment=False).epoch(0))
    assert torch.equal(one.index, two.index)
    assert torch.equal(one.images, two.images)


def test_streaming_leaves_the_global_generator_alone(digit_folder: Path) -> None:
    found = streamed(digit_folder)
    before = torch.random.get_rng_state()
    list(Loader(found.train, found, 8, 0, CPU).epoch(0))
    list(found.test.batches(8, CPU, found.image))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_bad_file_in_a_streamed_folder_is_named(digit_tree: Path) -> None:
    found = streamed(digit_tree)
    (digit_tree / "test" / "1" / "012.png").write_text("hello")
    with pytest.raises(DataError, match=r"test/1/012\.png cannot be decoded.*remove or replace"):
        list(found.test.batches(8, CPU, found.image))


def test_a_streamed_folder_without_tune_split(digit_folder: Path) -> None:
    found = load(digit_folder, cache_mb=0, workers=0, tune_share=0.0)
    assert (len(found.train), len(found.tune)) == (36, 0)
    assert list(found.tune.batches(8, CPU, found.image)) == []


def test_the_limit_counts_decoded_megabytes(
    digit_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # 54 images of 3 * 100 * 100 bytes are 1.62 MB.
    with caplog.at_level(logging.INFO, "exitkit"):
        settings = {"image_size": 100, "workers": 0}
        assert isinstance(load(digit_folder, cache_mb=2, **settings).train.pixels, torch.Tensor)
        assert not isinstance(load(digit_folder, cache_mb=1, **settings).train.pixels, torch.Tensor)
    assert "decodes to 2 MB: streamed" in caplog.text


def test_paths_are_found_from_the_home_folder(
    digit_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(digit_folder.parent))
    assert load(Path("~") / digit_folder.name).name == "threes"
