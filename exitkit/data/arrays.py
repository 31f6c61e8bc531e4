"""Data sets that come as arrays of small images: splits whose encoded files are PNGs made here."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from exitkit.data.decode import each
from exitkit.data.split import Split
from exitkit.images import encode_png, fit

S = TypeVar("S", bound=Split)


def resize(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bring uint8 images [N, H, W, 3] to [N, size, size, 3]; those of that size pass untouched."""
    if pixels.shape[1:3] == (size, size):
        return pixels
    resized = np.empty((len(pixels), size, size, 3), dtype=np.uint8)

    def work(row: int) -> None:
        resized[row] = fit(Image.fromarray(pixels[row]), size, size)

    each(work, len(pixels), "resized")
    return resized


def tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """View uint8 images [N, H, W, 3] as a tensor [N, 3, H, W], channels last in memory."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def pngs(pixels: Tensor) -> Callable[[int], bytes]:
    """Return row -> PNG file of these very pixels, of a tensor [N, 3, H, W] on the CPU."""
    return lambda row: encode_png(np.ascontiguousarray(pixels[row].permute(1, 2, 0).numpy()))


def split(
    kind: type[S], pixels: NDArray[np.uint8], labels: Sequence[int], rows: Sequence[int]
) -> S:
    """Make a split of some rows of an array [N, H, W, 3]."""
    kept = tensor(pixels[list(rows)])
    chosen = torch.tensor([labels[row] for row in rows], dtype=torch.int64)
    return kind(kept, chosen, torch.arange(len(rows)), pngs(kept))
