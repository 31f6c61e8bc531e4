"""One objective on the tiny network, taken through three steps: what every contract looks at.

The third step meets the images of the first again, one epoch later, so that memories of every
kind have something to say. Nothing in this folder knows the name of a method; the sums are data.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from objectives import tiny
from torch import Tensor

from exitkit.models.exitnet import ExitNet
from exitkit.objectives import build as objectives
from exitkit.objectives.base import Objective
from exitkit.objectives.step import Step, StepResult
from exitkit.records import Batch, Clock

METHODS = tuple(objectives.OBJECTIVES)
SUMS = (
    "pskd+byot(last=1.9)",
    "pskd+byot(last=1.9)+dmfl",
    "drg+dsr",
    "pskd+loth",
    "mate+dsr",
    "pskd+deep",
    "ffsd+deep",
    "deep+dlb",
    "dlb+deep",
    "one+pskd+dsr",
    "byot+dlb+pskd+dsr",
    "mate+one",
    "ls+dml",
    "okddip+kdcl",
    "mate+cskd",
    "ls+byot",
    "ls+pskd",
)
EVERY = METHODS + SUMS

SECOND_EPOCH = replace(tiny.CLOCK, epoch=1)


def steps(views: int, size: int = 6, last: int | None = None) -> list[tuple[Batch, Clock]]:
    """Three batches and their times; the last one may have another size."""
    return [
        (tiny.batch(1, size, 0, views), tiny.CLOCK),
        (tiny.batch(2, size, size, views), replace(tiny.CLOCK, step=1)),
        (tiny.batch(1, last or size, 0, views), SECOND_EPOCH),
    ]


@dataclass
class Trial:
    """A network and its objective; `seen` are the results of the steps taken so far."""

    network: ExitNet
    objective: Objective
    step: Step

    def take(self, batches: list[tuple[Batch, Clock]], learn: bool = True) -> Iterator[StepResult]:
        """Take the steps as a trainer would, with plain gradient descent."""
        for batch, clock in batches:
            result = self.step(batch, clock)
            self.step.zero_grad()
            result.total.backward(retain_graph=True)
            # Whoever asked looks at the gradients before the weights move.
            yield result
            if learn:
                with torch.no_grad():
                    for parameter in self.step.parameters():
                        if parameter.grad is not None:
                            parameter -= 0.01 * parameter.grad
            self.objective.after_step(result.out, batch, clock)


def make(text: str, exits: tuple[int, ...] | None = None, seed: int = 0) -> Trial:
    """Build the tiny network with the exits that the sum teaches, and the sum."""
    exits = exits or tiny.exits_for(objectives.teaches(text))
    torch.manual_seed(seed)
    network = tiny.build(exits=exits)
    objective = objectives.build(text, tiny.blueprint(exits))
    return Trial(network, objective, Step(network, objective).train())


def last(trial: Trial, **options: int) -> StepResult:
    """Take all three steps and return what the third one gave."""
    batches = steps(trial.objective.views, **options)
    *_, result = trial.take(batches)
    return result


def alive(gradient: Tensor | None) -> bool:
    return gradient is not None and bool(gradient.ne(0).any())


def own_state(objective: Objective, see: Callable[[Tensor], object]) -> list[object]:
    """Apply `see` to every tensor that the objective holds, registered or not."""

    def found(value: object) -> Iterator[Tensor]:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            for item in value.values():
                yield from found(item)
        elif isinstance(value, list | tuple | set):
            for item in value:
                yield from found(item)

    tensors = [t for module in objective.modules() for t in found(vars(module))]
    return [see(tensor) for tensor in tensors]
