"""One forward pass of a blank image: shapes for blueprints, layers for counting.

Torch's meta device would compute nothing, but loading it takes seconds, the blank image hundredths.
"""

import torch

from exitkit.errors import ConfigError
from exitkit.models.exitnet import ExitNet
from exitkit.records import Exits


def dry_run(network: ExitNet, image_size: int) -> Exits:
    """Run one blank image through `network` in eval mode.

    No weight, statistic, generator or mode is changed, and hooks of the modules fire.

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
            outputs: Exits = network(image)
        return outputs
    finally:
        for module, training in modes:
            module.training = training
