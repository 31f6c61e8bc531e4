"""What `exitkit bench` measures of a bundle."""

import dataclasses
import json
import statistics
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import exitkit
from exitkit import bundle
from exitkit.cli.output import Outcome
from exitkit.engine import timing
from exitkit.engine.engine import Engine
from exitkit.engine.timing import Costs
from exitkit.errors import BundleError, ConfigError
from exitkit.report import tables
from exitkit.report.tables import Column, Row

HELD = (
    Column("batch", "batch"),
    Column("ms", "measured, ms", ".3f"),
    Column("limit_ms", "limit, ms", ".3f"),
    Column("over_limit", "over the limit", ".3f"),
    Column("all_segments_ms", "no exit, ms", ".3f"),
    Column("faster", "times faster", ".2f"),
)
LEAST_IMAGES, BATCHES = 64, 8


def sizes(text: str) -> tuple[int, ...]:
    """Read "1,8,32"."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise ConfigError(
            f"--batch-sizes {text}", "is no list of numbers above zero", "write 1,8,32"
        )
    return tuple(sorted(set(found)))


def bench(
    folder: Path, batch_sizes: tuple[int, ...], rounds: int, provider: str = "cpu"
) -> Outcome:
    """Measure a bundle, write its table of costs beside it, hold the engine against the limit."""
    model = exitkit.load(folder, provider=provider)
    costs = cost_table(model.engine, batch_sizes, rounds)
    path = timing.path_of(folder, costs.provider)
    timing.write(path, costs)
    shares = chosen_shares(folder)
    rows = [_held(model.engine, costs, shares, size, rounds) for size in batch_sizes]
    table = {
        "bundle": folder.name,
        "costs": str(path),
        "exits": list(costs.exits),
        "shares": list(shares),
        "machine": costs.machine,
        "batch_sizes": list(costs.batch_sizes),
        "segment_ms": costs.segment_ms,
        "engine": rows,
    }
    return Outcome(table, _bench_words(costs, rows, shares, path))


def cost_table(engine: Engine, batch_sizes: Sequence[int], rounds: int = timing.ROUNDS) -> Costs:
    """Measure every segment at the batch sizes and at those in between.

    The limit needs them: a batch of 8 of which half leaves goes on as 4.
    """
    between = {size for size in timing.BATCH_SIZES if size < max(batch_sizes)}
    return timing.measure(engine, sorted({*between, *batch_sizes}), rounds)


def chosen_shares(folder: Path) -> tuple[float, ...]:
    """Return where the images of the tune split leave at the threshold that export chose.

    Raises:
        BundleError: the bundle has no sweep.
    """
    try:
        table = json.loads((folder / bundle.SWEEP).read_text(encoding="utf-8"))
        return tuple(float(share) for share in table["chosen"]["shares"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        path = folder / bundle.SWEEP
        raise BundleError(str(path), f"no sweep ({error!r})", "export it again") from error


def _held(
    engine: Engine, costs: Costs, shares: Sequence[float], batch: int, rounds: int
) -> dict[str, float]:
    """Hold the engine, on images that leave in these shares, against the limit.

    The segments are measured once more, in the same interleaved rounds as the engine: a ratio of
    times from two different moments says little on a busy machine.
    """
    count = max(LEAST_IMAGES, batch * BATCHES)
    generator = np.random.default_rng(0)
    images = generator.standard_normal((count, *engine.segments[0].input_shape), dtype=np.float32)
    thresholds = _leaving(shares, count)
    used = [size for size in costs.batch_sizes if size <= batch]
    pieces = {name: piece for size in used for name, piece in timing.chain(engine, size).items()}
    pieces["engine"] = lambda: timing.replay(engine, images, batch, thresholds)
    times = timing.interleave(pieces, rounds)
    middle = {name: statistics.median(ms) for name, ms in times.items()}
    beside = dataclasses.replace(
        costs,
        batch_sizes=tuple(used),
        segment_ms=tuple(
            tuple(middle[position, size] for size in used) for position in range(len(shares))
        ),
    )
    taken = timing.replay(engine, images, batch, thresholds)
    limit = timing.limit_ms(beside, [float((taken == k).mean()) for k in costs.exits], batch)
    ms, whole = middle["engine"] * batch / count, middle["all", batch]
    return {
        "batch": batch,
        "ms": ms,
        "limit_ms": limit,
        "over_limit": ms / limit,
        "all_segments_ms": whole,
        "faster": whole / ms,
    }


def _leaving(shares: Sequence[float], count: int) -> NDArray[np.float32]:
    """Return thresholds [count, K-1] of 0 and 1 that let images leave in these shares.

    The golden ratio spreads them, so that every batch has about the same shares.
    """
    places = (np.arange(count) * 0.6180339887498949) % 1.0
    taken = np.searchsorted(np.cumsum(shares)[:-1], places, side="right")
    return (np.arange(len(shares) - 1) < taken[:, None]).astype(np.float32)


def _bench_words(costs: Costs, rows: Sequence[Row], shares: Sequence[float], path: Path) -> str:
    left = ", ".join(f"exit {k} {s:.1%}" for k, s in zip(costs.exits, shares, strict=True))
    return "\n".join(
        [
            f"segments, measured: median of {costs.rounds} interleaved rounds, {costs.computed}",
            _segments(costs, {row["batch"] for row in rows}),
            "",
            f"engine, images leaving as on the tune split ({left})",
            tables.text(rows, HELD),
            "",
            "limit: every segment at just the images that reach it, computed from the segments' "
            "times in the same rounds",
            f"wrote {path}",
        ]
    )


def _segments(costs: Costs, batches: Collection[object]) -> str:
    places = [i for i, size in enumerate(costs.batch_sizes) if size in batches]
    names = [*(f"to exit {number}" for number in costs.exits), "all, no exit"]
    rows: list[Row] = [
        {"segment": name, **{str(i): times[i] for i in places}}
        for name, times in zip(names, (*costs.segment_ms, costs.all_segments_ms), strict=True)
    ]
    columns = [Column(str(i), f"batch {costs.batch_sizes[i]}, ms", ".3f") for i in places]
    return tables.text(rows, [Column("segment", "segment"), *columns])
