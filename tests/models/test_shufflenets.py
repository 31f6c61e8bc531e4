import pytest
import torch
from torch import nn

from exitkit.models import costs
from exitkit.models.blocks import Shuffle
from exitkit.models.build import build
from exitkit.models.shufflenetv1 import shufflenetv1


@pytest.mark.parametrize(
    ("arch", "classes", "parameters"),
    [
        ("shufflenetv1", 100, [1_913_380, 1_886_428, 1_846_828, 1_012_108]),
        ("shufflenetv1", 200, [2_009_480, 1_982_528, 1_942_928, 1_108_208]),
        ("shufflenetv2", 100, [1_506_920, 1_516_612, 1_679_592, 1_360_896]),
        ("shufflenetv2", 200, [1_609_420, 1_619_112, 1_782_092, 1_463_396]),
    ],
)
def test_bottle_heads_have_the_parameters_of_the_paper(arch, classes, parameters):
    found = costs.count(build(arch, classes, heads="bottle"), 32)
    assert [found.parameters([k])[0] for k in (1, 2, 3, 4)] == parameters


@pytest.mark.parametrize(
    ("arch", "millions", "trained"),
    [
        ("shufflenetv1", [110.8, 99.2, 75.5, 41.7], 6_263_368),
        ("shufflenetv2", [49.9, 50.3, 57.7, 43.7], 5_759_320),
    ],
)
def test_bottle_heads_have_the_multiply_adds_of_the_paper(arch, millions, trained):
    network = build(arch, 100, heads="bottle")
    found = costs.count(network, 32)
    assert [round(found.leaving([k])[0] / 1e6, 1) for k in (1, 2, 3, 4)] == millions
    assert sum(p.numel() for p in network.parameters()) == trained


@pytest.mark.parametrize("arch", ["shufflenetv1", "shufflenetv2"])
def test_the_imagenet_stem_leaves_seven_pixels_of_224(arch):
    network = build(arch, 5, 224, width=0.25, exits=(4,), stem="imagenet").eval()
    hidden = network(torch.zeros(1, 3, 224, 224)).hidden
    assert [h.shape[2] for h in hidden] == [56, 28, 14, 7]


def test_shuffle_hands_every_group_on_to_all_groups():
    # groups (0 1 2) and (3 4 5): the first of each, then the second, then the third
    channels = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert Shuffle(2)(channels).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert Shuffle(3)(channels).flatten().tolist() == [0, 2, 4, 1, 3, 5]
    wide = torch.randn(2, 6, 3, 4)
    assert torch.equal(Shuffle(2)(wide), nn.ChannelShuffle(2)(wide))


def test_every_convolution_of_the_stages_keeps_its_bias():
    for arch in ("shufflenetv1", "shufflenetv2"):
        stages = build(arch, 5, width=0.25).stages
        convolutions = [part for part in stages.modules() if isinstance(part, nn.Conv2d)]
        assert all(part.bias is not None for part in convolutions)


def test_half_of_the_channels_pass_a_unit_untouched():
    unit = build("shufflenetv2", 5, width=0.25).stages["2"][1].eval()
    hidden = torch.randn(1, 32, 4, 4)
    assert torch.equal(unit(hidden)[:, ::2], hidden[:, :16])


@pytest.mark.parametrize("width", [0.05, 0.1, 0.25, 0.6, 1.7])
def test_narrow_grouped_networks_still_divide_into_groups(width):
    first, *channels = shufflenetv1(width).channels
    assert channels == [channels[0], 2 * channels[0], 4 * channels[0]]
    assert all(c % 12 == 0 for c in (first, *channels))
    assert channels[0] > first
    build("shufflenetv1", 5, width=width).eval()(torch.zeros(1, 3, 32, 32))
