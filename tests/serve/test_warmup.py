"""What a server runs before its first request."""

from pathlib import Path

import numpy as np
import pytest

from exitkit.engine import model as models
from exitkit.engine.engine import Engine, Segment
from exitkit.serve import warmup


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
