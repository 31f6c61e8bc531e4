import math

import pytest
import torch
from torch import nn

from exitkit import names
from exitkit.errors import ConfigError
from exitkit.images import ImageSpec
from exitkit.models.backbone import scaled
from exitkit.models.build import NETWORKS, SMALLEST, blueprint, build, rebuild
from exitkit.models.heads import HEADS
from exitkit.runs import NetworkCard

# They repeat the blocks of their shallower relatives: shapes and counts are tested, no running.
DEEPER = ["resnet32", "resnet34", "resnet56", "resnet101", "resnet152", "vgg19_bn", "wrn_40_2"]
RUN = sorted(set(NETWORKS) - set(DEEPER))


def images(size: int = 32, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, 3, size, size, generator=generator)


def seeded(*args, **options) -> nn.Module:
    torch.manual_seed(3)
    return build(*args, **options)


def test_the_names_that_users_type_are_those_of_the_code():
    assert set(names.NETWORKS) == set(NETWORKS)
    assert set(names.HEADS) == set(HEADS)
    for arch, network in names.NETWORKS.items():
        assert len(NETWORKS[arch](1.0).stages) == network.exits


@pytest.mark.parametrize(
    ("arch", "heads"),
    [*((arch, heads) for arch in RUN for heads in sorted(HEADS)), *((a, "light") for a in DEEPER)],
)
def test_every_exit_has_the_deepest_shape(arch, heads):
    for stem in names.NETWORKS[arch].stems:
        for size in (32, 45):
            network = build(arch, 7, size, heads, width=0.125, stem=stem).eval()
            with torch.no_grad():
                outputs = network(images(size))
            assert [answer.number for answer in outputs] == list(network.exits)
            for answer in outputs:
                assert answer.logits.shape == (2, 7)
                assert answer.feature.shape == outputs.hidden[-1].shape
                assert answer.embedding.shape == answer.feature.shape[:2]
            backbone = NETWORKS[arch](0.125, stem)
            assert tuple(h.shape[1] for h in outputs.hidden) == backbone.channels
            assert tuple(h.shape[2] for h in outputs.hidden) == backbone.sides(size)
            assert tuple(h.shape[3] for h in outputs.hidden) == backbone.sides(size)


@pytest.mark.parametrize(
    ("arch", "hidden"),
    [
        ("resnet18", ((64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4))),
        ("resnet50", ((256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4))),
        ("resnet20", ((16, 32, 32), (32, 16, 16), (64, 8, 8))),
        ("wrn_16_2", ((32, 32, 32), (64, 16, 16), (128, 8, 8))),
        ("mobilenetv2", ((24, 32, 32), (32, 16, 16), (96, 8, 8), (1280, 4, 4))),
    ],
)
def test_blueprint_tells_the_taps_of_the_paper(arch, hidden):
    deepest = len(hidden)
    network = build(arch, 100, exits=(2, deepest))
    generator, modes = torch.get_rng_state(), [m.training for m in network.modules()]
    plan = blueprint(network, 100, 50_000, 32, lambda first, exits: network)
    assert plan.hidden == hidden
    assert plan.exits == (2, deepest)
    assert plan.features == (hidden[-1], hidden[-1])
    assert (plan.classes, plan.samples) == (100, 50_000)
    assert plan.build(1, (deepest,)) is network
    assert torch.equal(torch.get_rng_state(), generator)
    assert [m.training for m in network.modules()] == modes


def test_larger_images_keep_the_weights_but_not_the_maps():
    small, large = (seeded("resnet18", 3, size, width=0.25) for size in (32, 224))
    shapes = {name: t.shape for name, t in small.state_dict().items()}
    assert {name: t.shape for name, t in large.state_dict().items()} == shapes
    plan = blueprint(large, 3, 1, 224, lambda first, exits: large)
    assert set(plan.features) == {(128, 28, 28)}


@pytest.mark.parametrize("arch", RUN)
def test_the_generator_alone_decides_the_weights(arch):
    first, second = seeded(arch, 5, width=0.25), seeded(arch, 5, width=0.25)
    other = build(arch, 5, width=0.25)
    state = first.state_dict()
    assert all(torch.equal(state[k], t) for k, t in second.state_dict().items())
    first_weight = next(name for name in state if name.startswith("stages.1"))
    assert not torch.equal(state[first_weight], other.state_dict()[first_weight])


@pytest.mark.parametrize("arch", RUN)
def test_other_exits_do_not_change_the_weights_of_the_plain_network(arch):
    full = seeded(arch, 5, width=0.25).state_dict()
    deepest = names.NETWORKS[arch].exits
    plain = seeded(arch, 5, width=0.25, exits=[deepest]).state_dict()
    assert plain.keys() == {k for k in full if k.startswith(("stages", f"heads.{deepest}"))}
    assert all(torch.equal(full[k], t) for k, t in plain.items())


@pytest.mark.parametrize("arch", RUN)
def test_a_branch_is_the_tail_of_the_network(arch):
    whole = seeded(arch, 5, width=0.25).eval()
    deepest = whole.deepest
    branch = build(arch, 5, width=0.25, exits=(deepest - 1, deepest), first=deepest - 1).eval()
    state = whole.state_dict()
    branch.load_state_dict({name: state[name] for name in branch.state_dict()})
    outputs = whole(images())
    tail = branch(outputs.hidden[deepest - 3])
    assert [answer.number for answer in tail] == [deepest - 1, deepest]
    assert len(tail.hidden) == 2
    torch.testing.assert_close(tail[-1].logits, outputs[-1].logits)
    torch.testing.assert_close(tail[0].feature, outputs[deepest - 2].feature)


