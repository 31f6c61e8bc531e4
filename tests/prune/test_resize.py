"""Layers cut to shapes and to channels, against numbers that can be read off."""

import pytest
import torch
from torch import nn

from exitkit.errors import CheckpointError
from exitkit.models import resize


def counted(layer: nn.Module) -> nn.Module:
    """The layer with weights 0, 1, 2, ..., so that each says where it came from."""
    with torch.no_grad():
        for tensor in layer.state_dict().values():
            tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape))
    return layer


def test_a_convolution_keeps_the_leading_channels_and_knows_their_number() -> None:
    net = nn.Sequential(counted(nn.Conv2d(4, 6, 1)))
    resize.resize(net, {"0.weight": (3, 2, 1, 1), "0.bias": (3,)})
    assert (net[0].in_channels, net[0].out_channels, net[0].groups) == (2, 3, 1)
    assert net[0].weight.flatten().tolist() == [0, 1, 4, 5, 8, 9]
    assert net[0].bias.tolist() == [0, 1, 2]
    assert net(torch.ones(1, 2, 5, 5)).shape == (1, 3, 5, 5)


@pytest.mark.parametrize(
    ("layer", "shapes", "inputs", "outputs"),
    [
        (nn.Conv2d(6, 6, 3, groups=6), {"weight": (4, 1, 3, 3), "bias": (4,)}, 4, 4),
        (nn.Conv2d(6, 12, 1, groups=3), {"weight": (9, 1, 1, 1), "bias": (9,)}, 3, 9),
        (nn.Conv2d(8, 8, 1, groups=2, bias=False), {"weight": (4, 3, 1, 1)}, 6, 4),
        (nn.ConvTranspose2d(4, 6, 2), {"weight": (3, 5, 2, 2), "bias": (5,)}, 3, 5),
        (nn.ConvTranspose2d(4, 4, 2, groups=4, bias=False), {"weight": (3, 1, 2, 2)}, 3, 3),
        (nn.GroupNorm(2, 6), {"weight": (4,), "bias": (4,)}, 4, 4),
        (nn.PReLU(6), {"weight": (4,)}, 4, 4),
        (
            nn.BatchNorm2d(6, affine=False),
            {"running_mean": (4,), "running_var": (4,)},
            4,
            4,
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_layers_run_on_after_they_were_cut(
    layer: nn.Module, shapes: dict[str, tuple[int, ...]], inputs: int, outputs: int
) -> None:
    resize.resize(layer, shapes)
    assert layer(torch.ones(2, inputs, 6, 6)).shape[:2] == (2, outputs)
    assert {name: tuple(layer.state_dict()[name].shape) for name in shapes} == shapes


def test_linear_layers_and_layer_norms_run_on() -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4))
    cut = {"0.weight": (3, 2), "0.bias": (3,), "1.weight": (3,), "1.bias": (3,)}
    resize.resize(net, cut)
    assert net(torch.ones(7, 2)).shape == (7, 3)
    assert (net[0].in_features, net[0].out_features, net[1].normalized_shape) == (2, 3, (3,))


@pytest.mark.parametrize(
    ("shapes", "found"),
    [
        ({"9.weight": (3,)}, "pruned shape of 9.weight: the network has no such tensor"),
        ({"0.weight": (7, 4, 1, 1)}, r"pruned shape of 0.weight: \(7, 4, 1, 1\) cannot be cut"),
        ({"0.weight": (0, 4, 1, 1)}, r"pruned shape of 0.weight: \(0, 4, 1, 1\) cannot be cut"),
        ({"0.weight": (3, 4)}, r"pruned shape of 0.weight: \(3, 4\) cannot be cut"),
        ({"0.weight": (3, 4, 1, 1)}, "pruned shape of 0: its tensors do not fit each other"),
        ({"1.weight": (5,)}, "pruned shape of 1: its tensors do not fit each other"),
        ({"2.weight": (3, 3, 1, 1)}, "pruned shape of 2: its tensors do not fit each other"),
    ],
)
def test_shapes_that_no_layer_can_have_are_refused(
    shapes: dict[str, tuple[int, ...]], found: str
) -> None:
    grouped = nn.Conv2d(6, 6, 1, groups=2, bias=False)
    net = nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), grouped)
    with pytest.raises(CheckpointError, match=f"{found}.*prune the run again"):
        resize.resize(net, shapes)


def test_what_stays_is_taken_and_the_rest_can_be_masked() -> None:
    weights = {"a": torch.arange(6.0).view(3, 2), "b": torch.tensor([5.0, 6.0])}
    kept = {"a": {0: torch.tensor([0, 2]), 1: torch.tensor([1])}}
    assert resize.take(weights, kept)["a"].tolist() == [[1], [5]]
    assert resize.mask(weights, kept)["a"].tolist() == [[0, 1], [0, 0], [0, 5]]
    assert torch.equal(resize.mask(weights, kept)["b"], weights["b"])
    assert weights["a"].sum() == 15
