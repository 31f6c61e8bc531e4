"""Real data that several areas test with."""

import os

# Tests run side by side: one thread each, in the programs they start too. Before torch loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar100"
CLASSES, TRAIN, TEST = 5, 20, 10


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep decoded images of the tests, also of programs they start, out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "exitkit"


@pytest.fixture(scope="session")
def cifar100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder of real CIFAR-100 files: 5 classes, 20 train/ and 10 test/ images each.

    Read-only for its users. EXITKIT_CIFAR100 names a folder with train/ and test/, or with zip
    files of them.
    """
    source = Path(os.environ.get("EXITKIT_CIFAR100", BESIDE))
    archives = sorted(source.glob("*.zip"))
    if not archives and not (source / "train").is_dir():
        pytest.skip("the real CIFAR-100 folder is not here (EXITKIT_CIFAR100 names it)")
    folder = tmp_path_factory.mktemp("cifar100")
    if archives:
        _unpack_some(archives[0], folder)
    else:
        _copy_some(source, folder)
    return folder


def _chosen(names: list[str]) -> list[str]:
    """The first files of the first classes, of names like train/apple/0001.webp."""
    of: dict[str, dict[str, list[str]]] = {"train": defaultdict(list), "test": defaultdict(list)}
    for name in sorted(names):
        part, _, rest = name.partition("/")
        if part in of and rest.count("/") == 1 and not name.endswith("/"):
            of[part][rest.split("/")[0]].append(name)
    return [
        name
        for part, count in (("train", TRAIN), ("test", TEST))
        for label in sorted(of[part])[:CLASSES]
        for name in of[part][label][:count]
    ]


def _unpack_some(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder, _chosen(file.namelist()))


def _copy_some(source: Path, folder: Path) -> None:
    names = [path.relative_to(source).as_posix() for path in source.glob("*/*/*")]
    for name in _chosen(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((source / name).read_bytes())


def _write_digits(folder: Path, classes: int = 3, train: int = 12, test: int = 6) -> Path:
    from sklearn.datasets import load_digits

    table = load_digits()
    grey = np.rint(table.images * (255 / 16)).astype(np.uint8)
    for digit in range(classes):
        rows = np.flatnonzero(table.target == digit)
        for number, row in enumerate(rows[: train + test]):
            part = "train" if number < train else "test"
            path = folder / part / str(digit) / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey[row]).save(path)
    return folder


@pytest.fixture(scope="session")
def write_digits() -> Callable[..., Path]:
    """write_digits(folder, classes=3, train=12, test=6): make an image folder of real digits.

    The files are grey PNGs of 8x8 pixels, `train` and `test` of them per class.
    """
    return _write_digits


@pytest.fixture(scope="session")
def digit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `write_digits` makes, shared: read-only for its users."""
    return _write_digits(tmp_path_factory.mktemp("digits") / "threes")
