"""Batches of training: complete, repeatable, and dependent on seed and epoch only."""

from dataclasses import replace

import pytest
import torch

from exitkit import data
from exitkit.config import TrainConfig
from exitkit.data import DataSets, Loader
from exitkit.data.augment import Normalise
from exitkit.records import Batch

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> DataSets:
    return data.load(TrainConfig())


def epoch(sets: DataSets, number: int = 0, size: int = 64, **options: object) -> list[Batch]:
    seed = options.pop("seed", 0)
    return list(Loader(sets.train, sets, size, seed, CPU, **options).epoch(number))


def index(batches: list[Batch]) -> torch.Tensor:
    return torch.cat([batch.index for batch in batches])


def test_an_epoch_holds_every_image_once_with_its_label(digits: DataSets) -> None:
    batches = epoch(digits)
    rows = index(batches)
    assert sorted(rows.tolist()) == list(range(len(digits.train)))
    assert torch.equal(torch.cat([b.labels for b in batches]), digits.train.labels[rows])
    assert {len(batch.views) for batch in batches} == {1}
    assert batches[0].images.shape == (64, 3, 32, 32)
    assert batches[0].images.dtype == torch.float32
    assert batches[0].images.is_contiguous(memory_format=torch.channels_last)


def test_the_last_batch_is_short_and_counted(digits: DataSets) -> None:
    total = len(digits.train)
    assert len(epoch(digits)[-1].labels) == total % 64
    assert len(epoch(digits)) == Loader(digits.train, digits, 64, 0, CPU).steps


def test_a_single_image_at_the_end_is_left_out(digits: DataSets) -> None:
    total = len(digits.train)
    loader = Loader(digits.train, digits, total - 1, 0, CPU)
    batches = list(loader.epoch(0))
    assert loader.steps == len(batches) == 1
    assert len(batches[0].labels) == total - 1


def test_a_batch_larger_than_the_set_is_the_set(digits: DataSets) -> None:
    assert [len(batch.labels) for batch in epoch(digits, size=5000)] == [len(digits.train)]


def test_seed_and_epoch_decide_everything(digits: DataSets) -> None:
    first, again = epoch(digits, 3), epoch(digits, 3)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    assert not torch.equal(index(first), index(epoch(digits, 4)))
    assert not torch.equal(index(first), index(epoch(digits, 3, seed=1)))


def test_epochs_can_be_asked_for_in_any_order(digits: DataSets) -> None:
    loader = Loader(digits.train, digits, 64, 0, CPU)
    list(loader.epoch(0))
    torch.manual_seed(1)
    later = next(loader.epoch(5))
    torch.manual_seed(2)
    fresh = next(Loader(digits.train, digits, 64, 0, CPU).epoch(5))
    assert torch.equal(later.images, fresh.images)


def test_the_global_generator_is_left_alone(digits: DataSets) -> None:
    before = torch.random.get_rng_state()
    epoch(digits, views=2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_batch_size_and_views_change_no_image(digits: DataSets) -> None:
    small, large = epoch(digits, 2, 64), epoch(digits, 2, 500, views=2)
    assert torch.equal(index(small), index(large))
    one = torch.cat([batch.images for batch in small])
    two = torch.cat([batch.images for batch in large])
    assert torch.equal(one, two)


def test_two_views_of_the_same_images_differ(digits: DataSets) -> None:
    first, second = epoch(digits, views=2)[0].views
    assert first.shape == second.shape
    same = (first == second).flatten(1).all(dim=1)
    assert same.float().mean() < 0.1


def test_without_augmentation_images_are_as_in_the_split(digits: DataSets) -> None:
    batch = epoch(digits, augment=False)[0]
    expected = Normalise(digits.image, CPU)(digits.train.pixels[batch.index])
    assert torch.equal(batch.images, expected)
    # Order does not depend on whether images are augmented.
    assert torch.equal(batch.index, epoch(digits)[0].index)


def test_augmentation_is_what_the_data_set_says(digits: DataSets) -> None:
    still = replace(digits, defaults=replace(digits.defaults, shift=0, rotate=0.0))
    batch, plain = epoch(still)[0], epoch(digits, augment=False)[0]
    assert torch.equal(batch.images, plain.images)
    mirrored = replace(still, defaults=replace(still.defaults, flip=True))
    flipped = epoch(mirrored)[0].images
    turned = (flipped != plain.images).flatten(1).any(dim=1)
    assert torch.equal(flipped[turned], plain.images[turned].flip(3))
    assert 0.2 < turned.float().mean() < 0.8
