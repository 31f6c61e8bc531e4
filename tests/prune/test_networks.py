"""Which networks can be pruned, that they are pruned right, and what is refused."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from exitkit import names
from exitkit.errors import CheckpointError, ConfigError
from exitkit.images import ImageSpec
from exitkit.models import build, costs, resize
from exitkit.models.exitnet import ExitNet, Head
from exitkit.runs import NetworkCard, Pruned, Run
from exitkit.train import checkpoint, prune_cut, prune_proof, pruner

# One of every family; the others have more of the same blocks.
PRUNED = (
    "resnet18", "resnet50", "resnet20", "wrn_16_2", "resnext50_32x4d", "vgg16_bn", "mobilenetv1",
    "mobilenetv2", "shufflenetv2", "googlenet", "densenet40_12", "densenet121",
)  # fmt: skip
ALIKE = (
    "resnet34", "resnet101", "resnet152", "resnet32", "resnet56", "wrn_40_2", "vgg19_bn",
)  # fmt: skip
REFUSED = ("shufflenetv1",)
SIDE = 32
# The plain networks' multiply-adds that are left at half of the channels: a quarter, and more where
# layers have few channels or filter each alone, or where only the inside of units can go.
LEFT = {"mobilenetv1": 0.32, "mobilenetv2": 0.34, "shufflenetv2": 0.52}


def card(arch: str, size: int = SIDE, width: float = 0.125, **changes: object) -> NetworkCard:
    image = ImageSpec(size, size, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    at = changes.get("at", ())
    exits = tuple(range(1, names.exits(arch, at) + 1))  # type: ignore[arg-type]
    described = NetworkCard(arch, "light", width, ("a", "b", "c"), image, exits, (), (), 0, "deep")
    return dataclasses.replace(described, **changes)


def trained(described: NetworkCard) -> ExitNet:
    """The card's network with statistics and scales as training might leave them."""
    torch.manual_seed(0)
    network = build.rebuild(described).eval()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0, 0.1)
    return network


def narrow(whole: ExitNet, described: NetworkCard, ratio: float = 0.5) -> tuple[ExitNet, Pruned]:
    network, pruned, _ = prune_cut.narrow(whole, described, Pruned("run", "0", ratio, {}))
    return network, pruned


def counted_by_hand(network: ExitNet, size: int) -> int:
    """Multiply-adds of the plain network: weights times the places at which they are used."""
    total = 0

    def count(layer: nn.Module, given: tuple[Tensor], output: Tensor) -> None:
        nonlocal total
        places = output.shape[2:].numel() if output.dim() == 4 else 1
        total += layer.weight.numel() * places

    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        network(torch.zeros(1, 3, size, size), (network.deepest,))
    for hook in hooks:
        hook.remove()
    return total


def test_every_network_is_spoken_of() -> None:
    assert sorted((*PRUNED, *ALIKE, *REFUSED)) == sorted(names.NETWORKS)


@pytest.mark.parametrize(("arch", "least"), [("resnet18", 0.49), ("shufflenetv2", 0.6)])
def test_channels_that_stay_are_counted(arch: str, least: float) -> None:
    whole = trained(card(arch))
    network, _ = narrow(whole, card(arch))
    counts = [
        sum(m.weight.shape[0] for m in one.modules() if isinstance(m, nn.Conv2d | nn.Linear))
        for one in (whole, network)
    ]
    assert [prune_cut.channels(one) for one in (whole, network)] == counts
    assert least < counts[1] / counts[0] < least + 0.1


@pytest.mark.parametrize("arch", PRUNED)
def test_networks_are_pruned_and_answer_as_without_those_channels(arch: str) -> None:
    described = card(arch)
    whole = trained(described)
    network, pruned = narrow(whole, described)  # which proves it
    before, after = costs.count(whole, SIDE), costs.count(network, SIDE)
    assert after.plain == counted_by_hand(network, SIDE)
    assert after.plain / before.plain < LEFT.get(arch, 0.27)
    sizes = [tensor.numel() for tensor in network.parameters()]
    assert after.parameters(after.exits)[-1] == sum(sizes)
    assert network.heads["1"].classifier.out_features == 3
    answers = network(torch.zeros(1, 3, SIDE, SIDE))
    assert len({answer.feature.shape for answer in answers}) == 1
    assert pruned.shapes.keys() <= network.state_dict().keys()


