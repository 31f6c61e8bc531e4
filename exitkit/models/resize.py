"""Layers with other numbers of channels: cut to given shapes, or to the channels that are kept.

A network whose channels were pruned is built like any other and then resized: what is stored of it
are weights and shapes, never a module.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from exitkit.errors import CheckpointError

Side = Literal["in", "out"]
Shape = tuple[int, ...]
# name of a tensor -> axis -> numbers of the channels that stay, ascending
Kept = Mapping[str, Mapping[int, Tensor]]


def each_alone(layer: nn.Module) -> bool:
    """Whether a layer is a convolution that filters every channel by itself."""
    return (
        isinstance(layer, _ConvNd) and layer.groups == layer.in_channels == layer.out_channels > 1
    )


def channels(layer: nn.Module, side: Side) -> dict[str, int]:
    """Return on which axis of which of a layer's tensors its channels stand; {} where unknown.

    The axis of what a grouped convolution takes holds the channels of one group.

    Args:
        layer: any; one that keeps every channel by itself has the same on both sides.
        side: what it takes or what it gives.
    """
    found: dict[str, int] = {}
    if isinstance(layer, _NormBase | nn.GroupNorm | nn.PReLU) or each_alone(layer):
        found = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), 0)
    elif isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) == 1:
        found = {"weight": 0, "bias": 0}
    elif isinstance(layer, _ConvTransposeNd):
        if layer.groups == 1:
            found = {"weight": 0} if side == "in" else {"weight": 1, "bias": 0}
    elif isinstance(layer, _ConvNd | nn.Linear):
        found = {"weight": 1} if side == "in" else {"weight": 0, "bias": 0}
    own = _tensors(layer)
    return {name: axis for name, axis in found.items() if name in own}


def take(weights: Mapping[str, Tensor], kept: Kept) -> dict[str, Tensor]:
    """Return weights without the channels that go."""
    taken = dict(weights)
    for name, axes in kept.items():
        for axis, rows in axes.items():
            taken[name] = taken[name].index_select(axis, rows)
    return taken


def mask(weights: Mapping[str, Tensor], kept: Kept) -> dict[str, Tensor]:
    """Return weights of the old shapes, zero where channels go."""
    masked = dict(weights)
    for name, axes in kept.items():
        for axis, rows in axes.items():
            shape = [1] * masked[name].dim()
            shape[axis] = -1
            stays = torch.zeros(masked[name].shape[axis], dtype=masked[name].dtype)
            masked[name] = masked[name] * stays.index_fill(0, rows, 1).view(shape)
    return masked


def resize(network: nn.Module, shapes: Mapping[str, Sequence[int]]) -> None:
    """Cut tensors of a network to `shapes`, and tell their layers.

    Args:
        network: is changed; of every tensor the leading part of each axis stays.
        shapes: by names as in its state dict; tensors that are not named stay.

    Raises:
        CheckpointError: there is no such tensor, or a layer cannot have such shapes.
    """
    left = dict(shapes)
    for prefix, layer in network.named_modules():
        names = {name: f"{prefix}.{name}".lstrip(".") for name in _tensors(layer)}
        wanted = {name: left.pop(full) for name, full in names.items() if full in left}
        for name, shape in wanted.items():
            _cut(layer, name, tuple(shape), names[name])
        if wanted and not _tell(layer):
            raise _unfit(prefix, "its tensors do not fit each other")
    if left:
        raise _unfit(next(iter(left)), "the network has no such tensor")


def _tensors(layer: nn.Module) -> dict[str, Tensor]:
    own = {
        **dict(layer.named_parameters(recurse=False)),
        **dict(layer.named_buffers(recurse=False)),
    }
    return {name: tensor for name, tensor in own.items() if tensor.dim()}


def _cut(layer: nn.Module, name: str, shape: Shape, full: str) -> None:
    old = _tensors(layer)[name]
    fits = len(shape) == old.dim() and all(
        0 < new <= before for new, before in zip(shape, old.shape, strict=True)
    )
    if not fits:
        raise _unfit(full, f"{shape} cannot be cut from {tuple(old.shape)}")
    part = old.detach()[tuple(slice(size) for size in shape)].clone()
    if isinstance(old, nn.Parameter):
        part = nn.Parameter(part, old.requires_grad)
    setattr(layer, name, part)


def _tell(layer: nn.Module) -> bool:
    """Bring a layer's numbers in line with its tensors; say whether these fit each other."""
    own = _tensors(layer)
    given = channels(layer, "out")  # asked while the layer still knows what it was
    counts = {own[name].shape[axis] for name, axis in given.items()}
    if len(counts) != 1:
        return not counts
    (count,) = counts
    _renumber(layer, count, own.get("weight"))
    groups: int = getattr(layer, "groups", getattr(layer, "num_groups", 1))
    return count % groups == 0


def _renumber(layer: nn.Module, count: int, weight: Tensor | None) -> None:
    """Tell a layer how many channels it gives, and takes."""
    if isinstance(layer, _ConvNd):
        assert weight is not None
        if each_alone(layer):
            layer.groups = count
        turned = isinstance(layer, _ConvTransposeNd)
        layer.in_channels = weight.shape[0 if turned else 1] * layer.groups
        layer.out_channels = count
    elif isinstance(layer, nn.Linear):
        assert weight is not None
        layer.out_features, layer.in_features = count, weight.shape[1]
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = (count,)
    elif isinstance(layer, _NormBase):
        layer.num_features = count
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = count
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = count


def _unfit(name: str, found: str) -> CheckpointError:
    return CheckpointError(f"pruned shape of {name}", found, "prune the run again")
