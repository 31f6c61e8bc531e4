"""The files of an image folder: which classes, which images, and whether it can be trained on.

<folder>/train/<class>/*.png     also .jpg .jpeg .webp; names that begin with a dot are ignored
<folder>/test/<class>/...        the test split; val/ takes its place where there is no test/
<folder>/val/<class>/...         beside test/: the tune split (else it is drawn from train/)
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exitkit.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

Row = tuple[int, str, Path]  # label, key, file: see Files


@dataclass(frozen=True)
class Files:
    """The images of one part (train, val, test), class by class, sorted by name.

    Attributes:
        paths: one file per row.
        labels: class number per row.
        keys: "class/name" per row: the same wherever the folder lies.
        stamps: key, size and modification time per row: changes when a file does.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    keys: tuple[str, ...]
    stamps: tuple[str, ...]

    def take(self, rows: Sequence[int]) -> "Files":
        """Return some of the rows."""
        return Files(
            tuple(self.paths[row] for row in rows),
            tuple(self.labels[row] for row in rows),
            tuple(self.keys[row] for row in rows),
            tuple(self.stamps[row] for row in rows),
        )

    def join(self, *others: "Files | None") -> "Files":
        """Return these rows and, after them, those of the others that are there."""
        parts = [self, *(other for other in others if other is not None)]
        return Files(
            tuple(path for part in parts for path in part.paths),
            tuple(label for part in parts for label in part.labels),
            tuple(key for part in parts for key in part.keys),
            tuple(stamp for part in parts for stamp in part.stamps),
        )


@dataclass(frozen=True)
class Tree:
    """What an image folder holds.

    Attributes:
        classes: names in the order of the labels.
        train, test: the images of these parts.
        tune: None where it has to be drawn from train.
        colours: mean and deviation per channel to normalise with; None where they are measured.
        note: what is worth telling about how the folder was read.
    """

    classes: tuple[str, ...]
    train: Files
    tune: Files | None
    test: Files
    colours: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    note: str = ""


def read(folder: Path) -> Tree:
    """List an image folder; no image is opened yet.

    Raises:
        DataError: train/ or both of test/ and val/ are missing, there are fewer than two classes,
            the parts have different classes, a class is empty, a file is no image by its name.
    """
    parts = [part for part in ("train", "val", "test") if (folder / part).is_dir()]
    if "train" not in parts or len(parts) < 2:
        raise DataError(
            f"image folder {folder}",
            f"has only {' and '.join(f'{part}/' for part in parts)}"
            if parts
            else "has none of train/, test/ and val/",
            "make train/<class>/ and test/<class>/ (or val/<class>/) in it",
        )
    classes = subfolders(folder / "train")
    if len(classes) < 2:
        raise DataError(
            f"classes of {folder / 'train'}",
            f"{len(classes)} folder{'s' * (len(classes) != 1)} "
            f"({', '.join(classes) or 'none'}), a classifier needs two",
            "make one folder per class",
        )
    for part in parts[1:]:
        same_classes(folder, part, classes)
    found = {part: by_class(folder / part, classes) for part in parts}
    test = "test" if "test" in found else "val"
    tune = found["val"] if len(parts) == 3 else None
    return Tree(classes, found["train"], tune, found[test])


def subfolders(part: Path) -> tuple[str, ...]:
    """Return the names of the folders in `part`, sorted; a file beside them is refused."""
    names = []
    for entry in entries(part):
        if not entry.is_dir():
            raise DataError(
                f"class folders of {part}", f"{entry.path} is a file", "remove it or move it"
            )
        names.append(entry.name)
    return tuple(names)


def same_classes(folder: Path, part: str, classes: tuple[str, ...]) -> None:
    """Raise DataError where `part` has other class folders than those of train/."""
    found = subfolders(folder / part)
    if found == classes:
        return
    only = [
        f"only in {where}/: {', '.join(names)}"
        for where, names in (
            ("train", sorted(set(classes) - set(found))),
            (part, sorted(set(found) - set(classes))),
        )
        if names
    ]
    raise DataError(
        f"classes of {folder / 'train'} and {folder / part}",
        f"they differ ({'; '.join(only)})",
        "give both the same class folders",
    )


def by_class(part: Path, classes: Sequence[str], inside: str = "") -> Files:
    """List part/<class>/*.jpg, or part/<class>/<inside>/*.jpg; nothing else may lie there.

    Raises:
        DataError: a class has no images, or a file that is no image by its name.
    """
    rows: list[Row] = []
    for label, name in enumerate(classes):
        before, place = len(rows), part / name / inside
        rows += [(label, f"{name}/{file.name}", file) for file in images(place)]
        if len(rows) == before:
            raise DataError(
                f"images of class {name!r}",
                f"{place} is empty",
                "put images into it, or remove the class from every part",
            )
    return files(rows)


def images(folder: Path) -> Iterator[Path]:
    """Yield the images of one folder, sorted by name."""
    for entry in entries(folder):
        if not entry.is_file() or not entry.name.lower().endswith(SUFFIXES):
            raise DataError(
                f"images of {folder}",
                f"{entry.path} is no {', '.join(SUFFIXES)} file",
                "remove it or move it",
            )
        yield Path(entry.path)


def files(rows: Iterable[Row]) -> Files:
    """Make `Files` of rows, class by class and by key.

    Raises:
        DataError: a file is not there; names the first.
    """
    ordered = sorted(rows, key=lambda row: row[:2])
    try:
        states = [path.stat() for _, _, path in ordered]
    except OSError as error:
        raise DataError(
            f"image {error.filename}", f"cannot be found ({error.strerror})", "unpack the data anew"
        ) from error
    return Files(
        tuple(path for _, _, path in ordered),
        tuple(label for label, _, _ in ordered),
        tuple(key for _, key, _ in ordered),
        tuple(
            f"{key} {state.st_size} {state.st_mtime_ns}"
            for (_, key, _), state in zip(ordered, states, strict=True)
        ),
    )


def entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what a folder holds, sorted by name; hidden files are left out."""
    try:
        with os.scandir(folder) as found:
            yield from sorted(
                (entry for entry in found if not entry.name.startswith(".")),
                key=lambda entry: entry.name,
            )
    except OSError as error:
        raise DataError(
            f"folder {folder}", f"cannot be listed ({error})", "check its permissions"
        ) from error