@pytest.mark.parametrize("kind", [kind for kind in names.HEADS if kind != "light"])
def test_every_kind_of_heads_is_pruned(kind: str) -> None:
    described = card("resnet20", width=1.0, heads=kind)
    whole = trained(described)
    network, _ = narrow(whole, described)
    before, after = costs.count(whole, SIDE).heads, costs.count(network, SIDE).heads
    assert all(after[k] < 0.33 * before[k] for k in (1, 2))


@pytest.mark.parametrize(
    ("arch", "at", "size"),
    [
        ("timm:test_resnet", ("layer1", "layer2"), 64),
        ("timm:test_efficientnet", ("blocks.1", "blocks.3"), 64),  # gates of squeezed channels
        ("timm:convnext_atto", ("stages.0", "stages.1"), 32),  # normalises over channels
        ("python:tests.models.foreign:Convolutional", ("blocks.0", "blocks.1"), 32),
    ],
)
def test_networks_from_elsewhere_are_pruned(arch: str, at: tuple[str, ...], size: int) -> None:
    described = card(arch, size, 1.0, at=at)
    whole = trained(described)
    network, _ = narrow(whole, described)
    share = costs.count(network, size).plain / costs.count(whole, size).plain
    assert share < 0.4


@pytest.mark.parametrize(
    ("arch", "at", "size", "found"),
    [
        ("shufflenetv1", (), SIDE, "no channel goes: 17 of 17 sets of channels .* must stay whole"),
        (  # attention holds all of its channels together
            "python:tests.models.foreign:Transformer",
            ("layers.0", "layers.1"),
            SIDE,
            "no channel goes: 1 of 1 sets of channels .* must stay whole",
        ),
        ("timm:test_vit", ("blocks.1",), 160, "its layers do not fit each other"),
        ("torchvision:squeezenet1_1", ("features.5",), 64, "no linear layer gives its logits"),
        ("torchvision:shufflenet_v2_x0_5", ("stage2",), 64, "cannot follow its channels"),
        ("timm:ghostnet_050", ("blocks.3",), 64, "does not answer like the network with these"),
    ],
)
def test_what_cannot_be_pruned_right_is_refused_by_its_name(
    arch: str, at: tuple[str, ...], size: int, found: str, tmp_path: Path
) -> None:
    width = 1.0 if at else 0.125
    described, run = card(arch, size, width, at=at), Run(tmp_path / "mixed")
    run.write_card(described)
    checkpoint.save_network(run.network, trained(described).state_dict())
    expected = rf"pruning .*{arch} \(run mixed\).*{found}.*train a smaller network instead"
    with pytest.raises(ConfigError, match=expected):
        prune_cut.cut(run, 0.5)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 12, 16, 24, 64, 100, 512])
@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.5, 0.99])
def test_what_remains_is_near_the_ratio_and_round_where_layers_are_wide(
    size: int, ratio: float
) -> None:
    stays = pruner.remaining(size, ratio)
    step = 8 if size >= 64 else 4 if size >= 32 else 2 if size >= 16 else 1
    assert 1 <= stays <= size
    assert stays % step == 0 or stays == size
    assert abs(stays - size * (1 - ratio)) <= max(step, 1)


