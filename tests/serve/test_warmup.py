"""What a server runs before its first request."""

from pathlib import Path

import numpy as np
import pytest

from exitkit.engine import model as models
from exitkit.engine.engine import Engine, Segment
from exitkit.serve import warmup
from exitkit.serve.scheduling.stages import BESIDES_MS


class Noting:
    """A segment that notes the sizes of its batches, and says that something else computes it."""

    def __init__(self, inside: Segment, pool: str) -> None:
        self.exit, self.input_shape, self.classes = inside.exit, inside.input_shape, inside.classes
        self.pool, self.threads = pool, 1
        self.inside, self.sizes = inside, list[int]()

    def run(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        self.sizes.append(len(hidden))
        return self.inside.run(hidden)


@pytest.mark.parametrize(
    ("pool", "batch", "sizes"),
    [
        ("private", 32, [1, 32]),
        ("shared", 1, [1]),
        ("torch", 32, [1, 2, 4, 8, 16, 32]),
        ("cuda", 24, [1, 2, 4, 8, 16, 24]),
        ("torch", 1, [1]),
    ],
)
def test_every_size_that_a_gpu_prepares_for_is_run_before_the_first_request(
    colours: Path, pool: str, batch: int, sizes: list[int]
) -> None:
    inside = models.load(colours).engine
    noting = [Noting(segment, pool) for segment in inside.segments]
    warmup.warm(Engine(noting, inside.policy), batch)
    assert [one.sizes for one in noting] == [sizes, sizes]


@pytest.mark.parametrize(
    ("image_ms", "sizes"), [(0.1, {1, 2, 4, 8, 16, 24}), (30.0, {1, 2, 4}), (1e4, {1})]
)
def test_what_the_scheduler_decides_by_is_measured_within_a_few_seconds(
    colours: Path, image_ms: float, sizes: set[int]
) -> None:
    inside = models.load(colours).engine
    noting = [Noting(segment, "private") for segment in inside.segments]
    stages = warmup.measure_stages(Engine(noting, inside.policy), 24, image_ms)
    assert [set(one.sizes) for one in noting] == [sizes, sizes]
    assert (stages.count, stages.batch) == (2, 24)
    besides = BESIDES_MS / 1e3
    most = max(sizes)  # beyond it, time is in proportion
    expected = (stages.seconds(0, most) - besides) * 24 / most
    assert stages.seconds(0, 24) - besides == pytest.approx(expected)
