import torch

from exitkit.models.build import build
from exitkit.models.googlenet import Inception, googlenet


def test_parameters_and_taps_are_those_of_the_paper():
    network = build("googlenet", 100, exits=(3,))
    assert sum(p.numel() for p in network.parameters()) == 6_258_500
    hidden = network.eval()(torch.zeros(1, 3, 32, 32)).hidden
    assert [tuple(h.shape[1:]) for h in hidden] == [(480, 32, 32), (832, 16, 16), (1024, 8, 8)]


def test_the_imagenet_stem_leaves_seven_pixels_of_224():
    network = build("googlenet", 5, 224, width=0.25, exits=(3,), stem="imagenet").eval()
    hidden = network(torch.zeros(1, 3, 224, 224)).hidden
    assert [h.shape[2] for h in hidden] == [28, 14, 7]


def test_branches_stand_one_after_the_other_and_five_is_two_threes():
    block = Inception(16, (8, 4, 12, 4, 6, 10)).eval()
    hidden = torch.randn(2, 16, 5, 5)
    output = block(hidden)
    assert output.shape == (2, 8 + 12 + 6 + 10, 5, 5)
    assert torch.equal(output[:, :8], block.one(hidden))
    assert torch.equal(output[:, 20:26], block.five(hidden))
    assert [m.kernel_size for m in block.five if hasattr(m, "kernel_size")] == [
        (1, 1),
        (3, 3),
        (3, 3),
    ]


def test_width_scales_every_branch_to_multiples_of_eight():
    # b3: 128, 192, 96, 64 -> 32 + 48 + 24 + 16
    assert googlenet(0.25).channels == (120, 208, 256)
