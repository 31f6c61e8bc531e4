"""The handwritten digits inside scikit-learn: real images that need no download.

1,797 images of 8x8 pixels with 17 grey levels, from 43 people (Alpaydin and Kaynak 1998, the test
part of "Optical Recognition of Handwritten Digits").
"""

import importlib.metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exitkit.data import arrays, cache
from exitkit.data.split import DataSets, Defaults, Test, Train, Tune, hold_out
from exitkit.errors import DataError
from exitkit.images import ImageSpec

SIZE = 32
TEST_SHARE = 0.2
# Of the training images at 32x32; a test computes them again.
MEAN, STD = (0.3045, 0.3045, 0.3045), (0.3226, 0.3226, 0.3226)
DEFAULTS = Defaults(
    epochs=8,
    batch_size=32,  # small, so that a short run has enough steps
    lr=0.03,
    schedule="cosine",
    tune_share=0.15,
    flip=False,  # a mirrored 2 is no 2
    shift=2,
    rotate=10.0,
    warmup=0.25,  # ensembles of exits teach wildly until the exits know something
)


def load(size: int | None, tune_share: float | None, folder: Path) -> DataSets:
    """Load the digits at `size` pixels per side; `folder` keeps the resized images.

    Raises:
        DataError: scikit-learn, which holds them, is not installed.
    """
    size = size or SIZE
    try:
        version = importlib.metadata.version("scikit-learn")
    except importlib.metadata.PackageNotFoundError as error:
        raise DataError(
            "data digits",
            "scikit-learn, which holds them, is not installed",
            "install exitkit[train], or give --data a folder with train/ and test/",
        ) from error
    key = cache.content_key(("digits", version, str(size)))
    table = cache.arrays(f"digits-{size}", key, lambda: _read(size), folder)
    return _split(table["pixels"], table["labels"].tolist(), size, tune_share)


def _read(size: int) -> cache.Arrays:
    from sklearn.datasets import load_digits  # slow to import, and the cache spares it

    table = load_digits()
    grey = np.rint(table.images * (255 / 16)).astype(np.uint8)
    pixels = np.empty((len(grey), size, size, 3), dtype=np.uint8)
    for row, image in enumerate(grey):
        scaled = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
        pixels[row] = np.asarray(scaled)[:, :, None]
    return {"pixels": pixels, "labels": np.asarray(table.target, dtype=np.int64)}


def _split(
    pixels: NDArray[np.uint8], labels: list[int], size: int, tune_share: float | None
) -> DataSets:
    share = DEFAULTS.tune_share if tune_share is None else tune_share
    rest, test = hold_out(labels, [f"digits test {row}" for row in range(len(labels))], TEST_SHARE)
    chosen = [labels[row] for row in rest]
    train, tune = hold_out(chosen, [f"digits tune {row}" for row in rest], share)
    return DataSets(
        name="digits",
        train=arrays.split(Train, pixels, labels, [rest[row] for row in train]),
        tune=arrays.split(Tune, pixels, labels, [rest[row] for row in tune]),
        test=arrays.split(Test, pixels, labels, test),
        classes=tuple("0123456789"),
        image=ImageSpec(size, size, MEAN, STD),
        defaults=DEFAULTS,
    )
