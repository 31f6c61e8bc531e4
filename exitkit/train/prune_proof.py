"""The proof that channels were cut where they should be.

A channel that is gone must be worth what a channel of zeros was worth. So the pruned network must
answer, at every exit, as the whole network does once everything that goes is set to zero: every
weight that makes such a channel and every weight that reads it. A layer that was cut at other
channels than its neighbours, or a shuffle that sends channels elsewhere, does not pass.

Normalisation over channels sees how many there are, so it is left out on both sides, which moves
no channel.
"""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from exitkit.errors import ConfigError
from exitkit.models import probe
from exitkit.models.exitnet import ExitNet
from exitkit.models.resize import Kept, mask
from exitkit.records import Exits

# Of the largest logit, in float64: a cut in a wrong place changes the first digits.
TOLERANCE = 1e-9


def prove(whole: ExitNet, pruned: ExitNet, kept: Kept, image_size: int) -> None:
    """Refuse a pruned network that is not the whole one without its channels.

    Args:
        whole: before pruning; not changed.
        pruned: after it; not changed.
        kept: the channels that stayed.
        image_size: pixels per side.

    Raises:
        ConfigError: an exit answers differently, or exits that had features alike have no longer.
    """
    zeroed = copy.deepcopy(whole)
    zeroed.load_state_dict(mask(zeroed.state_dict(), kept))
    before, expected = _answers(whole, image_size), _answers(zeroed, image_size)
    after = _answers(pruned, image_size)
    for one, other in zip(expected, after, strict=True):
        if one.logits.shape != other.logits.shape:
            raise _refusal(one.number, f"it gives {tuple(other.logits.shape)}")
        off = float((one.logits - other.logits).abs().max() / one.logits.abs().max())
        if not off <= TOLERANCE:  # false for NaN too
            raise _refusal(one.number, f"its logits are off by {off:.1e} of the largest")
    for one, other in zip(before, after, strict=True):
        alike = [k for k, twin in enumerate(before) if twin.feature.shape == one.feature.shape]
        if {after[k].feature.shape for k in alike} != {other.feature.shape}:
            raise _refusal(one.number, "its feature has another shape than other exits' now")


def _answers(network: ExitNet, image_size: int) -> Exits:
    network = copy.deepcopy(network).double().eval()
    images = probe.images(network, image_size)
    with torch.no_grad(), _WithoutNorms():
        exits: Exits = network(images)
    return exits


def _refusal(number: int, found: str) -> ConfigError:
    return ConfigError(
        f"pruning exit {number}",
        f"it does not answer like the network with these channels at zero: {found}",
        "its channels are mixed in a way that cannot be followed: train a smaller network instead",
    )


class _WithoutNorms(TorchFunctionMode):
    """Inside, layer and group normalisation only scale and shift."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:  # Any: as torch calls it
        if func in (functional.layer_norm, torch.layer_norm):
            return _scaled(*args, **(kwargs or {}))
        if func in (functional.group_norm, torch.group_norm):
            return _scaled(*args, **(kwargs or {}), over=args[0].dim() - 2)
        return func(*args, **(kwargs or {}))


def _scaled(
    values: Tensor,
    _shape: object,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_rest: object,
    over: int = 0,
    **_more: object,
) -> Tensor:
    """Scale and shift channels, `over` axes before the last one."""
    for number, join in ((weight, torch.mul), (bias, torch.add)):
        if number is not None:
            values = join(values, number.view(*number.shape, *[1] * over))
    return values
