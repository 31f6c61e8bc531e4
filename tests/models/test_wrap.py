import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

import exitkit
from exitkit.errors import ConfigError
from exitkit.models import costs
from exitkit.models.build import blueprint
from exitkit.models.wrap import wrap

from . import foreign

TINY_CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 24), "num_classes": 5}
TINY_VIT = {"img_size": 32, "patch_size": 8, "depth": 3, "embed_dim": 24, "num_heads": 2,
            "num_classes": 5}  # fmt: skip


def resnet() -> nn.Module:
    return torchvision.models.resnet18(num_classes=5)


def torch_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 3, 2, 24, 48, num_classes=5)


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer([2, 2], 8, [1, 1], [1, 2], [4, 4], num_classes=5)


def convnext() -> nn.Module:
    return timm.create_model("convnext_atto", **TINY_CONVNEXT)


def vit() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", **TINY_VIT)


def squeezenet() -> nn.Module:
    return torchvision.models.squeezenet1_1(num_classes=5)


def mobilenet() -> nn.Module:
    return torchvision.models.mobilenet_v3_small(num_classes=5)


CASES = {
    foreign.Convolutional: (("blocks.0", "blocks.1"), [(8, 16, 16), (12, 8, 8), (16, 4, 4)], 16),
    foreign.Transformer: (("layers.0", "layers.1"), [(17, 24)] * 3, 24),
    foreign.Last: (("one",), [(12, 8, 8), (14, 8, 8)], 14),
    resnet: (("layer1", "layer3"), [(64, 8, 8), (256, 2, 2), (512, 1, 1)], 512),
    torch_vit: (("encoder.layers.encoder_layer_0",), [(17, 24)] * 2, 24),
    swin: (("features.1",), [(8, 16, 16), (16, 8, 8)], 16),
    convnext: (("stages.0", "stages.1", "stages.2"),
               [(8, 8, 8), (12, 4, 4), (16, 2, 2), (24, 1, 1)], 24),
    vit: (("blocks.0", "blocks.1"), [(17, 24)] * 3, 24),
    mobilenet: (("features.3", "features.8"), [(24, 4, 4), (48, 2, 2), (576, 1, 1)], 1024),
    squeezenet: (("features.5",), [(128, 3, 3), (512, 1, 1)], 512),
}  # fmt: skip


def made(case) -> nn.Module:
    torch.manual_seed(0)
    return case()


def images(count: int = 3, size: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_wrapped_model_answers_as_it_did_and_has_exits(case) -> None:
    at, hidden, width = CASES[case]
    model = made(case).eval()
    modes = [module.training for module in model.modules()]
    network = exitkit.wrap(model, at=at, image_size=32).eval()
    assert [module.training for module in model.modules()] == modes
    with torch.no_grad():
        outputs, wanted = network(images()), model(images())
    assert torch.equal(outputs[-1].logits, wanted)
    assert [tuple(one.shape[1:]) for one in outputs.hidden] == hidden
    assert [answer.number for answer in outputs] == list(range(1, len(at) + 2))
    for answer in outputs:
        assert answer.logits.shape == (3, 5)
        assert answer.embedding.shape == (3, width)
        assert answer.feature.shape[1:] == outputs[-1].feature.shape[1:]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_everything_learns_and_the_hidden_outputs_stay_as_they_were_given(case) -> None:
    network = wrap(made(case).train(), CASES[case][0], image_size=32)
    assert network.training
    seen = []
    original = type(network).stage

    def stage(self, k, hidden):
        output = original(self, k, hidden)
        seen.append(output.detach().clone())
        return output

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(network), "stage", stage)
        outputs = network(images(6))
    for kept, given in zip(outputs.hidden, seen, strict=True):
        assert torch.equal(kept, given)
    sum(answer.logits.square().sum() for answer in outputs).backward()
    still = [n for n, p in network.named_parameters() if p.grad is None]
    assert still == []


def test_tokens_and_embeddings_of_a_transformer() -> None:
    network = wrap(made(vit), CASES[vit][0], image_size=32).eval()
    with torch.no_grad():
        outputs = network(images())
        head, hidden = network.heads["1"], outputs.hidden[0]
        feature = nn.functional.layer_norm(hidden, (24,))  # fresh: weight 1, bias 0
        embedding = head.embed(feature.mean(1))
    torch.testing.assert_close(outputs[0].feature, feature)
    torch.testing.assert_close(outputs[0].embedding, embedding)
    # the deepest exit's embedding is its class token, after the last normalisation
    assert torch.equal(outputs[-1].embedding, outputs[-1].feature[:, 0])


