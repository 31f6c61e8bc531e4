"""Every term of every objective, on batches of every size, is a number that can be learned from."""

import pytest
import torch
from objectives import tiny
from torch.nn import functional as F

from contracts import trial
from exitkit.objectives import build as objectives


@pytest.mark.parametrize("text", trial.EVERY)
@pytest.mark.parametrize(("size", "precision"), [(2, "float32"), (6, "bf16")])
def test_every_term_is_a_finite_float32_scalar_with_a_gradient(
    text: str, size: int, precision: str
) -> None:
    subject = trial.make(text)
    names = set()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        for result in subject.take(trial.steps(subject.objective.views, size)):
            for name, term in result.terms.items():
                assert term.shape == (), name
                assert term.dtype == torch.float32, name
                assert torch.isfinite(term), name
                parameters = list(subject.step.parameters())
                gradients = torch.autograd.grad(
                    term, parameters, allow_unused=True, retain_graph=True
                )
                assert any(trial.alive(gradient) for gradient in gradients), name
                names.add(name)
            assert result.total.dtype == torch.float32
            torch.testing.assert_close(result.total, sum(result.terms.values()))
    assert names == {"labels", *subject.objective.flows()}


@pytest.mark.parametrize("text", trial.EVERY)
@pytest.mark.parametrize("size", [1, 3])
def test_a_short_last_batch_is_learned_from(text: str, size: int) -> None:
    subject = trial.make(text)
    result = trial.last(subject, last=size)
    assert torch.isfinite(result.total)
    assert all(
        trial.alive(g)
        for g in torch.autograd.grad(result.total, [a.logits for a in result.out.main])
    )
    # and what was remembered of it does not disturb the batch after it
    (after,) = subject.take(trial.steps(subject.objective.views)[1:2])
    assert torch.isfinite(after.total)


@pytest.mark.parametrize("text", trial.EVERY)
def test_every_exit_that_the_network_ships_is_taught(text: str) -> None:
    result = trial.last(trial.make(text))
    wanted = [answer.logits for answer in result.out.main]
    gradients = torch.autograd.grad(result.total, wanted, allow_unused=True)
    assert [trial.alive(gradient) for gradient in gradients] == [True] * len(wanted)


@pytest.mark.parametrize("name", trial.METHODS)
def test_with_zero_coefficients_the_network_moves_as_without_the_method(name: str) -> None:
    kind = objectives.OBJECTIVES[name]
    options = ", ".join(f"{key}={value}" for key, value in kind.plain.items())
    assert _moves_as_plain(f"{name}({options})")
    if kind.plain:
        assert not _moves_as_plain(name), "the method does nothing by default"


def _moves_as_plain(text: str) -> bool:
    subject = trial.make(text)
    same = True
    for (batch, _), result in zip(
        trial.steps(subject.objective.views),
        subject.take(trial.steps(subject.objective.views)),
        strict=True,
    ):
        plain = sum(F.cross_entropy(answer.logits, batch.labels) for answer in result.out.main)
        for parameter, expected in zip(
            subject.network.parameters(),
            torch.autograd.grad(plain, list(subject.network.parameters()), retain_graph=True),
            strict=True,
        ):
            assert parameter.grad is not None
            same = same and torch.allclose(parameter.grad, expected, rtol=1e-4, atol=1e-6)
    return same


@pytest.mark.parametrize("text", trial.EVERY)
def test_the_order_inside_the_batches_does_not_matter(text: str) -> None:
    order = torch.randperm(6, generator=torch.Generator().manual_seed(3))
    subject, mixed = trial.make(text), trial.make(text)
    batches = trial.steps(subject.objective.views)
    shuffled = [(tiny.reordered(batch, order), clock) for batch, clock in batches]
    *_, plain = subject.take(batches)
    *_, other = mixed.take(shuffled)
    for name, term in plain.terms.items():
        torch.testing.assert_close(other.terms[name], term, rtol=1e-3, atol=1e-5)
