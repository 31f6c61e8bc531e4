"""Mixup and CutMix: two images become one, and so do their labels.

Source
    Zhang, Cisse, Dauphin, Lopez-Paz: mixup, ICLR 2018. Yun et al.: CutMix, ICCV 2019.

Equations
    x = m x_a + (1 - m) x_b        q = l y_a + (1 - l) y_b
    mixup:   m = l ~ Beta(alpha, alpha) at every pixel
    cutmix:  m = 0 inside a box, 1 outside; l = share of the pixels outside. The box has its middle
             anywhere and sides sqrt(1 - l') of the image's, l' ~ Beta(alpha, alpha), and is cut
             off at the border.

Where both are on, every image takes either with probability 1/2. Partner b is the next image of
the batch, for the last one the first. l and the box of every row of the training set are drawn on
the CPU before an epoch, from (seed, epoch, row); all views of an image share them, so that one
target is true of all.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from exitkit.data.augment import derive


@dataclass(frozen=True)
class Mixture:
    """One epoch's random numbers, for every row of the training set.

    Attributes:
        blend: the image's own share at every pixel outside the box.
        share: the image's own share of the target.
        box: top, bottom, left and right (bottom and right excluded) of what its partner fills.
    """

    blend: Float[Tensor, " N"]
    share: Float[Tensor, " N"]
    box: Int[Tensor, "N 4"]

    def to(self, device: torch.device) -> "Mixture":
        """Return the numbers on `device`."""
        return Mixture(self.blend.to(device), self.share.to(device), self.box.to(device))


def draw(
    samples: int, seed: int, epoch: int, alphas: tuple[float, float], size: tuple[int, int]
) -> Mixture:
    """Draw an epoch's numbers.

    Args:
        samples: N.
        seed: of the run.
        epoch: 0-based.
        alphas: of mixup and of cutmix; 0 turns one off, but not both.
        size: height and width in pixels.
    """
    source = np.random.default_rng(derive(seed, epoch, "mixing"))
    mixup, cutmix = alphas
    chance = 0.5 if mixup and cutmix else float(bool(cutmix))
    cuts = source.random(samples) < chance
    blended, cut = (source.beta(alpha or 1.0, alpha or 1.0, samples) for alpha in alphas)
    box = _boxes(np.where(cuts, 1 - cut, 0.0), source.random((samples, 2)), size)
    inside = (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2]) / (size[0] * size[1])
    blend = np.where(cuts, 1.0, blended)
    return Mixture(
        torch.from_numpy(blend).float(),
        torch.from_numpy(np.where(cuts, 1 - inside, blended)).float(),
        torch.from_numpy(box),
    )


def _boxes(
    area: np.ndarray[tuple[int], np.dtype[np.float64]],
    middle: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    size: tuple[int, int],
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return top, bottom, left, right of boxes of an area around a middle, cut off at borders."""
    edges = []
    for axis, pixels in enumerate(size):
        side = np.floor(np.sqrt(area) * pixels).astype(np.int64)
        start = np.floor(middle[:, axis] * pixels).astype(np.int64) - side // 2
        edges += [np.clip(start, 0, pixels), np.clip(start + side, 0, pixels)]
    return np.stack(edges, axis=1)


def images(
    own: Float[Tensor, "B 3 H W"], rows: Int[Tensor, " B"], mixture: Mixture
) -> Float[Tensor, "B 3 H W"]:
    """Mix every image with the next one of the batch."""
    top, bottom, left, right = mixture.box[rows].unbind(dim=1)
    y = torch.arange(own.shape[2], device=own.device)
    x = torch.arange(own.shape[3], device=own.device)
    inside_y = (y >= top[:, None]) & (y < bottom[:, None])  # [B, H]
    inside_x = (x >= left[:, None]) & (x < right[:, None])  # [B, W]
    box = inside_y[:, None, :, None] & inside_x[:, None, None, :]  # [B, 1, H, W]
    mask = mixture.blend[rows].view(-1, 1, 1, 1).masked_fill(box, 0.0)
    partner = own.roll(-1, dims=0)
    mixed = partner + mask * (own - partner)
    return mixed.contiguous(memory_format=torch.channels_last)


def targets(
    labels: Int[Tensor, " B"], rows: Int[Tensor, " B"], mixture: Mixture, classes: int
) -> Float[Tensor, "B C"]:
    """Return the mixed labels that belong to the mixed images."""
    own = torch.zeros(len(labels), classes, device=labels.device)
    own.scatter_(1, labels.unsqueeze(1), 1.0)
    share = mixture.share[rows].unsqueeze(1)
    return share * own + (1 - share) * own.roll(-1, dims=0)
