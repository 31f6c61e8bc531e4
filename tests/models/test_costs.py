import re

import pytest
import torch
from torch import nn

from exitkit.errors import ConfigError
from exitkit.models import costs
from exitkit.models.build import build
from exitkit.models.costs import Costs
from exitkit.models.exitnet import ExitNet, Head


@pytest.mark.parametrize(
    ("arch", "classes", "parameters"),
    [
        ("resnet18", 100, [3_819_172, 4_171_940, 5_581_988, 11_220_132]),
        ("resnet18", 200, [3_870_472, 4_223_240, 5_633_288, 11_271_432]),
        ("resnet34", 100, [3_893_156, 4_836_772, 10_969_508, 21_328_292]),
        ("resnet34", 200, [3_944_456, 4_888_072, 11_020_808, 21_379_592]),
        ("mobilenetv2", 100, [2_933_268, 2_782_756, 2_451_108, 2_351_972]),
        ("mobilenetv2", 200, [3_061_368, 2_910_856, 2_579_208, 2_480_072]),
    ],
)
def test_bottle_heads_have_the_parameters_of_the_paper(arch, classes, parameters):
    with torch.device("meta"):
        network = build(arch, classes, heads="bottle")
    found = costs.count(network, 32)
    # the paper counts the network up to the tap and that exit's own head
    assert list(found.parameters_alone) == parameters


@pytest.mark.parametrize(
    ("arch", "millions"),
    [
        ("resnet18", [303.8, 387.7, 471.6, 555.5]),
        ("resnet34", [379.3, 614.2, 1000.1, 1159.4]),
        ("mobilenetv2", [157.7, 116.9, 93.1, 88.1]),
    ],
)
def test_bottle_heads_have_the_multiply_adds_of_the_paper(arch, millions):
    with torch.device("meta"):
        network = build(arch, 100, heads="bottle")
    found = costs.count(network, 32)
    assert [round(macs / 1e6, 1) for macs in found.alone] == millions


def test_light_heads_cost_far_less_than_a_stage():
    found = costs.count(build("mobilenetv2", 10), 32)
    # exit 1: 3x3 on each of 24 channels at 16, 8 and 4 pixels, 24 -> 1280 at 4x4, 1280 -> 10
    assert found.heads[1] == 9 * 24 * (256 + 64 + 16) + 24 * 1280 * 16 + 12_800 == 576_896
    assert found.heads[2] == 9 * 32 * (64 + 16) + 32 * 1280 * 16 + 12_800 == 691_200
    assert found.heads[3] == 9 * 96 * 16 + 96 * 1280 * 16 + 12_800 == 1_992_704
    assert [round(found.heads[k] / 1e6, 1) for k in (1, 2, 3)] == [0.6, 0.7, 2.0]
    assert min(found.stages) > 6 * max(found.heads.values())
    # 24 * 9 * 3 + 3 * 48 norms, 24 * 1280 + 2560 norm, 12800 + 10 linear
    assert found.head_parameters[1] == 648 + 144 + 30_720 + 2_560 + 12_810


def small() -> ExitNet:
    stages = [
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5)),
        nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, padding=1, bias=False), nn.ReLU()),
    ]
    heads = {
        1: Head(nn.Conv2d(4, 6, 1, bias=False), 6, 5),
        2: Head(nn.Identity(), 6, 5),
    }
    return ExitNet(stages, heads)


def test_a_transposed_convolution_pays_for_every_input_number():
    stages = [nn.ConvTranspose2d(3, 6, 4, stride=2, padding=1, groups=3, bias=False)]
    found = costs.count(ExitNet(stages, {1: Head(nn.Identity(), 6, 5)}), 8)
    # 8 x 8 x 3 numbers, each spread to 2 channels of 4 x 4
    assert found.stages == (192 * 2 * 16,)


@pytest.mark.parametrize(
    ("arch", "parameters", "plain"),
    [
        ("resnet20", 278_324, 40.8),
        ("resnet32", 472_756, 69.1),
        ("resnet56", 861_620, 125.8),
        # FFSD prints 130.5 and 358.3 M for these two, whose second convolutions stride
        ("wrn_16_2", 704_420, 129.4),
        ("wrn_40_2", 2_258_084, 355.9),
    ],
)
def test_networks_of_three_stages_have_the_parameters_of_the_paper(arch, parameters, plain):
    with torch.device("meta"):
        network = build(arch, 100)
    found = costs.count(network, 32)
    assert found.plain_parameters == parameters
    assert round(found.plain / 1e6, 1) == plain


