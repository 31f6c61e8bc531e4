import pytest
import torch
from torch import nn

from exitkit.models.build import build
from exitkit.models.densenet import densenet40_12, densenet121


@pytest.mark.parametrize(
    ("arch", "exits", "parameters", "hidden"),
    [
        (
            "densenet121",
            4,
            7_048_548,
            [(256, 32, 32), (512, 16, 16), (1024, 8, 8), (1024, 4, 4)],
        ),
        ("densenet40_12", 3, 1_100_428, [(168, 32, 32), (312, 16, 16), (456, 8, 8)]),
    ],
)
def test_parameters_and_taps_are_those_of_the_papers(arch, exits, parameters, hidden):
    network = build(arch, 100, exits=(exits,))
    assert sum(p.numel() for p in network.parameters()) == parameters
    outputs = network.eval()(torch.zeros(1, 3, 32, 32)).hidden
    assert [tuple(h.shape[1:]) for h in outputs] == hidden


def test_the_imagenet_network_has_the_parameters_of_torchvision():
    network = build("densenet121", 1000, 224, exits=(4,), stem="imagenet")
    # torchvision's densenet121
    assert sum(p.numel() for p in network.parameters()) == 7_978_856
    assert densenet121(1.0, "imagenet").sides(224) == (56, 28, 14, 7)


def test_the_stem_rounds_up_and_transitions_round_down():
    # 75 -> 38 -> 19 by the stem, then 9, 4, 2
    assert densenet121(1.0, "imagenet").sides(75) == (19, 9, 4, 2)
    network = build("densenet121", 5, 75, width=0.25, stem="imagenet").eval()
    hidden = network(torch.zeros(1, 3, 75, 75)).hidden
    assert [h.shape[2] for h in hidden] == [19, 9, 4, 2]


def test_a_tap_is_before_the_transition_and_the_last_one_after_the_last_norm():
    network = build("densenet40_12", 5, width=0.5).eval()
    outputs = network(torch.randn(2, 3, 32, 32))
    first, second, last = outputs.hidden
    assert (first < 0).any()
    assert (second < 0).any()
    assert (last >= 0).all()
    assert isinstance(network.stages["2"][0], nn.BatchNorm2d)
    assert isinstance(network.stages["3"][-1], nn.ReLU)


def test_width_scales_growth_and_stem():
    # stem 24 * 0.5 -> 16 (a multiple of 8), growth 12 * 0.5 -> 8 (of 4), twelve layers a block
    assert densenet40_12(0.5).channels == (16 + 96, 16 + 192, 16 + 288)
    # stem 16, growth 8, transitions halve: 16 + 48, 32 + 96, 64 + 192, 128 + 128
    assert densenet121(0.25).channels == (64, 128, 256, 256)
