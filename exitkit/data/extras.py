"""What a user may add to the changes that the data set suggests; everything is off by default."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Extras:
    """Further random changes of training images.

    Attributes:
        autoaugment: policy of AutoAugment: "none", "cifar" or "imagenet" (policies.py).
        cutout: pixels per side of the blanked squares, 0 for none (cutout.py).
        holes: how many of them.
        mixup, cutmix: alpha of each way to mix two images, 0 for none (mixing.py).
    """

    autoaugment: str = "none"
    cutout: int = 0
    holes: int = 1
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, and labels with them."""
        return bool(self.mixup or self.cutmix)


NOTHING = Extras()