@pytest.mark.parametrize(
    ("arch", "parameters", "billions"),
    [
        ("resnet18", 11_689_512, 1.81),
        ("resnet34", 21_797_672, 3.66),
        ("resnet50", 25_557_032, 4.09),
        ("resnet101", 44_549_160, 7.80),
        ("resnet152", 60_192_808, 11.51),
        ("resnext50_32x4d", 25_028_904, 4.23),
    ],
)
def test_the_imagenet_stem_gives_the_networks_that_everyone_knows(arch, parameters, billions):
    with torch.device("meta"):
        network = build(arch, 1000, 224, stem="imagenet")
    found = costs.count(network, 224)
    assert found.plain_parameters == parameters
    assert round(found.plain / 1e9, 2) == billions


def test_costs_of_a_small_network_worked_out_by_hand():
    found = costs.count(small(), 32)  # both maps are 16 x 16
    assert found == Costs(
        stages=(256 * 4 * 27, 256 * 6 * 18),
        heads={1: 256 * 6 * 4 + 30, 2: 30},
        stage_parameters=(4 * 27 + 4 + 8, 6 * 18),
        head_parameters={1: 24 + 35, 2: 35},
    )
    assert found.plain == 27_648 + 27_648 + 30
    assert found.segments([1, 2]) == (27_648 + 6_174, 27_648 + 30)
    assert found.leaving([1, 2]) == (33_822, 61_500)
    assert found.leaving([2]) == (found.plain,)
    assert found.leaving([1]) == (33_822,)
    assert found.parameters([1, 2]) == (120 + 59, 120 + 59 + 108 + 35)
    assert found.alone == (33_822, 27_648 + 27_648 + 30)
    assert found.parameters_alone == (120 + 59, 120 + 108 + 35)
    assert found.plain_parameters == 120 + 108 + 35


def test_only_kept_heads_are_paid():
    made = Costs((10, 20, 30, 40), {1: 1, 2: 2, 3: 3, 4: 4}, (5, 6, 7, 8), {1: 1, 2: 1, 3: 1, 4: 1})
    assert made.plain == 104
    assert made.leaving([1, 2, 3, 4]) == (11, 33, 66, 110)
    assert made.leaving([2, 4]) == (32, 106)
    assert made.segments([2, 4]) == (32, 74)
    assert made.parameters([2, 4]) == (12, 28)


@pytest.mark.parametrize("exits", [[], [4, 2], [2, 2], [5]])
def test_costs_of_exits_that_are_not_there_are_refused(exits):
    made = Costs((10, 20, 30, 40), {2: 2, 4: 4}, (5, 6, 7, 8), {2: 1, 4: 1})
    with pytest.raises(ConfigError, match=r"the network has exits 2, 4; name each wanted exit"):
        made.leaving(exits)


def test_counting_leaves_no_trace():
    network = small()
    network.heads["1"].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    generator = torch.get_rng_state()
    costs.count(network, 64)
    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in network.modules()] == modes
    assert not any(module._forward_hooks for module in network.modules())
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(tensor.device.type == "cpu" for tensor in after.values())


def test_a_branch_has_no_costs_per_image():
    branch = build("resnet18", 5, width=0.25, first=3)
    with pytest.raises(ConfigError, match="starts at stage 3"):
        costs.count(branch, 32)


def test_warning_names_both_numbers_of_every_dear_exit():
    found = costs.count(build("mobilenetv2", 100, heads="bottle"), 32)
    # 14.9 + 142.8; and 27.2 + 142.8 + 89.7, the heads on the way paid
    text = costs.warning(found, "bottle")
    assert text is not None
    assert re.search(r"exit 1 costs 157\.7 M, exit 2 costs 259\.6 M", text)
    assert "the network without early exits costs 88.1 M" in text
    assert "exit 4" not in text
    assert text.endswith("keep fewer exits or train with --heads light")
    # exit 3 alone: 58.7 + 34.4 = 93.1
    assert "exit 3 costs 93.1 M" in (costs.warning(found, "bottle", [3, 4]) or "")


@pytest.mark.parametrize("arch", ["resnet18", "resnet20", "mobilenetv2"])
def test_light_heads_need_no_warning(arch):
    assert costs.warning(costs.count(build(arch, 100), 32), "light") is None


def test_light_heads_that_are_dear_are_not_advised_against_themselves():
    text = costs.warning(costs.count(build("shufflenetv1", 100), 32), "light")
    assert text is not None
    assert text.endswith("these exits save nothing, keep fewer exits")


def test_dear_heads_that_are_not_kept_need_no_warning():
    found = costs.count(build("resnet18", 100, heads="bottle"), 32)
    assert "exit 3 costs 723.3 M" in (costs.warning(found, "bottle") or "")
    assert costs.warning(found, "bottle", [1, 4]) is None
