"""What an objective remembers is its own: it moves, is saved and resumes with it."""

import copy
import io

import pytest
import torch
from objectives import tiny

from contracts import trial


def saved(state: dict[str, object]) -> dict[str, object]:
    """The state after a way through a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, object] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("text", trial.EVERY)
def test_resuming_gives_the_very_same_numbers(text: str) -> None:
    straight = trial.make(text)
    batches = trial.steps(straight.objective.views, last=4)
    _, _, _, *expected = straight.take([*batches, *batches])
    stopped, resumed = trial.make(text), trial.make(text, seed=7)
    trial.last(stopped, last=4)
    resumed.network.load_state_dict(saved(stopped.network.state_dict()))
    resumed.objective.load_state_dict(saved(stopped.objective.state_dict()))
    for wanted, found in zip(expected, resumed.take(batches), strict=True):
        assert found.terms.keys() == wanted.terms.keys()
        for name, term in wanted.terms.items():
            assert torch.equal(found.terms[name], term), name


@pytest.mark.parametrize("text", trial.EVERY)
def test_moving_the_objective_moves_everything_it_holds(text: str) -> None:
    subject = trial.make(text)
    trial.last(subject)
    moved = copy.deepcopy(subject.objective).to("meta")
    devices = trial.own_state(moved, lambda tensor: tensor.device.type)
    assert set(devices) <= {"meta"}


@pytest.mark.parametrize("text", trial.EVERY)
def test_all_state_is_saved(text: str) -> None:
    subject = trial.make(text)
    trial.last(subject)
    kept = {tensor.data_ptr() for tensor in subject.objective.state_dict().values()}
    held = trial.own_state(subject.objective, lambda tensor: tensor.data_ptr())
    assert set(held) == kept


@pytest.mark.parametrize("text", trial.EVERY)
def test_the_network_never_holds_the_objective(text: str) -> None:
    subject = trial.make(text)
    plain = tiny.build(exits=subject.network.exits)
    trial.last(subject)
    assert subject.network.state_dict().keys() == plain.state_dict().keys()
    networks = {id(tensor) for tensor in subject.network.parameters()}
    assert not networks & {id(tensor) for tensor in subject.objective.parameters()}


@pytest.mark.parametrize("text", trial.EVERY)
def test_memories_are_float32_and_outside_the_graph(text: str) -> None:
    subject = trial.make(text)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trial.last(subject)
    for name, buffer in subject.objective.named_buffers():
        assert buffer.dtype in (torch.float32, torch.int64), name
        assert not buffer.requires_grad, name
        assert buffer.grad_fn is None, name
