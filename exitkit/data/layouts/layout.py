"""What a layout is, and how the lists beside the images are read."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from exitkit.data.tree import Files, Tree
from exitkit.errors import BadImage, DataError, TooLarge
from exitkit.images import ImageSpec, decode

# Mean and deviation of ImageNet's training images, which the papers take for all five data sets.
COLOURS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LOOK = ImageSpec(1, 1, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # a glance: does the file decode


@dataclass(frozen=True)
class Layout:
    """One data set's folders and lists.

    Attributes:
        title: the data set's name.
        here: whether a folder looks like it; opens no image.
        list: folder -> its images; may raise DataError.
        test: which images are the test split.
        odd: names of files that are known to be of a kind that exitkit may refuse (CMYK, alpha).
    """

    title: str
    here: Callable[[Path], bool]
    list: Callable[[Path], Tree]
    test: str
    odd: frozenset[str] = frozenset()

    def read(self, folder: Path) -> Tree:
        """List the folder's images and say how.

        Raises:
            DataError: lists or images are missing, an image is named twice, or a class has no
                training or test images.
        """
        found = self.list(folder)
        self._refuse_repeats(folder, found)
        (train, without_train), (test, without_test) = map(self._usable, (found.train, found.test))
        note = f"{folder.name} is laid out as {self.title}: {self.test}"
        if out := without_train + without_test:
            note += f"; {out} odd image{'s' * (out > 1)} left out (no 8-bit RGB or grey)"
        found = replace(found, train=train, test=test, colours=COLOURS, note=note)
        self._refuse_gaps(folder, found)
        return found

    def _usable(self, files: Files) -> tuple[Files, int]:
        """Leave out those of the odd files that are refused; return how many."""
        kept = [
            row
            for row, key in enumerate(files.keys)
            if key.rpartition("/")[2] not in self.odd or _decodes(files.paths[row])
        ]
        return files.take(kept), len(files.paths) - len(kept)

    def _refuse_repeats(self, folder: Path, found: Tree) -> None:
        """Refuse an image that counts twice: one in both splits would make the test easier."""
        often = Counter((*found.train.paths, *found.test.paths))
        path, times = max(often.items(), key=lambda item: item[1], default=(folder, 0))
        if times > 1:
            raise DataError(
                f"{self.title} in {folder}", f"lists {path} {times} times", "unpack the lists anew"
            )

    def _refuse_gaps(self, folder: Path, found: Tree) -> None:
        if len(found.classes) < 2:
            raise DataError(f"{self.title} in {folder}", "fewer than two classes", "unpack it anew")
        for part, files in (("training", found.train), ("test", found.test)):
            missing = sorted(set(range(len(found.classes))) - set(files.labels))
            if missing:
                raise DataError(
                    f"{self.title} in {folder}",
                    f"class {found.classes[missing[0]]!r} has no {part} images",
                    "unpack it anew",
                )


def _decodes(path: Path) -> bool:
    try:
        decode(path, _LOOK)
    except (BadImage, TooLarge):
        return False
    return True


def listed(images: Path, name: str, source: Path) -> Path:
    """Return the image file that a list names; `images` is the folder that holds them all.

    Raises:
        DataError: the name leads out of the folder: lists come from strangers.
    """
    way = PurePosixPath(name)
    if way.is_absolute() or ".." in way.parts or "\\" in name or "\0" in name:
        raise DataError(
            str(source), f"names {name[:60]!r}, which is not in {images}", "unpack the data anew"
        )
    return images / name


def lines(path: Path, fields: int = 0, separator: str | None = None) -> list[list[str]]:
    """Return the fields of every line of a text file; empty lines are left out.

    Args:
        path: the file.
        fields: how many there must be at least; the last one takes the rest of the line.
        separator: between fields; None is any white space.

    Raises:
        DataError: the file cannot be read, or a line has fewer fields.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), f"cannot be read ({error})", "unpack the data anew") from error
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            parts = line.strip().split(separator, fields - 1 if fields else -1)
            if len(parts) < fields:
                raise DataError(
                    f"{path}, line {number}",
                    f"{len(parts)} of {fields} fields ({line.strip()[:60]!r})",
                    "unpack the data anew",
                )
            rows.append(parts)
    return rows


def matlab(path: Path, name: str) -> Any:  # Any: an array of whatever MATLAB kept
    """Return one variable of a .mat file, squeezed; such files hold data only, nothing is run.

    Raises:
        DataError: the file cannot be read or has no such variable.
    """
    from scipy.io import loadmat  # slow to import, and few layouts need it

    try:
        with open(path, "rb") as file:  # given a path, it leaves a damaged file open
            return loadmat(file, squeeze_me=True, variable_names=[name])[name]
    except Exception as error:  # over damaged files it raises whatever its readers meet
        raise DataError(str(path), f"cannot be read ({error!r})", "unpack the data anew") from error


def named(wnids: Sequence[str], words: Mapping[str, str]) -> tuple[str, ...]:
    """Return names for synsets: the first of its words; the synset beside it where two share it.

    >>> named(["n1", "n2", "n3"], {"n1": "crane", "n2": "crane, bird", "n3": "goldfish, Carassius"})
    ('crane (n1)', 'crane (n2)', 'goldfish')
    """
    first = [words.get(wnid, wnid).partition(",")[0].strip() for wnid in wnids]
    often = Counter(first)
    return tuple(
        f"{name} ({wnid})" if often[name] > 1 else name
        for name, wnid in zip(first, wnids, strict=True)
    )


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Return name -> label, in the order given."""
    return {name: label for label, name in enumerate(names)}
