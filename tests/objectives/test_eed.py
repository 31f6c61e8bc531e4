"""EED and BEED by hand, and against loops over the exits."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from exitkit.errors import ConfigError
from exitkit.objectives.eed import BalancedExitEnsemble, ExitEnsemble
from exitkit.objectives.step import Step
from objectives import by_hand, tiny
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)
# exit 1: (1/2, 1/2); exit 2: (1/10, 9/10); their mean is (0, ln 3): (1/4, 3/4)
SEEN = by_hand.exits([[[0, 0]], [[0, 2 * LN3]]], [[[1.0, -1.0]], [[3.0, -2.0]]])
APART = (0.75 * LN3 - LN2, 0.25 * math.log(2.5) + 0.75 * math.log(3 / 3.6))
LABELS = (LN2, math.log(10 / 9))


def test_eed_by_hand() -> None:
    objective = ExitEnsemble(by_hand.blueprint(2, 2, width=2), temperature=1.0, feature=2.0)
    assert by_hand.terms(objective, SEEN, by_hand.batch([1]), CLOCK) == {
        "labels": pytest.approx(sum(LABELS)),
        "distillation": pytest.approx(sum(APART)),
        # the mean is (2, -3/2): each exit is (1, 1/2) away, a mean square of 5/8; twice 2
        "feature": pytest.approx(2.5),
    }


def test_the_mean_square_of_the_logits_stands_in_for_the_divergence() -> None:
    objective = ExitEnsemble(by_hand.blueprint(2, 2, width=2), logits="mse", distillation=3.0)
    found = by_hand.terms(objective, SEEN, by_hand.batch([1]), CLOCK)
    # each exit is (0, ln 3) away from the mean; two exits, times 3
    assert found["distillation"] == pytest.approx(3 * LN3**2)


def test_beed_by_hand() -> None:
    # The second exit counts three times the first: the mean is (0, 3/2 ln 3).
    objective = BalancedExitEnsemble(
        by_hand.blueprint(2, 2, width=2), beta=3.0, anneal=1.5, temperature=1.5, feature=1.0
    )
    found = by_hand.terms(objective, SEEN, by_hand.batch([1]), CLOCK)
    # at T = 3/2 the mean says (1/4, 3/4), exit 1 (1/2, 1/2), exit 2 (q, 1 - q)
    q = 1 / (1 + 3 ** (4 / 3))
    second = 0.25 * math.log(0.25 / q) + 0.75 * math.log(0.75 / (1 - q))
    assert found == {
        "labels": pytest.approx(0.5 * LABELS[0] + LABELS[1]),
        "distillation": pytest.approx(1.5**2 * (1.5 * APART[0] + second)),
        # the mean is (5/2, -7/4): (3/2, 3/4) and (1/2, 1/4) away
        "feature": pytest.approx((9 / 4 + 9 / 16 + 1 / 4 + 1 / 16) / 2),
    }


def test_the_defaults_of_beed_give_four_exits_the_papers_weights() -> None:
    seen = by_hand.exits([[[0, 0]]] * 4, [[[1.0]], [[0.0]], [[0.0]], [[0.0]]])
    objective = BalancedExitEnsemble(by_hand.blueprint(4, 2), feature=1.0)
    weights = by_hand.labels(objective, seen, by_hand.batch([1]), CLOCK).weights
    assert weights.tolist() == pytest.approx([0.4791, 0.6775, 0.85, 1.0], abs=1e-4)
    # only the first feature is not 0, so the mean is 0.108
    found = by_hand.terms(objective, seen, by_hand.batch([1]), CLOCK)
    assert found["feature"] == pytest.approx((1 - 0.108) ** 2 + 3 * 0.108**2, abs=1e-3)


def test_the_terms_are_those_of_the_obvious_loops() -> None:
    torch.manual_seed(0)
    network = tiny.build()
    options = {"beta": 1.3, "anneal": 1.1, "temperature": 2.0, "feature": 0.7}
    objective = BalancedExitEnsemble(tiny.blueprint((1, 2, 3)), **options)
    batch = tiny.batch(0)
    result = Step(network, objective)(batch, CLOCK)
    answers = list(result.out.main)
    total = sum(1.3**i for i in range(3))
    teacher = sum(1.3**i / total * answers[i].logits for i in range(3)).detach()
    feature = sum(1.3**i / total * answers[i].feature for i in range(3)).detach()
    labels, distillation, features = 0.0, 0.0, 0.0
    for i, answer in enumerate(answers):
        strength = 1.1 ** (2 - i)
        labels += (2 - strength) * F.cross_entropy(answer.logits, batch.labels)
        student = F.log_softmax(answer.logits / 2, dim=1)
        kl = F.kl_div(student, F.softmax(teacher / 2, dim=1), reduction="batchmean")
        distillation += strength * 4 * kl
        features += 0.7 * F.mse_loss(answer.feature, feature)
    torch.testing.assert_close(result.terms["labels"], labels)
    torch.testing.assert_close(result.terms["distillation"], distillation)
    torch.testing.assert_close(result.terms["feature"], features)


def test_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs two exits"):
        ExitEnsemble(by_hand.blueprint(1, 2))
    uneven = replace(by_hand.blueprint(2, 2), features=((4, 1, 1), (8, 1, 1)))
    with pytest.raises(ConfigError, match="'beed': compares the exits' features"):
        BalancedExitEnsemble(uneven)
    BalancedExitEnsemble(uneven, feature=0.0)
    BalancedExitEnsemble(by_hand.blueprint(5, 2))
    with pytest.raises(
        ConfigError, match=r"anneal=1.15 on 6 exits: .* below 0; give at most 1.148"
    ):
        BalancedExitEnsemble(by_hand.blueprint(6, 2))
    BalancedExitEnsemble(by_hand.blueprint(6, 2), anneal=1.148)
    BalancedExitEnsemble(by_hand.blueprint(2, 2), anneal=2.0)
    with pytest.raises(ConfigError, match=r"anneal=.* on 6 exits: .* below 0"):
        BalancedExitEnsemble(by_hand.blueprint(6, 2), anneal=1e200)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta=0.0: is not above 0"),
        ({"anneal": -1.0}, "anneal=-1.0: is not above 0"),
        ({"temperature": 0.0}, "temperature=0.0: is not above 0"),
        ({"distillation": -1.0}, "distillation=-1.0: is not 0 or more"),
        ({"feature": -1.0}, "feature=-1.0: is not 0 or more"),
        ({"logits": "l1"}, "'l1'.*kl"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExitEnsemble(by_hand.blueprint(2, 2), **options)
