"""Count the multiply-adds of whatever runs: convolutions and products of matrices.

Counted where functions are called, not where modules are, so that layers which a model calls as
functions and attention's two products of tokens are not missed. (Torch's own counter of floating
point operations gives the same numbers, but loading it takes seconds.)
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Arguments = tuple[Any, ...]  # Any: arguments of a function


def _convolution(args: Arguments, output: Tensor) -> int:
    """Every output number is a dot product over the weights that reach it."""
    return output.numel() * math.prod(args[1].shape[1:])


def _transposed(args: Arguments, output: Tensor) -> int:
    """Every input number goes through all weights that leave it."""
    return int(args[0].numel()) * math.prod(args[1].shape[1:])


def _product(args: Arguments, output: Tensor) -> int:
    return output.numel() * int(args[0].shape[-1])


def _added_product(args: Arguments, output: Tensor) -> int:
    return output.numel() * int(args[1].shape[-1])


def _attention(args: Arguments, output: Tensor) -> int:
    """Queries [..., L, E] meet keys [..., S, E], then the L x S weights meet values [..., S, V]."""
    query, key, value = args[:3]
    return math.prod(query.shape[:-1]) * int(key.shape[-2]) * (query.shape[-1] + value.shape[-1])


def _many_heads(args: Arguments, output: tuple[Tensor, Tensor | None]) -> int:
    """Projections of queries [L, B, E], keys and values [S, B, ...], two products, one more."""
    query, key, value = args[:3]
    width = int(query.shape[-1])
    projected = query.numel() + key.numel() + value.numel()
    return width * (projected + 2 * query.numel() // width * int(key.shape[0]) + query.numel())


_PRODUCTS = (
    functional.linear, torch.mm, torch.bmm, torch.matmul,
    Tensor.mm, Tensor.bmm, Tensor.matmul, Tensor.__matmul__,
)  # fmt: skip
_COUNTS: dict[Any, Callable[[Arguments, Any], int]] = {  # Any: functions of torch
    torch.conv1d: _convolution,
    torch.conv2d: _convolution,
    torch.conv3d: _convolution,
    torch.conv_transpose2d: _transposed,
    torch.addmm: _added_product,
    torch.baddbmm: _added_product,
    functional.scaled_dot_product_attention: _attention,
    functional.multi_head_attention_forward: _many_heads,
    **dict.fromkeys(_PRODUCTS, _product),
}


class Counter(TorchFunctionMode):
    """Adds up the multiply-adds of what runs inside; `total` is the sum so far."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Arguments = (), kwargs: Any = None
    ) -> Any:  # Any: as torch calls it
        output = func(*args, **(kwargs or {}))
        if func in _COUNTS:
            self.total += _COUNTS[func]((*args, *(kwargs or {}).values()), output)
        return output
