"""DTSKD by hand, and its branches against the same maps written out."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from exitkit.errors import ConfigError
from exitkit.models.build import blueprint, build
from exitkit.objectives.dtskd import DualTeachers, TopDown
from exitkit.records import Clock, Exit, Exits, Outputs
from objectives import by_hand, tiny

LN2, LN3 = math.log(2), math.log(3)
# halfway: a_e = 0.9 / 2
HALFWAY = Clock(epoch=2, epochs=4, step=0, steps=1)


class Says(nn.Module):
    """Branches with fixed answers [M, B, C]."""

    def __init__(self, rows: list[list[list[float]]]) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))

    def forward(self, exits: Exits) -> Tensor:
        return self.rows


def objective(rows: list[list[list[float]]], **options: float) -> DualTeachers:
    made = DualTeachers(by_hand.blueprint(2, 2), width=3, **options)
    made.top_down = Says(rows)  # type: ignore[assignment]
    return made


def test_every_term_by_hand() -> None:
    # the branch says (1/4, 3/4) of both images, the network (1/2, 1/2)
    made = objective([[[0.0, LN3]] * 2], temperature=1.0)
    made.memory.rows[0] = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    seen = by_hand.exits([[[0.0, 0.0]] * 2] * 2)
    found = by_hand.terms(made, seen, by_hand.batch([1, 1]), HALFWAY)
    # the branch is told 0.45 (0, 1) + 0.55 (1/2, 1/2) of the first image, (0, 1) of the second
    first, second = 0.275 * math.log(4) + 0.725 * math.log(4 / 3), math.log(4 / 3)
    assert found == {
        "labels": pytest.approx(0.6 * LN2),
        "branches": pytest.approx(0.2 * (first + second) / 2),
        "distillation": pytest.approx(0.8 * (LN2 - LN3 / 2), abs=1e-6),
    }


def test_the_past_softens_the_deepest_exits_labels_alone() -> None:
    made = objective([[[0.0, 0.0]]])
    made.memory.rows[3] = torch.tensor([[0.8, 0.2], [0.0, 1.0]])
    seen, batch = by_hand.exits([[[0.0, 0.0]]] * 2), by_hand.batch([1], index=[3])
    labels = by_hand.labels(made, seen, batch, HALFWAY)
    torch.testing.assert_close(labels.targets, torch.tensor([[[0.0, 1.0]], [[0.44, 0.56]]]))
    torch.testing.assert_close(labels.weights, torch.tensor([0.0, 0.6]))


def test_the_labels_share_falls_from_its_first_value() -> None:
    made = objective([[[0.0, 0.0]]])
    made.memory.rows[:] = torch.tensor([1.0, 0.0])
    seen, batch = by_hand.exits([[[0.0, 0.0]]] * 2), by_hand.batch([1])
    shares = [
        by_hand.labels(made, seen, batch, Clock(e, 4, 0, 1)).targets[1, 0, 1].item()
        for e in range(4)
    ]
    bend = 0.45 / math.sqrt(2)
    assert shares == pytest.approx([0.9, 0.45 + bend, 0.45, 0.45 - bend])


def test_every_step_is_remembered() -> None:
    made = objective([[[0.0, LN3], [LN3, 0.0]]])
    seen, batch = by_hand.exits([[[0.0, 0.0]] * 2] * 2), by_hand.batch([1, 1], index=[2, 0])
    by_hand.terms(made, seen, batch, HALFWAY)
    made.after_step(Outputs(seen, {}), batch, HALFWAY)
    expected = torch.zeros(4, 2, 2)
    expected[2] = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    expected[0] = torch.tensor([[0.5, 0.5], [0.75, 0.25]])
    torch.testing.assert_close(made.memory.rows, expected)


@pytest.mark.parametrize("live", [False, True])
def test_the_network_learns_from_the_divergence_only_if_live(live: bool) -> None:
    made = objective([[[0.0, LN3]] * 2], live=live)
    seen = by_hand.exits([[[0.0, 0.0]] * 2] * 2)
    logits = seen[-1].logits.requires_grad_()
    batch = by_hand.batch([1, 1])
    labels = by_hand.labels(made, seen, batch, HALFWAY)
    term = made.terms(Outputs(seen, {}), labels, batch, HALFWAY)["distillation"]
    gradient, own = torch.autograd.grad(term, (logits, made.top_down.rows), allow_unused=True)  # type: ignore[arg-type]
    assert own is not None
    assert (gradient is not None) == live


def test_branches_are_the_maps_of_the_paper() -> None:
    torch.manual_seed(0)
    made = TopDown(4, (2, 3), width=5, classes=6).eval()
    hidden = (torch.randn(7, 2, 8, 8), torch.randn(7, 3, 4, 4), torch.randn(7, 4, 2, 2))
    embedding = torch.randn(7, 4)
    fast = made(_exits(embedding, hidden))
    weights = dict(made.named_parameters())
    # Untouched batch norms divide by the root of 1 + 1e-5 when they are not training.
    scale = 1 / math.sqrt(1 + 1e-5)

    def map_(name: str, x: Tensor) -> Tensor:
        return (x @ weights[f"{name}.0.weight"].T * scale).clamp(min=0)

    above = embedding
    for number, (stage, logits) in enumerate(zip((1, 0), fast, strict=True)):
        side = map_(f"chain.{number}.side", hidden[stage].flatten(2).mean(2))
        up = map_(f"chain.{number}.up", above)
        above = map_(f"chain.{number}.merge", torch.cat([up + side, up], 1))
        last = f"chain.{number}.classifier"
        expected = above @ weights[f"{last}.weight"].T + weights[f"{last}.bias"]
        torch.testing.assert_close(logits, expected)


def _exits(embedding: Tensor, hidden: tuple[Tensor, ...]) -> Exits:
    answer = Exit(len(hidden), torch.zeros(len(embedding), 6), embedding, embedding)
    return Exits((answer,), hidden)


def test_branches_of_resnet18_have_the_papers_size() -> None:
    network = build("resnet18", 100, exits=(4,))
    made = DualTeachers(blueprint(network, 100, 1, 32, build=tiny.build))
    # 2.75 M: (64 + 128 + 256) 512 + 3 (512 512 + 1024 512) + 9 norms + 3 classifiers
    assert sum(parameter.numel() for parameter in made.parameters()) == 2_751_788


def test_tokens_are_pooled_too() -> None:
    made = TopDown(4, (4, 4), width=5, classes=6)
    tokens = torch.randn(7, 9, 4)
    assert made(_exits(tokens[:, 0], (tokens, tokens, tokens))).shape == (2, 7, 6)
    plan = replace(tiny.blueprint((3,)), hidden=((9, 4), (9, 4), (9, 4)), embeddings=(4,))
    assert DualTeachers(plan, width=5).top_down.chain[0].side[0].in_features == 4  # type: ignore[union-attr, index]


def test_a_single_image_has_no_branches_and_is_not_remembered() -> None:
    made = DualTeachers(tiny.blueprint((3,)), width=8)
    torch.manual_seed(0)
    network, batch = tiny.build(exits=(3,)), tiny.batch(1, size=1)
    seen = network(batch.images)
    found = by_hand.terms(made, seen, batch, HALFWAY)
    assert list(found) == ["labels"]
    made.after_step(Outputs(seen, {}), batch, HALFWAY)
    assert not made.memory.rows.any()


def test_without_branches_the_network_has_its_past() -> None:
    made = DualTeachers(tiny.blueprint((3,)), branches=0.0, distillation=0.0)
    torch.manual_seed(0)
    network, batch = tiny.build(exits=(3,)), tiny.batch(1)
    seen = network(batch.images)
    assert list(by_hand.terms(made, seen, batch, HALFWAY)) == ["labels"]
    made.after_step(Outputs(seen, {}), batch, HALFWAY)
    torch.testing.assert_close(made.memory.rows[:6, 0], seen[-1].logits.softmax(1))


def test_a_network_of_one_stage_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'dtskd': the network has one stage.*cut the network"):
        DualTeachers(by_hand.blueprint(1, 2))
