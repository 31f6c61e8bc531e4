"""Splits: what is held out, in which order batches come, from which bytes parity starts."""

import numpy as np
import pytest
import torch

from exitkit import data, images
from exitkit.config import TrainConfig
from exitkit.data import DataSets, Split, Test, Train, Tune
from exitkit.data.split import hold_out

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> DataSets:
    return data.load(TrainConfig())


def splits(sets: DataSets) -> tuple[Split, ...]:
    return (sets.train, sets.tune, sets.test)


def test_digits_are_divided_as_promised(digits: DataSets) -> None:
    train, tune, test = splits(digits)
    assert (type(train), type(tune), type(test)) == (Train, Tune, Test)
    assert [split.name for split in (train, tune, test)] == ["train", "tune", "test"]
    assert len(train) + len(tune) + len(test) == 1797
    assert len(test) == pytest.approx(0.2 * 1797, abs=5)
    assert len(tune) == pytest.approx(0.15 * 0.8 * 1797, abs=5)
    assert digits.classes == tuple("0123456789")
    for split in (train, tune, test):
        assert split.pixels.shape == (len(split), 3, 32, 32)
        assert split.pixels.dtype == torch.uint8
        assert torch.equal(split.index, torch.arange(len(split)))


def test_every_class_has_its_share(digits: DataSets) -> None:
    # The rarest digit (8) has 174 images, the most frequent (3) has 183.
    for split, share in ((digits.test, 0.2), (digits.tune, 0.12), (digits.train, 0.68)):
        counts = torch.bincount(split.labels, minlength=10)
        assert counts.min() >= 174 * share - 1.5
        assert counts.max() <= 183 * share + 1.5


def test_no_image_is_in_two_splits(digits: DataSets) -> None:
    from sklearn.datasets import load_digits

    total = len(np.unique(load_digits().images, axis=0))
    seen = [{image.numpy().tobytes() for image in split.pixels} for split in splits(digits)]
    assert sum(map(len, seen)) == len(set().union(*seen)) == total == 1797


def test_splits_depend_on_no_seed(digits: DataSets) -> None:
    other = data.load(TrainConfig(seed=7))
    for one, two in zip(splits(digits), splits(other), strict=True):
        assert torch.equal(one.pixels, two.pixels)
        assert torch.equal(one.labels, two.labels)


def test_encoded_images_decode_to_the_very_pixels(digits: DataSets) -> None:
    for split in splits(digits):
        for row in (0, 5, len(split) - 1):
            found = images.decode(split.encoded(row), digits.image)
            assert np.array_equal(found, split.pixels[row].permute(1, 2, 0).numpy())


def test_batches_are_what_the_server_would_compute(digits: DataSets) -> None:
    batch, labels, index = next(digits.test.batches(7, CPU, digits.image))
    files = [images.decode(digits.test.encoded(row), digits.image) for row in range(7)]
    served = images.normalise(np.stack(files), digits.image)
    np.testing.assert_allclose(batch.numpy(), served, rtol=0, atol=1e-6)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(labels, digits.test.labels[:7])
    assert index.tolist() == list(range(7))


def test_batches_come_in_order_and_the_last_may_be_short(digits: DataSets) -> None:
    found = list(digits.tune.batches(100, CPU, digits.image))
    assert [len(labels) for _, labels, _ in found] == [100, 100, len(digits.tune) - 200]
    assert torch.equal(torch.cat([index for _, _, index in found]), digits.tune.index)


def test_some_rows_of_a_split_are_a_split(digits: DataSets) -> None:
    some = digits.tune.rows([5, 0, 7])
    assert type(some) is Tune
    assert len(some) == 3
    assert isinstance(some.pixels, torch.Tensor)
    for place, row in enumerate((5, 0, 7)):
        assert torch.equal(some.pixels[place], digits.tune.pixels[row])
        assert some.encoded(place) == digits.tune.encoded(row)
    assert torch.equal(some.labels, digits.tune.labels[[5, 0, 7]])
    assert torch.equal(some.index, digits.tune.index[[5, 0, 7]])


def test_moving_a_split_keeps_its_type(digits: DataSets) -> None:
    moved = digits.tune.to(CPU)
    assert type(moved) is Tune
    assert len(moved) == len(digits.tune)


def test_the_digits_constants_are_those_of_the_training_images(digits: DataSets) -> None:
    pixels = digits.train.pixels.double() / 255
    for channel in range(3):
        assert digits.image.mean[channel] == pytest.approx(float(pixels.mean()), abs=1e-4)
        assert digits.image.std[channel] == pytest.approx(float(pixels.std()), abs=1e-4)


def test_digits_take_another_size_and_tune_share() -> None:
    found = data.load(TrainConfig(image_size=16, tune_share=0.0))
    assert found.train.pixels.shape[1:] == (3, 16, 16)
    assert found.image.height == found.image.width == 16
    assert len(found.tune) == 0
    assert list(found.tune.batches(64, CPU, found.image)) == []
    assert len(found.train) + len(found.test) == 1797


def test_hold_out_by_hand() -> None:
    labels = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3]
    kept, held = hold_out(labels, [str(row) for row in range(11)], 0.25)
    # One of four, one of four, one of two (never none), none of one (one stays).
    assert [labels[row] for row in held] == [0, 1, 2]
    assert sorted(kept + held) == list(range(11))


def test_hold_out_moves_at_most_one_old_image_when_one_is_added() -> None:
    keys = [f"cat/{number}.png" for number in range(40)]
    _, before = hold_out([0] * 40, keys, 0.25)
    _, after = hold_out([0] * 41, [*keys, "cat/new.png"], 0.25)
    names = {([*keys, "cat/new.png"])[row] for row in after}
    assert len({keys[row] for row in before} - names) <= 1


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(data.ConfigError, match=r"did you mean 'digits'.*cifar100.*path of a"):
        data.load(TrainConfig(data="digit"))
