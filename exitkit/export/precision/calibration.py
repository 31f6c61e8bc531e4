"""What int8 is calibrated with: each segment's own inputs, from images of the tune split.

The images run through the float32 segments before it, one batch at a time, again for every
segment: nothing larger than a batch is kept.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exitkit import images
from exitkit.data.split import Split
from exitkit.engine.engine import Segment
from exitkit.errors import DataError
from exitkit.images import ImageSpec

IMAGES = 512
LEAST = 32
BATCH = 16


@dataclass(frozen=True)
class Images:
    """Up to `IMAGES` images spread over a split, normalised, as often as they are asked for.

    Attributes:
        split: which images; nothing but their encoded files is read.
        spec: what the network wants to see.
    """

    split: Split
    spec: ImageSpec

    def __len__(self) -> int:
        return min(IMAGES, len(self.split))

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield batches [B, 3, H, W]."""
        rows = np.linspace(0, len(self.split) - 1, len(self)).round().astype(np.int64)
        for start in range(0, len(rows), BATCH):
            files = [self.split.encoded(int(row)) for row in rows[start : start + BATCH]]
            pixels = np.stack([images.decode(file, self.spec) for file in files])
            yield images.normalise(pixels, self.spec)


def require(count: int, name: str) -> None:
    """Refuse too few calibration images.

    Raises:
        DataError: fewer than `LEAST`; says how many are needed and which option gives them.
    """
    if count < LEAST:
        raise DataError(
            f"int8 for {name}",
            f"{count} calibration images, at least {LEAST} are needed",
            "hold more training images out: train with a larger --set tune_share",
        )


def hidden(
    segments: Sequence[Segment], position: int, batches: Iterable[NDArray[np.float32]]
) -> Iterator[NDArray[np.float32]]:
    """Yield what the segment at `position` takes, batch by batch.

    Args:
        segments: float32, shallow to deep; those before `position` are run.
        position: 0-based.
        batches: normalised images [B, 3, H, W].
    """
    for batch in batches:
        state = batch
        for segment in segments[:position]:
            _, onward = segment.run(state)
            assert onward is not None  # only the deepest segment gives none
            state = onward
        yield state