def test_convolutions_start_as_the_papers_say():
    network = seeded("resnet18", 100)
    weight = network.stages["4"][0].body[0].weight  # 3x3 to 512 channels
    assert weight.shape == (512, 256, 3, 3)
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 512)), rel=0.01)
    assert abs(weight.mean().item()) < 1e-4
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()
        if isinstance(module, nn.Conv2d):
            assert module.bias is None


@pytest.mark.parametrize(
    ("arch", "heads"),
    [*((arch, "light") for arch in RUN), *(("resnet20", heads) for heads in sorted(HEADS))],
)
def test_every_parameter_learns_from_the_exits(arch, heads):
    network = build(arch, 5, heads=heads, width=0.25)
    # Batch normalisation takes away what the bias of a convolution before it adds.
    useless = {
        id(module.bias)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    }
    sum(answer.logits.square().sum() for answer in network(images(count=4))).backward()
    learning = [(n, p.grad) for n, p in network.named_parameters() if id(p) not in useless]
    assert [n for n, grad in learning if grad is None or not grad.any()] == []


@pytest.mark.parametrize("arch", RUN)
def test_memory_format_changes_no_answer(arch):
    network = build(arch, 5, width=0.25).eval()
    plain = network(images())
    network.to(memory_format=torch.channels_last)
    other = network(images().contiguous(memory_format=torch.channels_last))
    assert other[0].feature.is_contiguous(memory_format=torch.channels_last)
    for a, b in zip(plain, other, strict=True):
        # Of the exit's largest logit: a small one is the difference of large sums.
        off = (a.logits - b.logits).abs().max() / b.logits.abs().max()
        assert off < 1e-3


def test_an_answer_does_not_depend_on_its_neighbours():
    network = build("mobilenetv2", 5, width=0.25).eval()
    batch = images(count=3)
    together = network(batch)
    for row in range(3):
        alone = network(batch[row : row + 1])
        torch.testing.assert_close(
            alone[1].logits[0], together[1].logits[row], rtol=1e-3, atol=1e-4
        )


class Logits(nn.Module):
    """The network as the exporter's tracer can see it: tensors in, tensors out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(answer.logits for answer in self.network(batch))


@pytest.mark.parametrize("arch", ["resnet18", "wrn_16_2", "shufflenetv1", "densenet40_12"])
def test_tracing_keeps_the_batch_free(arch):
    network = Logits(build(arch, 5, width=0.25)).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(network, (images(),), dynamic_shapes=({0: batch},))
    five = images(count=5)
    for traced, real in zip(program.module()(five), network(five), strict=True):
        torch.testing.assert_close(traced, real)


def test_width_scales_to_multiples_of_eight_and_one_changes_nothing():
    # 64 * 0.3 = 19.2 -> 16 ; 100 * 0.3 = 30 -> 32 ; 20 * 1.0 stays ; 24 * 0.25 = 6 -> 8
    assert [scaled(64, 0.3), scaled(100, 0.3), scaled(20, 1.0), scaled(24, 0.25)] == [16, 32, 20, 8]
    plan = NETWORKS["mobilenetv2"](0.5)
    assert plan.channels == (16, 16, 48, 640)  # 24 * 0.5 = 12 rounds up
    assert plan.bottle == (128, 256, 640)
    assert NETWORKS["resnet18"](2.0).channels == (128, 256, 512, 1024)


def test_a_card_rebuilds_the_network_it_describes():
    network = build("mobilenetv2", 3, 48, "bottle", 0.25, exits=(2, 4))
    spec = ImageSpec(48, 48, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    card = NetworkCard(
        "mobilenetv2", "bottle", 0.25, ("a", "b", "c"), spec, (2, 4), (1, 2), (1, 2), 2, "deep"
    )
    again = rebuild(card)
    again.load_state_dict(network.state_dict())
    assert again.exits == (2, 4)
    a, b = network.eval()(images(48)), again.eval()(images(48))
    assert torch.equal(a[0].logits, b[0].logits)


def test_a_card_of_images_that_are_not_square_is_refused():
    spec = ImageSpec(32, 48, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    card = NetworkCard("resnet18", "light", 1.0, ("a", "b"), spec, (4,), (1,), (1,), 1, "ce")
    with pytest.raises(ConfigError, match="images of 32x48 pixels: networks are built for square"):
        rebuild(card)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "resnet81"}, "did you mean 'resnet18'.*choose one of: .*mobilenetv2, .*resnet20"),
        ({"heads": "lite"}, "kind of heads 'lite'.*choose one of: bottle, .*light"),
        ({"stem": "imagnet"}, "no such stem of resnet18; did you mean 'imagenet'"),
        ({"arch": "resnet20", "stem": "imagenet"}, "choose one of: cifar"),
        ({"exits": (1, 2)}, "exits 1, 2: exit 4, the network's own end, is missing; add it"),
        ({"exits": ()}, "exits none: exit 4"),
        ({"exits": (4, 5)}, "exits 4, 5: resnet18 has exits 1, 2, 3, 4"),
        ({"exits": (2, 2, 4)}, "name each wanted exit once"),
        ({"exits": (1, 4), "first": 2}, "exits 1, 4: resnet18 has exits 2, 3, 4"),
        ({"first": 5}, "a branch from stage 5: resnet18 has stages 1 to 4"),
        ({"first": 0}, "a branch from stage 0: resnet18 has stages 1 to 4"),
        ({"image_size": SMALLEST - 1}, "images of 31 pixels: the networks need at least 32"),
        ({"width": 0.0}, r"width 0\.0: is no number above zero"),
        ({"classes": 1}, "1 classes: nothing to tell apart"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**{"arch": "resnet18", "classes": 10, **options})
