"""DRG by hand, and its auxiliary classifier's size."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from exitkit.errors import ConfigError
from exitkit.models.build import blueprint, build
from exitkit.objectives.drg import Auxiliary, ReverseGuidance
from exitkit.objectives.step import plain_labels
from exitkit.records import Outputs
from objectives import by_hand, tiny
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)


class Says(nn.Module):
    """An auxiliary classifier with a fixed answer."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, hidden: Tensor) -> Tensor:
        return self.answer


def objective(answer: Tensor, **options: float) -> ReverseGuidance:
    made = ReverseGuidance(by_hand.blueprint(2, 2), stage=1, **options)
    made.auxiliary = Says(answer)  # type: ignore[assignment]
    return made


HIDDEN = (torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))


def test_every_term_by_hand() -> None:
    # at T = 2 the classifier says (1/4, 3/4), the network (1/2, 1/2)
    made = objective(torch.tensor([[0.0, 2 * LN3]]), temperature=2.0, alpha=0.5, labels=3.0)
    seen = by_hand.exits([[[5.0, 5.0]], [[7.0, 7.0]]], hidden=HIDDEN)
    found = by_hand.terms(made, seen, by_hand.batch([1]), CLOCK)
    assert found == {
        "labels": pytest.approx(LN2),
        # at T = 1 it says (1/10, 9/10)
        "auxiliary": pytest.approx(3 * math.log(10 / 9)),
        "guidance": pytest.approx(0.5 * 4 * (0.75 * LN3 - LN2)),
    }


def test_the_network_follows_and_the_classifier_learns_from_labels_alone() -> None:
    answer = torch.tensor([[0.0, LN3]], requires_grad=True)
    seen = by_hand.exits([[[0.0, 0.0]], [[0.0, 0.0]]], hidden=HIDDEN)
    logits = seen[-1].logits.requires_grad_()
    batch = by_hand.batch([1])
    terms = objective(answer).terms(Outputs(seen, {}), plain_labels(seen, batch), batch, CLOCK)
    guided, taught = torch.autograd.grad(terms["guidance"], (logits, answer), allow_unused=True)
    # 0.2 times what the network says, (1/2, 1/2), minus what it is told, (1/4, 3/4)
    torch.testing.assert_close(guided, torch.tensor([[0.05, -0.05]]))
    assert taught is None
    network, own = torch.autograd.grad(terms["auxiliary"], (logits, answer), allow_unused=True)
    assert network is None
    torch.testing.assert_close(own, torch.tensor([[0.25, -0.25]]))


def test_the_classifier_has_as_many_parameters_as_the_papers() -> None:
    def count(channels: int) -> int:
        made = Auxiliary(channels, halvings=2, classes=100)
        return sum(parameter.numel() for parameter in made.parameters())

    assert count(128) == 342_116  # basic blocks
    assert count(512) == 4_710_500  # bottlenecks
    network = build("resnet18", 100, exits=(4,))
    made = ReverseGuidance(blueprint(network, 100, 1, 32, build=tiny.build))
    assert sum(parameter.numel() for parameter in made.parameters()) == 342_116


@pytest.mark.parametrize("side", [1, 5, 7])
@pytest.mark.parametrize("halvings", [1, 3])
def test_the_classifier_reads_maps_of_any_size(side: int, halvings: int) -> None:
    assert Auxiliary(4, halvings, 3)(torch.randn(2, 4, side, side)).shape == (2, 3)


@pytest.mark.parametrize("stage", [0, 3])
def test_a_stage_that_is_not_in_the_middle_is_refused(stage: int) -> None:
    with pytest.raises(ConfigError, match=f"stage={stage}.*3 stages"):
        ReverseGuidance(tiny.blueprint((3,)), stage=stage)


def test_a_classifier_that_learns_nothing_must_not_guide() -> None:
    with pytest.raises(
        ConfigError, match=r"drg\(labels=0.0, alpha=0.2\): a part that knows nothing"
    ):
        ReverseGuidance(tiny.blueprint((3,)), labels=0.0)
    ReverseGuidance(tiny.blueprint((3,)), labels=0.0, alpha=0.0)


def test_tokens_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'drg': compares feature maps, .* has tokens"):
        ReverseGuidance(replace(tiny.blueprint((3,)), hidden=((5, 8), (5, 8), (5, 8))))
