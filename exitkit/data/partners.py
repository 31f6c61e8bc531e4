"""Another image of the same class for every image, drawn anew in every epoch."""

import torch
from jaxtyping import Int
from torch import Tensor


def draw(labels: Int[Tensor, " N"], source: torch.Generator) -> Int[Tensor, " N"]:
    """Return another row of its class for each row, all others being equally likely.

    The only image of a class is its own partner.
    """
    order = labels.argsort(stable=True)  # rows class by class
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    counts = torch.bincount(labels)
    size, first = counts[labels], (counts.cumsum(0) - counts)[labels]
    # From its own place among its class, 1 to size - 1 places onwards, around the end.
    chance = torch.rand(len(labels), generator=source, dtype=torch.float64)
    step = 1 + (chance * (size - 1)).long()
    return order[first + (place - first + step) % size]
