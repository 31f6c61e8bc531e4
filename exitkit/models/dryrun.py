"""A blank image for shapes and counting.

Torch's meta device would compute nothing, but loading it takes seconds, the blank image hundredths.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from exitkit.errors import ConfigError
from exitkit.models.exitnet import ExitNet
from exitkit.records import Exits


@contextmanager
def blank_image(network: ExitNet, image_size: int) -> Iterator[Tensor]:
    """Yield one blank image [1, 3, H, W], with `network` in eval mode and without gradients.

    No weight, statistic, generator or mode is changed.

    Raises:
        ConfigError: `network` is a branch, which takes no images.
    """
    if network.first != 1:
        raise ConfigError(
            "shapes for images",
            f"the network starts at stage {network.first}",
            "give the whole network",
        )
    like = next(network.parameters())
    image = torch.zeros(1, 3, image_size, image_size, dtype=like.dtype, device=like.device)
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield image
    finally:
        for module, training in modes:
            module.training = training


def dry_run(network: ExitNet, image_size: int) -> Exits:
    """Run one blank image through `network`; see `blank_image`."""
    with blank_image(network, image_size) as image:
        outputs: Exits = network(image)
    return outputs
