"""Cutout: squares of an image are blanked with the data set's mean colour.

Source
    DeVries & Taylor: Improved Regularization of Convolutional Neural Networks with Cutout,
    arXiv 1708.04552: the middle of a square lies anywhere in the image, and what reaches over the
    border is cut off.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def draw(
    samples: int, holes: int, size: tuple[int, int], source: torch.Generator
) -> Int[Tensor, "N M 2"]:
    """Draw row and column of the middle of every square, for every row of the training set."""
    axes = [torch.randint(0, pixels, (samples, holes), generator=source) for pixels in size]
    return torch.stack(axes, dim=2)


def blank(
    images: Float[Tensor, "B 3 H W"], middles: Int[Tensor, "B M 2"], side: int
) -> Float[Tensor, "B 3 H W"]:
    """Set squares of normalised images to 0, which is the mean colour.

    Args:
        images: normalised.
        middles: a square reaches from `side // 2` pixels above and left of its middle on.
        side: pixels.
    """
    covered = []
    for axis in (2, 3):
        position = torch.arange(images.shape[axis], device=images.device)
        start = middles[:, :, axis - 2, None] - side // 2  # [B, M, 1]
        covered.append((position >= start) & (position < start + side))
    # [B, M, H, 1] and [B, M, 1, W] -> [B, 1, H, W]
    hole = (covered[0].unsqueeze(3) & covered[1].unsqueeze(2)).any(dim=1, keepdim=True)
    return images.masked_fill(hole, 0.0)
