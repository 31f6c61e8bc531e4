"""Random changes of training images as batch operations, on the device that holds the pixels.

All random numbers of an epoch are drawn on the CPU before its first step, from generators of
their own, and moved to the device at once: a draw depends on (seed, epoch, view, row) and on
nothing else, and no step waits for the device.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from exitkit.images import ImageSpec, affine


class Normalise:
    """From uint8 pixels to the network's input: `images.normalise` for tensors on a device."""

    def __init__(self, spec: ImageSpec, device: torch.device) -> None:
        scale, shift = (torch.from_numpy(np.copy(part)).to(device) for part in affine(spec))
        # [3] -> [1, 3, 1, 1]
        self._scale, self._shift = scale.view(1, 3, 1, 1), shift.view(1, 3, 1, 1)

    def __call__(self, pixels: Tensor) -> Float[Tensor, "B 3 H W"]:
        """Return float32, channels last, of uint8 (or float 0..255) pixels [B, 3, H, W]."""
        images = pixels.to(torch.float32) * self._scale - self._shift
        return images.contiguous(memory_format=torch.channels_last)


def generator(seed: int, epoch: int, name: str) -> torch.Generator:
    """Return the CPU generator that belongs to (seed, epoch, name), the same at every call."""
    return torch.Generator().manual_seed(derive(seed, epoch, name))


def derive(*parts: int | str) -> int:
    """Hash numbers and names into a seed of 63 bits."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Draws:
    """One view's random numbers of one epoch, for every row of the training set.

    Attributes:
        down, right: pixels by which the crop moves.
        flip: whether the image is mirrored.
        turn: degrees by which the image turns, anticlockwise; None where nothing is turned.
    """

    down: Int[Tensor, " N"]
    right: Int[Tensor, " N"]
    flip: Bool[Tensor, " N"]
    turn: Float[Tensor, " N"] | None


def draw(samples: int, source: torch.Generator, shift: int, flip: bool, rotate: float) -> Draws:
    """Draw an epoch's random numbers: shifts in [-shift, shift], angles in [-rotate, rotate]."""
    down = torch.randint(-shift, shift + 1, (samples,), generator=source)
    right = torch.randint(-shift, shift + 1, (samples,), generator=source)
    mirrored = torch.randint(0, 2, (samples,), generator=source).bool() & flip
    angle = (torch.rand(samples, generator=source) * 2 - 1) * rotate
    return Draws(down, right, mirrored, angle if rotate else None)


def to(draws: Draws, device: torch.device) -> Draws:
    """Return the draws on `device`."""
    turn = None if draws.turn is None else draws.turn.to(device)
    return Draws(draws.down.to(device), draws.right.to(device), draws.flip.to(device), turn)


def crop(
    pixels: UInt8[Tensor, "N 3 H W"], rows: Int[Tensor, " B"], draws: Draws
) -> UInt8[Tensor, "B 3 H W"]:
    """Take rows of the training set, each shifted over its own reflection and perhaps mirrored.

    The result is channels last. Equal to padding by reflection, cropping at (down, right) and
    flipping; one gather does all of it without copying the padded images.
    """
    _, _, height, width = pixels.shape
    y = _reflect(torch.arange(height, device=pixels.device) + draws.down[rows, None], height)
    x = _reflect(torch.arange(width, device=pixels.device) + draws.right[rows, None], width)
    x = torch.where(draws.flip[rows, None], x.flip(1), x)
    # y [B, H], x [B, W] -> position [B, H, W] in a list of N * H * W pixels of three bytes
    position = (rows[:, None, None] * height + y[:, :, None]) * width + x[:, None, :]
    flat = pixels.permute(0, 2, 3, 1).reshape(-1, 3)
    taken = flat.index_select(0, position.view(-1))
    return taken.view(len(rows), height, width, 3).permute(0, 3, 1, 2)


def _reflect(position: Tensor, size: int) -> Tensor:
    """Fold positions outside 0..size-1 back inside; the edge itself is not repeated."""
    inside = position.abs()
    return torch.where(inside >= size, 2 * (size - 1) - inside, inside)


def rotate(
    pixels: UInt8[Tensor, "B 3 H W"], degrees: Float[Tensor, " B"]
) -> Float[Tensor, "B 3 H W"]:
    """Turn each image anticlockwise about its middle, bilinear, edges reflected; float 0..255."""
    batch, _, height, width = pixels.shape
    angle = torch.deg2rad(degrees)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Coordinates run from -1 to 1 on both axes, so a turn of a non-square image needs the ratio.
    first = torch.stack((cosine, -sine * height / width, zero), dim=1)
    second = torch.stack((sine * width / height, cosine, zero), dim=1)
    grid = F.affine_grid(
        torch.stack((first, second), dim=1), [batch, 3, height, width], align_corners=False
    )
    return F.grid_sample(
        pixels.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
