"""FFSD: its formulas by hand, and the whole against one loss per network."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from exitkit.errors import ConfigError
from exitkit.models import build
from exitkit.models.exitnet import ExitNet
from exitkit.objectives.ffsd import FeatureFusion, diverse_feature, shifted_attention
from exitkit.objectives.ffsd_modules import SelfDistiller, frozen
from exitkit.objectives.step import Step
from exitkit.records import Clock, Exits
from objectives import tiny

LATE = Clock(epoch=9, epochs=10, step=0, steps=1)
# One channel whose square is (1, 1, 3, 3, 4, 0): length 6, and a = A / 6. The second smallest
# entry, 1/6, is the threshold: below it nothing changes, at it stands n / 2, above it n - a.
FEATURE = torch.tensor([1.0, 1, 3, 3, 4, 0]).sqrt().reshape(1, 1, 2, 3)


def test_the_shifted_map_by_hand() -> None:
    shifted, a, n = shifted_attention(FEATURE, unit_norm=False)
    assert n.tolist() == [[6.0]]
    torch.testing.assert_close(a, torch.tensor([[1.0, 1, 3, 3, 4, 0]]) / 6)
    torch.testing.assert_close(shifted, torch.tensor([[3, 3, 5.5, 5.5, 6 - 2 / 3, 0]]))


def test_the_shifted_map_of_unit_length_by_hand() -> None:
    shifted, _, n = shifted_attention(FEATURE, unit_norm=True)
    assert n.tolist() == [[1.0]]
    torch.testing.assert_close(shifted, torch.tensor([[0.5, 0.5, 0.5, 0.5, 1 / 3, 0]]))


def test_the_diverse_feature_by_hand() -> None:
    # n / D = 6: every position moves by 6 (A^div - a)
    moved = diverse_feature(FEATURE, unit_norm=False) - FEATURE
    steps = [6 * (3 - 1 / 6), 6 * (3 - 1 / 6), 30.0, 30.0, 6 * (6 - 4 / 3), 0.0]
    torch.testing.assert_close(moved.flatten(), torch.tensor(steps))


def test_the_step_is_the_same_in_every_channel() -> None:
    feature = torch.randn(2, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    moved = diverse_feature(feature, unit_norm=False) - feature
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved))


# the obvious formulation: image by image, one loss per network ---------------------------------


def length_one(v: Tensor) -> Tensor:
    return v.flatten() / v.flatten().norm()


def amap(feature: Tensor) -> Tensor:
    return feature.pow(2).mean(0)


def d(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack(
        [(length_one(x) - length_one(y)).pow(2).mean() for x, y in zip(a, b, strict=True)]
    ).mean()


def attention_d(a: Tensor, b: Tensor) -> Tensor:
    return d(torch.stack([amap(x) for x in a]), torch.stack([amap(y) for y in b]))


def kl(teacher: Tensor, student: Tensor) -> Tensor:
    p = (student / 2).log_softmax(1), (teacher.detach() / 2).softmax(1)
    return 4 * F.kl_div(*p, reduction="batchmean")


def obvious(
    made: FeatureFusion, leader: Exits, images: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """One loss per network, students first, in the order of the equations."""
    one, two = (student(images) for student in made.students)
    z = [one[-1].logits, two[-1].logits]
    last = torch.cat([one.hidden[-1], two.hidden[-1]], 1).detach()
    fused, merged = made.fusion(last)
    shifted = shifted_attention(one.hidden[-1].detach(), False)[0]
    own = torch.stack([length_one(amap(x)) for x in two.hidden[-1]])
    with frozen(made.distillers[0]), frozen(made.distillers[1]):
        moved = made.distillers[0](diverse_feature(one.hidden[-1].detach(), False))
        target = made.distillers[1](merged.detach())
    depth_two = sum(attention_d(two.hidden[k], moved[k]) for k in range(2))
    depth_leader = sum(attention_d(leader.hidden[k], target[k]) for k in range(2))
    wide = made.decoder(leader.hidden[-1])
    losses = {
        "student1": F.cross_entropy(z[0], labels) + kl(z[1], z[0]),
        "student2": F.cross_entropy(z[1], labels)
        + kl(z[0], z[1])
        + made.diversity_weight * ((own - shifted).pow(2).mean() + depth_two),
        "fusion": F.cross_entropy(fused, labels) + kl((z[0] + z[1]) / 2, fused),
        "leader": kl(fused, leader[-1].logits)
        + 10 * attention_d(leader.hidden[-1], merged.detach())
        + 10 * (attention_d(wide, last) + depth_leader),
        "distillers": torch.zeros(()),
    }
    for net, network in zip(made.distillers, (two, leader), strict=True):
        imagined = net(network.hidden[-1].detach())
        for k in range(2):
            real = network.hidden[k].detach()
            losses["distillers"] = losses["distillers"] + 1000 * (
                d(imagined[k], real) + attention_d(imagined[k], real)
            )
    return losses


def test_one_backward_over_the_sum_is_one_per_network() -> None:
    torch.manual_seed(0)
    # with its weight of 1e-5 the diversity would be lost beside the other gradients
    made = FeatureFusion(tiny.blueprint((3,)), diversity=1.0)
    step = Step(tiny.build(exits=(3,)), made)
    slow = copy.deepcopy(step)
    batch = tiny.batch(0)
    result = step(batch, LATE)
    result.total.backward()
    leader = slow.network(batch.images)
    losses = obvious(slow.objective, leader, batch.images, batch.labels)
    losses["leader"] = losses["leader"] + F.cross_entropy(leader[-1].logits, batch.labels)
    torch.testing.assert_close(result.total, sum(losses.values()))
    parts = {
        "student1": slow.objective.students[0],
        "student2": slow.objective.students[1],
        "fusion": slow.objective.fusion,
        "leader": torch.nn.ModuleList([slow.network, slow.objective.decoder]),
        "distillers": slow.objective.distillers,
    }
    for name, part in parts.items():
        parameters = list(part.parameters())
        gradients = torch.autograd.grad(losses[name], parameters, retain_graph=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
    for fast, other in zip(step.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(fast.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_diversity_leaves_the_first_student_alone() -> None:
    torch.manual_seed(0)
    made = FeatureFusion(tiny.blueprint((3,)), students=3)
    result = Step(tiny.build(exits=(3,)), made)(tiny.batch(0), LATE)
    reached = [
        any(
            g is not None and bool(g.ne(0).any())
            for g in torch.autograd.grad(
                result.terms["diversity"], list(student.parameters()), allow_unused=True,
                retain_graph=True,
            )
        )
        for student in made.students
    ]  # fmt: skip
    assert reached == [False, True, True]


def test_the_three_weights_grow_over_the_first_sixtieth_of_the_run() -> None:
    def terms(epoch: int) -> dict[str, float]:
        torch.manual_seed(0)
        step = Step(tiny.build(exits=(3,)), FeatureFusion(tiny.blueprint((3,))))
        clock = Clock(epoch, 300, 0, 1)
        return {k: v.item() for k, v in step(tiny.batch(0), clock).terms.items()}

    first, late = terms(0), terms(5)
    ratios = {name: first[name] / late[name] for name in first}
    assert ratios == {
        name: pytest.approx(
            0.0408 if name in {"diversity", "leader", "self_distillation"} else 1, abs=1e-4
        )
        for name in first
    }


def test_optimisers_are_the_papers() -> None:
    made = FeatureFusion(tiny.blueprint((3,)))
    assert [(group.name, group.optimiser, group.options) for group in made.param_groups()] == [
        ("student1", "sgd", {}),
        ("student2", "sgd", {}),
        ("decoder", "sgd", {}),
        ("fusion", "sgd", {"weight_decay": 1e-5}),
        ("distillers", "adam", {"lr": 1e-3, "weight_decay": 1e-4}),
    ]


@pytest.mark.parametrize(
    ("arch", "decoder", "fusion", "distiller"),
    [
        ("resnet20", 9_152, 16_228, 23_136),
        ("wrn_16_2", 34_688, 48_740, 92_352),
        ("densenet40_12", 422_712, 472_516, 1_753_152),
        ("googlenet", 2_112_512, 2_224_228, 11_264_576),
    ],
)
def test_modules_have_the_papers_sizes(
    arch: str, decoder: int, fusion: int, distiller: int
) -> None:
    def size(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    def network(first: int, exits: Sequence[int]) -> ExitNet:
        return build.build(arch, 100, first=first, exits=exits)

    leader = network(1, (3,))
    made = FeatureFusion(build.blueprint(leader, 100, 10, 32, network))
    assert size(made.decoder) == decoder
    assert size(made.fusion) == fusion
    assert [size(one) for one in made.distillers] == [distiller, distiller]
    assert [size(student) for student in made.students] == [size(leader)] * 2


@pytest.mark.parametrize(
    "shapes",
    [
        ((4, 8, 8), (8, 4, 4), (16, 2, 2)),
        ((4, 7, 7), (8, 4, 4), (16, 2, 2)),
        ((4, 4, 4), (8, 4, 4), (16, 4, 4)),
        ((4, 5, 8), (16, 3, 4)),
    ],
)
def test_self_distillers_give_every_earlier_shape(shapes: tuple[tuple[int, int, int], ...]) -> None:
    maps = SelfDistiller(shapes)(torch.zeros(2, *shapes[-1]))
    assert [tuple(one.shape[1:]) for one in maps] == list(shapes[:-1])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4, 8, 8), (8, 2, 2)), "neighbouring stages give"),
        (((4, 2, 2), (8, 1, 1)), "last map has three positions or more"),
        (((4, 2, 2),), "two stages or more"),
        (((9, 4), (9, 4)), "'ffsd': compares feature maps, and this network has tokens"),
    ],
)
def test_networks_that_do_not_fit_are_refused(
    shapes: tuple[tuple[int, ...], ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        FeatureFusion(replace(tiny.blueprint((3,)), hidden=shapes))
