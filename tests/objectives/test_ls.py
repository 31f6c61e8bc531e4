"""Label smoothing by hand, alone and under other methods' cross-entropies."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from exitkit.errors import ConfigError
from exitkit.objectives import build
from exitkit.objectives.ls import LabelSmoothing
from exitkit.objectives.step import Step
from exitkit.records import Outputs
from objectives import by_hand, tiny
from objectives.tiny import CLOCK

LN2, LN4 = math.log(2), math.log(4)


def test_the_label_keeps_nine_tenths_and_the_others_share_one() -> None:
    # probabilities 1/2, 1/4, 1/4
    seen = by_hand.exits([[[LN2, 0.0, 0.0]]])
    objective = LabelSmoothing(by_hand.blueprint(1, 3))
    targets = by_hand.labels(objective, seen, by_hand.batch([1]), CLOCK).targets
    torch.testing.assert_close(targets, torch.tensor([[[0.05, 0.9, 0.05]]]))
    found = by_hand.terms(objective, seen, by_hand.batch([1]), CLOCK)
    assert found == {"labels": pytest.approx(0.05 * LN2 + 0.95 * LN4)}


def test_a_soft_label_is_smoothed_as_the_mean_of_hard_ones() -> None:
    objective = LabelSmoothing(by_hand.blueprint(1, 3), smoothing=0.2)
    seen = by_hand.exits([[[0.0, 0.0, 0.0]]])
    labels = by_hand.labels(objective, seen, by_hand.batch([0]), CLOCK)
    soft = labels.with_targets(torch.tensor([[[0.75, 0.25, 0.0]]]))
    found = objective.supervise(soft, by_hand.batch([0]), CLOCK).targets
    # 3/4 of (0.8, 0.1, 0.1) and 1/4 of (0.1, 0.8, 0.1)
    torch.testing.assert_close(found, torch.tensor([[[0.625, 0.275, 0.1]]]))


def test_it_reaches_every_cross_entropy_that_byot_weighs() -> None:
    torch.manual_seed(0)
    step = Step(tiny.build(), build.build("ls+byot(last=1.9)", tiny.blueprint((1, 2, 3))))
    batch = tiny.batch(0)
    result = step(batch, CLOCK)
    expected = 0.0
    for weight, answer in zip((0.9, 0.9, 1.9), result.out.main, strict=True):
        logs = F.log_softmax(answer.logits, dim=1)
        for row, label in zip(logs, batch.labels.tolist(), strict=True):
            shares = [0.9 if c == label else 0.1 / 4 for c in range(5)]
            expected -= weight / 6 * sum(s * v for s, v in zip(shares, row, strict=True))
    torch.testing.assert_close(result.terms["labels"], expected)


@pytest.mark.parametrize(
    ("text", "share"),
    # Half of the label (0.7, 0.1, 0.1, 0.1, 0) is remembered. Smoothing 0.2 takes a fifth of each
    # class and gives it a twentieth of the rest.
    [("ls(smoothing=0.2)+pskd(alpha=1.0)", 0.75), ("pskd(alpha=1.0)+ls(smoothing=0.2)", 0.6875)],
)
def test_parts_speak_from_left_to_right(text: str, share: float) -> None:
    objective = build.build(text, by_hand.blueprint(1, 5, samples=1))
    said = [math.log(p) for p in (0.7, 0.1, 0.1, 0.1, 1e-30)]
    seen, batch = by_hand.exits([[said]]), by_hand.batch([0])
    objective.after_step(Outputs(seen, {}), batch, CLOCK)
    clock = replace(CLOCK, epoch=1)  # of 4 epochs: alpha is 1/2
    targets = by_hand.labels(objective, seen, batch, clock).targets
    assert targets.sum().item() == pytest.approx(1)
    assert targets[0, 0, 0].item() == pytest.approx(share)


def test_a_smoothing_that_is_no_share_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"smoothing=1\.5: is no share"):
        LabelSmoothing(by_hand.blueprint(1, 2), smoothing=1.5)
