"""What a request may ask for beside its images: a threshold, a deepest exit and a deadline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from reprlib import repr as brief  # what clients sent may be long
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitkit.errors import RequestError

NAMES = ("threshold", "max_exit", "deadline_ms")


@dataclass(frozen=True)
class Options:
    """Wishes of one request.

    Attributes:
        threshold: confidence 0..1 at which an image leaves, at every exit: one, or [n] for each
            of the request's images; None: the server's.
        max_exit: number of the exit that answers at the latest; None: the deepest.
        deadline_ms: after which an image is answered by the deepest exit that it has come to,
            counted from when the request's head was read; None: it waits as long as it takes.

    Raises:
        RequestError: a threshold outside 0..1, or a deadline that is not above zero.
    """

    threshold: float | NDArray[np.float32] | None = None
    max_exit: int | None = None
    deadline_ms: float | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None:
            _check_thresholds(self.threshold)
        if self.deadline_ms is not None and not 0 < self.deadline_ms < math.inf:  # nor NaN
            raise _no_deadline(f"{self.deadline_ms:g}")

    def due(self, arrived: float) -> float | None:
        """Return the second at which the deadline of a request that came at `arrived` is."""
        return None if self.deadline_ms is None else arrived + self.deadline_ms / 1e3

    def require(self, images: int) -> None:
        """Refuse to be the wishes of a request of so many images.

        Raises:
            RequestError: there is another number of thresholds.
        """
        if isinstance(self.threshold, np.ndarray) and len(self.threshold) != images:
            raise RequestError(
                f"{len(self.threshold)} thresholds",
                f"there are {images} images",
                "give one, or one an image",
            )

    def of(self, images: Sequence[int]) -> "Options":
        """Return the wishes for some of the images, given by their numbers."""
        if not isinstance(self.threshold, np.ndarray):
            return self
        return replace(self, threshold=self.threshold[list(images)])


def parse(values: Mapping[str, Any], exits: Sequence[int]) -> Options:  # Any: text or JSON
    """Read options from a query string, form fields, a JSON object or protocol parameters.

    Args:
        values: by name; None stands for what was left out.
        exits: numbers of the kept exits.

    Raises:
        RequestError: an unknown name, a threshold outside 0..1, an exit that is not there, a
            deadline that is not above zero.
    """
    for name in values:
        if name not in NAMES:
            raise RequestError(
                f"parameter {brief(name)}", "no such parameter", f"choose from: {', '.join(NAMES)}"
            )
    threshold, deepest, deadline = (values.get(name) for name in NAMES)
    return Options(
        None if threshold is None else _threshold(threshold),
        None if deepest is None else _exit(deepest, exits),
        None if deadline is None else _deadline(deadline),
    )


def thresholds(values: Sequence[Any]) -> NDArray[np.float32]:  # Any: text or JSON
    """Read one threshold for each image of a request.

    Raises:
        RequestError: one is no number from 0 to 1.
    """
    return np.asarray([_threshold(value) for value in values], dtype=np.float32)


def _threshold(value: Any) -> float:
    number = _number(value)
    if not 0 <= number <= 1:  # false for NaN too
        raise _no_threshold(brief(value))
    return number


def _check_thresholds(values: float | NDArray[np.float32]) -> None:
    if isinstance(values, float | int):
        if not 0 <= values <= 1:
            raise _no_threshold(f"{values:g}")
    elif values.ndim != 1:
        raise RequestError(
            "thresholds", f"have shape {list(values.shape)}", "give one, or one an image"
        )
    elif not (values.min(initial=0.0) >= 0 and values.max(initial=1.0) <= 1):
        wrong = values[~((values >= 0) & (values <= 1))][0]
        raise _no_threshold(f"{wrong:g}")


def _no_threshold(text: str) -> RequestError:
    return RequestError(f"threshold {text}", "is no number from 0 to 1", "give, say, 0.9")


def _exit(value: Any, exits: Sequence[int]) -> int:
    number = _number(value)
    if number not in exits:
        choices = ", ".join(map(str, exits))
        raise RequestError(f"max_exit {brief(value)}", "no such exit", f"choose one of: {choices}")
    return int(number)


def _deadline(value: Any) -> float:
    number = _number(value)
    if math.isnan(number):
        raise _no_deadline(brief(value))
    return number


def _no_deadline(text: str) -> RequestError:
    return RequestError(
        f"deadline_ms {text}", "is no number of milliseconds above zero", "give, say, 50"
    )


def _number(value: Any) -> float:
    """Return a number or its text as a float; NaN for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    if isinstance(value, str) and (not value.isascii() or "_" in value):
        return math.nan  # Python reads 0_1 and digits of all scripts, JSON and others do not
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
