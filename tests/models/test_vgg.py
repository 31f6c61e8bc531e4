import pytest
import torch
from torch import nn

from exitkit.models import costs
from exitkit.models.build import build
from exitkit.models.vgg import vgg16_bn


@pytest.mark.parametrize(
    ("arch", "classes", "parameters"),
    [
        ("vgg16_bn", 100, [6_643_748, 7_430_180, 10_575_908, 15_295_524]),
        ("vgg16_bn", 200, [6_695_048, 7_481_480, 10_627_208, 15_346_824]),
        ("vgg19_bn", 100, [6_643_748, 8_020_516, 13_526_564, 20_606_500]),
        ("vgg19_bn", 200, [6_695_048, 8_071_816, 13_577_864, 20_657_800]),
    ],
)
def test_bottle_heads_have_the_parameters_of_the_paper(arch, classes, parameters):
    found = costs.count(build(arch, classes, heads="bottle"), 32)
    assert [found.parameters([k])[0] for k in (1, 2, 3, 4)] == parameters


@pytest.mark.parametrize(
    ("arch", "millions", "trained"),
    [
        ("vgg16_bn", [211.5, 255.6, 299.6, 313.8], 30_310_224),
        ("vgg19_bn", [211.5, 293.3, 375.1, 398.7], 35_621_200),
    ],
)
def test_bottle_heads_have_the_multiply_adds_of_the_paper(arch, millions, trained):
    network = build(arch, 100, heads="bottle")
    found = costs.count(network, 32)
    assert [round(found.leaving([k])[0] / 1e6, 1) for k in (1, 2, 3, 4)] == millions
    assert sum(p.numel() for p in network.parameters()) == trained


def test_taps_are_what_a_block_gives_before_the_next_one_pools():
    network = build("vgg16_bn", 5, width=0.25).eval()
    outputs = network(torch.randn(1, 3, 32, 32))
    assert [tuple(h.shape[1:]) for h in outputs.hidden] == [
        (32, 16, 16),
        (64, 8, 8),
        (128, 4, 4),
        (128, 2, 2),
    ]
    assert [isinstance(network.stages[str(k)][0], nn.MaxPool2d) for k in (1, 2, 3, 4)] == [
        False,
        True,
        True,
        True,
    ]
    # 45 -> 22 -> 11 -> 5 -> 2: pooling leaves the odd row out
    assert vgg16_bn(1.0).sides(45) == (22, 11, 5, 2)


def test_first_weights_are_those_of_the_paper():
    torch.manual_seed(0)
    network = build("vgg16_bn", 100)
    own = [part for part in network.heads["4"].classifier if isinstance(part, nn.Linear)]
    assert [(part.in_features, part.out_features) for part in own] == [
        (512, 512),
        (512, 512),
        (512, 100),
    ]
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.weight.eq(0.5).all()
            assert part.bias.eq(0).all()
        if isinstance(part, nn.Linear):
            assert part.weight.std().item() == pytest.approx(0.01, rel=0.02)
            assert part.bias.eq(0).all()
    assert [type(network.heads[k].classifier) for k in "123"] == [nn.Linear] * 3


def test_a_narrow_classifier_begins_with_weights_that_let_it_learn():
    torch.manual_seed(0)
    classifier = build("vgg16_bn", 5, width=0.25, exits=(4,)).heads["4"].classifier
    # uniform between -1 / sqrt(128) and 1 / sqrt(128)
    assert classifier[0].weight.std().item() == pytest.approx((3 * 128) ** -0.5, rel=0.02)


def test_the_own_classifier_drops_out_in_training_only():
    torch.manual_seed(0)
    network = build("vgg16_bn", 5, width=0.25, exits=(4,))
    embedding = torch.randn(3, 128)
    classifier = network.heads["4"].classifier
    assert not torch.equal(classifier(embedding), classifier(embedding))
    classifier.eval()
    assert torch.equal(classifier(embedding), classifier(embedding))
