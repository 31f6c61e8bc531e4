"""Before the first request: run every segment, and measure what it takes."""

import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from exitkit import bundle as bundles
from exitkit.engine import model as models
from exitkit.engine import ort, timing
from exitkit.engine.engine import Engine
from exitkit.engine.timing import Costs
from exitkit.errors import BundleError
from exitkit.policy.solvers import Point
from exitkit.serve import adaptive, codec, tradeoff
from exitkit.serve.adaptive import Depth
from exitkit.serve.scheduling.stages import Stages
from exitkit.serve.service import Measured, Service
from exitkit.serve.settings import Settings

# Rounds of the measurement, and how many for a network that takes longer than SLOW_S an image.
ROUNDS, SLOW_ROUNDS, SLOW_S = 7, 3, 0.05
# Batch sizes whose stage times are measured, besides the largest, and the seconds for that.
SIZES, TABLE_S = (1, 2, 4, 8, 16, 32, 64), 3.0


def prepare(
    folder: Path, settings: Settings, pool: str, pools_ms: dict[str, float] | None = None
) -> Service:
    """Load a bundle, warm it up and measure it; return a service that is ready to start.

    Args:
        folder: of the bundle.
        settings: of the server.
        pool: of threads, "private" or "shared".
        pools_ms: what each kind took where both were tried, see exitkit.serve.pools.

    Raises:
        BundleError: the bundle is damaged, or changed while it was loaded.
        ConfigError: a threshold outside 0..1, an unknown pool, a provider that is not there, an
            accuracy floor that the policy does not reach or that nothing cheaper keeps.
    """
    limits = settings.limits
    model = models.load(folder, settings.threshold, pool, settings.threads, settings.provider)
    curve = tradeoff.read(folder, model.manifest, model.policy)
    floor = settings.accuracy_floor
    points = None if floor is None else adaptive.keeping(curve, floor)
    codec.warm(model.manifest.image)
    warm(model.engine, limits.batch)
    costs = timing.measure(model.engine, (1,), rounds(warm(model.engine, 1)))
    exit_ms = tuple(accumulate(times[0] for times in costs.segment_ms))
    stages = measure_stages(model.engine, limits.batch, costs.all_segments_ms[0])
    taken = model.engine.segments[0].pool  # on a GPU the provider
    measured = Measured(taken, exit_ms, {taken: mean_ms(costs, curve.in_force), **(pools_ms or {})})
    if bundles.read_manifest(folder) != model.manifest:
        raise BundleError(str(folder), "was replaced while it was loaded", "load it again")
    depth = None
    if points is not None:
        depth = Depth(adaptive.ladder(points, curve.thresholds, stages), limits.queue)
    return Service(model, limits, curve, stages, measured, depth)


def rounds(image_s: float) -> int:
    """Return how often an image is run to be measured, one that takes `image_s` seconds."""
    return ROUNDS if image_s < SLOW_S else SLOW_ROUNDS


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
    if service.depth is not None:
        lines.append(adaptive.describe(service.depth.rungs, service.tradeoff.plain_macs))
    if measured is not None:
        times = ", ".join(
            f"exit {k} {ms:.2f} ms" for k, ms in zip(manifest.exits, measured.exit_ms, strict=True)
        )
        pools = ", ".join(f"{name} {ms:.2f} ms" for name, ms in measured.pools_ms.items())
        how = f"measured beside {measured.beside} requests" if measured.beside else "measured"
        lines += [
            f"{measured.pools_ms[measured.pool]:.2f} ms an image at batch 1: {times} ({how})",
            f"computed by provider {measured.pool}"
            if measured.pool not in ort.POOLS
            else f"{measured.pool} thread pool, of {pools} (measured)"
            if len(measured.pools_ms) > 1
            else f"{measured.pool} thread pool",
        ]
    return lines
