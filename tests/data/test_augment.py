"""Augmentation on batches against the slow formulation, image by image."""

import numpy as np
import torch
from torch.nn import functional as F

from exitkit import images
from exitkit.data import augment
from exitkit.data.augment import Draws, Normalise
from exitkit.images import ImageSpec


def noise(count: int, height: int, width: int) -> torch.Tensor:
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, height, width, 3), generator=source, dtype=torch.uint8)
    return pixels.permute(0, 3, 1, 2)


def test_normalising_equals_the_servers() -> None:
    spec = ImageSpec(5, 7, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
    pixels = noise(50, 5, 7)
    found = Normalise(spec, torch.device("cpu"))(pixels)
    served = images.normalise(pixels.permute(0, 2, 3, 1).numpy(), spec)
    np.testing.assert_allclose(found.numpy(), served, rtol=0, atol=1e-6)


def test_crops_equal_padding_by_reflection_and_cutting() -> None:
    pixels, shift = noise(9, 6, 8), 3
    draws = augment.draw(9, torch.Generator().manual_seed(1), shift, True, 0.0)
    rows = torch.tensor([4, 0, 8, 4])
    found = augment.crop(pixels, rows, draws)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for place, row in enumerate(rows.tolist()):
        padded = F.pad(pixels[row].float(), (shift,) * 4, mode="reflect")
        top, left = shift + int(draws.down[row]), shift + int(draws.right[row])
        cut = padded[:, top : top + 6, left : left + 8]
        if draws.flip[row]:
            # The fast way mirrors the part that it cuts, so mirroring comes last.
            cut = cut.flip(2)
        assert torch.equal(found[place].float(), cut)


def test_draws_cover_their_range_and_nothing_more() -> None:
    draws = augment.draw(5000, torch.Generator().manual_seed(0), 2, True, 10.0)
    assert set(draws.down.tolist()) == set(draws.right.tolist()) == {-2, -1, 0, 1, 2}
    assert 0.45 < draws.flip.float().mean() < 0.55
    assert draws.turn is not None
    assert draws.turn.min() >= -10
    assert draws.turn.max() <= 10
    assert draws.turn.abs().max() > 9.9


def test_nothing_is_mirrored_or_turned_unless_wanted() -> None:
    draws = augment.draw(1000, torch.Generator().manual_seed(0), 2, False, 0.0)
    assert not draws.flip.any()
    assert draws.turn is None


def test_turning_by_nothing_changes_nothing() -> None:
    pixels = noise(3, 6, 8)
    turned = augment.rotate(pixels, torch.zeros(3))
    torch.testing.assert_close(turned, pixels.float(), rtol=0, atol=1e-2)


def test_turning_by_a_quarter_is_anticlockwise() -> None:
    pixels = noise(2, 8, 8)
    turned = augment.rotate(pixels, torch.full((2,), 90.0))
    torch.testing.assert_close(turned, pixels.float().rot90(1, (2, 3)), rtol=0, atol=1e-2)


def test_turning_a_wide_image_does_not_shear_it() -> None:
    wide = noise(1, 16, 32)
    square = wide[..., 8:24]
    for degrees in (20.0, -45.0):
        angle = torch.tensor([degrees])
        turned, expected = augment.rotate(wide, angle), augment.rotate(square, angle)
        # Near the middle neither image sees an edge.
        torch.testing.assert_close(
            turned[..., 4:12, 12:20], expected[..., 4:12, 4:12], rtol=0, atol=1e-2
        )


def test_a_generator_belongs_to_seed_epoch_and_name() -> None:
    def first(*parts: int | str) -> int:
        return int(torch.randint(2**31, (1,), generator=augment.generator(*parts)))

    assert first(0, 1, "order") == first(0, 1, "order")
    others = {first(0, 1, "order"), first(1, 0, "order"), first(0, 1, "augmentation 0")}
    assert len(others) == 3
    # Written out, so that a change of the rule, which would break every resume, is seen.
    assert augment.derive(0, 1, "order") == 7869624158837258281


def test_draws_move_as_a_whole() -> None:
    draws = augment.draw(3, torch.Generator().manual_seed(0), 1, True, 5.0)
    moved = augment.to(draws, torch.device("cpu"))
    assert isinstance(moved, Draws)
    assert torch.equal(moved.down, draws.down)
