"""What a network is made of before it gets exits: stages, and the numbers that heads are cut to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class Backbone:
    """A network cut into stages at its taps.

    Attributes:
        stages: one maker per stage, shallow to deep, so that a branch builds only what it runs.
        channels: of each stage's output.
        strides: image pixels per pixel of each stage's output.
        bottle: channels after each block of the `bottle` head of exit 1; exit k has its last
            K - k blocks.
        depthwise: whether `bottle` heads are of type B (depthwise) instead of type A.
        rounding: "up" or "down": how a stage halves odd sides. A 3x3 convolution of stride 2
            with padding 1 rounds up, pooling by 2 rounds down.
        classifier: (embedding width, classes) -> the network's own classifier, where that is
            more than one linear layer.
    """

    stages: tuple[Callable[[], nn.Module], ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    bottle: tuple[int, ...]
    depthwise: bool
    rounding: Literal["up", "down"] = "up"
    classifier: Callable[[int, int], nn.Module] | None = None

    def sides(self, image_size: int) -> tuple[int, ...]:
        """Return height (and width) of each stage's output for square images."""
        if self.rounding == "down":
            return tuple(image_size // stride for stride in self.strides)
        return tuple(-(-image_size // stride) for stride in self.strides)


def scaled(channels: int, width: float) -> int:
    """Multiply by `width` and round to a multiple of 8, at least 8; width 1 changes nothing."""
    return channels if width == 1 else max(8, int(channels * width / 8 + 0.5) * 8)
