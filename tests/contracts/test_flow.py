"""The gradient of every term arrives exactly where its table says, and nowhere else."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from contracts import trial
from exitkit.objectives.base import Flow
from exitkit.objectives.step import plain_labels
from exitkit.records import Exit, Exits, Outputs

POSITIONS = {
    "all": lambda count: set(range(count)),
    "shallow": lambda count: set(range(count - 1)),
    "middle": lambda count: set(range(1, count - 1)),
    "shallower": lambda count: set(range(count - 2)),
    "deepest": lambda count: {count - 1},
    "none": lambda count: set(),
}


def leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def leaves(exits: Exits) -> Exits:
    """The same values, each a leaf of its own, so that no path hides behind another."""
    answers = tuple(
        Exit(a.number, leaf(a.logits), leaf(a.feature), leaf(a.embedding)) for a in exits
    )
    return Exits(answers, tuple(leaf(hidden) for hidden in exits.hidden))


def reached(term: Tensor, tensors: Iterable[Tensor]) -> list[bool]:
    gradients = torch.autograd.grad(term, list(tensors), allow_unused=True, retain_graph=True)
    return [trial.alive(gradient) for gradient in gradients]


def check_hidden(flow: Flow, touched: set[int], stages: int) -> None:
    if flow.hidden == "one":
        assert len(touched) == 1
    else:
        assert touched == POSITIONS[flow.hidden](stages)


@pytest.mark.parametrize("text", trial.EVERY)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_gradients_arrive_exactly_where_the_table_says(text: str, precision: str) -> None:
    subject = trial.make(text)
    objective = subject.objective
    batches = trial.steps(objective.views)
    for _ in subject.take(batches[:2]):
        pass
    batch, clock = batches[2]
    cast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")
    with cast:
        seen = subject.step(batch, clock).out
        out = Outputs(leaves(seen.main), {k: leaves(v) for k, v in seen.passes.items()})
        labels = objective.supervise(plain_labels(out.main, batch), batch, clock)
        labels = replace(labels, targets=leaf(labels.targets))
        terms = objective.terms(out, labels, batch, clock)
    assert terms.keys() == objective.flows().keys()
    for name, term in terms.items():
        flow = objective.flows()[name]
        exits = set()
        for run in (out.main, *out.passes.values()):
            for position, answer in enumerate(run):
                if any(reached(term, (answer.logits, answer.feature, answer.embedding))):
                    exits.add(position)
        assert exits == POSITIONS[flow.exits](len(out.main)), name
        hits = reached(term, out.main.hidden)
        check_hidden(flow, {i for i, hit in enumerate(hits) if hit}, len(hits))
        check_modules(objective, name, term, flow)


def check_modules(objective: torch.nn.Module, name: str, term: Tensor, flow: Flow) -> None:
    parameters = dict(objective.named_parameters())
    hits = reached(term, parameters.values()) if parameters else []
    touched = {key for key, hit in zip(parameters, hits, strict=True) if hit}
    for module in flow.modules:
        assert any(key.startswith(f"{module}.") for key in touched), (name, module)
    strangers = [k for k in touched if not k.startswith(tuple(f"{m}." for m in flow.modules))]
    assert not strangers, name


@pytest.mark.parametrize("text", trial.EVERY)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_every_own_parameter_is_in_one_group_and_learns(text: str, precision: str) -> None:
    subject = trial.make(text)
    groups = subject.objective.param_groups()
    assert len({group.name for group in groups}) == len(groups)
    listed = [id(parameter) for group in groups for parameter in group.params]
    assert len(set(listed)) == len(listed)
    assert set(listed) == {id(parameter) for parameter in subject.objective.parameters()}
    assert {group.optimiser for group in groups} <= {"sgd", "adam"}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        trial.last(subject)
    assert all(trial.alive(parameter.grad) for parameter in subject.objective.parameters())
