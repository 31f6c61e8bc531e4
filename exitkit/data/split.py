"""The splits are types: training, tuning, certifying and testing cannot be mixed up.

A split's pixels are one uint8 tensor in memory, or a `Stream` that reads files as they are needed;
both give the same batches.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from jaxtyping import Int
from torch import Tensor

from exitkit.data.augment import Normalise
from exitkit.data.stream import Stream
from exitkit.images import ImageSpec


@dataclass(frozen=True, eq=False)
class Split:
    """Images with labels.

    Attributes:
        pixels: uint8 [N, 3, H, W], on the CPU unless `to` moved them; a `Stream` where the
            decoded images would not fit into memory.
        labels: [N] class numbers.
        index: [N] row of each image in its own data set; 0..N-1 for a whole split.
        encoded: row -> the bytes of the image file (the original, or a PNG of the very pixels):
            what a client would send, from which the parity gate starts.
    """

    name: ClassVar[str] = ""
    pixels: Tensor | Stream
    labels: Int[Tensor, " N"]
    index: Int[Tensor, " N"]
    encoded: Callable[[int], bytes]

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Self:
        """Return the split with its tensors on `device`; a stream's files stay where they are."""
        pixels = self.pixels.to(device) if isinstance(self.pixels, Tensor) else self.pixels
        return replace(
            self, pixels=pixels, labels=self.labels.to(device), index=self.index.to(device)
        )

    def rows(self, rows: Sequence[int]) -> Self:
        """Return a split of some of the images, in the order of `rows` (0-based places in this)."""
        chosen = torch.tensor(rows, dtype=torch.int64, device=self.labels.device)
        return replace(
            self,
            pixels=self.pixels[chosen.to(self.pixels.device)]
            if isinstance(self.pixels, Tensor)
            else replace(self.pixels, paths=tuple(self.pixels.paths[row] for row in rows)),
            labels=self.labels[chosen],
            index=self.index[chosen],
            encoded=lambda row: self.encoded(rows[row]),
        )

    def batches(
        self, batch_size: int, device: torch.device, spec: ImageSpec
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (images [B, 3, H, W] normalised, channels last; labels; index) in order.

        Nothing is augmented; the last batch may be short. Raises DataError where a streamed file
        cannot be read any more.
        """
        normalise = Normalise(spec, device)
        starts = range(0, len(self), batch_size)
        chunks = (
            (self.pixels[start : start + batch_size] for start in starts)
            if isinstance(self.pixels, Tensor)
            else self.pixels.batches(batch_size)
        )
        for start, pixels in zip(starts, chunks, strict=True):
            rows = slice(start, start + batch_size)
            images = normalise(pixels.to(device, non_blocking=True))
            yield images, self.labels[rows].to(device), self.index[rows].to(device)


class Train(Split):
    """What the network learns from."""

    name = "train"


class Tune(Split):
    """Held out of the training images: model selection, temperatures, thresholds."""

    name = "tune"


class Certify(Split):
    """Held out for certificates only."""

    name = "certify"


class Test(Split):
    """Opened by evaluation and report only."""

    name = "test"
    __test__ = False  # not a test class, whatever pytest thinks of its name


@dataclass(frozen=True)
class Defaults:
    """What a data set suggests for the settings that the user leaves open.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step.
        lr: learning rate at the start of the schedule.
        schedule: "cosine" or "step".
        warmup: share of the run in which the learning rate rises linearly.
        tune_share: share of the training images held out as tune split.
        flip: whether a mirrored image still shows the same class.
        shift: pixels by which the reflect-padded crop moves at most.
        rotate: degrees by which an image turns at most.
        ece_bins: bins of the expected calibration error.
    """

    epochs: int
    batch_size: int
    lr: float
    schedule: str
    tune_share: float
    flip: bool
    shift: int
    rotate: float
    ece_bins: int = 15
    warmup: float = 0.05

    @classmethod
    def photographs(cls, size: int) -> "Defaults":
        """Return what suits CIFAR and folders of photographs; shifts grow with the image."""
        return cls(
            epochs=200,
            batch_size=128,
            lr=0.1,
            schedule="step",
            tune_share=0.1,
            flip=True,
            shift=max(1, size // 8),
            rotate=0.0,
        )


@dataclass(frozen=True)
class DataSets:
    """A data set, split and described.

    Attributes:
        name: digits, cifar10, cifar100 or the folder's name.
        train, tune, test: the splits; tune is empty where its share was set to 0.
        classes: names in the order of the labels.
        image: what a network for this data wants to see.
        defaults: suggested settings.
        note: what is worth telling about how they were found.
    """

    name: str
    train: Train
    tune: Tune
    test: Test
    classes: tuple[str, ...]
    image: ImageSpec
    defaults: Defaults
    note: str = ""


def hold_out(
    labels: Sequence[int], keys: Sequence[str], share: float
) -> tuple[list[int], list[int]]:
    """Divide rows into (kept, held out), `share` of every class, by a fixed rule.

    Each class is ordered by the SHA-256 of its rows' keys and gives its first rows: the same for
    every seed, machine and library version. A new image moves at most one old one across.
    Of a class of two or more at least one row is held out (where the share is not 0), and at
    least one stays.
    """
    by_class: dict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        by_class[label].append(row)
    held = set()
    for rows in by_class.values():
        count = min(max(round(share * len(rows)), int(share > 0)), len(rows) - 1)
        rows.sort(key=lambda row: hashlib.sha256(keys[row].encode()).digest())
        held.update(rows[:count])
    return [row for row in range(len(labels)) if row not in held], sorted(held)
