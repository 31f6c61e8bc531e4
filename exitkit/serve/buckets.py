"""Histograms as plain lists of numbers, which add up over requests, threads and processes.

The client library's own histogram takes one value at a time, about a microsecond each; an answer
of 256 images has two of them an image.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.utils import floatToGoString

Cells = list[float]


class Buckets:
    """Upper bounds of a histogram's buckets, rising.

    The histogram itself is a list: a count for each bound, one for what is above them all, and
    the sum of the values.
    """

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        self._names = [floatToGoString(bound) for bound in (*bounds, float("inf"))]

    def empty(self) -> Cells:
        """Return a histogram without any value."""
        return [0] * (len(self.bounds) + 2)

    def add(self, cells: Cells, value: float, times: int = 1) -> None:
        """Count a value, more than once if asked for."""
        cells[bisect_left(self.bounds, value)] += times
        cells[-1] += value * times

    def add_all(self, cells: Cells, values: Iterable[float]) -> None:
        """Count several values."""
        bounds, total = self.bounds, 0.0
        for value in values:
            cells[bisect_left(bounds, value)] += 1
            total += value
        cells[-1] += total

    def series(self, cells: Sequence[float]) -> tuple[list[tuple[str, float]], float]:
        """Return bounds with the counts up to them, as Prometheus writes them, and the sum."""
        return list(zip(self._names, accumulate(cells[:-1]), strict=True)), cells[-1]


# Seconds; a stage takes from a fraction of a millisecond on, an answer up to seconds under load.
SECONDS = Buckets(
    0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1,
    2, 4, 8,
)  # fmt: skip
IMAGES = Buckets(1, 2, 4, 8, 16, 32, 64, 128, 256)
# Thresholds lie in the upper half.
CONFIDENCE = Buckets(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999, 1)
