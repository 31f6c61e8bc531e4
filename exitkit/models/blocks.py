"""The one brick of every network here: convolution, batch normalisation, ReLU."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Depthwise(nn.Conv2d):
    """A 3x3 convolution of each channel alone, in float32 where processors run autocast.

    Their bf16 kernel for its weights' gradient is many times slower than the float32 one: with
    light heads a step of ResNet-18 took 1.7 times as long as without any (0.25 of the width, one
    thread of an AVX512-BF16 processor: 2.50 ms an image against 1.47 ms).
    """

    def __init__(self, channels: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__(channels, channels, 3, stride, 1, groups=channels, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Filter [B, D, H, W]; the result has the precision of the input."""
        if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float()).to(input.dtype)


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    relu: bool = True,
    bias: bool = False,
) -> list[nn.Module]:
    """Return convolution (same padding), batch normalisation and, if wanted, ReLU.

    The bias of the convolution is useless before a batch normalisation; some published networks
    have it and count it.
    """
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
    norm = nn.BatchNorm2d(outputs)
    # In place: batch normalisation does not need its own output to compute gradients.
    return [conv, norm, nn.ReLU(inplace=True)] if relu else [conv, norm]


def depthwise(
    channels: int, stride: int = 1, relu: bool = True, bias: bool = False
) -> list[nn.Module]:
    """Return a 3x3 convolution of each channel alone, batch normalisation and, if wanted, ReLU."""
    norm = [Depthwise(channels, stride, bias), nn.BatchNorm2d(channels)]
    return [*norm, nn.ReLU(inplace=True)] if relu else norm


class Shuffle(nn.Module):
    """Hand every group of channels on to all groups of the next grouped convolution.

    Args:
        groups: how many; channel j of group i becomes channel i of group j.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, hidden: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        """Return the same channels in another order."""
        # [B, g n, H, W] -> [B, g, n, H, W] -> [B, n, g, H, W] -> [B, n g, H, W]
        return hidden.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


def initialise(module: nn.Module) -> None:
    """Draw convolutions from N(0, sqrt(2 / (k * k * C_out))), from torch's own generator.

    Source: He et al. 2015, as the published networks use it (also where groups are involved).
    Batch normalisation starts at 1 and 0 and linear layers as torch draws them.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            fan = math.prod(part.kernel_size) * part.out_channels
            nn.init.normal_(part.weight, 0.0, math.sqrt(2.0 / fan))
