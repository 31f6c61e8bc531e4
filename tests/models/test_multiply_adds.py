from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from exitkit.models.multiply_adds import Counter


def counted(run: Callable[[], object]) -> int:
    with torch.no_grad(), Counter() as counter:
        run()
    return counter.total


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


@pytest.mark.parametrize(
    ("run", "total"),
    [
        # 4 of 6 channels' halves, 3x3 weights of 2 channels each, 5x5 places, 2 images
        (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2)(ones(2, 4, 5, 5)), 2 * 6 * 25 * 2 * 9),
        (lambda: F.conv2d(ones(1, 3, 4, 4), weight=ones(2, 3, 4, 4)), 2 * 3 * 16),
        (lambda: nn.ConvTranspose2d(4, 6, 2, 2)(ones(2, 4, 5, 5)), 2 * 4 * 25 * 6 * 4),
        (lambda: nn.Conv1d(2, 3, 3)(ones(1, 2, 7)), 3 * 5 * 2 * 3),
        (lambda: nn.Linear(7, 3)(ones(2, 5, 7)), 2 * 5 * 3 * 7),
        (lambda: F.linear(ones(2, 7), ones(3, 7)), 2 * 3 * 7),
        (lambda: ones(2, 3, 4) @ ones(2, 4, 5), 2 * 3 * 4 * 5),
        (lambda: torch.bmm(ones(2, 3, 4), ones(2, 4, 5)), 2 * 3 * 4 * 5),
        (lambda: torch.addmm(ones(5), ones(3, 4), ones(4, 5)), 3 * 4 * 5),
        (lambda: torch.baddbmm(ones(5), ones(2, 3, 4), ones(2, 4, 5)), 2 * 3 * 4 * 5),
        # 2 images, 3 heads: 4 queries of 8 meet 6 keys, 4 x 6 weights meet values of 10
        (
            lambda: F.scaled_dot_product_attention(
                ones(2, 3, 4, 8), ones(2, 3, 6, 8), ones(2, 3, 6, 10)
            ),
            2 * 3 * (4 * 6 * 8 + 4 * 6 * 10),
        ),
        (lambda: ones(3, 3) * ones(3, 3) + 1, 0),
    ],
)
def test_counts_worked_out_by_hand(run: Callable[[], object], total: int) -> None:
    assert counted(run) == total


@pytest.mark.parametrize("first", [True, False])
def test_attention_of_many_heads(first: bool) -> None:
    attend = nn.MultiheadAttention(12, 3, batch_first=first).eval()
    tokens = ones(2, 5, 12) if first else ones(5, 2, 12)
    # 2 images of 5 tokens: 4 projections 12 -> 12, two products of 5 x 5 x 12
    total = 2 * (5 * 4 * 12 * 12 + 2 * 5 * 5 * 12)
    assert counted(lambda: attend(tokens, tokens, tokens, need_weights=False)) == total
    assert counted(lambda: attend(tokens, tokens, tokens)) == total


def test_other_widths_of_keys_and_values() -> None:
    attend = nn.MultiheadAttention(12, 3, kdim=4, vdim=6, batch_first=True).eval()
    total = 12 * (5 * 12 + 7 * 4 + 7 * 6) + 2 * 5 * 7 * 12 + 5 * 12 * 12
    assert counted(lambda: attend(ones(1, 5, 12), ones(1, 7, 4), ones(1, 7, 6))) == total
