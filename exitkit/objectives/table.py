"""What a method remembers of every training image: predictions, however many there are.

CIFAR's 50,000 x 100 take 20 MB, ImageNet's 1,281,167 x 1,000 take 5 GB. Hence two limits. A table
above `HALF_ABOVE` bytes is kept in half precision: a probability loses its fourth digit. A table
that is still above `HOST_ABOVE` bytes stays in the processor's memory while the rest of the
objective moves to a GPU; each step copies a batch's rows there and back in the background, and
what a step wrote is put into its place when the next one reads. A checkpoint holds the table as it
is kept, because the next epoch reads every row of it. The trial before training works on a copy,
so the memory is needed twice for a moment.

No GPU has run the way to the processor's memory and back yet; its test waits for one.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn

HALF_ABOVE = 2**30
HOST_ABOVE = 4 * 2**30
LARGE = 10**9


class Underway(NamedTuple):
    """Rows on their way from a GPU: where they belong, their copy, what tells that it is there."""

    where: Tensor
    rows: Tensor
    arrived: Any  # Any: torch's event, which has no type


class Table(nn.Module):
    """Class probabilities per training image, zeros for one that was not seen yet.

    Args:
        samples: N, how many images there are.
        shape: of one image's row; the last dimension is the classes.
    """

    rows: Tensor

    def __init__(self, samples: int, *shape: int) -> None:
        super().__init__()
        numbers = samples * math.prod(shape)
        self.halved = 4 * numbers > HALF_ABOVE
        self.bytes = (2 if self.halved else 4) * numbers
        self.stays = self.bytes > HOST_ABOVE
        self.register_buffer(
            "rows", torch.zeros(samples, *shape, dtype=torch.half if self.halved else torch.float32)
        )
        self._underway: Underway | None = None

    def read(self, index: Int[Tensor, " B"], otherwise: Tensor) -> Tensor:
        """Return what is remembered of the images in float32, where `otherwise` is.

        Args:
            index: rows, on the processor.
            otherwise: takes the place of what was not seen yet; broadcast against [B, ...].
        """
        self._land()
        device = otherwise.device
        rows = self.rows[index.to(self.rows.device, non_blocking=True)]
        if rows.device != device:
            rows = (rows.pin_memory() if device.type == "cuda" else rows).to(
                device, non_blocking=True
            )
        remembered = rows.float()
        seen = remembered.sum(dim=-1, keepdim=True) > 0
        return torch.where(seen, remembered, otherwise)

    @torch.no_grad()
    def write(self, index: Int[Tensor, " B"], values: Tensor) -> None:
        """Remember probabilities [B, ...] of the images; no image may stand in a batch twice."""
        self._land()
        values = values.detach().to(self.rows.dtype)
        if values.device == self.rows.device:
            self.rows[index.to(self.rows.device, non_blocking=True)] = values
            return
        # A copy from a GPU that nobody waits for lands in pinned memory, by torch's own doing.
        copy = values.to(self.rows.device, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        self._underway = Underway(index, copy, arrived)

    def note(self) -> str | None:
        """Return a line worth telling before training, where the table is large."""
        if not self.halved and self.bytes < LARGE:
            return None
        what = " x ".join(f"{n:,}" for n in self.rows.shape)
        kept = "half precision" if self.halved else "single precision"
        where = "in the processor's memory" if self.stays else "where the network is"
        return (
            f"remembers {what} predictions in {kept}: {self.bytes / 1e9:.1f} GB {where}, and again "
            "in every checkpoint"
        )

    def _land(self) -> None:
        """Put what the last step wrote into its place."""
        if self._underway is not None:
            where, rows, arrived = self._underway
            arrived.synchronize()
            self.rows[where] = rows
            self._underway = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Table":
        """Move, unless the table stays."""
        return self if self.stays else super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _save_to_state_dict(self, *arguments: Any) -> None:  # Any: torch's own hook
        self._land()
        super()._save_to_state_dict(*arguments)


def notes(objective: nn.Module) -> list[str]:
    """Return the lines worth telling of every large table that an objective holds."""
    tables = (part for part in objective.modules() if isinstance(part, Table))
    return [f"the method {line}" for line in (table.note() for table in tables) if line is not None]
