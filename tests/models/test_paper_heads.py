"""The papers' heads: parameters to the unit, shapes, gates."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from exitkit.models import costs, paper_heads
from exitkit.models.backbone import Backbone
from exitkit.models.blocks import conv_bn, depthwise
from exitkit.models.build import build
from exitkit.models.mobilenetv2 import mobilenetv2
from exitkit.models.resnet import resnet18, resnet50
from exitkit.models.vgg import vgg16_bn


def parameters(body: nn.Module) -> int:
    return sum(p.numel() for p in body.parameters())


def test_blocks_have_the_parameters_of_their_formulas():
    i, o = 256, 512
    assert parameters(paper_heads.bottle(resnet18(1.0), 3, 32)) == i * o + 10 * o**2 + 6 * o
    assert parameters(nn.Sequential(*paper_heads.separable(i, o, 2))) == (
        20 * i + i**2 + i * o + 2 * o
    )
    gate = 24 * i + 2 * i**2
    assert parameters(paper_heads.ecsd(resnet18(1.0), 3, 32)) == (
        gate + 20 * i + i**2 + i * o + 2 * o
    )
    assert parameters(paper_heads.eed(resnet18(1.0), 3, 32)) == 9 * i * o + 2 * o
    i, o = 96, 1280
    assert parameters(paper_heads.bottle(mobilenetv2(1.0), 3, 32)) == i * o + o**2 + 15 * o


@pytest.mark.parametrize(
    ("k", "patch", "linear"), [(1, 8, 1_175_908), (2, 4, 397_668), (3, 2, 217_444)]
)
def test_byot_heads_are_one_bottleneck(k, patch, linear):
    i, o, m = 32 * 2**k, 512, 128
    found = parameters(paper_heads.byot(resnet18(1.0), k, 32))
    middle = m * (patch**2 * m + 1)
    assert found == m * (i + 1) + middle + o * (m + 1) + 4 * m + 2 * o
    assert found + 512 * 100 + 100 == linear


@pytest.mark.parametrize(
    ("arch", "heads", "exits", "trained"),
    [
        ("resnet18", "byot", (1_325_732, 1_073_060, 2_992_548, 11_220_132), 13_011_152),
        ("resnet50", "byot", (18_388_644, 7_156_388, 11_371_172, 23_705_252), 50_430_928),
        ("resnext50_32x4d", "ecsd", (4_721_572, 6_115_236, 13_924_260, 23_177_124), 37_898_448),
        ("resnet18", "ecsd", (479_652, 1_017_508, 3_166_372, 11_220_132), 12_283_344),
        ("resnet34", "ecsd", (553_636, 1_682_340, 8_553_892, 21_328_292), 22_391_504),
        ("resnet50", "ecsd", (4_731_556, 6_147_748, 14_032_548, 23_705_252), 38_426_576),
        ("resnet101", "ecsd", (4_731_556, 6_147_748, 33_024_676, 42_697_380), 57_418_704),
        ("resnet152", "ecsd", (4_731_556, 7_268_004, 48_668_324, 58_341_028), 73_062_352),
        ("resnet18", "scan", (1_428_516, 1_483_428, 4_632_484, 11_220_132), 15_164_240),
        # 9io + 2o of each convolution to the deepest; 149,824 + ... up to the taps; 51,300 linear
        ("resnet18", "eed", (1_751_204, 2_202_788, 4_007_076, 11_220_132), 15_580_880),
    ],
)
def test_networks_have_the_parameters_of_the_papers(arch, heads, exits, trained):
    with torch.device("meta"):
        network = build(arch, 100, heads=heads)
    found = costs.count(network, 32)
    assert found.parameters_alone == exits
    assert found.parameters(found.exits)[-1] == trained == parameters(network)


def loth_byot(i: int, stride: int) -> list[nn.Module]:
    return [*conv_bn(i, 512), *conv_bn(512, 512, 3, stride), *conv_bn(512, 512)]


def loth_ecsd(*widths: int) -> list[nn.Module]:
    c = widths[0]
    layers = [*depthwise(c, 2), *conv_bn(c, c)]
    for i, o in pairwise(widths):
        layers += [*depthwise(i, 2), *conv_bn(i, o)]
    return layers


@pytest.mark.parametrize(
    ("body", "published"),
    [
        (loth_byot(64, 8), 2_909_704),
        (loth_byot(128, 4), 3_468_040),
        (loth_byot(256, 2), 5_633_288),
        (loth_ecsd(64, 128, 256, 512), 436_104),
        (loth_ecsd(128, 256, 512), 965_640),
        (loth_ecsd(256, 512), 3_081_480),
    ],
)
def test_bricks_rebuild_the_heads_that_loth_compared_with(body, published):
    """Table 4 of LOTH counts lighter heads under the same names, with 200 classes."""
    taps = {64: 149_824, 128: 675_392, 256: 2_775_104}
    assert taps[body[0].in_channels] + parameters(nn.Sequential(*body)) + 102_600 == published


@pytest.mark.parametrize("heads", ["bottle", "byot", "ecsd", "scan", "eed"])
@pytest.mark.parametrize(
    "backbone", [resnet18(0.125), resnet50(0.125, "imagenet"), vgg16_bn(0.125)]
)
@pytest.mark.parametrize("size", [32, 45, 65, 75])
def test_bodies_reach_the_deepest_shape_from_odd_sides(heads, backbone, size):
    sides, channels = backbone.sides(size), backbone.channels
    for k in (1, 2, 3):
        body = getattr(paper_heads, heads)(backbone, k, size).eval()
        feature = body(torch.zeros(1, channels[k - 1], sides[k - 1], sides[k - 1]))
        assert feature.shape == (1, channels[-1], sides[-1], sides[-1])


def test_a_stage_that_does_not_halve_has_a_block_that_does_not():
    backbone = Backbone(
        (nn.Identity,) * 3, (4, 8, 16), strides=(1, 1, 4), bottle=(8, 16), depthwise=False
    )
    body = paper_heads.eed(backbone, 1, 32)
    convs = [layer for layer in body if isinstance(layer, nn.Conv2d)]
    assert [conv.stride for conv in convs] == [(1, 1), (2, 2)]
    # 32 -> 32 -> 16, where the deepest map has 8
    assert body(torch.zeros(2, 4, 32, 32)).shape == (2, 16, 8, 8)


@pytest.mark.parametrize("side", [5, 6])
def test_a_gate_multiplies_by_a_share(side):
    gate = paper_heads.Gate(
        nn.AvgPool2d(2, ceil_mode=True), nn.Upsample(scale_factor=2.0, mode="nearest")
    )
    hidden = torch.randn(2, 3, side, side)
    mask = torch.empty_like(hidden)
    for row in range(side):
        for column in range(side):
            patch = hidden[:, :, row // 2 * 2 : row // 2 * 2 + 2, column // 2 * 2 :][:, :, :, :2]
            mask[:, :, row, column] = torch.sigmoid(patch.mean(dim=(2, 3)))
    torch.testing.assert_close(gate(hidden), hidden * mask)


def test_narrow_networks_have_narrow_scan_heads():
    inner = [paper_heads.scan(resnet18(width), 1, 32)[1].out_channels for width in (0.25, 1.0, 2.0)]
    assert inner == [32, 128, 128]
    assert paper_heads.scan(resnet50(1.0), 1, 32)[1].out_channels == 128
