"""What a network is made of before it gets exits: stages, and the numbers that heads are cut to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from exitkit.models import blocks

Rounding = Literal["up", "down"]


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
        rounding: "up" or "down": how stage 1, and how every later stage, halves odd sides. A 3x3
            convolution of stride 2 with padding 1 rounds up, pooling by 2 rounds down.
        classifier: (embedding width, classes) -> the network's own classifier, where that is
            more than one linear layer.
        initialise: draws the weights of a stage or a head, once it is built.
    """

    stages: tuple[Callable[[], nn.Module], ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    bottle: tuple[int, ...]
    depthwise: bool
    rounding: tuple[Rounding, Rounding] = ("up", "up")
    classifier: Callable[[int, int], nn.Module] | None = None
    initialise: Callable[[nn.Module], None] = blocks.initialise

    def sides(self, image_size: int) -> tuple[int, ...]:
        """Return height (and width) of each stage's output for square images."""
        first, later = self.rounding
        side = divided(image_size, self.strides[0], first)
        return tuple(divided(side, stride // self.strides[0], later) for stride in self.strides)


def divided(side: int, stride: int, rounding: Rounding) -> int:
    """Return how many pixels a side has after halvings that make `stride` together."""
    return side // stride if rounding == "down" else -(-side // stride)


def scaled(channels: int, width: float, step: int = 8) -> int:
    """Multiply by `width` and round to a multiple of `step`, at least one; 1 changes nothing."""
    return channels if width == 1 else max(step, int(channels * width / step + 0.5) * step)
