"""ECSD by hand: three exits, one image, two classes; and against loops."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from exitkit.errors import ConfigError
from exitkit.objectives.ecsd import AdaptedTeacher
from exitkit.objectives.step import Step
from objectives import by_hand, tiny
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)
# exits 1 and 2: (1/2, 1/2); exit 3: (1/10, 9/10), at T = 2 (1/4, 3/4)
SEEN = by_hand.exits(
    [[[0, 0]], [[0, 0]], [[0, 2 * LN3]]], [[[5.0, 0.0]], [[1.0, -1.0]], [[4.0, 3.0]]]
)


def doubling(objective: AdaptedTeacher) -> AdaptedTeacher:
    """The objective with adapters that double what they see."""
    for adapter in objective.adapters.values():
        assert isinstance(adapter, nn.Linear)
        adapter.weight.data.copy_(2 * torch.eye(2))
        adapter.bias.data.zero_()
    return objective


@pytest.mark.parametrize(
    ("skip", "norms"),
    # exit 1: (10, 0) is (6, -3) away; exit 2: (2, -2) is (-2, -5) away
    [
        ("shallowest", math.sqrt(29)),
        ("deepest", math.sqrt(45)),
        ("none", math.sqrt(29) + math.sqrt(45)),
    ],
)
def test_every_term_by_hand(skip: str, norms: float) -> None:
    objective = doubling(
        AdaptedTeacher(
            by_hand.blueprint(3, 2, width=2), alpha=0.25, temperature=2.0, feature=0.5, skip=skip
        )
    )
    assert by_hand.terms(objective, SEEN, by_hand.batch([1]), CLOCK) == {
        "labels": pytest.approx(2 * 0.75 * LN2 + math.log(10 / 9)),
        # twice the cross-entropy of (1/2, 1/2), which is ln 2 whatever is taught; no T^2
        "distillation": pytest.approx(2 * 0.25 * LN2),
        "feature": pytest.approx(0.5 * norms),
    }


@pytest.mark.parametrize(
    ("skip", "compared"), [("shallowest", {"2"}), ("deepest", {"1"}), ("none", {"1", "2"})]
)
def test_the_terms_are_those_of_the_obvious_loops(skip: str, compared: set[str]) -> None:
    torch.manual_seed(0)
    objective = AdaptedTeacher(tiny.blueprint((1, 2, 3)), temperature=2.0, skip=skip)
    assert set(objective.adapters) == compared
    batch = tiny.batch(0)
    result = Step(tiny.build(), objective)(batch, CLOCK)
    *shallow, deepest = result.out.main
    distillation, feature = 0.0, 0.0
    for answer in shallow:
        taught = F.softmax(deepest.logits.detach() / 2, dim=1)
        distillation += 0.3 * F.cross_entropy(answer.logits / 2, taught)
        if str(answer.number) in compared:
            adapter = objective.adapters[str(answer.number)]
            rows = (adapter(answer.embedding) - deepest.embedding).detach()
            feature += 0.03 * sum(float(value) ** 2 for row in rows for value in row) ** 0.5
    torch.testing.assert_close(result.terms["distillation"], distillation)
    assert result.terms["feature"].item() == pytest.approx(feature)


@pytest.mark.parametrize("skip", ["shallowest", "deepest", "none"])
def test_the_flow_table_follows_the_exit_that_is_skipped(skip: str) -> None:
    objective = AdaptedTeacher(by_hand.blueprint(4, 2, width=2), skip=skip)
    expected = {"shallowest": "middle", "deepest": "shallower", "none": "shallow"}
    assert objective.flows()["feature"].exits == expected[skip]
    numbers = {"shallowest": ["2", "3"], "deepest": ["1", "2"], "none": ["1", "2", "3"]}
    assert list(objective.adapters) == numbers[skip]


def test_embeddings_of_different_widths_are_adapted() -> None:
    uneven = replace(by_hand.blueprint(3, 2), embeddings=(4, 8, 16))
    (adapter,) = AdaptedTeacher(uneven).adapters.values()
    assert isinstance(adapter, nn.Linear)
    assert (adapter.in_features, adapter.out_features) == (8, 16)


def test_without_its_term_there_are_no_adapters() -> None:
    objective = AdaptedTeacher(by_hand.blueprint(3, 2), feature=0.0)
    assert objective.param_groups() == []
    assert list(objective.parameters()) == []


def test_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs two exits"):
        AdaptedTeacher(by_hand.blueprint(1, 2))
    for skip in ("shallowest", "deepest"):
        with pytest.raises(ConfigError, match=f"exits 1, 2: skip='{skip}' leaves no exit"):
            AdaptedTeacher(by_hand.blueprint(2, 2), skip=skip)
    AdaptedTeacher(by_hand.blueprint(2, 2), skip="none")
    AdaptedTeacher(by_hand.blueprint(2, 2), feature=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha=1.5: is no share"),
        ({"temperature": 0.0}, "temperature=0.0: is not above 0"),
        ({"feature": -1.0}, "feature=-1.0: is not 0 or more"),
        ({"skip": "first"}, "exit to skip 'first'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdaptedTeacher(by_hand.blueprint(3, 2), **options)
