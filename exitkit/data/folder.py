"""Any folder of images as a data set: in memory where it fits, else streamed from its files."""

import logging
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from exitkit.config import TrainConfig
from exitkit.data import arrays, cache, decode, layouts, tree
from exitkit.data.split import DataSets, Defaults, Split, Test, Train, Tune, hold_out
from exitkit.data.stream import Stream
from exitkit.data.tree import Files, Tree
from exitkit.errors import ConfigError, DataError
from exitkit.images import FORMATS, ImageSpec

SMALLEST, LARGEST = 32, 224  # pixels per side that are taken without being asked for
LOOKED_AT = 500  # files whose headers decide the size
MEASURED = 50_000_000  # pixels that decide mean and deviation, at most

S = TypeVar("S", bound=Split)
log = logging.getLogger(__name__)


def load(folder: Path, config: TrainConfig, caches: Path) -> DataSets:
    """Load an image folder (see exitkit.data.tree and .layouts); `caches` keeps decoded images.

    The image size is `config.image_size`, else the median of the training images' shorter sides,
    but at least 32 and at most 224 pixels. A folder that decodes to more than `config.cache_mb`
    is streamed by `config.workers` processes.

    Raises:
        DataError: the folder is not as it should be, or a file is no image.
        ConfigError: a tune share where the folder has its own val/.
    """
    layout = layouts.recognise(folder)
    found = tree.read(folder) if layout is None else layout.read(folder)
    size = config.image_size or usual_size(found.train.paths)
    suggested = Defaults.photographs(size)
    if found.tune is not None:
        suggested = replace(suggested, tune_share=0.0)
    files, train, tune, test = _divide(found, folder, config.tune_share, suggested.tune_share)
    spec = ImageSpec(size, size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    megabytes = len(files.paths) * size * size * 3 / 1e6
    if megabytes <= config.cache_mb:
        pixels = _decoded(folder, files, spec, caches)
    else:
        log.info("%s decodes to %.0f MB: streamed, not kept in memory", folder, megabytes)
        pixels = None
    if found.colours is None:
        some = _sample(train, size)
        sample = (
            decode.files([files.paths[row] for row in some], spec)
            if pixels is None
            else pixels[some]
        )
        mean, std = measure(sample, folder)
    else:
        mean, std = found.colours
    spec = ImageSpec(size, size, mean, std)

    def make(kind: type[S], rows: Sequence[int]) -> S:
        chosen = files.take(rows)
        kept = (
            Stream(chosen.paths, spec, config.workers)
            if pixels is None
            else arrays.tensor(pixels[list(rows)])
        )
        labels = torch.tensor(chosen.labels, dtype=torch.int64)
        return kind(kept, labels, torch.arange(len(rows)), originals(chosen.paths))

    return DataSets(
        name=folder.resolve().name,
        train=make(Train, train),
        tune=make(Tune, tune),
        test=make(Test, test),
        classes=found.classes,
        image=spec,
        defaults=suggested,
        note=found.note,
    )


def usual_size(paths: Sequence[Path]) -> int:
    """Return the median shorter side of the images, brought into 32..224 pixels.

    Files that cannot be opened are left out here; decoding names them.
    """
    sides = []
    for path in paths[:: -(-len(paths) // LOOKED_AT)]:
        try:
            with Image.open(path, formats=FORMATS) as image:
                sides.append(min(image.size))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue
    median = round(statistics.median(sides)) if sides else SMALLEST
    return min(max(median, SMALLEST), LARGEST)


def measure(
    pixels: NDArray[np.uint8], folder: Path
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation per channel of uint8 [N, H, W, 3], scaled to 0..1.

    Raises:
        DataError: a channel has the same value everywhere.
    """
    values = np.arange(256) / 255
    counts = np.zeros((3, 256))
    for image in pixels:
        for channel in range(3):
            counts[channel] += np.bincount(image[:, :, channel].ravel(), minlength=256)
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
    red, green, blue = (round(float(value), 4) for value in mean)
    spread = tuple(round(float(value), 4) for value in std)
    if min(spread) == 0:
        raise DataError(
            f"training images of {folder}",
            "have a channel with the same value in every pixel",
            "look at the files: there is nothing to learn from",
        )
    return (red, green, blue), (spread[0], spread[1], spread[2])


def originals(paths: Sequence[Path]) -> Callable[[int], bytes]:
    """Return row -> the bytes of its file."""

    def read(row: int) -> bytes:
        try:
            return paths[row].read_bytes()
        except OSError as error:
            raise DataError(
                f"image {paths[row]}", f"cannot be read any more ({error})", "put it back"
            ) from error

    return read


def _divide(
    found: Tree, folder: Path, wanted: float | None, usual: float
) -> tuple[Files, list[int], list[int], list[int]]:
    """Return all files in one list, and the rows of the train, tune and test split in it."""
    if found.tune is not None and wanted:
        raise ConfigError(
            f"tune_share {wanted}",
            f"{folder} has its own val/, which is the tune split",
            "leave tune_share out, or move val/ away",
        )
    files = found.train.join(found.tune, found.test)
    first, total = len(found.train.paths), len(files.paths)
    test = list(range(total - len(found.test.paths), total))
    if found.tune is not None:
        return files, list(range(first)), list(range(first, test[0])), test
    share = usual if wanted is None else wanted
    train, tune = hold_out(found.train.labels, found.train.keys, share)
    return files, train, tune, test


def _decoded(folder: Path, files: Files, spec: ImageSpec, caches: Path) -> NDArray[np.uint8]:
    key = cache.content_key((str(spec.height), *files.stamps))
    place = f"{folder.resolve().name}-{spec.height}\n{folder.resolve()}"

    def make() -> cache.Arrays:
        log.info("decoding %d images of %s (once)", len(files.paths), folder)
        return {"pixels": decode.files(files.paths, spec)}

    return cache.arrays(place, key, make, caches)["pixels"]


def _sample(rows: list[int], size: int) -> list[int]:
    """Return so many of the rows, evenly spread, that they have at most MEASURED pixels."""
    return rows[:: -(-len(rows) * size * size // MEASURED)]
