"""AutoAugment: image by image, as seed and row say, in memory and from files alike."""

import pytest
import torch

from exitkit import data
from exitkit.config import TrainConfig, parse
from exitkit.data import Loader, policies
from exitkit.data.extras import Extras

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["cifar", "imagenet"])
def test_a_policy_changes_an_image_as_seed_and_row_say(name: str) -> None:
    change, draw = policies.policy(name), torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=draw)
    before = torch.get_rng_state()
    changed = policies.batch(change, pixels, 5, range(12))
    assert torch.equal(torch.get_rng_state(), before)
    assert changed.dtype == torch.uint8
    assert changed.shape == pixels.shape
    assert (changed != pixels).flatten(1).any(dim=1).float().mean() > 0.5
    # A row is changed alike whoever shares its batch, and another seed changes it otherwise.
    assert torch.equal(policies.batch(change, pixels[7:9], 5, [7, 8]), changed[7:9])
    assert not torch.equal(policies.batch(change, pixels, 6, range(12)), changed)


def test_turned_pixels_are_rounded() -> None:
    pixels = torch.tensor([[-0.4, 0.5, 254.6, 255.2]]).expand(1, 3, 1, 4).clone()
    kept = policies.batch(torch.nn.Identity(), pixels, 0, [0])
    assert kept[0, 0].tolist() == [[0, 0, 255, 255]]


def test_digits_are_changed_after_their_own_changes() -> None:
    sets = data.load(TrainConfig())

    def batch(size: int = 64, **changes: str) -> torch.Tensor:
        loader = Loader(sets.train, sets, size, 0, CPU, extras=Extras(**changes))
        return next(loader.epoch(0)).images

    changed = batch(autoaugment="cifar")
    assert not torch.equal(changed, batch())
    assert torch.equal(changed, batch(90, autoaugment="cifar")[:64])


@pytest.mark.parametrize("augment", [True, False])
def test_streamed_images_are_changed_whatever_the_workers(digit_folder, augment: bool) -> None:
    def batch(workers: int, **changes: object) -> torch.Tensor:
        settings = {"data": str(digit_folder), "cache_mb": 0, "workers": workers, "image_size": 32}
        sets = data.load(parse(settings, "the test"))
        extras = Extras(**changes)
        loader = Loader(sets.train, sets, 8, 0, CPU, 2, augment=augment, extras=extras)
        return torch.cat(next(loader.epoch(0)).views)

    changed = batch(0, autoaugment="imagenet", cutout=6)
    assert torch.equal(changed, batch(1, autoaugment="imagenet", cutout=6))
    assert not torch.equal(changed, batch(0))
    assert not torch.equal(changed[:8], changed[8:])
