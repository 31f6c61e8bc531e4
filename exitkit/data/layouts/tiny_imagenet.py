"""Tiny-ImageNet as tiny-imagenet-200.zip unpacks (Stanford CS231n): 200 classes of 64 x 64 pixels.

train/<wnid>/images/<wnid>_0.JPEG    500 a class
val/images/val_0.JPEG, val/val_annotations.txt    file, wnid and a box on each line
test/images/    without labels: val/ is the test split
wnids.txt, words.txt    the 200 synsets, and the words of all synsets
"""

from pathlib import Path

from exitkit.data import tree
from exitkit.data.layouts.layout import Layout, lines, listed, named, numbered
from exitkit.data.tree import Tree
from exitkit.errors import DataError


def _here(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("wnids.txt", "val/val_annotations.txt"))


def _list(folder: Path) -> Tree:
    wnids = sorted(line[0] for line in lines(folder / "wnids.txt"))
    label = numbered(wnids)
    words = dict(line for line in lines(folder / "words.txt", 2, "\t"))
    boxes = folder / "val" / "val_annotations.txt"
    table = lines(boxes, 3, "\t")
    for _, wnid, _ in table:
        if wnid not in label:
            raise DataError(
                str(boxes),
                f"names {wnid}, which wnids.txt does not",
                "unpack the data anew",
            )
    return Tree(
        classes=named(wnids, words),
        train=tree.by_class(folder / "train", wnids, "images"),
        tune=None,
        test=tree.files(
            (label[wnid], f"{wnid}/{name}", listed(folder / "val" / "images", name, boxes))
            for name, wnid, _ in table
        ),
    )


LAYOUT = Layout("Tiny-ImageNet", _here, _list, "val/ is the test split, test/ has no labels")
