"""Stanford Dogs as images.tar and lists.tar unpack (Khosla et al. 2011): 120 breeds.

Images/n02085620-Chihuahua/n02085620_10074.jpg
train_list.mat, test_list.mat    file_list: "n02085620-Chihuahua/n02085620_10074.jpg" and so on;
                                 beside Images/ or in lists/
"""

from pathlib import Path

import numpy as np

from exitkit.data import tree
from exitkit.data.layouts.layout import Layout, listed, matlab, numbered
from exitkit.data.tree import Files, Tree
from exitkit.errors import DataError

LISTS = ("train_list.mat", "test_list.mat")
# Known as the one PNG among the JPEGs, with an alpha channel.
ODD = frozenset({"n02105855_2933.jpg"})


def _here(folder: Path) -> bool:
    return (folder / "Images").is_dir() and all(_place(folder, name).is_file() for name in LISTS)


def _place(folder: Path, name: str) -> Path:
    inside = folder / "lists" / name
    return inside if inside.is_file() else folder / name


def _list(folder: Path) -> Tree:
    breeds = tree.subfolders(folder / "Images")
    label = numbered(breeds)

    def part(name: str) -> Files:
        path = _place(folder, name)
        entries = [str(entry) for entry in np.atleast_1d(matlab(path, "file_list"))]
        for entry in entries:
            if entry.partition("/")[0] not in label:
                raise DataError(
                    str(path), f"names {entry}, which Images/ lacks", "unpack images.tar anew"
                )
        return tree.files(
            (label[entry.partition("/")[0]], entry, listed(folder / "Images", entry, path))
            for entry in entries
        )

    train, test = (part(name) for name in LISTS)
    # n02085620-Chihuahua -> Chihuahua
    return Tree(tuple(breed.partition("-")[2] or breed for breed in breeds), train, None, test)


LAYOUT = Layout("Stanford Dogs", _here, _list, "train and test split are those of its lists", ODD)
