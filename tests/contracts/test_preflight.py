"""The trial before training refuses what is dead, and leaves no trace."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from objectives import tiny
from torch import Tensor

from contracts import trial
from exitkit.errors import TrainingError
from exitkit.objectives import build as objectives
from exitkit.objectives import preflight

TERMS = [(text, term) for text in trial.METHODS for term in objectives.OBJECTIVES[text].flow]


def check(subject: trial.Trial) -> None:
    batches = [batch for batch, _ in trial.steps(subject.objective.views)[:2]]
    preflight.check(subject.step, batches, tiny.CLOCK)


@pytest.mark.parametrize("text", trial.EVERY)
def test_a_living_objective_passes_and_nothing_has_changed(text: str) -> None:
    subject = trial.make(text)
    before = {k: v.clone() for k, v in subject.step.state_dict().items()}
    generator = torch.get_rng_state()
    check(subject)
    after = subject.step.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert all(parameter.grad is None for parameter in subject.step.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize(("text", "term"), TERMS)
def test_a_copy_with_a_detached_term_is_refused(
    text: str, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = trial.make(text)
    monkeypatch.setattr(type(subject.objective), "terms", _detaching(subject, term))
    with pytest.raises(TrainingError, match=f"'{term}': moves no weight"):
        check(subject)


def _detaching(subject: trial.Trial, term: str) -> Callable[..., dict[str, Tensor]]:
    terms = type(subject.objective).terms

    def dead(self: Any, *arguments: Any) -> dict[str, Tensor]:  # Any: whatever terms takes
        return {
            name: value.detach() if name == term else value
            for name, value in terms(self, *arguments).items()
        }

    return dead


@pytest.mark.parametrize("text", trial.METHODS)
def test_an_exit_that_nothing_teaches_is_refused(text: str) -> None:
    if objectives.teaches(text) == "all":
        check(trial.make(text))
        return
    with pytest.raises(TrainingError, match="nothing teaches exit 1, 2"):
        check(trial.make(text, exits=(1, 2, 3)))
