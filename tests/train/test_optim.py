import copy
import math

import pytest
import torch
from torch import nn

from exitkit.errors import ConfigError, TrainingError
from exitkit.records import Clock, ParamGroup
from exitkit.train.optim import Optimisers, Schedule
from exitkit.train.settings import Resolved

FLAT = Schedule("step", warmup=0.0, milestones=(), gamma=0.1)


def resolved(**given) -> Resolved:
    whole = dict(
        epochs=1,
        batch_size=1,
        image_size=32,
        schedule="cosine",
        tune_share=0.1,
        warmup=0.0,
        threads=1,
    )
    return Resolved(**whole | given)


def clock(step: int, steps: int = 10, epochs: int = 1) -> Clock:
    return Clock(step // steps, epochs, step % steps, steps)


def test_cosine_falls_from_one_to_zero_with_every_step():
    schedule = Schedule("cosine", warmup=0.0, milestones=(), gamma=0.1)
    factors = [schedule.factor(clock(step, steps=2, epochs=2)) for step in range(4)]
    # cos(0), cos(pi/4), cos(pi/2), cos(3 pi/4), each (1 + cos) / 2
    half = math.sqrt(0.5)
    assert factors == pytest.approx([1.0, (1 + half) / 2, 0.5, (1 - half) / 2])


def test_warm_up_rises_linearly_and_the_cosine_starts_after_it():
    schedule = Schedule("cosine", warmup=0.4, milestones=(), gamma=0.1)
    factors = [schedule.factor(clock(step)) for step in range(10)]
    assert factors[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert factors[7] == pytest.approx(0.5)  # three of the six steps after the rise


def test_steps_multiply_at_shares_of_the_run():
    schedule = Schedule("step", warmup=0.0, milestones=(0.375, 0.65, 0.9), gamma=0.1)
    epochs = [schedule.factor(Clock(epoch, 200, 0, 7)) for epoch in (0, 74, 75, 129, 130, 179, 180)]
    assert epochs == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001])


def test_every_group_follows_the_schedule_from_its_own_base():
    network, fusion, nets = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    groups = [
        ParamGroup("fusion", tuple(fusion.parameters()), "sgd", {"lr": 0.02, "weight_decay": 1e-5}),
        ParamGroup("nets", tuple(nets.parameters()), "adam", {}),
    ]
    config = resolved(lr=0.1, weight_decay=5e-4, nesterov=True)
    optimisers = Optimisers(network, groups, config, Schedule("cosine", 0.0, (), 0.1))
    assert optimisers.set_time(clock(5)) == pytest.approx(0.05)
    found = {
        group["name"]: (group["lr"], group["weight_decay"], group.get("nesterov"))
        for optimiser in optimisers.all.values()
        for group in optimiser.param_groups
    }
    assert found == {
        "network": (pytest.approx(0.05), 5e-4, True),
        "fusion": (pytest.approx(0.01), 1e-5, True),
        "nets": (pytest.approx(0.0005), 5e-4, None),
    }
    assert sorted(optimisers.all) == ["adam", "sgd"]


def test_fused_steps_are_sgd_as_written_down_also_for_late_gradients():
    # v <- m v + (g + d w);  w <- w - lr v, and nothing at all without a gradient
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    network.to(memory_format=torch.channels_last)
    config = resolved(lr=0.1, momentum=0.9, weight_decay=0.01)
    optimisers = Optimisers(network, [], config, FLAT)
    weights = [copy.deepcopy(p.detach()) for p in network.parameters()]
    speeds = [torch.zeros_like(w) for w in weights]
    generator = torch.Generator().manual_seed(0)
    for step in range(4):
        optimisers.zero_grad()
        optimisers.set_time(clock(step))
        for number, parameter in enumerate(network.parameters()):
            if step == 0 and number == 2:
                continue
            gradient = torch.randn(parameter.shape, generator=generator)
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
            speeds[number] = 0.9 * speeds[number] + gradient + 0.01 * weights[number]
            weights[number] = weights[number] - 0.1 * speeds[number]
        optimisers.step()
    for parameter, expected in zip(network.parameters(), weights, strict=True):
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)


def test_state_comes_back_with_the_momentum():
    first = nn.Linear(3, 2)
    second = copy.deepcopy(first)
    config = resolved(lr=0.1)
    one, other = (Optimisers(net, [], config, FLAT) for net in (first, second))

    def move(network, optimisers):
        optimisers.zero_grad()
        optimisers.set_time(clock(0))
        network(torch.ones(1, 3)).sum().backward()
        optimisers.step()

    move(first, one)
    second.load_state_dict(first.state_dict())
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    move(first, one)
    move(second, other)
    assert torch.equal(first.weight, second.weight)
    with pytest.raises(ValueError, match="optimisers"):
        other.load_state_dict({"adam": {}})


def test_a_parameter_of_two_groups_is_refused():
    network = nn.Linear(2, 2)
    group = ParamGroup("copy", (network.weight,), "sgd", {})
    with pytest.raises(TrainingError, match="'copy': shares a parameter with 'network'"):
        Optimisers(network, [group], resolved(lr=0.1), FLAT)


def test_an_unknown_optimiser_is_refused_with_the_choices():
    group = ParamGroup("own", (nn.Parameter(torch.zeros(1)),), "sdg", {})
    with pytest.raises(ConfigError, match=r"did you mean 'sgd'.*adam, sgd"):
        Optimisers(nn.Linear(2, 2), [group], resolved(lr=0.1), FLAT)


def test_every_group_is_clipped_by_itself():
    network, nets = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    group = ParamGroup("nets", tuple(nets.parameters()), "sgd", {})
    optimisers = Optimisers(network, [group], resolved(lr=1.0, weight_decay=0.0, clip=5.0), FLAT)
    for module, gradient in ((network, [6.0, 8.0]), (nets, [3.0, 0.0])):
        with torch.no_grad():
            module.weight.zero_()
        module.weight.grad = torch.tensor([gradient])
    optimisers.set_time(clock(0))
    optimisers.step()
    # Of length 10, the first is halved; of length 3, the second is not touched.
    torch.testing.assert_close(network.weight, torch.tensor([[-3.0, -4.0]]))
    torch.testing.assert_close(nets.weight, torch.tensor([[-3.0, 0.0]]))


def test_what_is_frozen_is_no_part_of_an_optimiser():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    optimisers = Optimisers(network, [], resolved(lr=1.0), FLAT)
    (group,) = optimisers.all["sgd"].param_groups
    assert group["params"] == list(network[1].parameters())
