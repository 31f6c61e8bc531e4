"""TF-KD by hand: one exit, one image, two and three classes; and against loops."""

import math

import pytest
import torch
from torch.nn import functional as F

from exitkit.errors import ConfigError
from exitkit.objectives import build
from exitkit.objectives.step import Step
from exitkit.objectives.tfkd import WrittenTeacher
from objectives import by_hand, tiny
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)


def test_every_term_by_hand() -> None:
    # The teacher is sure, (0, 1), and 1 / T is ln 3: it says (1/4, 3/4). The exit says (1/2, 1/2).
    seen = by_hand.exits([[[0, 0]]])
    objective = WrittenTeacher(
        by_hand.blueprint(1, 2), alpha=0.25, distillation=2.0, temperature=1 / LN3, sure=1.0
    )
    assert by_hand.terms(objective, seen, by_hand.batch([1]), CLOCK) == {
        "labels": pytest.approx(0.75 * LN2),
        "distillation": pytest.approx(2 * (0.75 * LN3 - LN2)),
    }


def test_what_the_label_does_not_get_is_shared_by_the_others() -> None:
    # u = (1/5, 3/5, 1/5), 1 / T = 5/2 ln 2: (1/4, 1/2, 1/4)
    seen = by_hand.exits([[[0, 0, 0]]])
    objective = WrittenTeacher(
        by_hand.blueprint(1, 3), distillation=1.0, temperature=0.4 / LN2, sure=0.6
    )
    found = by_hand.terms(objective, seen, by_hand.batch([1]), CLOCK)
    assert found["distillation"] == pytest.approx(LN3 - 1.5 * LN2)


def test_the_terms_are_those_of_the_obvious_loops() -> None:
    torch.manual_seed(0)
    objective = WrittenTeacher(tiny.blueprint((3,)), alpha=0.3, distillation=0.7, temperature=0.5)
    batch = tiny.batch(0)
    result = Step(tiny.build(exits=(3,)), objective)(batch, CLOCK)
    logits = result.out.main[-1].logits
    total = 0.0
    for row, label in zip(logits, batch.labels.tolist(), strict=True):
        u = torch.tensor([0.99 if c == label else 0.01 / 4 for c in range(5)])
        teacher = F.softmax(u / 0.5, dim=0)
        total += 0.7 * F.kl_div(F.log_softmax(row, dim=0), teacher, reduction="sum") / 6
    torch.testing.assert_close(result.terms["distillation"], total)
    torch.testing.assert_close(result.terms["labels"], 0.7 * F.cross_entropy(logits, batch.labels))


def test_in_a_sum_the_deepest_exit_alone_gives_up_some_of_its_labels() -> None:
    objective = build.build("tfkd(alpha=0.4)+deep", tiny.blueprint((1, 2, 3)))
    seen = by_hand.exits([[[0.0] * 5]] * 3)
    weights = by_hand.labels(objective, seen, by_hand.batch([1]), CLOCK).weights
    torch.testing.assert_close(weights, torch.tensor([1.0, 1.0, 0.6]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha=1.5: is no share"),
        ({"sure": -0.1}, "sure=-0.1: is no share"),
        ({"temperature": 0.0}, "temperature=0.0: is not above 0"),
        ({"distillation": -1.0}, "distillation=-1.0: is not 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WrittenTeacher(by_hand.blueprint(1, 2), **options)
