"""The networks that FFSD trains beside the leader: fusion, decoder, self-distillation nets."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exitkit.errors import ConfigError

Shape = tuple[int, ...]


def depthwise_block(inputs: int, outputs: int) -> nn.Sequential:
    """Build depthwise 3x3, BN, ReLU, 1x1, BN, ReLU at the same resolution."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Fusion(nn.Module):
    """Merge the students' last features and classify the result.

    Args:
        channels: D of one student's last feature.
        students: how many are merged.
        classes: C.
    """

    def __init__(self, channels: int, students: int, classes: int) -> None:
        super().__init__()
        self.encoder = depthwise_block(students * channels, channels)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, features: Float[Tensor, "B mD h w"]) -> tuple[Tensor, Tensor]:
        """Return logits [B, C] and the merged feature [B, D, h, w]."""
        merged = self.encoder(features)
        return self.classifier(merged.mean(dim=(2, 3))), merged


class SelfDistiller(nn.Module):
    """Imagine the outputs of all earlier stages from the last one's, deep to shallow.

    A block is a transposed convolution, BN, ReLU; it doubles the resolution where the earlier
    stage has twice as many positions per side, and keeps it where both stages have as many.

    Args:
        shapes: (D, h, w) of every stage's output, shallow to deep.
    """

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()
        deep_to_shallow = shapes[::-1]
        self.blocks = nn.ModuleList(
            _block(deep, shallow) for deep, shallow in itertools.pairwise(deep_to_shallow)
        )

    def forward(self, hidden: Float[Tensor, "B D h w"]) -> list[Tensor]:
        """Return one map per earlier stage, shallow to deep."""
        maps = []
        for block in self.blocks:
            hidden = block(hidden)
            maps.append(hidden)
        return maps[::-1]


def _block(deep: Shape, shallow: Shape) -> nn.Sequential:
    convolution: nn.Module
    if deep[1:] == shallow[1:]:
        convolution = nn.Conv2d(deep[0], shallow[0], 3, padding=1, bias=False)
    else:
        # A stride of 2 turns h into 2h - 1 plus the output padding, which is 0 or 1.
        padding = (shallow[1] - 2 * deep[1] + 1, shallow[2] - 2 * deep[2] + 1)
        if any(extra not in (0, 1) for extra in padding):
            raise ConfigError(
                "method 'ffsd'",
                f"neighbouring stages give {shallow} and {deep}",
                "use a network whose stages keep or halve the resolution",
            )
        convolution = nn.ConvTranspose2d(
            deep[0], shallow[0], 3, stride=2, padding=1, output_padding=padding, bias=False
        )
    return nn.Sequential(convolution, nn.BatchNorm2d(shallow[0]), nn.ReLU())


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Run `module` in evaluation mode and without gradient inside the block."""
    was = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was)
