"""Nested tables of numbers that add up over threads, seconds and processes; JSON can hold them."""

from collections.abc import Mapping, Sequence
from typing import Any

Table = dict[str, Any]  # Any: numbers, lists of numbers, or tables


def sums(tables: Sequence[Mapping[str, Any]]) -> Table:  # Any: as in `Table`
    """Return the sum of nested tables: numbers and lists of numbers, name by name."""
    total: Table = {}
    for table in tables:
        for name, value in table.items():
            there = total.get(name)
            if isinstance(value, Mapping):
                total[name] = sums([there or {}, value])
            elif isinstance(value, Sequence):
                total[name] = [a + b for a, b in zip(there or [0] * len(value), value, strict=True)]
            else:
                total[name] = (there or 0) + value
    return total
