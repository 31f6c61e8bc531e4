"""OKDDip by hand, and against loops over peers and images."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exitkit.errors import ConfigError
from exitkit.objectives.okddip import DiversePeers
from exitkit.objectives.step import Step
from exitkit.records import Clock
from objectives import by_hand, tiny

LN2, LN3 = math.log(2), math.log(3)
START = Clock(epoch=0, epochs=10, step=0, steps=1)
LATE = replace(START, epoch=3)  # 80 of 300 epochs are 2.67 of 10


class Weighs(nn.Module):
    """An attention with fixed weights."""

    def forward(self, embeddings: Tensor) -> Tensor:
        return torch.tensor([[[0.75, 0.25], [0.0, 1.0]]])


def kl(p: tuple[float, float], q: tuple[float, float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_every_term_by_hand() -> None:
    # Peers say (0, 0) and (0, 4 ln 3): the first's teacher says (0, ln 3), the second's is the
    # second itself, and their mean is (0, 2 ln 3). The leader says (0, 0).
    twins = by_hand.Says([[0, 0]]), by_hand.Says([[0, 4 * LN3]])
    made = DiversePeers(
        by_hand.peers(by_hand.blueprint(2, 2), *twins), branches=2, stage=1, temperature=1.0,
        peers=2.0, distillation=3.0,
    )  # fmt: skip
    made.attention = Weighs()  # type: ignore[assignment]
    hidden = (torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    seen, batch = by_hand.exits([[[0, 0]]] * 2, hidden=hidden), by_hand.batch([1])
    flat = (0.5, 0.5)
    expected = {
        "labels": pytest.approx(LN2),
        "peers": pytest.approx(2 * (LN2 - math.log(81 / 82))),
        "group": pytest.approx(3 * (kl((0.25, 0.75), flat) + 0), abs=1e-6),
        "leader": pytest.approx(3 * kl((0.1, 0.9), flat), abs=1e-6),
    }
    assert by_hand.terms(made, seen, batch, LATE) == expected
    first = by_hand.terms(made, seen, batch, START)
    assert first["group"] == pytest.approx(math.exp(-5) * 3 * kl((0.25, 0.75), flat))
    assert first["leader"] == pytest.approx(math.exp(-5) * 3 * kl((0.1, 0.9), flat))


def test_the_loss_and_its_gradients_are_those_of_the_obvious_loops() -> None:
    torch.manual_seed(0)
    made = DiversePeers(tiny.blueprint((3,)), branches=3, stage=1)
    step, batch = Step(tiny.build(exits=(3,)), made).eval(), tiny.batch(0, 4)
    total = step(batch, LATE).total
    main = step.network(batch.images)
    peers = [branch(main.hidden[0])[-1] for branch in made.branches]
    query, key = made.attention.query.weight, made.attention.key.weight
    slow = F.cross_entropy(main[-1].logits, batch.labels)
    for peer in peers:
        slow = slow + F.cross_entropy(peer.logits, batch.labels)
    for image in range(4):
        x = torch.stack([peer.embedding[image] for peer in peers])
        z = torch.stack([peer.logits[image] for peer in peers])
        weights = ((x @ query.T) @ (x @ key.T).T).softmax(1)
        leader = main[-1].logits[image]
        for teacher, student in [*zip(weights @ z, z, strict=True), (z.mean(0), leader)]:
            p, q = (teacher / 3).softmax(0), (student / 3).softmax(0)
            slow = slow + 9 * (p * (p.log() - q.log())).sum() / 4
    torch.testing.assert_close(total, slow)
    parameters = list(step.parameters())
    wanted = torch.autograd.grad(slow, parameters)
    for found, gradient in zip(torch.autograd.grad(total, parameters), wanted, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


def test_the_peers_are_of_the_networks_kind() -> None:
    made = DiversePeers(tiny.blueprint((3,)), branches=4, stage=1)
    shapes = {k: v.shape for k, v in tiny.build(2, (3,)).state_dict().items()}
    assert len(made.branches) == 4
    for branch in made.branches:
        assert {k: v.shape for k, v in branch.state_dict().items()} == shapes
    names = [group.name for group in made.param_groups()]
    assert names == ["peer1", "peer2", "peer3", "peer4", "attention"]


def test_a_stage_that_leaves_no_branch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"okddip\(stage=3\): the network has 3 stages.*1 to 2"):
        DiversePeers(tiny.blueprint((3,)), stage=3)
    with pytest.raises(ConfigError, match="branches=1: is not 2 or more"):
        DiversePeers(tiny.blueprint((3,)), branches=1)
