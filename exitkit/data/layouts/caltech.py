"""Caltech-101 as 101_ObjectCategories.tar.gz unpacks (Li, Andreeto, Ranzato and Perona 2022).

    101_ObjectCategories/<class>/image_0001.jpg    31 to 800 a class

There is no split. 30 images of every class are the training images, as most papers have it, the
first in the order of the SHA-256 of "<class>/<file>": the same for every seed and machine. The
rest is the test split. BACKGROUND_Google, which is no class, is left out.
"""

import hashlib
from collections import defaultdict
from pathlib import Path

from exitkit.data import tree
from exitkit.data.layouts.layout import Layout
from exitkit.data.tree import Files, Tree

FOLDER, NO_CLASS = "101_ObjectCategories", "BACKGROUND_Google"
TRAIN = 30  # images of every class


def _here(folder: Path) -> bool:
    return (folder / FOLDER).is_dir() or (folder / NO_CLASS).is_dir()


def _list(folder: Path) -> Tree:
    root = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    classes = tuple(name for name in tree.subfolders(root) if name != NO_CLASS)
    found = tree.by_class(root, classes)
    train, test = divide(found)
    return Tree(classes, found.take(train), None, found.take(test))


def divide(found: Files) -> tuple[list[int], list[int]]:
    """Return the rows of the training and of the test images."""
    by_class: dict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(found.labels):
        by_class[label].append(row)
    train: list[int] = []
    for rows in by_class.values():
        rows.sort(key=lambda row: hashlib.sha256(found.keys[row].encode()).digest())
        train += rows[:TRAIN]
    chosen = set(train)
    return sorted(train), [row for row in range(len(found.labels)) if row not in chosen]


LAYOUT = Layout(
    "Caltech-101",
    _here,
    _list,
    f"{TRAIN} images of every class, chosen by a fixed rule, are for training, the rest is the "
    "test split",
)
