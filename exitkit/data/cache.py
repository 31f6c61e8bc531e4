"""Decoded pixels, kept between runs.

One file per data set and image size, in the user's cache directory, so that the data themselves
may lie on a read-only disk. The file holds the key of the content it was made from (names, sizes,
modification times); another key, or a damaged file, makes it again.
"""

import hashlib
import logging
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitkit import machine
from exitkit.atomic import replacing

# Part of every key: raise it when decoding or resizing changes a pixel.
VERSION = 1
KEY = "content_key"  # the array beside the data's own

Arrays = dict[str, NDArray[Any]]  # Any: pixels are uint8, labels int64, names strings

log = logging.getLogger(__name__)


def directory(chosen: Path | None = None) -> Path:
    """Return `chosen`, or exitkit's folder in the user's cache directory."""
    return machine.cache_folder() if chosen is None else Path(chosen)


def content_key(parts: Iterable[str]) -> str:
    """Hash what the pixels depend on."""
    digest = hashlib.sha256(f"version {VERSION}\n".encode())
    for part in parts:
        digest.update(part.encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()


def arrays(name: str, key: str, make: Callable[[], Arrays], folder: Path) -> Arrays:
    """Return the cached arrays that `name` and `key` belong to, or make and keep them.

    Args:
        name: what the arrays are of (data set, place, size); a new key replaces the old file.
        key: of `content_key`.
        make: gives the arrays by name.
        folder: where cache files lie. If it cannot be written, the arrays are returned all the
            same and a warning says that the next run will decode again.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name.split("\n")[0])[:60]
    path = folder / f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.npz"
    found = _read(path, key)
    if found is not None:
        return found
    made = make()
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **{KEY: np.array(key), **made})  # type: ignore[arg-type]
    except OSError as error:
        log.warning("decoded images are not kept: %s cannot be written (%s)", path, error)
    return made


def _read(path: Path, key: str) -> Arrays | None:
    """Return the arrays, or None where the file is absent, of other content, or damaged."""
    try:
        # Reading a member to its end checks its CRC-32.
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            if str(file[KEY]) == key:
                return {part: file[part] for part in file.files if part != KEY}
            log.info("%s is out of date and will be made again", path)
    except FileNotFoundError:
        pass
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        log.warning("%s is damaged (%s) and will be made again", path, error)
    return None
