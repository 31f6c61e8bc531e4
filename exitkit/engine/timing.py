"""Measure what a bundle's segments, and leaving early, cost on this machine."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from exitkit import machine
from exitkit.engine.costs import Costs, limit_ms, path_of, read, write
from exitkit.engine.engine import Engine, Segment
from exitkit.errors import ConfigError
from exitkit.policy.policy import PerRow

__all__ = [
    "Costs", "Exiting", "chain", "exiting", "interleave", "limit_ms", "measure", "path_of", "read",
    "replay", "write",
]  # fmt: skip

Name = TypeVar("Name", bound=Hashable)

BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
ROUNDS = 7
# A sample shorter than this is repeated and averaged, so that the clock and a single
# interruption weigh little.
LEAST_MS = 5.0


@dataclass(frozen=True)
class Exiting:
    """Measured time of real early exiting.

    Attributes:
        batch: images at once.
        images: how many were answered in each round.
        ms: per batch, median of the rounds.
        shares: per exit, the share of images that left there.
        rounds: of which `ms` is the median.
    """

    batch: int
    images: int
    ms: float
    shares: tuple[float, ...]
    rounds: int


def interleave(
    pieces: Mapping[Name, Callable[[], object]], rounds: int, least_ms: float = LEAST_MS
) -> dict[Name, list[float]]:
    """Run every piece once per round, in turn; return each one's milliseconds round by round.

    What disturbs the machine for a while then disturbs all pieces alike. A warm-up round comes
    first, which also finds how often a short piece is repeated within one sample.
    """
    repeats = {}
    for name, piece in pieces.items():
        piece()
        repeats[name] = max(1, round(least_ms / max(_sample(piece, 1), 1e-3)))
    times: dict[Name, list[float]] = {name: [] for name in pieces}
    for _ in range(rounds):
        for name, piece in pieces.items():
            times[name].append(_sample(piece, repeats[name]))
    return times


def measure(
    engine: Engine, batch_sizes: Sequence[int] = BATCH_SIZES, rounds: int = ROUNDS
) -> Costs:
    """Measure every segment at every batch size: the median of interleaved rounds.

    Raises:
        ConfigError: no batch size, or one below 1.
    """
    sizes = tuple(sorted(set(batch_sizes)))
    if not sizes or sizes[0] < 1 or rounds < 1:
        raise ConfigError(f"batch sizes {sizes}, {rounds} rounds", "below 1", "give 1 or more")
    pieces: dict[Hashable, Callable[[], object]] = {}
    for size in sizes:
        pieces |= chain(engine, size)
    middle = {name: statistics.median(ms) for name, ms in interleave(pieces, rounds).items()}
    return Costs(
        network=engine.policy.network,
        exits=engine.policy.exits,
        pool=engine.segments[0].pool,
        threads=engine.segments[0].threads,
        batch_sizes=sizes,
        segment_ms=tuple(
            tuple(middle[position, size] for size in sizes)
            for position in range(len(engine.segments))
        ),
        all_segments_ms=tuple(middle["all", size] for size in sizes),
        rounds=rounds,
        fingerprint=machine.fingerprint(),
        machine=machine.describe(),
    )


def chain(engine: Engine, size: int) -> dict[Hashable, Callable[[], object]]:
    """Return what to time at one batch size.

    Keys are (position, size) for each segment, on what the one before it gives out, and
    ("all", size) for all of them in a row.
    """
    # Values like normalised pixels; the time of a convolution does not depend on them.
    generator = np.random.default_rng(0)
    images = generator.standard_normal((size, *engine.segments[0].input_shape), dtype=np.float32)
    pieces: dict[Hashable, Callable[[], object]] = {}
    hidden: NDArray[np.float32] | None = images
    for position, segment in enumerate(engine.segments):
        assert hidden is not None  # only the deepest segment gives none
        pieces[position, size] = _run(segment, hidden)
        _, hidden = segment.run(hidden)
    pieces["all", size] = lambda: _all(engine, images)
    return pieces


def exiting(
    engine: Engine,
    images: NDArray[np.float32],
    batch: int,
    rounds: int = ROUNDS,
    thresholds: PerRow | None = None,
) -> Exiting:
    """Measure answering images [N, 3, H, W], `batch` at once, leaving early for real.

    Args:
        engine: with the policy to measure.
        images: at least `batch`; a rest that fills no batch is left out.
        batch: images at once.
        rounds: to take the median of; each answers all images.
        thresholds: instead of the policy's own: [K-1], or [N, K-1].

    Raises:
        ConfigError: fewer images than one batch.
    """
    if batch < 1 or len(images) < batch:
        raise ConfigError(f"batches of {batch}", f"{len(images)} images", "give a whole batch")
    used = len(images) // batch * batch
    images = images[:used]
    taken = replay(engine, images, batch, thresholds)
    counts = np.bincount(taken, minlength=engine.policy.exits[-1] + 1)
    piece = {"exiting": lambda: replay(engine, images, batch, thresholds)}
    times = interleave(piece, rounds)["exiting"]
    shares = tuple(float(counts[k] / used) for k in engine.policy.exits)
    return Exiting(batch, used, statistics.median(times) * batch / used, shares, rounds)


def replay(
    engine: Engine, images: NDArray[np.float32], batch: int, thresholds: PerRow | None = None
) -> NDArray[np.int64]:
    """Answer images batch by batch; return [N] the exits taken."""
    table = None if thresholds is None else np.asarray(thresholds, dtype=np.float32)
    taken = []
    for start in range(0, len(images), batch):
        rows = slice(start, start + batch)
        own = table[rows] if table is not None and table.ndim == 2 else table
        taken.append(engine.answer(images[rows], thresholds=own).exit)
    return np.concatenate(taken)


def _sample(piece: Callable[[], object], repeats: int) -> float:
    """Return the mean milliseconds of some runs in a row."""
    start = time.perf_counter()
    for _ in range(repeats):
        piece()
    return (time.perf_counter() - start) * 1e3 / repeats


def _run(segment: Segment, hidden: NDArray[np.float32]) -> Callable[[], object]:
    return lambda: segment.run(hidden)


def _all(engine: Engine, images: NDArray[np.float32]) -> None:
    hidden: NDArray[np.float32] | None = images
    for segment in engine.segments:
        assert hidden is not None  # only the deepest segment gives none
        _, hidden = segment.run(hidden)
