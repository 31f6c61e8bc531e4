"""What does deciding inside one graph cost, against the engine on the very same segments?

Network, thresholds per row and shares of images that leave are those of engine.py. Engine and
cascade take turns inside each round, on ONNX Runtime with the same threads, which do not spin
(--pool shared: the process's one pool for both). Reported are medians of the rounds' ratios: of
the time on the wall, and of the processor's time that this process used, which other work on the
machine hardly changes.

    python benchmarks/cascade.py [--quick] [--pool private|shared] [--threads N] [--rounds N]

prints one JSON line per pool and batch size, with its conditions; --write puts them into
results/cascade.jsonl.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import engine as staged
import numpy as np
import onnxruntime

from exitkit import bundle, machine
from exitkit.atomic import write_text
from exitkit.engine import ort, timing
from exitkit.engine.engine import Engine
from exitkit.export.forms import cascade

RESULTS = Path(__file__).resolve().parent.parent / "results" / "cascade.jsonl"
EXITS = (1, 2, 3, 4)
Row = dict[str, Any]  # Any: JSON values


class Clocked:
    """A piece that also notes how much processor time each of its runs took."""

    def __init__(self, piece: Callable[[], object]) -> None:
        self.piece = piece
        self.cpu: list[float] = []

    def __call__(self) -> None:
        """Run the piece once."""
        start = time.process_time()
        self.piece()
        self.cpu.append((time.process_time() - start) * 1e3)


def session(path: Path, pool: str, threads: int) -> onnxruntime.InferenceSession:
    """Open a form with the engine's own options for its threads."""
    options = onnxruntime.SessionOptions()
    if pool == "shared":
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def case(engine: Engine, form: onnxruntime.InferenceSession, batch: int) -> dict[Hashable, Clocked]:
    """Return what takes turns at one batch size; check that both take the exits they should."""
    leaving = staged.LEAVING[batch]
    n, k = sum(leaving), len(leaving)
    generator = np.random.default_rng(staged.SEED)
    position = generator.permutation(np.repeat(np.arange(k), leaving))
    thresholds = (np.arange(k - 1) != position[:, None]).astype(np.float32)
    images = generator.standard_normal((n, 3, staged.SIZE, staged.SIZE), dtype=np.float32)

    def run() -> np.ndarray:
        taken = []
        for start in range(0, n, batch):
            rows = slice(start, start + batch)
            feed = {"images": images[rows], "thresholds": thresholds[rows]}
            # The engine gives probability and label as well.
            taken.append(form.run(["exit", "confidence", "probabilities"], feed)[0])
        return np.concatenate(taken)

    expected = np.array(EXITS)[position]
    assert (timing.replay(engine, images, batch, thresholds) == expected).all(), "engine"
    assert (run() == expected).all(), "cascade"
    return {
        "engine": Clocked(lambda: timing.replay(engine, images, batch, thresholds)),
        "cascade": Clocked(run),
    }


def compose(folder: Path, path: Path, temperatures: Sequence[float]) -> None:
    """Write the cascade of a bundle, with thresholds per row."""
    manifest = bundle.read_manifest(folder)
    files = [folder / segment.file for segment in manifest.segments]
    cascade.write(files, manifest.exits, temperatures, path, {}, per_row=True)


def measure(folder: Path, scratch: Path, options: argparse.Namespace, pool: str) -> list[Row]:
    """Measure every batch size with one pool."""
    engine = staged.load(folder, pool, options.threads)
    compose(folder, scratch / "cascade.onnx", engine.policy.temperatures)
    form = session(scratch / "cascade.onnx", pool, options.threads)
    found = []
    for batch in (int(size) for size in options.batches.split(",")):
        pieces = case(engine, form, batch)
        times = timing.interleave(pieces, options.rounds, least_ms=0.0)
        cpu = {name: piece.cpu[-options.rounds :] for name, piece in pieces.items()}
        leaving = staged.LEAVING[batch]
        batches = sum(leaving) / batch
        found.append(
            {
                "benchmark": "cascade",
                "batch": batch,
                "leaving": list(leaving),
                "engine_ms": round(statistics.median(times["engine"]) / batches, 4),
                "cascade_ms": round(statistics.median(times["cascade"]) / batches, 4),
                "cascade_over_engine": ratio(times),
                "cpu_over_engine": ratio(cpu),
                "rounds": options.rounds,
                "pool": pool,
                "load_average": round(os.getloadavg()[0], 2),  # other work shows here
            }
        )
    return found


def ratio(times: dict[Hashable, list[float]]) -> float:
    """Return the median over the rounds of cascade over engine."""
    pairs = zip(times["cascade"], times["engine"], strict=True)
    return round(statistics.median(cascade / engine for cascade, engine in pairs), 4)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="cascade over engine, on resnet18")
    parser.add_argument("--pool", choices=(*ort.POOLS, "both"), default="both")
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="quarter width, 5 rounds")
    parser.add_argument("--bundle", type=Path, help="that engine.py exported, instead of another")
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name} too")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.width = 5, 0.25
    return options


def main() -> None:
    """Export, compose, measure."""
    options = parse()
    conditions = {
        "arch": "resnet18", "width": options.width, "classes": staged.CLASSES,
        "image_size": staged.SIZE, "heads": "light", "seed": staged.SEED,
        "threads": options.threads, "commit": machine.commit(), "machine": machine.describe(),
    }  # fmt: skip
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder = options.bundle or staged.export(scratch / "exits", options.width, EXITS)
        # Private first: the threads of the shared pool stay, and spin for a while.
        for pool in ort.POOLS if options.pool == "both" else (options.pool,):
            rows += [{**row, **conditions} for row in measure(folder, scratch, options, pool)]
    lines = [json.dumps(row) for row in rows]
    print("\n".join(lines))
    if options.write:
        write_text(RESULTS, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
