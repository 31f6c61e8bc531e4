"""What a method keeps from one step to the next, whatever its size."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Memory(nn.Module):
    """A tensor kept from an earlier step, as a buffer: it moves and is saved with its owner.

    Batches differ in size, so the buffer does too; loading takes the size that was saved. Empty
    until something is kept: `len(memory)` is then 0.

    Args:
        shape: shape of one row.
        dtype: of the values.
    """

    value: Tensor

    def __init__(self, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(0, *shape, dtype=dtype))

    def __len__(self) -> int:
        return self.value.shape[0]

    @torch.no_grad()
    def keep(self, value: Tensor) -> None:
        """Replace what is kept by a copy of `value`, with the memory's own dtype."""
        self.value = value.detach().to(self.value.dtype, copy=True)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        *rest: Any,  # Any: torch's own hook
    ) -> None:
        saved = state_dict.get(prefix + "value")
        if saved is not None:
            self.value = torch.empty_like(saved, device=self.value.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Mean(nn.Module):
    """The mean of a tensor over the steps since it was last taken, added up on its device.

    Checkpoints are written after it was taken, when it is empty; one without it is read as such.

    Args:
        shape: of the tensor.
    """

    total: Tensor
    count: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(shape))
        self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def add(self, value: Tensor) -> None:
        """Add one step's tensor."""
        self.total += value
        self.count += 1

    @torch.no_grad()
    def take(self) -> Tensor:
        """Return the mean and begin anew; nothing but NaN where no step was added."""
        mean = self.total / self.count
        self.total.zero_()
        self.count.zero_()
        return mean

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        *rest: Any,  # Any: torch's own hook
    ) -> None:
        for name, buffer in self.named_buffers():
            state_dict.setdefault(prefix + name, torch.zeros_like(buffer))
        super()._load_from_state_dict(state_dict, prefix, *rest)
