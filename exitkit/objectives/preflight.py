"""A trial of the objective before training: nothing that is asked for may be dead."""

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from exitkit.errors import TrainingError
from exitkit.objectives.step import Step
from exitkit.records import Batch, Clock

IMAGES = 8


def check(step: Step, batches: Sequence[Batch], clock: Clock) -> None:
    """Try two consecutive batches on copies; every random generator is left as it was.

    Two, because some methods have nothing to say before the second. A few images of each batch
    are enough to see where gradients arrive. A frozen end of the network need not be taught.

    Args:
        step: the network and what will train it; neither is touched.
        batches: two consecutive training batches.
        clock: the time of the first.

    Raises:
        TrainingError: a term without gradient, or an exit that nothing teaches.
    """
    with generators_restored():
        step = copy.deepcopy(step).train()
        taught: dict[int, bool] = {}
        for number, batch in enumerate(batches):
            few = _few(batch)
            now = replace(clock, step=min(clock.step + number, clock.steps - 1))
            total, terms, out = step(few, now)
            _check_terms(terms, list(step.parameters()))
            students = [answer for answer in out.main if answer.logits.requires_grad]
            arriving = torch.autograd.grad(
                total, [answer.logits for answer in students], allow_unused=True
            )
            for answer, gradient in zip(students, arriving, strict=True):
                taught[answer.number] = taught.get(answer.number, False) or _alive(gradient)
            step.objective.after_step(out, few, now)
    dead = [number for number, alive in taught.items() if not alive]
    if dead:
        raise TrainingError(
            f"exits {', '.join(map(str, taught))}",
            f"nothing teaches exit {', '.join(map(str, dead))}",
            "add '+deep' to the method, or build the network without it",
        )


@contextmanager
def generators_restored() -> Iterator[None]:
    """Leave the generators of Python, NumPy and torch (every device) as they were before."""
    python, legacy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count())
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)


def _few(batch: Batch) -> Batch:
    views = tuple(view[:IMAGES] for view in batch.views)
    targets = None if batch.targets is None else batch.targets[:IMAGES]
    partners = None if batch.partners is None else batch.partners[:IMAGES]
    return Batch(views, batch.labels[:IMAGES], batch.index[:IMAGES], targets, partners)


def _check_terms(terms: dict[str, Tensor], parameters: list[nn.Parameter]) -> None:
    movable = [parameter for parameter in parameters if parameter.requires_grad]
    for name, term in terms.items():
        gradients: Sequence[Tensor | None] = ()
        if term.requires_grad:
            gradients = torch.autograd.grad(term, movable, retain_graph=True, allow_unused=True)
        if not any(_alive(gradient) for gradient in gradients):
            raise TrainingError(
                f"term {name!r}",
                "moves no weight: its gradient is missing or zero",
                "look for a detached tensor or a weight of zero in the method"
                if len(movable) == len(parameters)
                else "it teaches only what is frozen: leave its method out, or --regime joint",
            )


def _alive(gradient: Tensor | None) -> bool:
    return gradient is not None and bool(gradient.ne(0).any())
