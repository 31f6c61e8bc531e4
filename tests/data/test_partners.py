"""Partners: another image of the same class, the same for (seed, epoch, row)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from exitkit import data
from exitkit.config import TrainConfig
from exitkit.data import DataSets, Loader, partners
from exitkit.data.augment import Normalise
from exitkit.data.extras import Extras
from exitkit.records import Batch

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> DataSets:
    return data.load(TrainConfig())


def epoch(sets: DataSets, number: int = 0, size: int = 64, **options: object) -> list[Batch]:
    seed = options.pop("seed", 0)
    loader = Loader(sets.train, sets, size, seed, CPU, partners=True, **options)
    return list(loader.epoch(number))


def looks(batches: list[Batch]) -> torch.Tensor:
    return torch.cat([batch.partners for batch in batches])


def drawn(labels: torch.Tensor, seed: int) -> torch.Tensor:
    return partners.draw(labels, torch.Generator().manual_seed(seed))


def test_a_partner_is_another_row_of_the_class() -> None:
    labels = torch.tensor([2, 0, 2, 1, 2, 0, 4])
    for seed in range(50):
        rows = drawn(labels, seed)
        assert torch.equal(labels[rows], labels)
        # rows 3 and 6 are alone in their classes, and class 3 has no image
        assert (rows == torch.arange(7)).tolist() == [False, False, False, True, False, False, True]


def test_all_others_of_the_class_are_equally_likely() -> None:
    labels = torch.tensor([1, 0, 1, 1, 1, 0])
    rows = torch.stack([drawn(labels, seed) for seed in range(3000)])
    counts = torch.bincount(rows[:, 2], minlength=6)
    assert counts[[1, 2, 5]].tolist() == [0, 0, 0]
    assert (counts[[0, 3, 4]] - 1000).abs().max() < 120  # about four standard deviations


def test_batches_hold_partners_only_where_they_are_asked_for(digits: DataSets) -> None:
    with_, without = epoch(digits), list(Loader(digits.train, digits, 64, 0, CPU).epoch(0))
    assert {batch.partners for batch in without} == {None}
    for one, other in zip(with_, without, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.index, other.index)
        assert one.partners is not None
        assert one.partners.shape == one.images.shape
        assert one.partners.is_contiguous(memory_format=torch.channels_last)


def test_what_a_partner_shows_is_of_the_same_class(digits: DataSets) -> None:
    pixels = Normalise(digits.image, CPU)(digits.train.pixels)
    batch = epoch(digits, augment=False)[0]
    # each partner is one of the training images, not its own, with the same label
    for image, label, row in zip(batch.partners, batch.labels, batch.index, strict=True):
        same = (pixels == image).flatten(1).all(dim=1).nonzero().flatten()
        assert set(digits.train.labels[same].tolist()) == {int(label)}
        assert same.tolist() != [int(row)]


def test_seed_epoch_and_row_decide(digits: DataSets) -> None:
    first = looks(epoch(digits, 3))
    assert torch.equal(first, looks(epoch(digits, 3)))
    assert torch.equal(first, looks(epoch(digits, 3, size=500, views=2)))
    assert not torch.equal(first, looks(epoch(digits, 4)))
    assert not torch.equal(first, looks(epoch(digits, 3, seed=1)))


def test_partners_are_changed_as_images_are(digits: DataSets) -> None:
    plain, blanked = epoch(digits)[0], epoch(digits, extras=Extras(cutout=8))[0]
    still = epoch(digits, augment=False)[0]
    assert not torch.equal(plain.partners, still.partners)
    changed = (plain.partners != blanked.partners).flatten(1).any(dim=1)
    assert changed.float().mean() > 0.9


def test_the_only_image_of_a_class_is_seen_in_another_augmentation(digits: DataSets) -> None:
    keep = torch.tensor([int((digits.train.labels == k).nonzero()[0]) for k in range(10)])
    few = replace(
        digits.train,
        pixels=digits.train.pixels[keep],
        labels=digits.train.labels[keep],
        index=torch.arange(10),
    )
    (batch,) = epoch(replace(digits, train=few))
    assert not (batch.partners == batch.images).flatten(1).all(dim=1).all()
    (plain,) = epoch(replace(digits, train=few), augment=False)
    assert torch.equal(plain.partners, plain.images)


def test_a_streamed_folder_gives_the_partners_of_one_in_memory(digit_folder: Path) -> None:
    def load(limit: int, workers: int = 0) -> DataSets:
        config = TrainConfig(
            data=str(digit_folder), image_size=32, tune_share=0.2, cache_mb=limit, workers=workers
        )
        return data.load(config)

    kept, read, worked = load(2048), load(0), load(0, workers=1)
    assert not isinstance(read.train.pixels, torch.Tensor)
    one, two = (looks(epoch(sets, size=8, augment=False)) for sets in (kept, read))
    assert torch.equal(one, two)
    one, two = (looks(epoch(sets, 1, size=8)) for sets in (read, worked))
    assert torch.equal(one, two)