def test_the_least_channels_go_and_exits_keep_the_same_ones() -> None:
    """Two exits whose features are compared: what both have least of goes in both."""
    stem, early = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 4, 1, bias=False)
    deep = nn.Conv2d(4, 4, 1, bias=False)
    heads = {1: Head(early, 4, 2), 2: Head(nn.Identity(), 4, 2)}
    network = ExitNet([stem, deep], heads).eval()
    with torch.no_grad():
        stem.weight.copy_(torch.tensor([1.0, 5, 2, 4]).view(4, 1, 1, 1).expand(4, 3, 1, 1))
        early.weight.copy_(torch.tensor([5.0, 1, 4, 2]).view(4, 1, 1, 1).expand(4, 4, 1, 1))
        deep.weight.copy_(torch.tensor([5.0, 2, 4, 1]).view(4, 1, 1, 1).expand(4, 4, 1, 1))
        for head in heads.values():
            head.classifier.weight.fill_(1)
    choice = pruner.choose(network, 8, 0.5)
    stays = {name: {a: r.tolist() for a, r in axes.items()} for name, axes in choice.kept.items()}
    assert stays == {
        "stages.1.weight": {0: [1, 3]},
        "stages.2.weight": {0: [0, 2], 1: [1, 3]},
        "heads.1.body.weight": {0: [0, 2], 1: [1, 3]},
        "heads.1.classifier.weight": {1: [0, 2]},
        "heads.2.classifier.weight": {1: [0, 2]},
    }
    assert (choice.sets, choice.whole) == (2, 0)


def test_groups_of_a_convolution_give_up_the_same_channels() -> None:
    described = card("resnext50_32x4d")
    whole = trained(described)
    kept = pruner.choose(whole, SIDE, 0.5).kept
    (layer,) = (n for n, m in whole.named_modules() if n == "stages.1.3.body.3")
    grouped = whole.get_submodule(layer)
    stays = kept[f"{layer}.weight"][0].view(grouped.groups, -1)
    size = grouped.out_channels // grouped.groups
    assert (stays - torch.arange(grouped.groups).view(-1, 1) * size == stays[0]).all()
    assert stays.shape[1] == size // 2


def test_a_cut_in_the_wrong_place_is_noticed() -> None:
    described = card("resnet20")
    whole = trained(described)
    choice = pruner.choose(whole, SIDE, 0.5)
    name = "stages.1.3.body.1"  # a batch normalisation behind a convolution
    kept = {k: dict(v) for k, v in choice.kept.items()}
    rows = kept[f"{name}.weight"][0]
    gone = sorted(set(range(8)) - set(rows.tolist()))
    wrong = torch.tensor(sorted([gone[0], *rows.tolist()[1:]]))
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        kept[f"{name}.{tensor}"] = {0: wrong}
    weights = resize.take(whole.state_dict(), kept)
    old = whole.state_dict()
    network = build.rebuild(described).eval()
    shapes = {k: tuple(v.shape) for k, v in weights.items() if v.shape != old[k].shape}
    resize.resize(network, shapes)
    network.load_state_dict(weights)
    with pytest.raises(ConfigError, match="pruning exit 1: it does not answer like the network"):
        prune_proof.prove(whole, network, kept, SIDE)


def test_another_network_of_the_kind_has_the_pruned_widths() -> None:
    described = card("resnet20", exits=(3,))
    whole = trained(described)
    network, pruned = narrow(whole, described)
    described = dataclasses.replace(described, pruned=pruned)
    branch = build.another(described, 2, (3,))
    hidden = network(torch.zeros(2, 3, SIDE, SIDE)).hidden
    own = network.state_dict()
    shapes = {name: tensor.shape for name, tensor in branch.state_dict().items()}
    assert shapes == {name: own[name].shape for name in shapes}
    assert branch(hidden[0])[0].logits.shape == (2, 3)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"stages.1.0.weight": (7, 3, 3, 3)}, "its layers do not fit each other"),
        ({"stages.1.1.weight": (99,)}, "cannot be cut"),
        ({"stages.8.weight": (3,)}, "the network has no such tensor"),
    ],
)
def test_shapes_that_were_edited_are_refused(
    changes: dict[str, tuple[int, ...]], found: str
) -> None:
    described = card("resnet20")
    _, pruned = narrow(trained(described), described)
    edited = dataclasses.replace(pruned, shapes={**pruned.shapes, **changes})
    with pytest.raises(CheckpointError, match=f"{found}.*prune the run again"):
        build.rebuild(dataclasses.replace(described, pruned=edited))
