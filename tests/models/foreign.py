"""Models as a stranger would write them, small enough for a test."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, TOKENS = 24, 16


class Block(nn.Module):
    """Looks at its values where it learns, which no tracer could follow."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, 2, 1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.norm(self.conv(hidden))
        return -hidden if self.training and hidden.sum() > 1e9 else hidden


class Convolutional(nn.Module):
    """Three blocks; names and numbers from before the cuts are used behind them."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.blocks = nn.ModuleList([Block(6, 8), Block(8, 12), Block(12, 16)])
        self.act = nn.ReLU(inplace=True)
        self.fc = nn.Linear(16, classes)

    def forward(self, images: Tensor, scale: float | None = None) -> Tensor:
        batch, side = images.shape[0], images.shape[-1] // 8
        hidden = self.stem(images)
        for block in self.blocks:
            hidden = self.act(block(hidden))
            hidden = F.dropout(hidden, 0.5, training=self.training)
        hidden = hidden.reshape(batch, -1, side * side).mean(2)
        return self.fc(hidden if scale is None else hidden * scale)


class Layer(nn.Module):
    def __init__(self, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.attend = nn.MultiheadAttention(WIDTH, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU())

    def forward(self, tokens: Tensor) -> Tensor:
        query = self.norm(tokens)
        tokens = tokens + self.attend(query, query, query, need_weights=False)[0]
        return tokens + self.mlp(tokens)


class Transformer(nn.Module):
    """Tokens of 8x8 pixels of 32x32, a class token, two heads."""

    def __init__(self, depth: int = 3, classes: int = 5) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 8, 8)
        self.first = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.places = nn.Parameter(torch.randn(1, TOKENS + 1, WIDTH) * 0.02)
        self.layers = nn.Sequential(*(Layer(2) for _ in range(depth)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, images: Tensor) -> Tensor:
        torch._assert(images.shape[2] == 32, "images of 32 pixels are wanted")
        tokens = self.patch(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(tokens.shape[0], -1, -1), tokens], 1)
        tokens = self.layers(tokens + self.places)
        return self.head(self.norm(tokens)[:, 0])


class Last(nn.Module):
    """Keeps the channels on the last axis, as Swin does."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 10, 4, 4)
        self.one, self.two = nn.Linear(10, 12), nn.Linear(12, 14)
        self.head = nn.Linear(14, 5)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.patch(images).permute(0, 2, 3, 1)
        return self.head(self.two(self.one(hidden)).mean((1, 2)))


def convolutional() -> nn.Module:
    return Convolutional()


def transformer() -> nn.Module:
    return Transformer()
