"""An exponential moving average of a network's weights: what is evaluated and kept, if asked for.

Source
    Polyak & Juditsky 1992; the exponential form and its warm-up as in Szegedy et al., Rethinking
    the Inception Architecture, CVPR 2016, and TensorFlow's ExponentialMovingAverage.

Equations
    w'_0 = w_0
    w'_t = d_t w'_{t-1} + (1 - d_t) w_t      d_t = min(decay, (1 + t) / (10 + t))

    w_t is the weight after step t (from 0). Without the warm-up of d the average of a short run
    would still be the weights that it began with.
"""

import copy

import torch
from torch import Tensor

from exitkit.models.exitnet import ExitNet
from exitkit.records import Clock


class Average:
    """The averaged network.

    Running means and variances of batch normalisation are averaged as weights are; counters are
    copied. Nothing else is state: the step's number comes from the clock.

    Args:
        network: what is averaged, at its first weights; it is copied.
        decay: of the average once it is warm.
    """

    def __init__(self, network: ExitNet, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: ExitNet, clock: Clock) -> None:
        """Move the average towards the weights that a step has just given."""
        done = clock.epoch * clock.steps + clock.step
        decay = min(self._decay, (1 + done) / (10 + done))
        averages, weights = list(_tensors(self.network)), list(_tensors(network))
        smooth = [weight.is_floating_point() for weight in weights]
        torch._foreach_lerp_(
            [average for average, moves in zip(averages, smooth, strict=True) if moves],
            [weight for weight, moves in zip(weights, smooth, strict=True) if moves],
            1 - decay,
        )
        for average, weight, moves in zip(averages, weights, smooth, strict=True):
            if not moves:
                average.copy_(weight)


def _tensors(network: ExitNet) -> list[Tensor]:
    """Return parameters and buffers, in one order for every copy of a network."""
    return [*network.parameters(), *network.buffers()]
