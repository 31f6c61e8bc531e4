"""Phuong & Lampert by hand: two exits, one image, two classes; and against loops."""

import math

import pytest
import torch
from torch.nn import functional as F

from exitkit.errors import ConfigError
from exitkit.objectives.phuong import AnnealedDistillation
from exitkit.objectives.step import Step
from exitkit.records import Outputs
from objectives import by_hand, tiny
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)
# exit 1: (1/2, 1/2); exit 2: (1/10, 9/10), at T = 2 (1/4, 3/4)
SEEN = by_hand.exits([[[0, 0]], [[0, 2 * LN3]]])


def test_every_term_by_hand() -> None:
    objective = AnnealedDistillation(
        by_hand.blueprint(2, 2), alpha=0.25, temperature=2.0, scale=3.0, sure=0.7
    )
    assert by_hand.terms(objective, SEEN, by_hand.batch([1]), CLOCK) == {
        "labels": pytest.approx(3 * 0.75 * (LN2 + math.log(10 / 9))),
        # the cross-entropy of (1/2, 1/2) is ln 2 whatever is taught; T^2 = 4
        "distillation": pytest.approx(3 * 0.25 * 4 * LN2),
    }


def test_the_temperature_rises_only_while_the_deepest_exit_is_sure() -> None:
    objective = AnnealedDistillation(by_hand.blueprint(2, 3), growth=2.0, sure=0.6)
    unsure = by_hand.exits([[[0, 0, 9]], [[0, 0, LN2]]])  # deepest: 1/4, 1/4, 1/2
    sure = by_hand.exits([[[0, 0, 0]], [[0, 0, 2 * math.log(6)]]])  # 36 / 38, at T = 2 6 / 8
    temperatures = []
    for seen in (unsure, sure, sure, sure, unsure):
        objective.after_step(Outputs(seen, {}), by_hand.batch([0]), CLOCK)
        temperatures.append(objective.temperature.item())
    # at T = 4 the sure one says sqrt(6) / (2 + sqrt(6)), 0.55
    assert temperatures == [1.0, 2.0, 4.0, 4.0, 4.0]


def test_growth_of_one_keeps_the_temperature() -> None:
    objective = AnnealedDistillation(by_hand.blueprint(2, 2), temperature=4.0, growth=1.0)
    objective.after_step(Outputs(SEEN, {}), by_hand.batch([1]), CLOCK)
    assert objective.temperature.item() == 4.0


def test_the_defaults_give_every_exit_five_over_k() -> None:
    seen = by_hand.exits([[[0, 0, 0]]] * 4)
    weights = by_hand.labels(
        AnnealedDistillation(by_hand.blueprint(4, 3)), seen, by_hand.batch([1]), CLOCK
    ).weights
    torch.testing.assert_close(weights, torch.full((4,), 1.25))


def test_the_terms_are_those_of_the_obvious_loops() -> None:
    torch.manual_seed(0)
    objective = AnnealedDistillation(tiny.blueprint((1, 2, 3)), temperature=1.7)
    batch = tiny.batch(0)
    result = Step(tiny.build(), objective)(batch, CLOCK)
    *shallow, deepest = result.out.main
    taught = F.softmax(deepest.logits.detach() / 1.7, dim=1)
    labels = 0.5 * F.cross_entropy(deepest.logits, batch.labels)
    distillation = 0.0
    for answer in shallow:
        labels += 0.5 * F.cross_entropy(answer.logits, batch.labels)
        distillation += 0.5 * 1.7**2 * F.cross_entropy(answer.logits / 1.7, taught)
    torch.testing.assert_close(result.terms["labels"], 10 / 3 * labels)
    torch.testing.assert_close(result.terms["distillation"], 10 / 3 * distillation)


def test_two_classes_are_refused_where_the_temperature_would_never_stop() -> None:
    with pytest.raises(
        ConfigError, match=r"sure=0.5 on 2 classes: .* for ever; give more than 0.5"
    ):
        AnnealedDistillation(by_hand.blueprint(2, 2))
    AnnealedDistillation(by_hand.blueprint(2, 2), sure=0.6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha=1.5: is no share"),
        ({"temperature": 0.0}, "temperature=0.0: is not above 0"),
        ({"growth": 0.9}, "growth=0.9: is not 1 or more"),
        ({"sure": 2.0}, "sure=2.0: is no share"),
        ({"scale": -1.0}, "scale=-1.0: is not 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AnnealedDistillation(by_hand.blueprint(2, 3), **options)


def test_a_network_with_one_exit_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs two exits"):
        AnnealedDistillation(by_hand.blueprint(1, 3))
