"""What a request may ask for beside its images: a threshold and a deepest exit."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as brief  # what clients sent may be long
from typing import Any

from exitkit.errors import RequestError

NAMES = ("threshold", "max_exit")


@dataclass(frozen=True)
class Options:
    """Wishes of one request.

    Attributes:
        threshold: confidence 0..1 at which an image leaves, at every exit; None: the server's.
        max_exit: number of the exit that answers at the latest; None: the deepest.
    """

    threshold: float | None = None
    max_exit: int | None = None


def parse(values: Mapping[str, Any], exits: Sequence[int]) -> Options:  # Any: text or JSON
    """Read options from a query string, form fields or protocol parameters.

    Raises:
        RequestError: an unknown name, a threshold outside 0..1, an exit that is not there.
    """
    for name in values:
        if name not in NAMES:
            raise RequestError(
                f"parameter {brief(name)}", "no such parameter", f"choose from: {', '.join(NAMES)}"
            )
    threshold, deepest = values.get("threshold"), values.get("max_exit")
    return Options(
        None if threshold is None else _threshold(threshold),
        None if deepest is None else _exit(deepest, exits),
    )


def _threshold(value: Any) -> float:
    number = _number(value)
    if not 0 <= number <= 1:  # false for NaN too
        raise RequestError(
            f"threshold {brief(value)}", "is no number from 0 to 1", "give, say, 0.9"
        )
    return number


def _exit(value: Any, exits: Sequence[int]) -> int:
    number = _number(value)
    if number not in exits:
        choices = ", ".join(map(str, exits))
        raise RequestError(f"max_exit {brief(value)}", "no such exit", f"choose one of: {choices}")
    return int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
