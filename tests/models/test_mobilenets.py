import pytest
import torch

from exitkit.models import costs
from exitkit.models.build import build


@pytest.mark.parametrize(
    ("arch", "classes", "parameters"),
    [
        ("mobilenetv1", 100, [2_224_420, 2_225_828, 3_303_844, 3_309_476]),
        ("mobilenetv1", 200, [2_326_920, 2_328_328, 3_406_344, 3_411_976]),
        ("mobilenetv2", 100, [2_933_268, 2_782_756, 2_451_108, 2_351_972]),
        ("mobilenetv2", 200, [3_061_368, 2_910_856, 2_579_208, 2_480_072]),
    ],
)
def test_bottle_heads_have_the_parameters_of_the_paper(arch, classes, parameters):
    found = costs.count(build(arch, classes, heads="bottle"), 32)
    assert [found.parameters([k])[0] for k in (1, 2, 3, 4)] == parameters


@pytest.mark.parametrize(
    ("arch", "millions", "trained"),
    [
        ("mobilenetv1", [182.3, 157.5, 200.7, 175.6], 9_285_584),
        ("mobilenetv2", [157.7, 116.9, 93.1, 88.1], 9_905_296),
    ],
)
def test_bottle_heads_have_the_multiply_adds_of_the_paper(arch, millions, trained):
    network = build(arch, 100, heads="bottle")
    found = costs.count(network, 32)
    assert [round(found.leaving([k])[0] / 1e6, 1) for k in (1, 2, 3, 4)] == millions
    assert sum(p.numel() for p in network.parameters()) == trained


@pytest.mark.parametrize("arch", ["mobilenetv1", "mobilenetv2"])
def test_the_imagenet_stem_leaves_seven_pixels_of_224(arch):
    def sides(stem: str, size: int) -> list[int]:
        network = build(arch, 5, size, width=0.25, exits=(4,), stem=stem).eval()
        return [h.shape[2] for h in network(torch.zeros(1, 3, size, size)).hidden]

    assert sides("imagenet", 224) == [56, 28, 14, 7]
    assert sides("cifar", 32) == [32, 16, 8, 4]


@pytest.mark.parametrize(
    ("arch", "parameters"), [("mobilenetv1", 4_231_976), ("mobilenetv2", 3_504_872)]
)
def test_a_thousand_classes_cost_what_the_published_networks_cost(arch, parameters):
    # 4.2 M (Howard et al.) and 3.5 M (torchvision's mobilenet_v2, to the unit)
    network = build(arch, 1000, 224, exits=(4,), stem="imagenet")
    assert sum(p.numel() for p in network.parameters()) == parameters
