"""What every network must do beyond its own numbers: learn, leave as ONNX, tell its maps."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn.functional import cross_entropy

from exitkit import names
from exitkit.export import onnx, segments
from exitkit.models import (
    densenet,
    googlenet,
    mobilenetv1,
    mobilenetv2,
    shufflenetv1,
    shufflenetv2,
    vgg,
)
from exitkit.models.backbone import Backbone
from exitkit.models.build import blueprint, build
from exitkit.models.exitnet import ExitNet
from exitkit.models.heads import head

# Others repeat the blocks of these.
ARCHS = sorted(
    set(names.NETWORKS)
    - {"resnet34", "resnet101", "resnet152", "resnet32", "resnet56", "wrn_40_2", "vgg19_bn"}
)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("arch", ARCHS)
def test_a_step_lowers_the_loss(arch, bf16):
    torch.manual_seed(1)
    network = build(arch, 4, width=0.25).train()
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8) % 4
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            answers = network(images)
        return sum(cross_entropy(answer.logits.float(), labels) for answer in answers)

    before = loss()
    before.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    optimiser.step()
    with torch.no_grad():
        after = loss()
    assert after.isfinite()
    assert after < before


def _short_densenet(bottleneck: bool, compression: int) -> Backbone:
    return densenet._backbone(densenet.Plan(16, 8, (1, 2), bottleneck, compression, "imagenet"))


# Exporting takes seconds with every block more: these have one of each kind.
SHORT = {
    "vgg16_bn": lambda: vgg._vgg((1, 1, 1, 1, 1), 0.25),
    "mobilenetv1": lambda: mobilenetv1.mobilenetv1(0.25),
    "mobilenetv2": lambda: mobilenetv2.mobilenetv2(0.25, "imagenet"),
    "shufflenetv1": lambda: shufflenetv1.shufflenetv1(0.25, "imagenet"),
    "shufflenetv2": lambda: shufflenetv2.shufflenetv2(0.25, "imagenet"),
    "googlenet": lambda: googlenet.googlenet(0.25, "imagenet"),
    "densenet121": lambda: _short_densenet(True, 2),
    "densenet40_12": lambda: _short_densenet(False, 1),
}


@pytest.mark.parametrize("arch", sorted(SHORT))
def test_one_block_of_each_kind_leaves_as_onnx_with_equal_answers(arch, monkeypatch, tmp_path):
    monkeypatch.setattr(mobilenetv1, "UNITS", (((64, 0),), ((128, 2),)))
    monkeypatch.setattr(mobilenetv2, "GROUPS", (((1, 16, 1, 0),), ((6, 32, 2, 2),)))
    monkeypatch.setattr(shufflenetv1, "REPEATS", (1, 1, 2))
    monkeypatch.setattr(shufflenetv2, "REPEATS", (1, 1, 2))
    monkeypatch.setattr(googlenet, "BLOCKS", tuple(stage[:1] for stage in googlenet.BLOCKS))
    torch.manual_seed(2)
    backbone = SHORT[arch]()
    stages = [make() for make in backbone.stages]
    deepest = len(stages)
    network = ExitNet(stages, {deepest: head(backbone, "light", deepest, 4, 64)})
    images = torch.randn(3, 3, 64, 64)
    network.train()(images)  # statistics that are not those of a fresh network
    (piece,) = segments.cut(network, (deepest,))
    file = onnx.write(piece, (3, 64, 64), tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(file.path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"hidden": images.numpy()})
    wanted = piece(images)[0].detach().numpy()
    np.testing.assert_allclose(logits, wanted, rtol=1e-3, atol=1e-4)


def _never(first: int, exits: object) -> torch.nn.Module:
    raise AssertionError


@pytest.mark.parametrize("arch", sorted(names.NETWORKS))
def test_blueprints_tell_maps_of_one_shape_at_the_exits(arch):
    for stem, size in zip(names.NETWORKS[arch].stems, (32, 64), strict=False):
        network = build(arch, 4, size, width=0.25, stem=stem)
        plan = blueprint(network, 4, 10, size, _never)
        assert all(len(shape) == 3 for shape in (*plan.hidden, *plan.features))
        assert set(plan.features) == {plan.hidden[-1]}
        assert set(plan.embeddings) == {plan.hidden[-1][0]}
        sides = [shape[1] for shape in plan.hidden]
        assert [2 * side for side in sides[1:]] == sides[:-1]
