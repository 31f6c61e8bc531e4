"""How near does the torch backend come to the limit of early exiting on a GPU, and to no exits?

The network is resnet18 with random weights (its speed does not depend on them); thresholds per
row force which share of the images leaves where, spread so that every batch has about the same.
These take turns inside each round, and reported are medians of the rounds, milliseconds per batch:

* graphs: early exiting with CUDA graphs, from images in the host's memory to answers there;
* eager: the same, its kernels launched one by one;
* limit: the sum over the stages of their graphs' times at round(batch x reach) rows, no time for
  deciding and gathering; less than one row counts as that share of one;
* all: every stage and head, nobody leaves; plain: the network without early heads, one graph;
  plain eager: the same without a graph.

    python benchmarks/torch_graphs.py [--shares 0.5,0.25,0.15,0.1] [--batches 1,2,...] [--quick]

prints one JSON line per batch size, with its conditions; --write puts them into
results/torch_graphs.jsonl. It needs a CUDA GPU.
"""

import argparse
import json
import statistics
import subprocess
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import engine as staged
import numpy as np
import torch

from exitkit import machine
from exitkit.atomic import write_text
from exitkit.engine import timing
from exitkit.engine.engine import Engine
from exitkit.export.graphs import Eager, Graphs, Place
from exitkit.export.segments import cut, input_shapes
from exitkit.export.torch_backend import TorchSegment
from exitkit.models.build import build
from exitkit.policy.policy import Policy

RESULTS = Path(__file__).resolve().parent.parent / "results" / "torch_graphs.jsonl"
EXITS = (1, 2, 3, 4)
SHARES = (0.5, 0.25, 0.15, 0.1)
BATCHES = tuple(1 << power for power in range(11))
LEAST_IMAGES = 64
Row = dict[str, Any]  # Any: JSON values


def load(width: float, exits: tuple[int, ...], place: Place) -> Engine:
    """Return the segments of a network with just these exits, and a policy that lets nobody go."""
    torch.manual_seed(staged.SEED)
    network = build("resnet18", staged.CLASSES, staged.SIZE, width=width)
    pieces = cut(network, exits)
    shapes = input_shapes(pieces, staged.SIZE, staged.SIZE)
    segments = [
        TorchSegment(piece, shape, staged.CLASSES, place)
        for piece, shape in zip(pieces, shapes, strict=True)
    ]
    policy = Policy("0" * 64, exits, (1.0,) * (len(exits) - 1), (1.0,) * len(exits))
    return Engine(segments, policy)


def stage(rows: float) -> tuple[int, float]:
    """Return how many rows a stage is timed at, and the weight of that time in the limit."""
    whole = int(rows + 0.5)
    return (whole, 1.0) if whole else (1, rows)


def reach(batch: int, shares: Sequence[float]) -> list[float]:
    """Return how many rows of a batch reach each stage, on average."""
    return [batch * sum(shares[position:]) for position in range(len(shares))]


