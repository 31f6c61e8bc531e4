"""A network with three exits that is small enough for hundreds of steps a second."""

from collections.abc import Sequence

import torch
from torch import nn

from exitkit.models.exitnet import ExitNet, Head
from exitkit.records import Batch, Blueprint, Clock

CLASSES, SAMPLES, SIDE, DEEPEST = 5, 32, 8, 3
CLOCK = Clock(epoch=0, epochs=4, step=0, steps=2)
WIDTHS, STRIDES = (4, 8, 16), (1, 2, 2)


def _stage(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def _head(k: int) -> Head:
    shrink = 2 ** (DEEPEST - k)
    deepest = WIDTHS[-1]
    body = nn.Identity() if k == DEEPEST else nn.Conv2d(WIDTHS[k - 1], deepest, shrink, shrink)
    return Head(body, deepest, CLASSES)


def build(first: int = 1, exits: Sequence[int] = (1, 2, 3)) -> ExitNet:
    """Stages `first` to 3 with the heads of `exits`; every feature is 16 maps of 2x2."""
    inputs = (3, *WIDTHS)
    stages = [
        _stage(inputs[k - 1], WIDTHS[k - 1], STRIDES[k - 1]) for k in range(first, DEEPEST + 1)
    ]
    return ExitNet(stages, {k: _head(k) for k in exits}, first)


def blueprint(exits: Sequence[int]) -> Blueprint:
    return Blueprint(
        classes=CLASSES,
        samples=SAMPLES,
        exits=tuple(exits),
        features=tuple((16, 2, 2) for _ in exits),
        embeddings=tuple(16 for _ in exits),
        hidden=((4, 8, 8), (8, 4, 4), (16, 2, 2)),
        build=build,
    )


def exits_for(teaches: str) -> tuple[int, ...]:
    return (1, 2, 3) if teaches == "all" else (3,)


def batch(seed: int, size: int = 6, start: int = 0, views: int = 1) -> Batch:
    """`size` random images with random labels, rows `start` onwards of the training set."""
    draw = torch.Generator().manual_seed(seed)
    return Batch(
        tuple(torch.randn(size, 3, SIDE, SIDE, generator=draw) for _ in range(views)),
        torch.randint(0, CLASSES, (size,), generator=draw),
        torch.arange(start, start + size),
        partners=torch.randn(size, 3, SIDE, SIDE, generator=draw),
    )


def reordered(given: Batch, order: torch.Tensor) -> Batch:
    assert given.partners is not None
    views = tuple(view[order] for view in given.views)
    return Batch(views, given.labels[order], given.index[order], partners=given.partners[order])
