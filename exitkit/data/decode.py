"""Many image files into one uint8 array, by a pool of threads (Pillow decodes without the lock)."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exitkit import machine
from exitkit.errors import BadImage, DataError, TooLarge
from exitkit.images import ImageSpec, decode

NAMED = 5  # of the bad files, in an error's message
INTERVAL_S = 5.0  # between two lines of progress

log = logging.getLogger(__name__)


def files(paths: Sequence[Path], spec: ImageSpec) -> NDArray[np.uint8]:
    """Return the images as uint8 [N, H, W, 3], in the order of `paths`.

    Raises:
        DataError: some files are no images that exitkit takes; names the first of them.
    """
    pixels = np.empty((len(paths), spec.height, spec.width, 3), dtype=np.uint8)
    bad: list[tuple[int, str]] = []

    def work(row: int) -> None:
        try:
            pixels[row] = decode(paths[row], spec)
        except (BadImage, TooLarge) as error:
            bad.append((row, f"{error.asked} {error.found}"))

    each(work, len(paths), "decoded")
    if bad:
        named = "; ".join(text for _, text in sorted(bad)[:NAMED])
        raise DataError(
            f"{len(paths)} image files",
            f"{len(bad)} cannot be used: {named}{' ...' if len(bad) > NAMED else ''}",
            "remove or replace them",
        )
    return pixels


def each(work: Callable[[int], None], count: int, verb: str) -> None:
    """Do `work(row)` for 0..count-1 in threads; log progress while it takes long."""
    said = time.monotonic()
    with ThreadPoolExecutor(max_workers=machine.cores()) as pool:
        for done, _ in enumerate(pool.map(work, range(count)), start=1):
            now = time.monotonic()
            if now - said > INTERVAL_S:
                said = now
                log.info("%s %d of %d images", verb, done, count)
