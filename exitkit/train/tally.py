"""Sums of an epoch's losses that stay on the device until somebody reads them."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from exitkit.errors import TrainingError

# Steps between two looks at the device's mark of a loss that is no number.
LOOK = 50
NEVER = 2**31


class Tally:
    """Add up losses without waiting for the device.

    A loss that is not a finite number leaves the number of its step in a tensor on the device.
    Every `LOOK` steps that mark is copied to the host without waiting for it, and it is looked at
    when it has arrived; `finish` reads everything.

    Args:
        device: where the losses are.
        epoch: 1-based number of the epoch, for the message.
    """

    def __init__(self, device: torch.device, epoch: int) -> None:
        self._device, self._epoch, self._steps = device, epoch, 0
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._bad = torch.full((), NEVER, dtype=torch.int64, device=device)
        self._seen = torch.full((), NEVER, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._arrived: torch.cuda.Event | None = None

    def add(self, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Add the losses of one step.

        Raises:
            TrainingError: an earlier or this step's loss is known to be no finite number.
        """
        loss = loss.detach()
        self._loss += loss
        for name, term in terms.items():
            value = term.detach().double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._bad = torch.where(torch.isfinite(loss), self._bad, self._bad.clamp(max=self._steps))
        self._steps += 1
        self._look()

    def finish(self) -> tuple[float, dict[str, float]]:
        """Return the mean loss of the steps, and of each term over the steps that had it.

        Raises:
            TrainingError: a step's loss is not a finite number.
        """
        if not self._steps:
            return math.nan, {}
        self._refuse(int(self._bad))
        values = torch.stack([self._loss, *self._sums.values()]).tolist()
        counts = self._counts.items()
        terms = {
            name: total / count for (name, count), total in zip(counts, values[1:], strict=True)
        }
        return values[0] / self._steps, terms

    def _look(self) -> None:
        if self._device.type != "cuda":
            self._refuse(int(self._bad))
        elif self._arrived is not None and self._arrived.query():
            self._refuse(int(self._seen))
            self._arrived = None
        elif self._arrived is None and self._steps % LOOK == 0:
            self._seen.copy_(self._bad, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def _refuse(self, step: int) -> None:
        if step != NEVER:
            raise not_finite(f"the loss of epoch {self._epoch}, step {step + 1}", self._epoch)


def not_finite(what: str, epoch: int) -> TrainingError:
    """Make the error for training that has left the numbers in the 1-based `epoch`."""
    kept = f"epoch {epoch - 1} is kept" if epoch > 1 else "no epoch is finished"
    return TrainingError(
        what,
        f"is not a finite number ({kept})",
        "train a new run with a lower --lr or with --precision float32",
    )
