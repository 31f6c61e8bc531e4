"""PS-KD by hand, and against a memory kept in a dictionary."""

import math
from dataclasses import replace

import pytest
import torch

from exitkit.errors import ConfigError
from exitkit.objectives.pskd import ProgressiveSelfDistillation
from exitkit.records import Clock, Outputs
from objectives import by_hand

LN3 = math.log(3)
CLOCK = Clock(epoch=0, epochs=4, step=0, steps=1)


def test_targets_by_hand() -> None:
    objective = ProgressiveSelfDistillation(by_hand.blueprint(1, 2), alpha=0.8)
    # says (1/4, 3/4) of image 3 and (1/2, 1/2) of image 1
    seen = by_hand.exits([[[0, LN3], [0, 0]]])
    batch = by_hand.batch([0, 1], index=[3, 1])
    first = by_hand.labels(objective, seen, batch, CLOCK).targets
    assert first.tolist() == [[[1, 0], [0, 1]]]
    objective.after_step(Outputs(seen, {}), batch, CLOCK)
    torch.testing.assert_close(
        objective.memory.rows, torch.tensor([[0, 0], [0.5, 0.5], [0, 0], [0.25, 0.75]])
    )
    # second of four epochs: alpha is 0.8 * 2 / 4 = 0.4
    second = by_hand.labels(objective, seen, batch, replace(CLOCK, epoch=1)).targets
    expected = torch.tensor([[[0.6 + 0.4 * 0.25, 0.4 * 0.75], [0.4 * 0.5, 0.6 + 0.4 * 0.5]]])
    torch.testing.assert_close(second, expected)


def test_alpha_reaches_its_value_in_the_last_epoch() -> None:
    objective = ProgressiveSelfDistillation(by_hand.blueprint(1, 2), alpha=0.8)
    objective.memory.rows[:] = torch.tensor([0.0, 1.0])
    seen, batch = by_hand.exits([[[0, 0]]]), by_hand.batch([0])
    shares = [
        by_hand.labels(objective, seen, batch, replace(CLOCK, epoch=e)).targets[0, 0, 1].item()
        for e in range(4)
    ]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_the_memory_is_that_of_a_dictionary() -> None:
    draw = torch.Generator().manual_seed(0)
    objective = ProgressiveSelfDistillation(by_hand.blueprint(2, 3, samples=10))
    slow: dict[int, list[float]] = {}
    for epoch in range(3):
        clock = Clock(epoch, 3, 0, 1)
        alpha = 0.8 * (epoch + 1) / 3
        for rows in torch.randperm(10, generator=draw)[:8].split(4):
            labels = torch.randint(0, 3, (4,), generator=draw)
            seen = by_hand.exits(torch.randn(2, 4, 3, generator=draw).tolist())
            batch = by_hand.batch(labels.tolist(), rows.tolist())
            fast = by_hand.labels(objective, seen, batch, clock).targets
            for b, row in enumerate(rows.tolist()):
                hot = [float(c == labels[b]) for c in range(3)]
                past = slow.get(row, hot)
                q = [(1 - alpha) * h + alpha * p for h, p in zip(hot, past, strict=True)]
                torch.testing.assert_close(fast[:, b], torch.tensor([q, q]))
            objective.after_step(Outputs(seen, {}), batch, clock)
            for b, row in enumerate(rows.tolist()):
                slow[row] = seen[-1].logits[b].softmax(0).tolist()


def test_a_weight_that_is_no_share_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"alpha=1\.1: is no share"):
        ProgressiveSelfDistillation(by_hand.blueprint(1, 2), alpha=1.1)
