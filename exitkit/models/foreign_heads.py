"""Heads of foreign models: for maps of any depth and for tokens, all ending in one width."""

import math

from torch import Tensor, nn

from exitkit.models.blocks import initialise
from exitkit.models.cut import Layout
from exitkit.models.exitnet import Head
from exitkit.models.heads import downsampling


class TokenHead(nn.Module):
    """Normalise tokens, average them, bring the mean to the deepest width, classify it.

    Every token counts alike, a class token too: in early blocks it has seen little of the image.

    Args:
        channels: D of the tokens.
        width: of the embedding.
        classes: C.
    """

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.embed = nn.Linear(channels, width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits [B, C], the normalised tokens [B, N, D] and the embedding [B, width]."""
        feature = self.norm(hidden)
        embedding = self.embed(feature.mean(dim=1))
        return self.classifier(embedding), feature, embedding


class WideningHead(Head):
    """A head whose embedding is wider or narrower than its feature, as the deepest one's is.

    Args:
        body: stage output -> feature [B, D, h, w].
        channels: D.
        width: of the embedding.
        classes: C.
    """

    def __init__(self, body: nn.Module, channels: int, width: int, classes: int) -> None:
        super().__init__(body, width, classes)
        self.embed = nn.Linear(channels, width)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits [B, C], feature [B, D, h, w] and embedding [B, width]."""
        feature = self.body(hidden)
        embedding = self.embed(feature.mean(dim=(2, 3)))
        return self.classifier(embedding), feature, embedding


def head(taken: Layout, side: int, deepest: Layout, width: int, classes: int) -> nn.Module:
    """Make the head of an early exit.

    Args:
        taken: of what the stage gives.
        side: height of the feature, where the stage gives maps.
        deepest: of the model's own feature.
        width: of the model's own embedding, which every exit's embedding gets.
        classes: C.
    """
    if taken.kind == "tokens":
        return TokenHead(taken.channels, width, classes)
    channels = deepest.channels if deepest.kind == "map" else width
    body = downsampling(taken.channels, math.isqrt(taken.positions), channels, side)
    initialise(body)
    if channels == width:
        return Head(body, channels, classes)
    return WideningHead(body, channels, width, classes)
