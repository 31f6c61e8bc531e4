"""Batches for training: a shuffled pass over the training images, augmented on the device."""

from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor

from exitkit.data import augment, cutout, mixing, partners, policies
from exitkit.data.augment import Draws, Normalise
from exitkit.data.extras import NOTHING, Extras
from exitkit.data.split import DataSets, Defaults, Train
from exitkit.data.stream import Stream
from exitkit.records import Batch


class Loader:
    """Gives the batches of any epoch.

    Order and augmentation depend on (seed, epoch) only, by separate generators: batch size,
    number of views, workers and device change neither. The last short batch is kept unless it is
    a single image, of which batch normalisation can make no statistics.

    Args:
        train: the training split; pixels in memory are copied to `device` once.
        data: says how images look and may be changed.
        batch_size: images per step.
        seed: of order and augmentation.
        device: where the batches are made.
        views: how many differently augmented copies of the images a batch holds.
        augment: False leaves out the changes that the data set suggests.
        extras: what is changed beside them.
        partners: whether a batch holds another image of the same class for each of its images.
    """

    def __init__(
        self,
        train: Train,
        data: DataSets,
        batch_size: int,
        seed: int,
        device: torch.device,
        views: int = 1,
        augment: bool = True,
        extras: Extras = NOTHING,
        partners: bool = False,
    ) -> None:
        self._train, self._index = train.to(device), train.index.cpu()
        self._defaults: Defaults | None = data.defaults if augment else None
        self._normalise = Normalise(data.image, device)
        self._extras, self._classes = extras, len(data.classes)
        self._size = (data.image.height, data.image.width)
        self._batch_size, self._seed, self._device = batch_size, seed, device
        self._views = tuple(map(str, range(views)))
        self._partner_labels = train.labels.cpu() if partners else None

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        whole, rest = divmod(len(self._train), self._batch_size)
        return whole + (rest > 1)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch, 0-based.

        Raises:
            DataError: a streamed file cannot be read any more.
        """
        order = torch.randperm(
            len(self._train), generator=augment.generator(self._seed, epoch, "order")
        )
        images, others = self._images(order, epoch, self._views), self._partners(order, epoch)
        chunks, mixture = self._chunks(order.to(self._device)), self._mixture(epoch)
        index = self._chunks(self._index[order])
        for rows, own, views, partner in zip(chunks, index, images, others, strict=True):
            labels, targets = self._train.labels[rows], None
            if mixture is not None:
                views = tuple(mixing.images(view, rows, mixture) for view in views)
                targets = mixing.targets(labels, rows, mixture, self._classes)
            yield Batch(views, labels, own, targets, *partner)

    def _chunks(self, order: Tensor) -> tuple[Tensor, ...]:
        return order.split(self._batch_size)[: self.steps]

    def _partners(self, order: Tensor, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield each batch's partners; for every batch nothing where nobody asks for them.

        A row looks the same to all whose partner it is, and not as in its own batch.
        """
        if self._partner_labels is None:
            return repeat((), self.steps)
        source = augment.generator(self._seed, epoch, "partners")
        drawn = partners.draw(self._partner_labels, source)
        return self._images(drawn[order], epoch, ("partner",))

    def _images(
        self, order: Tensor, epoch: int, views: Sequence[str]
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yield batches of the rows in `order`, changed and normalised.

        Every view has its own random numbers, by its name.
        """
        pixels = self._train.pixels
        seeds = [augment.derive(self._seed, epoch, f"augmentation {view}") for view in views]
        images = (
            self._in_memory(pixels, order, seeds)
            if isinstance(pixels, Tensor)
            else self._streamed(pixels, order, seeds)
        )
        holes = self._holes(epoch, views)
        for rows, found in zip(self._chunks(order.to(self._device)), images, strict=True):
            normalised = tuple(self._normalise(view) for view in found)
            if holes:
                normalised = tuple(
                    cutout.blank(view, middles[rows], self._extras.cutout)
                    for view, middles in zip(normalised, holes, strict=True)
                )
            yield normalised

    def _in_memory(
        self, pixels: Tensor, order: Tensor, seeds: Sequence[int]
    ) -> Iterator[tuple[Tensor, ...]]:
        draws, name = [self._draw(seed) for seed in seeds], self._extras.autoaugment
        policy = None if name == "none" else policies.policy(name)
        for rows, chunk in zip(
            self._chunks(order.to(self._device)), self._chunks(order), strict=True
        ):
            views = [_look(pixels, rows, drawn) for drawn in draws]
            if policy is not None:
                numbers = chunk.tolist()
                views = [
                    policies.batch(policy, view, seed, numbers)
                    for view, seed in zip(views, seeds, strict=True)
                ]
            yield tuple(views)

    def _draw(self, seed: int) -> Draws | None:
        if self._defaults is None:
            return None
        source = torch.Generator().manual_seed(seed)
        chosen = self._defaults
        drawn = augment.draw(len(self._train), source, chosen.shift, chosen.flip, chosen.rotate)
        return augment.to(drawn, self._device)

    def _streamed(
        self, pixels: Stream, order: Tensor, seeds: Sequence[int]
    ) -> Iterator[tuple[Tensor, ...]]:
        chosen = self._defaults
        change = None if chosen is None else (chosen.shift, chosen.flip)
        rows = [chunk.tolist() for chunk in self._chunks(order)]
        for views in pixels.shuffled(rows, seeds, change, self._extras.autoaugment):
            yield tuple(view.to(self._device, non_blocking=True) for view in views)

    def _holes(self, epoch: int, views: Sequence[str]) -> list[Tensor]:
        """Return where cutout blanks the images of every view; nothing where it is off."""
        if not self._extras.cutout:
            return []
        found = []
        for view in views:
            source = augment.generator(self._seed, epoch, f"cutout {view}")
            drawn = cutout.draw(len(self._train), self._extras.holes, self._size, source)
            found.append(drawn.to(self._device))
        return found

    def _mixture(self, epoch: int) -> mixing.Mixture | None:
        if not self._extras.mixes:
            return None
        alphas = (self._extras.mixup, self._extras.cutmix)
        drawn = mixing.draw(len(self._train), self._seed, epoch, alphas, self._size)
        return drawn.to(self._device)


def _look(pixels: Tensor, rows: Tensor, draws: Draws | None) -> Tensor:
    """Return one view of the rows, uint8 or float 0..255."""
    if draws is None:
        return pixels[rows]
    taken = augment.crop(pixels, rows, draws)
    return taken if draws.turn is None else augment.rotate(taken, draws.turn[rows])
