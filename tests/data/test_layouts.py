"""The papers' data sets, in small trees that are laid out as they are distributed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from exitkit import data
from exitkit.config import TrainConfig
from exitkit.data import DataSets, layouts
from exitkit.errors import DataError
from tests.data.distributed import (
    WNIDS,
    caltech,
    cells,
    cub,
    dogs,
    imagenet_flat,
    imagenet_kaggle,
    imagenet_kit,
    imagenet_sorted,
    picture,
    tiny_imagenet,
)

Make = Callable[[Path], Path]


def load(path: Path, **settings: object) -> DataSets:
    return data.load(TrainConfig(data=str(path), **({"tune_share": 0.0} | settings)))


def shades(found: DataSets) -> list[list[int]]:
    """The middle colour of every test image, by class."""
    means = found.test.pixels.float().mean(dim=(1, 2, 3)).round().int()
    return [
        sorted(set(means[found.test.labels == label].tolist()))
        for label in range(len(found.classes))
    ]


def test_tiny_imagenet(tmp_path: Path) -> None:
    found = load(tiny_imagenet(tmp_path / "tiny-imagenet-200"))
    assert found.classes == ("goldfish", "bullfrog")  # in the order of their synsets
    assert torch.bincount(found.train.labels).tolist() == [12, 12]
    assert torch.bincount(found.test.labels).tolist() == [2, 1]
    assert shades(found) == [[151], [51]]
    assert found.note == (
        "tiny-imagenet-200 is laid out as Tiny-ImageNet: val/ is the test split, "
        "test/ has no labels"
    )
    assert found.image.mean == (0.485, 0.456, 0.406)
    assert found.image.height == 36


def test_tiny_imagenet_gives_a_tune_split_of_its_training_images(tmp_path: Path) -> None:
    found = load(tiny_imagenet(tmp_path), tune_share=None)
    assert (len(found.train), len(found.tune), len(found.test)) == (22, 2, 3)


def test_caltech(tmp_path: Path) -> None:
    found = load(caltech(tmp_path / "caltech-101"))
    assert found.classes == ("accordion", "ant")
    assert torch.bincount(found.train.labels).tolist() == [30, 30]
    assert torch.bincount(found.test.labels).tolist() == [3, 1]
    assert "30 images of every class, chosen by a fixed rule" in found.note
    # The rule must never change: these are the images that it leaves for testing.
    (layout,) = (one for one in layouts.LAYOUTS if one.title == "Caltech-101")
    tree = layout.read(tmp_path / "caltech-101")
    assert tree.test.keys == (
        "accordion/image_0007.jpg",
        "accordion/image_0010.jpg",
        "accordion/image_0011.jpg",
        "ant/image_0011.jpg",
    )
    inner = load(tmp_path / "caltech-101" / "101_ObjectCategories")
    assert torch.equal(inner.test.pixels, found.test.pixels)


def test_stanford_dogs(tmp_path: Path) -> None:
    found = load(dogs(tmp_path))
    assert found.classes == ("Chihuahua", "Shetland_sheepdog")
    assert (len(found.train), len(found.test)) == (4, 2)
    assert shades(found) == [[51], [151]]
    (tmp_path / "lists").mkdir()
    for name in ("train_list.mat", "test_list.mat"):
        (tmp_path / name).rename(tmp_path / "lists" / name)
    assert torch.equal(load(tmp_path).train.pixels, found.train.pixels)


def test_an_odd_file_is_left_out_where_it_is_refused(tmp_path: Path) -> None:
    dogs(tmp_path)
    odd = tmp_path / "Images" / "n02105855-Shetland_sheepdog" / "n02105855_2933.jpg"
    Image.new("RGBA", (8, 8), (1, 2, 3, 100)).save(odd, "PNG")
    found = load(tmp_path)
    assert len(found.train) == 3
    assert found.note.endswith("; 1 odd image left out (no 8-bit RGB or grey)")


def test_cub(tmp_path: Path) -> None:
    found = load(cub(tmp_path))
    assert found.classes == ("Black_footed_Albatross", "Laysan_Albatross")
    assert torch.bincount(found.train.labels).tolist() == [2, 2]
    assert shades(found) == [[51], [101]]


@pytest.mark.parametrize("make", [imagenet_sorted, imagenet_kit, imagenet_kaggle])
def test_imagenet(tmp_path: Path, make: Make) -> None:
    found = load(make(tmp_path))
    assert torch.bincount(found.train.labels).tolist() == [2, 2, 2, 2]
    assert torch.bincount(found.test.labels).tolist() == [2, 1, 1, 1]
    assert shades(found) == [[21], [71], [121], [171]]
    words = ("tench", "goldfish", "crane (n02012849)", "crane (n03126707)")
    assert found.classes == (WNIDS if make is imagenet_sorted else words)
    assert "is laid out as ImageNet (ILSVRC2012): val/ is the test split" in found.note


def test_imagenets_cmyk_images_are_left_out(tmp_path: Path) -> None:
    imagenet_kit(tmp_path)
    picture(tmp_path / "train" / WNIDS[0] / "n01739381_1309.JPEG", 20, mode="CMYK")
    picture(tmp_path / "train" / WNIDS[0] / "n02077923_14822.JPEG", 20)  # already converted
    found = load(tmp_path)
    assert len(found.train) == 9
    assert "1 odd image left out" in found.note


def test_streaming_a_layout_gives_the_same_images(tmp_path: Path) -> None:
    kept, read = load(cub(tmp_path)), load(tmp_path, cache_mb=0, workers=0)
    cpu = torch.device("cpu")
    (one, _, _), *_ = kept.test.batches(9, cpu, kept.image)
    (two, _, _), *_ = read.test.batches(9, cpu, read.image)
    assert torch.equal(one, two)


def test_an_ordinary_folder_is_no_layout(digit_folder: Path) -> None:
    assert layouts.recognise(digit_folder) is None
    assert load(digit_folder).note == ""


def test_synsets_with_a_sorted_test_folder_are_an_ordinary_folder(tmp_path: Path) -> None:
    imagenet_sorted(tmp_path)
    picture(tmp_path / "test" / WNIDS[0] / "x.JPEG", 9)
    assert layouts.recognise(tmp_path) is None


# What is refused.


def test_a_flat_validation_folder_needs_its_labels(tmp_path: Path) -> None:
    imagenet_flat(tmp_path)
    with pytest.raises(DataError, match=r"in no class folders, and neither .*; unpack the develop"):
        load(tmp_path)


def test_a_listed_file_that_is_missing_is_named(tmp_path: Path) -> None:
    cub(tmp_path)
    (tmp_path / "images" / "002.Laysan_Albatross" / "Laysan_1.jpg").unlink()
    with pytest.raises(DataError, match=r"Laysan_1\.jpg: cannot be found"):
        load(tmp_path)


def test_lists_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    cub(tmp_path)
    (tmp_path / "classes.txt").write_text("1 001.Black_footed_Albatross\n")
    with pytest.raises(DataError, match=r"say of image 1 neither split nor class \('2' is unkn"):
        load(tmp_path)


def test_a_class_without_test_images_is_named(tmp_path: Path) -> None:
    tiny_imagenet(tmp_path)
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t32\t44\t62\n")
    with pytest.raises(DataError, match="class 'goldfish' has no test images"):
        load(tmp_path)


def test_a_line_with_too_few_fields_is_named(tmp_path: Path) -> None:
    cub(tmp_path)
    (tmp_path / "images.txt").write_text("1 a.jpg\n2\n")
    with pytest.raises(DataError, match=r"images\.txt, line 2: 1 of 2 fields"):
        load(tmp_path)


@pytest.mark.parametrize(
    "name", ["../../secret.jpg", "/etc/passwd", "a/../../../x.jpg", "a\\x.jpg"]
)
def test_a_list_leads_to_no_file_outside_its_images(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "secret.jpg", 9)
    images = cub(tmp_path / "cub") / "images.txt"
    images.write_text(images.read_text() + f"7 {name}\n")
    for other, value in (("image_class_labels.txt", 1), ("train_test_split.txt", 0)):
        there = (tmp_path / "cub" / other).read_text()
        (tmp_path / "cub" / other).write_text(f"{there}7 {value}\n")
    with pytest.raises(DataError, match=r"images\.txt: names .*, which is not in .*/images;"):
        load(tmp_path / "cub")
    boxes = tiny_imagenet(tmp_path / "tiny") / "val" / "val_annotations.txt"
    boxes.write_text(boxes.read_text() + f"{name}\tn02\t0\t0\t3\t3\n")
    with pytest.raises(DataError, match=r"val_annotations\.txt: names .*, which is not in"):
        load(tmp_path / "tiny")


def test_a_breeds_list_leads_to_no_file_outside_its_images(tmp_path: Path) -> None:
    from scipy.io import savemat

    dogs(tmp_path)
    entry = "n02085620-Chihuahua/../../../secret.jpg"
    savemat(tmp_path / "test_list.mat", {"file_list": cells(entry)})
    with pytest.raises(DataError, match=r"test_list\.mat: names .*, which is not in"):
        load(tmp_path)


def test_an_image_in_both_splits_is_refused(tmp_path: Path) -> None:
    from scipy.io import savemat

    dogs(tmp_path)
    both = ("n02085620-Chihuahua/n02085620_1.jpg", "n02105855-Shetland_sheepdog/n02105855_3.jpg")
    savemat(tmp_path / "test_list.mat", {"file_list": cells(*both)})
    with pytest.raises(DataError, match=r"lists .*n02085620_1\.jpg 2 times"):
        load(tmp_path)


def test_class_numbers_that_are_none_are_named(tmp_path: Path) -> None:
    cub(tmp_path)
    (tmp_path / "classes.txt").write_text("one 001.A\ntwo 002.B\n")
    with pytest.raises(DataError, match="neither split nor class"):
        load(tmp_path)


def test_a_kit_with_another_table_is_named(tmp_path: Path) -> None:
    from scipy.io import savemat

    kit = imagenet_kit(tmp_path) / "ILSVRC2012_devkit_t12" / "data"
    savemat(kit / "meta.mat", {"synsets": cells("n01440764")})
    with pytest.raises(DataError, match=r"meta\.mat: is another table"):
        load(tmp_path)


def test_a_damaged_list_is_named(tmp_path: Path) -> None:
    dogs(tmp_path)
    (tmp_path / "train_list.mat").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"train_list\.mat: cannot be read"):
        load(tmp_path)


def test_a_run_begins_with_what_was_recognised(tmp_path: Path) -> None:
    from exitkit.train import opening

    config = TrainConfig(data=str(tmp_path), threads=1)
    notes = opening.describe(config, load(cub(tmp_path)), torch.device("cpu"))
    assert "is laid out as CUB-200-2011: train and test split are those of" in notes[1]
