"""Before the first request: run every segment, measure both thread pools, take the better."""

import logging
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from exitkit.engine import model as models
from exitkit.engine import ort, timing
from exitkit.engine.engine import Engine
from exitkit.engine.model import Model
from exitkit.engine.timing import Costs
from exitkit.errors import ConfigError, unknown
from exitkit.policy.solvers import Point
from exitkit.serve import codec, tradeoff
from exitkit.serve.scheduling.stages import Stages
from exitkit.serve.service import Measured, Service
from exitkit.serve.settings import Settings

logger = logging.getLogger(__name__)

POOLS = ("auto", *ort.POOLS)
# Rounds of the measurement, and how many for a network that takes longer than SLOW_S an image.
ROUNDS, SLOW_ROUNDS, SLOW_S = 7, 3, 0.05
# The shared pool spins while it waits: it has to be this much faster to be worth its cores.
WORTH = 0.95
# Batch sizes whose stage times are measured, besides the largest, and the seconds for that.
SIZES, TABLE_S = (1, 2, 4, 8, 16, 32, 64), 3.0


def prepare(folder: Path, settings: Settings, pool: str) -> Service:
    """Load a bundle, warm it up and measure it; return a service that is ready to start.

    Args:
        folder: of the bundle.
        settings: of the server.
        pool: "private", "shared", or "auto": both are measured, the private one first, and the
            better serves. A process can have one shared pool, whose size then is fixed; only
            provider "cpu" has one.

    Raises:
        BundleError: the bundle is damaged.
        ConfigError: a threshold outside 0..1, an unknown pool, a provider that is not there.
    """
    if pool not in POOLS:
        raise unknown("pool", pool, POOLS)
    limits, threads, provider = settings.limits, settings.threads, settings.provider
    first = ort.POOLS[0] if pool == "auto" else pool
    model = models.load(folder, settings.threshold, first, threads, provider)
    curve = tradeoff.read(folder, model.manifest, model.policy)
    codec.warm(model.manifest.image)
    warm(model.engine, limits.batch)
    rounds = ROUNDS if warm(model.engine, 1) < SLOW_S else SLOW_ROUNDS
    first = model.engine.segments[0].pool  # on a GPU the provider
    tried = {first: (model, timing.measure(model.engine, (1,), rounds))}
    if pool == "auto" and provider == "cpu":
        other = _other(model, threads, rounds)
        if other is not None:
            tried["shared"] = other
    spent = {name: mean_ms(costs, curve.in_force) for name, (_, costs) in tried.items()}
    best = first
    if "shared" in spent and spent["shared"] < WORTH * spent[first]:
        best = "shared"
        warm(tried[best][0].engine, limits.batch)
    taken, costs = tried[best]
    exit_ms = tuple(accumulate(times[0] for times in costs.segment_ms))
    stages = measure_stages(taken.engine, limits.batch, costs.all_segments_ms[0])
    return Service(taken, limits, curve, stages, Measured(best, exit_ms, spent))


def measure_stages(engine: Engine, batch: int, image_ms: float) -> Stages:
    """Measure what every stage costs per batch size: what the scheduler decides by.

    Args:
        engine: warm.
        batch: the largest size.
        image_ms: of one image through all segments. Where it says that the larger sizes would
            take longer than `TABLE_S` to measure, their times are taken in proportion.
    """
    sizes, spent = [1], 0.0
    for size in sorted({s for s in SIZES if s < batch} | {batch}):
        # Segments one by one and all in a row, in every round and twice before the first.
        spent += 2 * (SLOW_ROUNDS + 2) * size * image_ms / 1e3
        if spent < TABLE_S:
            sizes.append(size)
    return Stages.of(timing.measure(engine, sizes, SLOW_ROUNDS), batch)


def _other(model: Model, threads: int | None, rounds: int) -> tuple[Model, Costs] | None:
    """Load the same bundle on the shared pool and measure it; None where there can be none."""
    try:
        segments = ort.load(model.folder, model.manifest, "shared", threads)
    except ConfigError as error:
        logger.info("the shared pool was not tried: %s", error)
        return None
    engine = Engine(segments, model.policy)
    warm(engine, 1)
    return Model(model.folder, model.manifest, engine), timing.measure(engine, (1,), rounds)


def warm(engine: Engine, batch: int) -> float:
    """Run every segment at batch 1 and at the largest batch; return the seconds of the last.

    On a GPU at every power of two between them too: there kernels are chosen, and graphs captured,
    per size of batch, for which no request should wait.
    """
    began = 0.0
    sizes = {1, batch}
    if engine.segments[0].pool not in ort.POOLS:
        sizes |= {1 << power for power in range(batch.bit_length())}
    for size in sorted(sizes):
        began = time.perf_counter()
        hidden = np.zeros((size, *engine.segments[0].input_shape), dtype=np.float32)
        for segment in engine.segments:
            _, following = segment.run(hidden)
            hidden = hidden if following is None else following
    return time.perf_counter() - began


def mean_ms(costs: Costs, point: Point | None) -> float:
    """Return milliseconds of one image: over the point's shares, or to the end without a point."""
    shares: Sequence[float] = (0.0,) * (len(costs.exits) - 1) + (1.0,)
    return timing.limit_ms(costs, shares if point is None else point.shares, 1)


def describe(service: Service) -> list[str]:
    """Say what serves and at which operating point: the lines that a starting server prints."""
    manifest, measured = service.manifest, service.measured
    lines = [
        f"{manifest.name}: {manifest.method} on {manifest.arch}, {len(manifest.classes)} classes, "
        f"exits {', '.join(map(str, manifest.exits))}",
        *tradeoff.describe(service.tradeoff),
    ]
    if measured is not None:
        times = ", ".join(
            f"exit {k} {ms:.2f} ms" for k, ms in zip(manifest.exits, measured.exit_ms, strict=True)
        )
        pools = ", ".join(f"{name} {ms:.2f} ms" for name, ms in measured.pools_ms.items())
        lines += [
            f"{measured.pools_ms[measured.pool]:.2f} ms an image at batch 1: {times} (measured)",
            f"{measured.pool} thread pool, of {pools} (measured)"
            if measured.pool in ort.POOLS
            else f"computed by provider {measured.pool}",
        ]
    return lines
