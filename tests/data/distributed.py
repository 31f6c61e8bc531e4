"""Small trees, laid out as the papers' data sets are distributed."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(path: Path, shade: int, size: tuple[int, int] = (40, 36), mode: str = "RGB") -> None:
    """An image file of nearly one colour, so that a row can be told by its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(shade).integers(0, 3, (size[1], size[0], 3)) + shade
    image = Image.fromarray(pixels.astype(np.uint8)).convert(mode)
    image.save(
        path, "PNG" if mode == "RGBA" else "JPEG", **({} if mode == "RGBA" else {"quality": 95})
    )


def cells(*values: str) -> np.ndarray:
    """What MATLAB calls a cell array: a column of objects."""
    column = np.empty((len(values), 1), dtype=object)
    column[:, 0] = values
    return column


def tiny_imagenet(root: Path) -> Path:
    for label, wnid in enumerate(("n02", "n01")):
        for number in range(12):
            picture(root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", 50 + 100 * label)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t3\t3\n")
    for number, shade in enumerate((50, 150, 150)):
        picture(root / "val" / "images" / f"val_{number}.JPEG", shade)
    (root / "val" / "val_annotations.txt").write_text(
        "val_0.JPEG\tn02\t0\t32\t44\t62\nval_1.JPEG\tn01\t52\t55\t57\t59\nval_2.JPEG\tn01\t4\t0\t60\t55\n"
    )
    picture(root / "test" / "images" / "test_0.JPEG", 5)
    (root / "wnids.txt").write_text("n02\nn01\n")
    (root / "words.txt").write_text(
        "n00\tentity\nn01\tgoldfish, Carassius auratus\nn02\tbullfrog\n"
    )
    return root


def caltech(root: Path) -> Path:
    folder = root / "101_ObjectCategories"
    for label, (name, count) in enumerate(
        (("BACKGROUND_Google", 2), ("accordion", 33), ("ant", 31))
    ):
        for number in range(1, count + 1):
            picture(folder / name / f"image_{number:04}.jpg", 60 * label, mode="RGB")
    return root


def dogs(root: Path) -> Path:
    from scipy.io import savemat

    breeds = ("n02085620-Chihuahua", "n02105855-Shetland_sheepdog")
    names = {
        breeds[0]: ["n02085620_1.jpg", "n02085620_2.jpg", "n02085620_3.jpg"],
        breeds[1]: ["n02105855_1.jpg", "n02105855_2933.jpg", "n02105855_3.jpg"],
    }
    for label, breed in enumerate(breeds):
        for name in names[breed]:
            picture(root / "Images" / breed / name, 50 + 100 * label)
    train = [f"{breed}/{name}" for breed in breeds for name in names[breed][:2]]
    test = [f"{breed}/{names[breed][2]}" for breed in breeds]
    for part, files in (("train", train), ("test", test)):
        labels = np.array([[breeds.index(file.split("/")[0]) + 1] for file in files])
        table = {"file_list": cells(*files), "annotation_list": cells(*files), "labels": labels}
        savemat(root / f"{part}_list.mat", table)
    return root


def cub(root: Path) -> Path:
    birds = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    rows = [
        (f"{birds[label]}/{name}_{number}.jpg", label + 1, number < 2)
        for label, name in ((1, "Laysan"), (0, "Black_Footed"))
        for number in range(3)
    ]
    for path, label, _ in rows:
        picture(root / "images" / path, 50 * label)
    lists = {
        "images.txt": [path for path, _, _ in rows],
        "image_class_labels.txt": [label for _, label, _ in rows],
        "train_test_split.txt": [int(train) for _, _, train in rows],
        "classes.txt": birds,
    }
    for name, values in lists.items():
        text = "".join(f"{number} {value}\n" for number, value in enumerate(values, 1))
        (root / name).write_text(text)
    return root


WNIDS = ("n01440764", "n01443537", "n02012849", "n03126707")
WORDS = ("tench, Tinca tinca", "goldfish", "crane", "crane")
# The synset of each validation image, by its number.
TRUTH = (2, 0, 3, 1, 0)


def imagenet_train(root: Path) -> None:
    for label, wnid in enumerate(WNIDS):
        for number in range(2):
            picture(root / "train" / wnid / f"{wnid}_{number}.JPEG", 20 + 50 * label)


def imagenet_sorted(root: Path) -> Path:
    imagenet_train(root)
    for number, label in enumerate(TRUTH, 1):
        name = f"ILSVRC2012_val_{number:08}.JPEG"
        picture(root / "val" / WNIDS[label] / name, 20 + 50 * label)
    return root


def imagenet_flat(root: Path) -> None:
    imagenet_train(root)
    for number, label in enumerate(TRUTH, 1):
        picture(root / "val" / f"ILSVRC2012_val_{number:08}.JPEG", 20 + 50 * label)
    picture(root / "test" / "ILSVRC2012_test_00000001.JPEG", 5)


def imagenet_kit(root: Path) -> Path:
    from scipy.io import savemat

    imagenet_flat(root)
    kit = root / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    ids = (3, 1, 2, 4)  # the kit's numbers are no order of synsets
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("gloss", object)]
    rows = [
        (number, wnid, words, "a thing")
        for number, wnid, words in zip(ids, WNIDS, WORDS, strict=True)
    ]
    rows.append((1001, "n00001740", "entity", "all things"))
    savemat(kit / "meta.mat", {"synsets": np.array(rows, dtype=kinds)[:, None]})
    text = "".join(f"{ids[label]}\n" for label in TRUTH)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text(text)
    return root


def imagenet_kaggle(root: Path) -> Path:
    imagenet_flat(root / "ILSVRC" / "Data" / "CLS-LOC")
    mapping = "".join(f"{w} {words}\n" for w, words in zip(WNIDS, WORDS, strict=True))
    (root / "LOC_synset_mapping.txt").write_text(mapping)
    rows = [
        f"ILSVRC2012_val_{number:08},{WNIDS[label]} 1 2 3 4 {WNIDS[label]} 5 6 7 8\n"
        for number, label in enumerate(TRUTH, 1)
    ]
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(rows[::-1]))
    return root
