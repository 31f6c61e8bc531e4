"""A network with three exits that is small enough to export in a second."""

import torch
from torch import nn

from exitkit.models.exitnet import ExitNet, Head


def stage(inside: int, outside: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
    )


def network(seed: int = 0) -> ExitNet:
    """Return stages 3 -> 4 -> 6 -> 8 channels with exits 1, 2, 3; batch norms have seen data."""
    torch.manual_seed(seed)
    stages = [stage(3, 4, 1), stage(4, 6, 2), stage(6, 8, 2)]
    net = ExitNet(stages, {k: Head(stage(c, 8, 1), 8, 5) for k, c in ((1, 4), (2, 6), (3, 8))})
    for _ in range(3):
        net(torch.randn(16, 3, 8, 8) * 2 + 1)
    return net
