"""AutoAugment: learned policies of colour and shape changes, image by image on the processor.

Source
    Cubuk, Zoph, Mane, Vasudevan, Le: AutoAugment, CVPR 2019; the policies as torchvision has them.
    What a change moves in from outside is grey (128), as in the authors' code.

A policy takes other steps for every image, so there is no batch operation for it. Every image's
random numbers are seeded from (seed, epoch, view, row).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

GREY = [128.0, 128.0, 128.0]
SEEDS = 2**63 - 1


def policy(name: str) -> nn.Module:
    """Return the policy "cifar" or "imagenet": uint8 [3, H, W] -> the same."""
    from torchvision.transforms import v2  # slow to import, and only who asks for it needs it

    kinds = {"cifar": v2.AutoAugmentPolicy.CIFAR10, "imagenet": v2.AutoAugmentPolicy.IMAGENET}
    return v2.AutoAugment(kinds[name], fill=GREY)


def seeded(change: nn.Module, image: Tensor, seed: int, row: int) -> Tensor:
    """Return the image changed as (seed, row) say; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed((seed + row) & SEEDS)
        changed: Tensor = change(image)
        return changed


def batch(change: nn.Module, pixels: Tensor, seed: int, rows: Sequence[int]) -> Tensor:
    """Return pixels [B, 3, H, W] changed image by image, on the device where they were.

    Pixels that are no whole numbers (of turned images) are rounded.
    """
    whole = pixels if pixels.dtype == torch.uint8 else pixels.round().clamp(0, 255).byte()
    images = whole.contiguous().cpu()
    changed = [seeded(change, image, seed, row) for image, row in zip(images, rows, strict=True)]
    return torch.stack(changed).to(pixels.device)
