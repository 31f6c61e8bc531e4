"""Batches for training: a shuffled pass over the training images, augmented on the device."""

from collections.abc import Iterator

import torch
from torch import Tensor

from exitkit.data import augment, cutout, mixing, policies
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
    ) -> None:
        self._train = train.to(device)
        self._defaults: Defaults | None = data.defaults if augment else None
        self._normalise = Normalise(data.image, device)
        self._extras, self._classes = extras, len(data.classes)
        self._size = (data.image.height, data.image.width)
        self._batch_size, self._seed, self._device, self._views = batch_size, seed, device, views

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
        pixels = self._train.pixels
        images = (
            self._in_memory(pixels, order, epoch)
            if isinstance(pixels, Tensor)
            else self._streamed(pixels, order, epoch)
        )
        order = order.to(self._device)
        holes, mixture = self._holes(epoch), self._mixture(epoch)
        for rows, views in zip(self._chunks(order), images, strict=True):
            normalised = tuple(self._normalise(view) for view in views)
            if holes:
                normalised = tuple(
                    cutout.blank(view, middles[rows], self._extras.cutout)
                    for view, middles in zip(normalised, holes, strict=True)
                )
            labels, targets = self._train.labels[rows], None
            if mixture is not None:
                normalised = tuple(mixing.images(view, rows, mixture) for view in normalised)
                targets = mixing.targets(labels, rows, mixture, self._classes)
            yield Batch(normalised, labels, self._train.index[rows], targets)

    def _chunks(self, order: Tensor) -> tuple[Tensor, ...]:
        return order.split(self._batch_size)[: self.steps]

    def _in_memory(self, pixels: Tensor, order: Tensor, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        draws = [self._draw(epoch, view) for view in range(self._views)]
        seeds, name = self._seeds(epoch), self._extras.autoaugment
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

    def _draw(self, epoch: int, view: int) -> Draws | None:
        if self._defaults is None:
            return None
        source = augment.generator(self._seed, epoch, f"augmentation {view}")
        chosen = self._defaults
        drawn = augment.draw(len(self._train), source, chosen.shift, chosen.flip, chosen.rotate)
        return augment.to(drawn, self._device)

    def _streamed(self, pixels: Stream, order: Tensor, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        chosen = self._defaults
        change = None if chosen is None else (chosen.shift, chosen.flip)
        rows = [chunk.tolist() for chunk in self._chunks(order)]
        seeds, policy = self._seeds(epoch), self._extras.autoaugment
        for views in pixels.shuffled(rows, seeds, change, policy):
            yield tuple(view.to(self._device, non_blocking=True) for view in views)

    def _seeds(self, epoch: int) -> tuple[int, ...]:
        """Return the seed of every view, for what draws image by image."""
        views = range(self._views)
        return tuple(augment.derive(self._seed, epoch, f"augmentation {view}") for view in views)

    def _holes(self, epoch: int) -> list[Tensor]:
        """Return where cutout blanks the images of every view; nothing where it is off."""
        if not self._extras.cutout:
            return []
        found = []
        for view in range(self._views):
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
