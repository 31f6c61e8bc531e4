"""Mixup and CutMix: numbers by hand, draws that depend on seed, epoch and row alone."""

import numpy as np
import pytest
import torch

from exitkit import data
from exitkit.config import TrainConfig
from exitkit.data import DataSets, Loader, mixing
from exitkit.data.extras import Extras
from exitkit.data.mixing import Mixture

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> DataSets:
    return data.load(TrainConfig())


def mixture(blend: list[float], share: list[float], box: list[list[int]]) -> Mixture:
    return Mixture(torch.tensor(blend), torch.tensor(share), torch.tensor(box))


def test_mixup_blends_an_image_and_its_label_with_the_next() -> None:
    images = torch.tensor([1.0, 3.0, 5.0]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    drawn = mixture([0.0, 0.25, 1.0, 0.5], [0.0, 0.25, 1.0, 0.5], [[0, 0, 0, 0]] * 4)
    rows = torch.tensor([1, 3, 2])
    mixed = mixing.images(images, rows, drawn)
    # 0.25 * 1 + 0.75 * 3; 0.5 * 3 + 0.5 * 5; the last image as it is (its partner is the first)
    assert mixed[:, 0, 0, 0].tolist() == [2.5, 4.0, 5.0]
    assert (mixed == mixed[:, :1, :1, :1]).all()
    targets = mixing.targets(torch.tensor([0, 1, 0]), rows, drawn, 3)
    assert targets.tolist() == [[0.25, 0.75, 0], [0.5, 0.5, 0], [1.0, 0, 0]]


def test_cutmix_pastes_a_box_and_counts_its_pixels() -> None:
    images = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 3, 2, 3)
    drawn = mixture([1.0, 1.0], [4 / 6, 1.0], [[0, 2, 2, 3], [1, 1, 0, 3]])
    mixed = mixing.images(images, torch.tensor([0, 1]), drawn)
    assert mixed[0, 1].tolist() == [[1, 1, 2], [1, 1, 2]]
    assert mixed[1, 1].tolist() == [[2, 2, 2], [2, 2, 2]]
    targets = mixing.targets(torch.tensor([1, 0]), torch.tensor([0, 1]), drawn, 2)
    torch.testing.assert_close(targets, torch.tensor([[1 / 3, 2 / 3], [1.0, 0.0]]))


def test_boxes_by_hand() -> None:
    area, middle = np.array([0.25, 0.25, 0.0]), np.array([[0.5, 0.5], [0.0, 0.9], [0.5, 0.5]])
    # Sides are half of 8 and of 4 pixels; the second box is cut off at the upper right corner.
    assert mixing._boxes(area, middle, (8, 4)).tolist() == [
        [2, 6, 1, 3],
        [0, 2, 2, 4],
        [4, 4, 2, 2],
    ]


@pytest.mark.parametrize("alphas", [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_the_share_of_the_label_is_the_share_of_the_pixels(alphas: tuple[float, float]) -> None:
    drawn = mixing.draw(400, 3, 5, alphas, (8, 6))
    rows = torch.arange(400)
    images = torch.zeros(400, 3, 8, 6)
    images[::2] = 1.0  # every partner is of the other kind
    own = mixing.images(images, rows, drawn)[::2].mean(dim=(1, 2, 3))
    torch.testing.assert_close(own, drawn.share[::2], atol=1e-6, rtol=0)
    boxed = (drawn.box[:, 1] > drawn.box[:, 0]).float().mean().item()
    low, high = {(0.2, 0.0): (0, 0), (0.0, 1.0): (0.9, 1), (0.2, 1.0): (0.4, 0.6)}[alphas]
    assert low <= boxed <= high


def test_beta_is_what_alpha_says() -> None:
    share = mixing.draw(20_000, 0, 0, (2.0, 0.0), (4, 4)).share
    # Beta(2, 2): mean 1/2, variance 1/20
    assert share.mean().item() == pytest.approx(0.5, abs=0.01)
    assert share.var().item() == pytest.approx(0.05, abs=0.002)


def test_draws_depend_on_seed_epoch_and_row_alone(digits: DataSets) -> None:
    def drawn(size: int, views: int = 1, seed: int = 0, epoch: int = 2) -> torch.Tensor:
        extras = Extras(mixup=1.0, cutmix=1.0)
        loader = Loader(digits.train, digits, size, seed, CPU, views, extras=extras)
        batch = next(loader.epoch(epoch))
        assert batch.targets is not None
        return batch.targets[:30]

    assert torch.equal(drawn(64), drawn(100, views=2))
    assert not torch.equal(drawn(64), drawn(64, epoch=3))
    assert not torch.equal(drawn(64), drawn(64, seed=1))


def test_every_view_is_mixed_as_the_target_says(digits: DataSets) -> None:
    def batches(extras: Extras) -> list[data.loader.Batch]:
        return list(Loader(digits.train, digits, 64, 0, CPU, 2, extras=extras).epoch(1))

    plain, mixed = batches(Extras()), batches(Extras(mixup=1.0))
    assert len(plain) == len(mixed)
    before, after = plain[0], mixed[0]
    assert before.targets is None
    assert after.targets is not None
    assert torch.equal(before.labels, after.labels)
    assert torch.equal(before.index, after.index)
    drawn = mixing.draw(len(digits.train), 0, 1, (1.0, 0.0), (32, 32))
    share = drawn.share[after.index].view(-1, 1, 1, 1)
    for one, other in zip(before.views, after.views, strict=True):
        expected = share * one + (1 - share) * one.roll(-1, dims=0)
        torch.testing.assert_close(other, expected)
        assert other.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(after.targets.sum(dim=1), torch.ones(64))
