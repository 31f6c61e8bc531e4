"""ImageNet (ILSVRC2012, Russakovsky et al. 2015): 1,000 classes; test/ has no labels.

    train/<wnid>/<wnid>_0.JPEG           the archive's inner archives unpacked; val/ is either
    val/<wnid>/ILSVRC2012_val_0.JPEG     sorted into classes, as scripts do it, or flat, beside
    val/ILSVRC2012_val_00000001.JPEG     the development kit (ILSVRC2012_devkit_t12/) or Kaggle's
                                         LOC_val_solution.csv

Kaggle's download, where train/ and val/ lie in ILSVRC/Data/CLS-LOC/, is read as it is. Classes
stand in the order of their synsets, as in published weights. Their words are read where a list
lies beside: LOC_synset_mapping.txt, synset_words.txt, words.txt or the kit's meta.mat.
"""

import re
from pathlib import Path

import numpy as np

from exitkit.data import tree
from exitkit.data.layouts.layout import Layout, lines, matlab, named, numbered
from exitkit.data.tree import Files, Tree
from exitkit.errors import DataError

KAGGLE = Path("ILSVRC") / "Data" / "CLS-LOC"
KIT = Path("ILSVRC2012_devkit_t12") / "data"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
SYNSET = re.compile(r"n\d{8}")
# Known as CMYK, and one PNG.
_ODD = """
n01739381_1309 n02077923_14822 n02105855_2933 n02447366_23489 n02492035_15739 n02747177_10752
n03018349_4028 n03062245_4620 n03347037_9675 n03467068_12171 n03529860_11437 n03544143_17228
n03633091_5218 n03710637_5125 n03961711_5286 n04033995_2932 n04258138_17003 n04264628_27969
n04336792_7448 n04371774_5854 n04596742_4225 n07583066_647 n13037406_4650
ILSVRC2012_val_00019877
"""
ODD = frozenset(f"{name}.JPEG" for name in _ODD.split())


def _root(folder: Path) -> Path:
    return folder / KAGGLE if (folder / KAGGLE).is_dir() else folder


def _here(folder: Path) -> bool:
    root = _root(folder)
    if not (root / "train").is_dir() or not (root / "val").is_dir():
        return False
    names = [entry.name for entry in tree.entries(root / "train")]
    sorted_test = any(entry.is_dir() for entry in _entries(root / "test"))
    return bool(names) and all(map(SYNSET.fullmatch, names)) and not sorted_test


def _entries(folder: Path) -> list[Path]:
    """Return a few of the things in a folder, which need not be there."""
    if not folder.is_dir():
        return []
    return [Path(entry.path) for _, entry in zip(range(9), tree.entries(folder), strict=False)]


def _list(folder: Path) -> Tree:
    root = _root(folder)
    wnids = tree.subfolders(root / "train")
    val = root / "val"
    if any(path.is_file() for path in _entries(val)):
        test = _flat(folder, val, wnids)
    else:
        tree.same_classes(root, "val", wnids)
        test = tree.by_class(val, wnids)
    return Tree(named(wnids, _words(folder)), tree.by_class(root / "train", wnids), None, test)


def _flat(folder: Path, val: Path, wnids: tuple[str, ...]) -> Files:
    """List a val/ without class folders, by the labels that lie beside it."""
    label = numbered(wnids)
    paths = list(tree.images(val))
    truth = _truth(folder, [path.stem for path in paths])
    strange = sorted(set(truth.values()) - set(wnids))
    if strange:
        raise DataError(
            f"labels of {val}", f"name {strange[0]}, which train/ lacks", "unpack train/ anew"
        )
    try:
        return tree.files(
            (label[truth[path.stem]], f"{truth[path.stem]}/{path.name}", path) for path in paths
        )
    except KeyError as error:
        raise DataError(
            f"image {error} of {val}", "has no label", "unpack the data anew"
        ) from error


def _truth(folder: Path, stems: list[str]) -> dict[str, str]:
    """Return the synset of each image of a flat val/, by its name without suffix."""
    solution, kit = folder / "LOC_val_solution.csv", _kit(folder)
    if solution.is_file():
        # ILSVRC2012_val_00048981,n03995372 85 1 499 272
        rows = [row for row in lines(solution, 2, ",") if row[0] != "ImageId"]
        return {stem: boxes.split()[0] for stem, boxes in rows}
    if (kit / TRUTH).is_file():
        synset = {number: wnid for number, wnid, _ in _meta(kit)}
        numbers = [line[0] for line in lines(kit / TRUTH)]
        if len(numbers) != len(stems):
            raise DataError(
                f"{kit / TRUTH}",
                f"{len(numbers)} labels for {len(stems)} images",
                "unpack val/ anew",
            )
        return {
            stem: synset.get(number, number)
            for stem, number in zip(sorted(stems), numbers, strict=True)
        }
    raise DataError(
        f"labels of {_root(folder) / 'val'}",
        f"they are in no class folders, and neither {KIT / TRUTH} nor {solution.name} is here",
        f"unpack the development kit into {folder}, or sort val/ into class folders",
    )


def _words(folder: Path) -> dict[str, str]:
    for name in ("LOC_synset_mapping.txt", "synset_words.txt", "words.txt"):
        if (folder / name).is_file():
            return dict(line for line in lines(folder / name, 2))
    if (_kit(folder) / "meta.mat").is_file():
        return {wnid: words for _, wnid, words in _meta(_kit(folder))}
    return {}


def _kit(folder: Path) -> Path:
    """Return the folder of the development kit's data, wherever its archive was unpacked."""
    return next((p for p in (folder / KIT, folder / "data") if p.is_dir()), folder)


def _meta(kit: Path) -> list[tuple[str, str, str]]:
    """Return (number, synset, words) of the kit's synsets."""
    table = np.atleast_1d(matlab(kit / "meta.mat", "synsets"))
    try:
        return [(str(row["ILSVRC2012_ID"]), str(row["WNID"]), str(row["words"])) for row in table]
    except (ValueError, IndexError, TypeError) as error:
        raise DataError(
            f"{kit / 'meta.mat'}", f"is another table ({error})", "unpack the kit anew"
        ) from error


LAYOUT = Layout("ImageNet (ILSVRC2012)", _here, _list, "val/ is the test split", ODD)
