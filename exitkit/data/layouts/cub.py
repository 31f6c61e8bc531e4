"""CUB-200-2011 as CUB_200_2011.tgz unpacks (Wah et al. 2011): 200 species of birds.

images/001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg
images.txt               <image> <path in images/>
image_class_labels.txt   <image> <class>
train_test_split.txt     <image> <1 for training, 0 for testing>
classes.txt              <class> 001.Black_footed_Albatross
"""

from pathlib import Path

from exitkit.data import tree
from exitkit.data.layouts.layout import Layout, lines, listed, numbered
from exitkit.data.tree import Row, Tree
from exitkit.errors import DataError

LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")


def _here(folder: Path) -> bool:
    return all((folder / name).is_file() for name in LISTS)


def _list(folder: Path) -> Tree:
    paths, labels, trained, names = (dict(lines(folder / name, 2)) for name in LISTS)
    label = numbered(sorted(names, key=lambda number: (len(number), number)))  # 2 before 10
    rows: dict[str, list[Row]] = {"1": [], "0": []}
    for image, path in paths.items():
        try:
            file = listed(folder / "images", path, folder / "images.txt")
            rows[trained[image]].append((label[labels[image]], path, file))
        except KeyError as error:
            raise DataError(
                f"the lists of {folder}",
                f"say of image {image} neither split nor class ({error} is unknown)",
                "unpack the data anew",
            ) from error
    return Tree(
        # 001.Black_footed_Albatross -> Black_footed_Albatross
        classes=tuple(names[number].partition(".")[2] or names[number] for number in label),
        train=tree.files(rows["1"]),
        tune=None,
        test=tree.files(rows["0"]),
    )


LAYOUT = Layout(
    "CUB-200-2011", _here, _list, "train and test split are those of train_test_split.txt"
)
