"""Optimisers of a run: one per kind of update, every group on the run's schedule.

All parameters decay, batch-norm weights and biases too, as in the papers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from exitkit.errors import TrainingError, unknown
from exitkit.records import Clock, ParamGroup
from exitkit.train.settings import Resolved

NETWORK = "network"
ADAM_LR = 1e-3


@dataclass(frozen=True)
class Schedule:
    """The factor on every group's own learning rate, as a function of time alone.

    Attributes:
        kind: "cosine" (to zero at the end of the run) or "step".
        warmup: share of the run in which the factor rises linearly to the schedule's own.
        milestones: shares of the run after which the step schedule multiplies by `gamma`.
        gamma: factor of the step schedule.
    """

    kind: str
    warmup: float
    milestones: tuple[float, ...]
    gamma: float

    def factor(self, clock: Clock) -> float:
        """Return the factor of one step: it changes with every step, not once an epoch."""
        done = clock.epoch * clock.steps + clock.step
        total = clock.epochs * clock.steps
        rise = round(self.warmup * total)
        # The first step already learns: step i of a rise over n steps takes (i + 1) / n.
        climb = min(1.0, (done + 1) / rise) if rise else 1.0
        if self.kind == "step":
            passed = sum(done >= round(share * total) for share in self.milestones)
            return climb * self.gamma**passed
        if done < rise:
            return climb
        return 0.5 * (1.0 + math.cos(math.pi * (done - rise) / max(1, total - rise)))


class Optimisers:
    """Step the network's parameters and every group of the objective.

    Args:
        network: those of its parameters that can learn are one SGD group with the run's own
            options.
        groups: the objective's parameters; each names its optimiser, and the options in which
            it differs from the run's (Adam's learning rate is 1e-3 where it names none).
        config: the run's options.
        schedule: scales every group's learning rate relative to the group's own base.

    Raises:
        TrainingError: a parameter stands in two groups.
    """

    def __init__(
        self,
        network: nn.Module,
        groups: Sequence[ParamGroup],
        config: Resolved,
        schedule: Schedule,
    ) -> None:
        self._schedule = schedule
        self._clip = config.clip
        learning = tuple(p for p in network.parameters() if p.requires_grad)
        own = ParamGroup(NETWORK, learning, "sgd", {})
        kinds: dict[str, list[dict[str, Any]]] = {}  # Any: an optimiser's options
        for group in (own, *groups):
            kinds.setdefault(group.optimiser, []).append(_options(group, config))
        _refuse_shared((own, *groups))
        self.all = {kind: _build(kind, kinds[kind]) for kind in sorted(kinds)}

    def set_time(self, clock: Clock) -> float:
        """Set the learning rates of a step; return the network's."""
        factor = self._schedule.factor(clock)
        for optimiser in self.all.values():
            for group in optimiser.param_groups:
                group["lr"] = group["base_lr"] * factor
        return float(self._network_group()["lr"])

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimiser in self.all.values():
            optimiser.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move every parameter that has a gradient; the setting `clip` shortens it first."""
        for optimiser in self.all.values():
            if self._clip:
                for group in optimiser.param_groups:
                    # One by one: a student's large gradient must not shorten the network's.
                    torch.nn.utils.clip_grad_norm_(group["params"], self._clip)
            optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every optimiser by its kind."""
        return {kind: optimiser.state_dict() for kind, optimiser in self.all.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; the kinds must be the same."""
        if set(state) != set(self.all):
            raise ValueError(f"optimisers {sorted(state)} for {sorted(self.all)}")
        for kind, optimiser in self.all.items():
            optimiser.load_state_dict(state[kind])

    def _network_group(self) -> dict[str, Any]:
        return next(g for g in self.all["sgd"].param_groups if g["name"] == NETWORK)


def _options(group: ParamGroup, config: Resolved) -> dict[str, Any]:
    """Return one torch parameter group: the run's options under the group's own."""
    if group.optimiser == "sgd":
        run = {"lr": config.lr, "momentum": config.momentum, "nesterov": config.nesterov}
    elif group.optimiser == "adam":
        run = {"lr": ADAM_LR}
    else:
        raise unknown("optimiser", group.optimiser, ("sgd", "adam"))
    merged = {**run, "weight_decay": config.weight_decay, **group.options}
    return {
        **merged,
        "name": group.name,
        "params": list(group.params),
        "base_lr": merged["lr"],
    }


def _refuse_shared(groups: Sequence[ParamGroup]) -> None:
    owner: dict[nn.Parameter, str] = {}
    for group in groups:
        for parameter in group.params:
            if parameter in owner:
                raise TrainingError(
                    f"parameter group {group.name!r}",
                    f"shares a parameter with {owner[parameter]!r}",
                    "name every parameter in one group",
                )
            owner[parameter] = group.name


def _build(kind: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Build one optimiser; the fused kernels exist for processors and GPUs alike."""
    if kind == "adam":
        return torch.optim.Adam(groups, fused=True)
    optimiser = torch.optim.SGD(groups, fused=True)
    # The fused kernel wants either no momentum buffer or all of them, but a parameter may get
    # its first gradient later than others. Zero buffers give the same first step.
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if group["momentum"]:
                optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimiser
