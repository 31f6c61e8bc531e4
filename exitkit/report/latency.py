"""Latency as a client of the engine would see it: one image at a time, on real images."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
ROUNDS = 5
MOST_IMAGES, LEAST_IMAGES = 200, 20
BUDGET_S = 10.0


@dataclass(frozen=True)
class Timing:
    """Milliseconds per image at batch 1, measured.

    Attributes:
        mean_ms, p50_ms, p95_ms: over the images, of each image's median over the rounds.
        images, rounds: how many of each.
    """

    mean_ms: float
    p50_ms: float
    p95_ms: float
    images: int
    rounds: int


def measure(
    contestants: Mapping[str, Callable[[Images], object]],
    images: Images,
    rounds: int = ROUNDS,
    budget_s: float = BUDGET_S,
) -> dict[str, Timing]:
    """Time every contestant on the same images, alone, in interleaved rounds.

    Interleaving lets a slow moment of the machine hit all of them alike. As many images are
    used, evenly spread, as fit into the budget.

    Args:
        contestants: name -> what answers one image [1, 3, H, W].
        images: [N, 3, H, W] float32, normalised.
        rounds: of which each image's median is taken.
        budget_s: seconds that the whole measurement may take, roughly.
    """
    chosen = images[_spread(len(images), _affordable(contestants, images, rounds, budget_s))]
    times: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, answer in contestants.items():
            times[name].append([_time(answer, chosen[i : i + 1]) for i in range(len(chosen))])
    return {name: _timing(np.asarray(table)) for name, table in times.items()}


def _affordable(
    contestants: Mapping[str, Callable[[Images], object]],
    images: Images,
    rounds: int,
    budget_s: float,
) -> int:
    """Warm every contestant up, and find how many images the budget allows."""
    one = images[:1]
    for answer in contestants.values():
        answer(one)
    second = sum(min(_time(answer, one) for _ in range(3)) for answer in contestants.values()) / 1e3
    fitting = int(budget_s / max(second * rounds, 1e-9))
    return min(len(images), MOST_IMAGES, max(LEAST_IMAGES, fitting))


def _spread(total: int, wanted: int) -> NDArray[np.int64]:
    return np.linspace(0, total - 1, wanted).round().astype(np.int64)


def _time(answer: Callable[[Images], object], image: Images) -> float:
    start = time.perf_counter()
    answer(image)
    return (time.perf_counter() - start) * 1e3


def _timing(table: NDArray[np.float64]) -> Timing:
    """Summarise times [rounds, images] in ms."""
    each = np.median(table, axis=0)
    p50, p95 = np.percentile(each, [50, 95])
    return Timing(float(each.mean()), float(p50), float(p95), table.shape[1], table.shape[0])
