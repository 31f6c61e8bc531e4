"""A step never waits for the device and never walks over the images one by one."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from contracts import trial

# Operations that need a value on the host, or bring one from it.
WAITS = {
    "aten._local_scalar_dense",
    "aten.is_nonzero",
    "aten.equal",
    "aten.nonzero",
    "aten.masked_select",
    "aten._unique2",
    "aten.lift_fresh",
    "boolean index",
}


def _by_mask(name: str, args: tuple[Any, ...]) -> bool:
    """Whether rows are chosen by a mask: how many there are is known to the device alone."""
    chosen = args[1] if name.startswith("aten.index") and len(args) > 1 else ()
    return isinstance(chosen, list | tuple) and any(
        isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in chosen
    )


class Counting(TorchDispatchMode):
    """Count every operation that reaches a device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(  # Any: torch's own signature
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = str(func.overloadpacket)
        self.seen["boolean index" if _by_mask(name, args) else name] += 1
        return func(*args, **(kwargs or {}))


def count(text: str, size: int) -> Counter[str]:
    """The operations of a third step, forward, backward and memory."""
    subject = trial.make(text)
    batches = trial.steps(subject.objective.views, size)
    for _ in subject.take(batches[:2]):
        pass
    batch, clock = batches[2]
    with Counting() as counting:
        result = subject.step(batch, clock)
        result.total.backward()
        subject.objective.after_step(result.out, batch, clock)
    return counting.seen


@pytest.mark.parametrize("text", trial.EVERY)
def test_a_step_never_waits_for_the_device(text: str) -> None:
    assert not WAITS & count(text, 6).keys()


@pytest.mark.parametrize("text", trial.EVERY)
def test_a_step_takes_as_many_operations_whatever_the_batch(text: str) -> None:
    assert count(text, 4) == count(text, 12)


@pytest.mark.parametrize(
    "wait",
    [
        lambda t: t.item(),
        lambda t: bool(t > 0),
        lambda t: t.expand(2)[t.expand(2) > 0],
        lambda t: torch.tensor(1.0),
    ],
)
def test_the_guard_sees_a_wait(wait: Callable[[torch.Tensor], object]) -> None:
    with Counting() as counting:
        wait(torch.ones(()))
    assert WAITS & counting.seen.keys()
