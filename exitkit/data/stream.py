"""Folders that do not fit into memory: files are decoded by worker processes as they are needed.

Every image's random numbers are seeded from (seed, epoch, view, row), so that neither the number
of workers nor their speed changes a pixel.
"""

import multiprocessing
import multiprocessing.context
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from exitkit.data import policies
from exitkit.errors import BadImage, DataError, TooLarge
from exitkit.images import ImageSpec, decode

Change = tuple[int, bool]  # shift, flip: see Defaults; folders are never rotated
Views = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Stream:
    """Pixels that stay in their files.

    Attributes:
        paths: one image file per row.
        spec: the size to which images are brought.
        workers: decoding processes; 0 decodes in this one.
    """

    paths: tuple[Path, ...]
    spec: ImageSpec
    workers: int

    def __len__(self) -> int:
        return len(self.paths)

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield uint8 pixels [B, 3, H, W] in order, unchanged."""
        rows = list(range(len(self)))
        chunks = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        for views in self.shuffled(chunks, (0,), None):
            yield views[0]

    def shuffled(
        self,
        rows: Sequence[list[int]],
        seeds: Sequence[int],
        change: Change | None,
        policy: str = "none",
    ) -> Iterator[Views]:
        """Yield the views of each batch of rows, one per seed, uint8 [B, 3, H, W].

        Raises:
            DataError: a file cannot be decoded; the message names it.
        """
        files = _Files(self, tuple(seeds), change, policy)
        loader = DataLoader(
            files,
            batch_sampler=rows,
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
            multiprocessing_context=_context() if self.workers else None,
            # Workers' seeds come from here and are used by nothing; without it the loader would
            # draw from torch's global generator.
            generator=torch.Generator().manual_seed(0),
        )
        for found in loader:
            if isinstance(found, str):
                raise DataError("training images", found, "remove or replace the file")
            yield tuple(found)


def _context() -> multiprocessing.context.ForkServerContext:
    """Make workers forks of a small process that has imported what they need.

    Forking this process, whose libraries run threads, might lock them up; starting each from
    nothing would import torch again for every pass over the data.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torchvision.transforms.v2"])
    return context


class _Files(Dataset[Views | str]):
    """Row -> its views, or what is wrong with its file (errors do not cross processes whole)."""

    def __init__(
        self, stream: Stream, seeds: tuple[int, ...], change: Change | None, policy: str
    ) -> None:
        self._stream, self._seeds = stream, seeds
        self._transform = _transform(stream.spec, change, policy)

    def __getitem__(self, row: int) -> Views | str:
        try:
            pixels = decode(self._stream.paths[row], self._stream.spec)
        except (BadImage, TooLarge) as error:
            return f"{error.asked} {error.found}"
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        if self._transform is None:
            return (image,) * len(self._seeds)
        return tuple(policies.seeded(self._transform, image, seed, row) for seed in self._seeds)


def _transform(spec: ImageSpec, change: Change | None, policy: str) -> torch.nn.Module | None:
    """Return augment.py's changes, and then a policy's, as torchvision transforms of one image."""
    if change is None and policy == "none":
        return None
    from torchvision.transforms import v2  # slow to import, and only large folders need it

    steps: list[torch.nn.Module] = []
    if change is not None:
        shift, flip = change
        steps.append(
            v2.RandomCrop((spec.height, spec.width), padding=shift, padding_mode="reflect")
        )
        if flip:
            steps.append(v2.RandomHorizontalFlip())
    if policy != "none":
        steps.append(policies.policy(policy))
    return v2.Compose(steps)


def _collate(items: list[Views | str]) -> list[Tensor] | str:
    for item in items:
        if isinstance(item, str):
            return item
    return [torch.stack(view) for view in zip(*items, strict=True)]
