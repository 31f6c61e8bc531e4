"""What LOTH's virtual teacher is made of: ways to fuse the exits' features, and a classifier.

`adaptive` is the method's own, the other three are those that its paper compares with.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exitkit.errors import ConfigError
from exitkit.models.blocks import conv_bn, initialise


class Teacher(nn.Module):
    """Fuse the exits' features and classify the result.

    Args:
        fusion: a name of `FUSIONS`.
        exits: N.
        shape: (D, h, w) of every exit's feature.
        classes: C.
    """

    def __init__(self, fusion: str, exits: int, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        channels, *size = shape
        self.size = tuple(size)
        self.fuse = FUSIONS[fusion](exits, channels, math.prod(size))
        self.classifier = nn.Linear(channels, classes)
        initialise(self)

    def forward(self, features: Float[Tensor, "B N D h w"]) -> Float[Tensor, "B C"]:
        """Return logits.

        Raises:
            ConfigError: maps of another size than those that it was built for.
        """
        if tuple(features.shape[3:]) != self.size:
            raise ConfigError(
                f"features of {tuple(features.shape[3:])} pixels",
                f"loth's fusion was built for {self.size}: it weighs every position by itself",
                "train on images of one size",
            )
        logits: Tensor = self.classifier(self.fuse(features).mean(dim=(2, 3)))
        return logits


class Adaptive(nn.Module):
    """Weigh every channel and position of all features, then mix the channels.

    A weight is the sigmoid of a global part, from the channel's mean and its neighbours', and a
    local part, from all positions of the channel and its neighbours. One number trades them off.

    Args:
        exits: N.
        channels: D of one feature.
        positions: h w.
    """

    def __init__(self, exits: int, channels: int, positions: int) -> None:
        super().__init__()
        kernel = neighbours(exits * channels)
        padding = kernel // 2
        self.wide = nn.Conv1d(1, 1, kernel, padding=padding, bias=False)
        self.near = nn.Conv1d(positions, positions, kernel, padding=padding, bias=False)
        self.trade = nn.Parameter(torch.zeros(1))
        self.mix = nn.Sequential(*conv_bn(exits * channels, channels))

    def forward(self, features: Float[Tensor, "B N D h w"]) -> Float[Tensor, "B D h w"]:
        """Return the fused feature."""
        x = features.flatten(1, 2)  # [B, N D, h, w]
        # Both convolutions run along the channels; the positions are what they mix.
        overall = self.wide(x.mean(dim=(2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(3)
        local = self.near(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)
        share = self.trade.sigmoid()
        weights = (2 * (1 - share) * local + 2 * share * overall).sigmoid()
        fused: Tensor = self.mix(x * weights)
        return fused


class Summed(nn.Module):
    """Add the features up, then mix the channels."""

    def __init__(self, exits: int, channels: int, positions: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(*conv_bn(channels, channels))

    def forward(self, features: Float[Tensor, "B N D h w"]) -> Float[Tensor, "B D h w"]:
        """Return the fused feature."""
        fused: Tensor = self.mix(features.sum(dim=1))
        return fused


class Concatenated(nn.Module):
    """Mix the channels of all features."""

    def __init__(self, exits: int, channels: int, positions: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(*conv_bn(exits * channels, channels))

    def forward(self, features: Float[Tensor, "B N D h w"]) -> Float[Tensor, "B D h w"]:
        """Return the fused feature."""
        fused: Tensor = self.mix(features.flatten(1, 2))
        return fused


class Attended(nn.Module):
    """Weigh the exits per image by their pooled sum, add up, then mix the channels."""

    def __init__(self, exits: int, channels: int, positions: int) -> None:
        super().__init__()
        inner = max(1, channels // 16)
        self.scores = nn.Sequential(
            nn.Linear(channels, inner, bias=False),
            nn.BatchNorm1d(inner),
            nn.ReLU(),
            nn.Linear(inner, exits),
        )
        self.mix = nn.Sequential(*conv_bn(channels, channels))

    def forward(self, features: Float[Tensor, "B N D h w"]) -> Float[Tensor, "B D h w"]:
        """Return the fused feature."""
        scores = self.scores(features.sum(dim=1).mean(dim=(2, 3)))  # [B, N]
        shares = scores.float().softmax(dim=1).to(features.dtype)
        fused: Tensor = self.mix((features * shares[:, :, None, None, None]).sum(dim=1))
        return fused


FUSIONS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "adaptive": Adaptive,
    "sum": Summed,
    "concat": Concatenated,
    "att-sample": Attended,
}


def neighbours(channels: int) -> int:
    """Return how many neighbouring channels a weight looks at: odd, more for wider features."""
    size = int(abs(math.log2(channels) + 1) / 2)
    return size if size % 2 else size + 1