def test_modes_reach_the_functions_between_the_blocks() -> None:
    network = wrap(made(foreign.Convolutional), CASES[foreign.Convolutional][0], image_size=32)
    hidden = torch.ones(2, 8, 16, 16)
    network.eval()
    assert torch.equal(network.stage(2, hidden), network.stage(2, hidden))
    network.train()
    assert not torch.equal(network.stage(2, hidden), network.stage(2, hidden))


def dropping(*first: nn.Module) -> nn.Module:
    last = (nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    return nn.Sequential(nn.Conv2d(3, 4, 4, 4), *first, *last)


class DroppingBlock(nn.Module):
    """Keeps its own code, and turns the axes first."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5, inplace=True)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.drop(hidden.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("drop", [nn.Dropout(0.5, inplace=True), DroppingBlock()])
def test_what_overwrites_its_input_in_training_only_works_on_a_copy(drop: nn.Module) -> None:
    network = wrap(dropping(drop), ("0",), image_size=32).train()
    hidden = torch.ones(2, 4, 8, 8)
    network.stage(2, hidden)
    assert hidden.eq(1).all()


def test_parts_keep_their_names_and_are_the_models_own() -> None:
    model = made(resnet)
    network = wrap(model, ("layer1", "layer3"), image_size=32)
    state = network.state_dict()
    assert "stages.1.conv1.weight" in state
    assert "stages.2.layer2.0.downsample.0.weight" in state
    assert "heads.3.fc.bias" in state
    assert network.stages["2"].layer3 is model.layer3
    copied = copy.deepcopy(network)
    assert copied.stages["2"].layer3 is not model.layer3
    assert torch.equal(copied.eval()(images())[0].logits, network.eval()(images())[0].logits)


def test_other_classes_get_a_fresh_classifier_and_the_model_keeps_its_own() -> None:
    model = made(mobilenet).eval()
    network = wrap(model, CASES[mobilenet][0], classes=7, image_size=32).eval()
    assert model.classifier[3].out_features == 5
    outputs = network(images())
    assert {answer.logits.shape[1] for answer in outputs} == {7}
    with torch.no_grad():
        # only the last layer is another one
        embedding = model.classifier[:3](model.avgpool(model.features(images())).flatten(1))
    torch.testing.assert_close(outputs[-1].embedding, embedding)
    # as many as it has: its own stay
    same = wrap(model, CASES[mobilenet][0], classes=5, image_size=32)
    assert same.heads["3"].get_submodule("classifier.3") is model.classifier[3]


def test_a_branch_is_the_tail_and_other_exits_change_no_weight() -> None:
    whole = wrap(made(vit), CASES[vit][0], image_size=32).eval()
    branch = wrap(made(vit), CASES[vit][0], image_size=32, exits=(3,), first=2).eval()
    assert branch.exits == (3,)
    state = whole.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in branch.state_dict().items())
    outputs = whole(images())
    assert torch.equal(branch(outputs.hidden[0])[-1].logits, outputs[-1].logits)


def test_a_blueprint_tells_tokens_from_maps() -> None:
    network = wrap(made(vit), CASES[vit][0], image_size=32)
    plan = blueprint(network, 5, 10, 32, lambda first, exits: network)
    assert plan.hidden == plan.features == ((17, 24),) * 3
    assert plan.embeddings == (24, 24, 24)


def test_costs_count_what_has_no_module_too() -> None:
    # patch 8x8: 16 * 24 * 192. A layer: 17 tokens, 4 projections of 24 x 24, two products of
    # 17 x 17 x 24, an mlp of 24 x 24.
    counted = costs.count(wrap(made(foreign.Transformer), ("layers.0",), image_size=32), 32)
    layer = 17 * 5 * 24 * 24 + 2 * 17 * 17 * 24
    assert counted.stages == (16 * 24 * 192 + layer, 2 * layer)
    assert counted.heads == {1: 24 * 24 + 24 * 5, 2: 24 * 5}


def test_the_size_is_what_the_model_says_where_none_is_given() -> None:
    network = wrap(made(torch_vit), ("encoder.layers.encoder_layer_0",))
    assert network.eval()(images())[0].logits.shape == (3, 5)


def test_an_unusual_size_names_the_one_that_works() -> None:
    with pytest.raises(ConfigError, match=r"on images of 64 pixels.*give --image-size 32"):
        wrap(made(vit), ("blocks.0",), image_size=64)
