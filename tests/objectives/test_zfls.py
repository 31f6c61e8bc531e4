"""ZF-LS by hand: one exit, one image, four classes; and against loops over the classes."""

import math
from dataclasses import replace

import pytest
import torch

from exitkit.errors import ConfigError
from exitkit.objectives.step import Step
from exitkit.objectives.zfls import ZipfSmoothing, ranks
from exitkit.records import Exits, Outputs
from objectives import by_hand, tiny
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)


def test_ranks_count_what_is_larger_and_ties_share_the_best() -> None:
    found = ranks(torch.tensor([[3.0, 5.0, 3.0, 1.0], [2.0, 2.0, 2.0, 2.0]]))
    assert found.tolist() == [[2, 1, 2, 4], [1, 1, 1, 1]]


def test_the_term_by_hand() -> None:
    # Ranks 3, 1, 2, 3 with the label at rank 2: 1/3, 1, 1/3 over 5/3 are (1/5, 3/5, 1/5).
    seen = by_hand.exits([[[0.0, LN3, LN2, 0.0]]])
    objective = ZipfSmoothing(by_hand.blueprint(1, 4), weight=0.5)
    found = by_hand.terms(objective, seen, by_hand.batch([2]), CLOCK)
    assert found == {
        "labels": pytest.approx(math.log(7 / 2)),
        # without the label the exit says (1/5, 3/5, 1/5) too
        "zipf": pytest.approx(0.0, abs=1e-7),
    }
    found = by_hand.terms(objective, seen, by_hand.batch([1]), CLOCK)
    # ranks 3, 2, 3 of the others: (2/7, 3/7, 2/7); the exit says (1/4, 1/2, 1/4)
    expected = 4 / 7 * math.log(8 / 7) + 3 / 7 * math.log(6 / 7)
    assert found["zipf"] == pytest.approx(0.5 * expected, rel=1e-4)


def test_the_term_and_its_gradient_are_those_of_the_obvious_loops() -> None:
    torch.manual_seed(0)
    batch = tiny.batch(0)
    result = Step(tiny.build(exits=(3,)), ZipfSmoothing(tiny.blueprint((3,)), weight=0.7))(
        batch, CLOCK
    )
    logits = result.out.main[-1].logits
    total = 0.0
    for row, label in zip(logits, batch.labels.tolist(), strict=True):
        others = [c for c in range(5) if c != label]
        rank = {c: 1 + sum(bool(other > row[c]) for other in row) for c in others}
        whole = sum(1 / rank[c] for c in others)
        exponentials = {c: row[c].exp() for c in others}
        for c in others:
            law = 1 / rank[c] / whole
            said = exponentials[c] / sum(exponentials.values())
            total += 0.7 / 6 * law * (math.log(law) - said.log())
    torch.testing.assert_close(result.terms["zipf"], total)
    (expected,) = torch.autograd.grad(total, logits, retain_graph=True)
    (found,) = torch.autograd.grad(result.terms["zipf"], logits)
    torch.testing.assert_close(found, expected)


def test_the_label_itself_gets_no_gradient() -> None:
    logits = torch.tensor([[4.0, 1.0, 0.0]], requires_grad=True)
    (answer,) = by_hand.exits([[[4.0, 1.0, 0.0]]])
    seen = Exits((replace(answer, logits=logits),), ())
    objective = ZipfSmoothing(by_hand.blueprint(1, 3))
    given = by_hand.batch([0])
    labels = by_hand.labels(objective, seen, given, CLOCK)
    objective.terms(Outputs(seen, {}), labels, given, CLOCK)["zipf"].backward()
    assert logits.grad is not None
    assert logits.grad[0, 0].item() == 0.0
    assert logits.grad[0, 1].item() != 0.0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="'zfls' on 2 classes: ranks the classes that are wrong"):
        ZipfSmoothing(by_hand.blueprint(1, 2))
    with pytest.raises(ConfigError, match=r"weight=-1\.0: is not 0 or more"):
        ZipfSmoothing(by_hand.blueprint(1, 3), weight=-1.0)