def case(engines: dict[str, Engine], batch: int, shares: Sequence[float]) -> dict[Hashable, Any]:
    """Return what takes turns; check that images leave where they should."""
    n = max(batch, LEAST_IMAGES // batch * batch)
    places = (np.arange(n) * 0.6180339887498949) % 1.0  # the golden ratio spreads them
    position = np.searchsorted(np.cumsum(shares)[:-1], places, side="right")
    thresholds = (np.arange(len(shares) - 1) != position[:, None]).astype(np.float32)
    generator = np.random.default_rng(staged.SEED)
    images = generator.standard_normal((n, 3, staged.SIZE, staged.SIZE), dtype=np.float32)
    pieces: dict[Hashable, Callable[[], object]] = {}
    for name in ("graphs", "eager"):
        engine = engines[name]
        taken = timing.replay(engine, images, batch, thresholds)
        assert (taken == np.array(EXITS)[position]).all(), f"{name}: images left elsewhere"
        pieces[name] = lambda engine=engine: timing.replay(engine, images, batch, thresholds)
    pieces["all"] = timing.chain(engines["graphs"], batch)["all", batch]
    for name in ("plain", "plain eager"):
        pieces[name] = timing.chain(engines[name], batch)["all", batch]
    for position, expected in enumerate(reach(batch, shares)):
        rows, _ = stage(1.0 if batch == 1 else expected)
        pieces[position] = timing.chain(engines["graphs"], rows)[position, rows]
    return pieces


def row(times: dict[Hashable, list[float]], batch: int, shares: Sequence[float]) -> Row:
    """Put one batch size's times together: milliseconds per batch, ratios per round."""
    batches = max(batch, LEAST_IMAGES // batch * batch) / batch
    expected = reach(batch, shares)
    weights = expected if batch == 1 else [stage(rows)[1] for rows in expected]
    rounds = range(len(times["graphs"]))
    graphs, eager = ([ms / batches for ms in times[name]] for name in ("graphs", "eager"))
    limit = [sum(w * times[p][r] for p, w in enumerate(weights)) for r in rounds]
    median = statistics.median
    return {
        "benchmark": "torch_graphs",
        "batch": batch,
        "shares": list(shares),
        "graphs_ms": round(median(graphs), 4),
        "eager_ms": round(median(eager), 4),
        "limit_ms": round(median(limit), 4),
        "stage_ms": [round(median(times[p]), 4) for p in range(len(shares))],
        "all_ms": round(median(times["all"]), 4),
        "plain_ms": round(median(times["plain"]), 4),
        "plain_eager_ms": round(median(times["plain eager"]), 4),
        "graphs_over_limit": round(median(graphs[r] / limit[r] for r in rounds), 4),
        "graphs_over_plain": round(median(graphs[r] / times["plain"][r] for r in rounds), 4),
        "graphs_over_eager": round(median(graphs[r] / eager[r] for r in rounds), 4),
        "rounds": len(graphs),
    }


def measure(options: argparse.Namespace, graphs: Place, eager: Place) -> list[Row]:
    """Measure every batch size."""
    engines = {
        "graphs": load(options.width, EXITS, graphs),
        "eager": load(options.width, EXITS, eager),
        "plain": load(options.width, EXITS[-1:], graphs),
        "plain eager": load(options.width, EXITS[-1:], eager),
    }
    found = []
    for batch in options.batches:
        times = timing.interleave(case(engines, batch, options.shares), options.rounds)
        found.append(row(times, batch, options.shares))
    return found


def gpu() -> Row:
    """Describe the GPU: name, driver, and the power that it may draw."""
    fields = ("name", "driver_version", "power.limit", "clocks.max.sm", "compute_cap")
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = dict(zip(fields, map(str.strip, done.stdout.split(",")), strict=True))
    return {**said, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="CUDA graphs over the limit, on resnet18")
    numbers = lambda text: tuple(map(int, text.split(",")))  # noqa: E731
    shares = lambda text: tuple(map(float, text.split(",")))  # noqa: E731
    parser.add_argument("--batches", type=numbers, default=BATCHES)
    parser.add_argument("--shares", type=shares, default=SHARES, help="leaving at exits 1 to 4")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="quarter width, 5 rounds")
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name} too")
    options = parser.parse_args()
    if len(options.shares) != len(EXITS) or abs(sum(options.shares) - 1.0) > 1e-6:
        parser.error(f"shares {options.shares}: give one for each of exits {EXITS}, 1 in all")
    if options.quick:
        options.rounds, options.width = 5, 0.25
    return options


def main() -> None:
    """Refuse a machine without a GPU; measure."""
    options = parse()
    if not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} sees no CUDA GPU here; run it where one is")
    conditions = {
        "arch": "resnet18", "width": options.width, "classes": staged.CLASSES,
        "image_size": staged.SIZE, "heads": "light", "seed": staged.SEED, "gpu": gpu(),
        "commit": machine.commit(), "machine": machine.describe(),
    }  # fmt: skip
    rows = measure(options, Graphs(), Eager(torch.device("cuda")))
    lines = [json.dumps({**row, **conditions}) for row in rows]
    print("\n".join(lines))
    if options.write:
        write_text(RESULTS, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
