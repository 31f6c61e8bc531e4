"""CIFAR-10 and CIFAR-100 from their binary archives (Krizhevsky 2009); nothing is unpickled.

A record is one byte of label (CIFAR-100: coarse, then fine) and 3,072 bytes of pixels: 32 rows of
32 red values, then green, then blue.
"""

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from exitkit.data import arrays, cache
from exitkit.data.download import Source, fetch
from exitkit.data.split import DataSets, Defaults, Test, Train, Tune, hold_out
from exitkit.errors import DataError
from exitkit.images import ImageSpec

SIZE = 32
PIXELS = 3 * SIZE * SIZE
LIMIT = 200_000_000  # bytes that a member of the archive may unpack to; the largest has 153.7 MB


@dataclass(frozen=True)
class Kind:
    """What sets one of the two apart.

    Attributes:
        source: where the archive can be fetched.
        train, test: members with records, by file name.
        names: member with one class name a line.
        label_bytes: bytes before the pixels; the last of them is the label.
        mean, std: of the training images.
    """

    source: Source
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    label_bytes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


KINDS: dict[str, Kind] = {
    "cifar10": Kind(
        Source(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            170_052_171,
        ),
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        ("test_batch.bin",),
        "batches.meta.txt",
        1,
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
    "cifar100": Kind(
        Source(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            168_513_733,
        ),
        ("train.bin",),
        ("test.bin",),
        "fine_label_names.txt",
        2,
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
    ),
}


def find(name: str, places: tuple[Path, ...], download: bool, folder: Path) -> Path:
    """Return the archive of `name`, looked for in `places` and `folder`, fetched if wanted.

    Raises:
        DataError: it is not there and `download` is False, or it could not be fetched.
    """
    source = KINDS[name].source
    for place in (*places, folder):
        if (place / source.file).is_file():
            return place / source.file
    if download:
        return fetch(source, folder / source.file)
    raise DataError(
        f"data {name}",
        f"no {source.file} in {', '.join(str(place) for place in (*places, folder))}",
        f"add --download to fetch it ({source.size / 1e6:.0f} MB from {source.url}), "
        "or give the archive's path as --data",
    )


def recognise(path: Path) -> str:
    """Return "cifar10" or "cifar100" by the archive's members.

    Raises:
        DataError: it is neither, or cannot be read.
    """
    with _opened(path) as tar:
        for member in tar:
            for name, kind in KINDS.items():
                if PurePosixPath(member.name).name in (*kind.train, *kind.test):
                    return name
    raise DataError(
        str(path),
        "holds the records of neither CIFAR-10 nor CIFAR-100",
        "give a binary version (cifar-10-binary.tar.gz or cifar-100-binary.tar.gz)",
    )


def load(
    name: str, archive: Path, size: int | None, tune_share: float | None, folder: Path
) -> DataSets:
    """Load CIFAR from a binary archive; `folder` keeps the unpacked pixels.

    Raises:
        DataError: the archive is damaged, incomplete, or something else.
    """
    size, kind = size or SIZE, KINDS[name]
    state = archive.stat()
    key = cache.content_key((name, str(state.st_size), str(state.st_mtime_ns), str(size)))
    place = f"{name}-{size}\n{archive.resolve()}"
    table = cache.arrays(place, key, lambda: _read(archive, kind, size), folder)
    suggested = Defaults.photographs(size)
    labels = table["labels"].tolist()
    first_test = int(table["train"])
    share = suggested.tune_share if tune_share is None else tune_share
    keys = [f"{name} tune {row}" for row in range(first_test)]
    train, tune = hold_out(labels[:first_test], keys, share)
    test = range(first_test, len(labels))
    return DataSets(
        name=name,
        train=arrays.split(Train, table["pixels"], labels, train),
        tune=arrays.split(Tune, table["pixels"], labels, tune),
        test=arrays.split(Test, table["pixels"], labels, test),
        classes=tuple(str(label) for label in table["classes"]),
        image=ImageSpec(size, size, kind.mean, kind.std),
        defaults=suggested,
    )


def _read(archive: Path, kind: Kind, size: int) -> cache.Arrays:
    wanted = {*kind.train, *kind.test, kind.names}
    members = _members(archive, wanted)
    missing = sorted(wanted - members.keys())
    if missing:
        raise DataError(str(archive), f"has no {', '.join(missing)}", "fetch the archive again")
    classes = [line for line in members[kind.names].decode().splitlines() if line.strip()]
    parts = [
        _records(b"".join(members[name] for name in names), kind.label_bytes, len(classes), archive)
        for names in (kind.train, kind.test)
    ]
    return {
        "pixels": arrays.resize(np.concatenate([pixels for _, pixels in parts]), size),
        "labels": np.concatenate([labels for labels, _ in parts]),
        "classes": np.array(classes),
        "train": np.array(len(parts[0][0])),
    }


def _records(
    data: bytes, label_bytes: int, classes: int, archive: Path
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    length = label_bytes + PIXELS
    if not data or len(data) % length:
        raise DataError(
            str(archive),
            f"its records have {len(data)} bytes, no multiple of {length}",
            "fetch the archive again",
        )
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, length)
    labels = records[:, label_bytes - 1].astype(np.int64)
    if labels.max() >= classes:
        raise DataError(
            str(archive),
            f"has label {labels.max()} but names {classes} classes",
            "fetch the archive again",
        )
    # [N, 3 * 32 * 32] -> [N, 3, 32, 32] -> [N, 32, 32, 3]
    planes = records[:, label_bytes:].reshape(-1, 3, SIZE, SIZE)
    return labels, np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _members(archive: Path, wanted: set[str]) -> dict[str, bytes]:
    """Read members by file name; nothing is unpacked to the disk, whatever paths they carry."""
    found: dict[str, bytes] = {}
    with _opened(archive) as tar:
        for member in tar:
            name = PurePosixPath(member.name).name
            file = tar.extractfile(member) if member.isreg() and name in wanted else None
            if file is None:
                continue
            if member.size > LIMIT:
                raise DataError(
                    str(archive),
                    f"{member.name} has {member.size} bytes",
                    "give the archive of CIFAR as it was published",
                )
            found[name] = file.read()
    return found


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            yield tar
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(
            str(archive), f"cannot be read ({error})", "fetch the archive again"
        ) from error
