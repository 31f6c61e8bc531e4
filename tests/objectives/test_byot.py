"""BYOT by hand: two exits, one image, two classes."""

import math
from dataclasses import replace

import pytest
import torch

from exitkit.errors import ConfigError
from exitkit.objectives.byot import BeYourOwnTeacher
from objectives import by_hand
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)


def test_every_term_by_hand() -> None:
    # exit 1: (1/2, 1/2); exit 2: logits (0, 2 ln 3) are (1/10, 9/10), at T = 2 they are (1/4, 3/4)
    seen = by_hand.exits([[[0, 0]], [[0, 2 * LN3]]], [[[1.0, -1.0]], [[3.0, -2.0]]])
    objective = BeYourOwnTeacher(
        by_hand.blueprint(2, 2, width=2), alpha=0.25, temperature=2.0, hint=0.5, last=2.0
    )
    found = by_hand.terms(objective, seen, by_hand.batch([1]), CLOCK)
    assert found == {
        # 3/4 of ln 2, and twice -ln 9/10
        "labels": pytest.approx(0.75 * LN2 + 2 * math.log(10 / 9)),
        # KL of (1/4, 3/4) from (1/2, 1/2) is 3/4 ln 3 - ln 2; times T^2 = 4, times alpha = 1/4
        "distillation": pytest.approx(0.75 * LN3 - LN2),
        # (1 - 3)^2 counts, (-1, -2) does not; times 1/2
        "hint": pytest.approx(2.0),
    }


def test_the_defaults_give_every_exit_nine_tenths_of_its_labels() -> None:
    seen = by_hand.exits([[[0, 0]], [[0, 0]], [[0, 0]]])
    objective = BeYourOwnTeacher(by_hand.blueprint(3, 2))
    weights = by_hand.labels(objective, seen, by_hand.batch([1]), CLOCK).weights
    torch.testing.assert_close(weights, torch.full((3,), 0.9))


def test_exits_before_the_first_are_neither_weighed_nor_taught() -> None:
    seen = by_hand.exits([[[5, 0]], [[0, 0]], [[0, 2 * LN3]]], [[[9.0]], [[1.0]], [[3.0]]])
    objective = BeYourOwnTeacher(
        by_hand.blueprint(3, 2), alpha=0.25, temperature=2.0, hint=0.5, first=2
    )
    found = by_hand.terms(objective, seen, by_hand.batch([1]), CLOCK)
    # exits 2 and 3 are those of the first test; of the hint the channel that counts is left
    assert found == {
        "labels": pytest.approx(0.75 * LN2 + 0.9 * math.log(10 / 9)),
        "distillation": pytest.approx(0.75 * LN3 - LN2),
        "hint": pytest.approx(2.0),
    }


def test_a_network_that_begins_with_the_first_exit_loses_nothing() -> None:
    late = replace(by_hand.blueprint(3, 2), exits=(2, 3, 4))
    assert BeYourOwnTeacher(late, first=2).skipped == 0


@pytest.mark.parametrize("first", [0, 3, 4])
def test_a_first_exit_that_has_nothing_to_learn_is_refused(first: int) -> None:
    with pytest.raises(ConfigError, match=rf"byot\(first={first}\): .*; give 1 to 2"):
        BeYourOwnTeacher(by_hand.blueprint(3, 2), first=first)


def test_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs two exits"):
        BeYourOwnTeacher(by_hand.blueprint(1, 2))
    uneven = by_hand.blueprint(2, 2)
    uneven = replace(uneven, embeddings=(4, 8))
    with pytest.raises(ConfigError, match=r"embeddings, and the exits' are \(4, 8\) wide"):
        BeYourOwnTeacher(uneven)
    BeYourOwnTeacher(uneven, hint=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha=1.5: is no share; give 0 to 1"),
        ({"temperature": 0.0}, "temperature=0.0: is not above 0"),
        ({"hint": -1.0}, "hint=-1.0: is not 0 or more"),
        ({"last": -1.0}, "last=-1.0: is not 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BeYourOwnTeacher(by_hand.blueprint(2, 2), **options)
