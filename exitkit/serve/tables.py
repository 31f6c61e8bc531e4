"""Nested tables of numbers that add up over threads, seconds and processes; JSON can hold them."""

from collections.abc import Iterable
from typing import Any

Table = dict[str, Any]  # Any: numbers, lists of numbers, or tables


def sums(tables: Iterable[Table]) -> Table:
    """Return the sum of nested tables: numbers and lists of numbers, name by name."""
    total: Table = {}
    for table in tables:
        _add(total, table)
    return total


def _add(total: Table, table: Table) -> None:
    for name, value in table.items():
        kind = type(value)
        if kind is int or kind is float:
            total[name] = total.get(name, 0) + value
        elif kind is dict:
            _add(total.setdefault(name, {}), value)
        else:
            there = total.get(name)
            total[name] = value if there is None else list(map(sum, zip(there, value, strict=True)))
