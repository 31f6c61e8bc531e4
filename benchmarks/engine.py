"""How near does the engine come to the limit of early exiting?

The limit is the sum over segments of reach x time: every segment at just the rows that reach it,
no time for deciding, gathering and scattering. The network is resnet18 with random weights (its
speed does not depend on them); thresholds per row force how many images leave where. Engine,
segments, all segments without exit, and the network without early heads take turns inside each
round, and what is reported is the median of the rounds' ratios. Each runs once a round, so that a
segment finds the caches as the one before it left them, like in a real chain; repeating it
(--least-ms) keeps its weights in the cache and makes the limit some 3 % faster than any chain.

    python benchmarks/engine.py [--quick] [--pool private|shared] [--threads N] [--rounds N]

prints one JSON line per pool and batch size, with its conditions; --write puts them into
results/engine.jsonl.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exitkit import bundle, machine
from exitkit.atomic import write_text
from exitkit.bundle import Manifest, Segment
from exitkit.engine import ort, timing
from exitkit.engine.engine import Engine
from exitkit.export import onnx, segments
from exitkit.images import ImageSpec
from exitkit.models import costs
from exitkit.models.build import build
from exitkit.policy.policy import Policy

RESULTS = Path(__file__).resolve().parent.parent / "results" / "engine.jsonl"
CLASSES, SIZE, SEED = 100, 32, 0
# Images that leave at exit 1, 2, 3, 4 of each batch: reach 1, 0.5, 0.25, 0.1 as near as whole
# images come to it. One image at a time is averaged over a sequence of twenty.
LEAVING = {1: (10, 5, 3, 2), 8: (4, 2, 1, 1), 32: (16, 8, 5, 3)}


def export(folder: Path, width: float, exits: tuple[int, ...]) -> Path:
    """Write a bundle of resnet18 with random weights and just these exits."""
    torch.manual_seed(SEED)
    network = build("resnet18", CLASSES, SIZE, width=width)
    pieces = segments.cut(network, exits)
    shapes = segments.input_shapes(pieces, SIZE, SIZE)
    macs = costs.count(network, SIZE).segments(exits)
    folder.mkdir()
    rows = []
    for piece, shape, cost in zip(pieces, shapes, macs, strict=True):
        written = onnx.write(piece, shape, folder / f"segment_{piece.exit}.onnx")
        rows.append(Segment(piece.exit, written.path.name, shape, cost))
    names = tuple(str(c) for c in range(CLASSES))
    spec = ImageSpec(SIZE, SIZE, (0.5,) * 3, (0.25,) * 3)
    made = Manifest("random", "0" * 64, "resnet18", "none", names, spec, tuple(rows), 0, {}, {})
    bundle.write_manifest(folder, made)
    return folder


def load(folder: Path, pool: str, threads: int) -> Engine:
    """Load a bundle with a policy at whose thresholds nobody leaves early."""
    manifest = bundle.read_manifest(folder)
    k = len(manifest.exits)
    policy = Policy(manifest.network, manifest.exits, (1.0,) * (k - 1), (1.0,) * k)
    return Engine(ort.load(folder, manifest, pool, threads), policy)


def case(engine: Engine, plain: Engine, batch: int) -> dict[Hashable, Callable[[], object]]:
    """Return what takes turns at one batch size; check that the images leave where they should."""
    leaving = LEAVING[batch]
    n, k = sum(leaving), len(leaving)
    position = np.random.default_rng(SEED).permutation(np.repeat(np.arange(k), leaving))
    # 0 lets a row leave, 1 keeps it: random weights are never that sure.
    thresholds = (np.arange(k - 1) != position[:, None]).astype(np.float32)
    images = np.random.default_rng(SEED).standard_normal((n, 3, SIZE, SIZE), dtype=np.float32)
    taken = timing.replay(engine, images, batch, thresholds)
    assert (taken == np.array(engine.policy.exits)[position]).all(), "images left elsewhere"
    pieces: dict[Hashable, Callable[[], object]] = {
        "engine": lambda: timing.replay(engine, images, batch, thresholds),
        "plain": timing.chain(plain, batch)["all", batch],
        "all": timing.chain(engine, batch)["all", batch],
    }
    for p in range(k):
        rows = reach(batch)[p] if batch > 1 else 1
        pieces[p] = timing.chain(engine, rows)[p, rows]
    return pieces


def reach(batch: int) -> list[int]:
    """Return how many images of LEAVING reach each exit."""
    return [sum(LEAVING[batch][p:]) for p in range(len(LEAVING[batch]))]


def row(times: dict[Hashable, list[float]], batch: int) -> dict[str, Any]:
    """Put one batch size's times together: milliseconds per batch, ratios per round."""
    leaving = LEAVING[batch]
    batches = sum(leaving) / batch
    engine = [ms / batches for ms in times["engine"]]
    weight = [r / batches if batch == 1 else 1.0 for r in reach(batch)]
    rounds = range(len(engine))
    limit = [sum(weight[p] * times[p][r] for p in range(len(leaving))) for r in rounds]
    median = statistics.median
    return {
        "benchmark": "engine",
        "batch": batch,
        "leaving": list(leaving),
        "engine_ms": round(median(engine), 4),
        "limit_ms": round(median(limit), 4),
        "segment_ms": [round(median(times[p]), 4) for p in range(len(leaving))],
        "all_segments_ms": round(median(times["all"]), 4),
        "plain_ms": round(median(times["plain"]), 4),
        "engine_over_limit": round(median(engine[r] / limit[r] for r in rounds), 4),
        "engine_over_plain": round(median(engine[r] / times["plain"][r] for r in rounds), 4),
        "rounds": len(engine),
    }


def measure(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one pool in this process."""
    engine = load(folder / "exits", options.pool, options.threads)
    plain = load(folder / "plain", options.pool, options.threads)
    conditions = {
        "arch": "resnet18", "width": options.width, "classes": CLASSES, "image_size": SIZE,
        "heads": "light", "seed": SEED, "pool": options.pool, "threads": options.threads,
        "commit": machine.commit(), "machine": machine.describe(),
    }  # fmt: skip
    found = []
    for batch in LEAVING:
        times = timing.interleave(case(engine, plain, batch), options.rounds, options.least_ms)
        busy = round(os.getloadavg()[0], 2)  # other work shows here
        found.append({**row(times, batch), "load_average": busy, **conditions})
    return found


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="engine over limit, on resnet18")
    parser.add_argument("--pool", choices=(*ort.POOLS, "both"), default="both")
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--least-ms", type=float, default=0.0, help="repeat up to this length")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="quarter width, 5 short rounds")
    parser.add_argument("--json", action="store_true", help="JSON lines, as without it")
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name} too")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.least_ms, options.width = 5, 5.0, 0.25
    return options


def main() -> None:
    """Export once, then measure each pool in a process of its own: the shared one stays."""
    options = parse()
    if options.folder is not None:
        for found in measure(options.folder, options):
            print(json.dumps(found))
        return
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(folder / "exits", options.width, (1, 2, 3, 4))
        export(folder / "plain", options.width, (4,))
        for pool in ort.POOLS if options.pool == "both" else (options.pool,):
            arguments = [
                f"--folder={folder}", f"--pool={pool}", f"--threads={options.threads}",
                f"--rounds={options.rounds}", f"--least-ms={options.least_ms}",
                f"--width={options.width}",
            ]  # fmt: skip
            command = [sys.executable, __file__, *arguments]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(done.stdout, end="", flush=True)
            lines += done.stdout.splitlines()
    if options.write:
        write_text(RESULTS, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
