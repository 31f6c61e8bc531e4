"""Cutout: squares by hand, and in the batches of both kinds of data."""

import torch

from exitkit import data
from exitkit.config import TrainConfig
from exitkit.data import Loader, cutout
from exitkit.data.extras import Extras

CPU = torch.device("cpu")


def test_squares_are_cut_off_at_the_border() -> None:
    middles = torch.tensor([[[0, 0]], [[1, 2]], [[3, 4]]])
    blanked = cutout.blank(torch.ones(3, 3, 4, 5), middles, 2)
    # A side of 2 reaches from one pixel before the middle to the middle.
    assert blanked[0, 0].tolist() == [[0, 1, 1, 1, 1], *[[1, 1, 1, 1, 1]] * 3]
    assert blanked[1, 2].tolist() == [*[[1, 0, 0, 1, 1]] * 2, *[[1, 1, 1, 1, 1]] * 2]
    assert blanked[2, 1].tolist() == [*[[1, 1, 1, 1, 1]] * 2, *[[1, 1, 1, 0, 0]] * 2]


def test_several_holes_against_a_loop() -> None:
    draw = torch.Generator().manual_seed(0)
    middles = cutout.draw(20, 3, (9, 7), draw)
    assert middles.shape == (20, 3, 2)
    assert (middles.amax(dim=(0, 1)) == torch.tensor([8, 6])).all()
    expected = torch.ones(20, 3, 9, 7)
    for image, squares in zip(expected, middles.tolist(), strict=True):
        for y, x in squares:
            image[:, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = 0
    assert torch.equal(cutout.blank(torch.ones(20, 3, 9, 7), middles, 5), expected)


def test_every_view_of_a_batch_has_holes_of_its_own() -> None:
    sets = data.load(TrainConfig())

    def views(extras: Extras, size: int = 64) -> tuple[torch.Tensor, ...]:
        loader = Loader(sets.train, sets, size, 0, CPU, 2, augment=False, extras=extras)
        return next(loader.epoch(0)).views

    plain, _ = views(Extras())
    first, second = views(Extras(cutout=8, holes=2))
    assert not torch.equal(first, second)
    changed = (first != plain).any(dim=1).flatten(1).sum(dim=1)
    assert (changed <= 2 * 8 * 8).all()
    assert (changed > 0).all()
    assert (first[first != plain] == 0).all()
    assert torch.equal(first, views(Extras(cutout=8, holes=2), size=90)[0][:64])
