"""ONE by hand: branches and a gate that say what was written down for them."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from exitkit.errors import ConfigError
from exitkit.objectives.one import Gate, NativeEnsemble
from exitkit.objectives.step import Step
from exitkit.records import Clock
from objectives import by_hand, tiny

LN2, LN3 = math.log(2), math.log(3)
START = Clock(epoch=0, epochs=10, step=0, steps=1)


class Weighs(nn.Module):
    """A gate with fixed weights."""

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.tensor([[0.25, 0.75], [0.25, 0.75]])


def objective(**options: float) -> NativeEnsemble:
    other = by_hand.Says([[0, 0], [0, 0]])

    def build(first: int, exits: Sequence[int]) -> nn.Module:
        assert (first, tuple(exits)) == (2, (2,))
        return other

    made = NativeEnsemble(
        replace(by_hand.blueprint(2, 2), build=build), branches=2, stage=1, temperature=1.0,
        **options,
    )  # fmt: skip
    made.gate = Weighs()  # type: ignore[assignment]
    return made


def test_every_term_by_hand() -> None:
    # the network says (0, 4 ln 3), its twin (0, 0); the ensemble 1/4 and 3/4 of them: (0, ln 3)
    hidden = (torch.zeros(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
    seen = by_hand.exits([[[0, 0]] * 2, [[0, 4 * LN3]] * 2], hidden=hidden)
    found = by_hand.terms(objective(), seen, by_hand.batch([1, 1]), START)
    network = (1 / 82, 81 / 82)
    teacher = (1 / 4, 3 / 4)
    kl_network = sum(t * math.log(t / p) for t, p in zip(teacher, network, strict=True))
    kl_twin = 0.75 * LN3 - LN2
    assert found == {
        "labels": pytest.approx(-math.log(network[1]), abs=1e-6),
        "peers": pytest.approx(LN2),
        "ensemble": pytest.approx(-math.log(3 / 4)),
        # the first epoch: exp(-5) of it
        "distillation": pytest.approx(math.exp(-5) * (kl_network + kl_twin)),
    }
    # 80 of 300 epochs are 2.67 of 10: from the third on all of it
    late = by_hand.terms(objective(), seen, by_hand.batch([1, 1]), replace(START, epoch=3))
    assert late["distillation"] == pytest.approx(kl_network + kl_twin)
    weighed = by_hand.terms(objective(peers=2.0, ensemble=3.0, distillation=0.0), seen,
                            by_hand.batch([1, 1]), START)  # fmt: skip
    assert weighed["peers"] == pytest.approx(2 * LN2)
    assert weighed["ensemble"] == pytest.approx(-3 * math.log(3 / 4))
    assert "distillation" not in weighed


def test_the_gate_is_the_papers() -> None:
    gate = Gate(1, 2)
    with torch.no_grad():
        gate.linear.weight.copy_(torch.tensor([[1.0], [-2.0]]))
        gate.norm.weight.copy_(torch.tensor([LN3, LN2]))
    # two images whose means are 1 and 5: normalised -1 and 1, the second branch the other way
    # round; times ln 3 and ln 2, and nothing below 0
    hidden = torch.tensor([[0.0, 2.0], [4.0, 6.0]]).reshape(2, 1, 1, 2)
    expected = torch.tensor([[1 / 3, 2 / 3], [3 / 4, 1 / 4]])
    torch.testing.assert_close(gate(hidden), expected, rtol=1e-5, atol=1e-5)
    # tokens [B, N, D] of the same values have the same mean
    torch.testing.assert_close(gate(hidden.flatten(2).transpose(1, 2)), gate(hidden))


def test_the_gate_takes_tokens_where_the_network_has_them() -> None:
    plan = replace(tiny.blueprint((3,)), hidden=((9, 4), (9, 8), (9, 16)))
    assert NativeEnsemble(plan).gate.linear.in_features == 8


def test_the_other_branches_are_of_the_networks_kind() -> None:
    torch.manual_seed(0)
    network = tiny.build(exits=(3,))
    made = NativeEnsemble(tiny.blueprint((3,)), branches=4, stage=1)
    assert len(made.branches) == 3
    shapes = {k: v.shape for k, v in network.state_dict().items() if not k.startswith("stages.1.")}
    for branch in made.branches:
        assert {k: v.shape for k, v in branch.state_dict().items()} == shapes


def test_a_batch_of_one_has_no_ensemble() -> None:
    step = Step(tiny.build(exits=(3,)), NativeEnsemble(tiny.blueprint((3,))))
    assert set(step(tiny.batch(0, 1), tiny.CLOCK).terms) == {"labels", "peers"}


@pytest.mark.parametrize("stage", [0, 3])
def test_a_stage_that_leaves_no_branch_is_refused(stage: int) -> None:
    with pytest.raises(ConfigError, match=rf"one\(stage={stage}\): the network has 3 stages.*1 to"):
        NativeEnsemble(tiny.blueprint((3,)), stage=stage)


def test_one_branch_is_refused() -> None:
    with pytest.raises(ConfigError, match="branches=1: is not 2 or more"):
        NativeEnsemble(tiny.blueprint((3,)), branches=1)
