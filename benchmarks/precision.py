"""How much faster is resnet18 with fp16 or int8 segments than with float32 ones?

Random weights, since speed does not depend on them: calibration sees noise. Images leave where
`benchmarks/engine.py` lets them leave; beside the engine stand all segments in a row, with nobody
leaving. All precisions take turns inside each round, and what is reported is the median of the
rounds' ratios.

    python benchmarks/precision.py [--quick] [--threads N] [--rounds N]

prints one JSON line per precision and batch size, with its conditions. int8 needs a processor with
VNNI instructions to be worth it; the line says whether there is one.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path

import engine as staged
import numpy as np
import torch

from exitkit import bundle, images, machine
from exitkit.data.split import Tune
from exitkit.engine import timing
from exitkit.export.precision import PRECISIONS
from exitkit.export.precision.convert import convert

CALIBRATED_WITH = 64  # images


def noise() -> Tune:
    """Return images to calibrate with."""
    random = torch.Generator().manual_seed(staged.SEED)
    shape = (CALIBRATED_WITH, 3, staged.SIZE, staged.SIZE)
    pixels = torch.randint(0, 256, shape, generator=random).to(torch.uint8)

    def encoded(row: int) -> bytes:
        return images.encode_png(np.ascontiguousarray(pixels[row].numpy().transpose(1, 2, 0)))

    rows = torch.arange(CALIBRATED_WITH)
    return Tune(pixels, rows % staged.CLASSES, rows, encoded)


def export(folder: Path, width: float) -> dict[str, Path]:
    """Write a bundle per precision."""
    made = {"float32": staged.export(folder / "float32", width, (1, 2, 3, 4))}
    manifest = bundle.read_manifest(made["float32"])
    for precision in PRECISIONS[1:]:
        made[precision] = folder / precision
        made[precision].mkdir()
        convert(made["float32"], manifest, made[precision], precision, noise())
        bundle.write_manifest(made[precision], manifest)
    return made


def vnni() -> bool:
    """Tell whether the processor multiplies 8-bit integers in one instruction."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def main() -> None:
    """Export, measure, print."""
    parser = argparse.ArgumentParser(description="precisions against float32, on resnet18")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="quarter width, 5 rounds")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.width = 5, 0.25
    conditions = {
        "arch": "resnet18", "width": options.width, "image_size": staged.SIZE,
        "threads": options.threads, "rounds": options.rounds, "vnni": vnni(),
        "commit": machine.commit(), "machine": machine.describe(),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        bundles = export(Path(name), options.width)
        engines = {
            precision: staged.load(folder, "private", options.threads)
            for precision, folder in bundles.items()
        }
        for batch in staged.LEAVING:
            pieces: dict[Hashable, Callable[[], object]] = {}
            for precision, loaded in engines.items():
                found = staged.case(loaded, loaded, batch)
                pieces |= {(precision, what): found[what] for what in ("engine", "all")}
            times = timing.interleave(pieces, options.rounds, 0.0)
            batches = sum(staged.LEAVING[batch]) / batch
            for precision in PRECISIONS:
                row = {"benchmark": "precision", "precision": precision, "batch": batch}
                for what, per in (("engine", batches), ("all", 1.0)):
                    own, plain = times[precision, what], times["float32", what]
                    faster = statistics.median(a / b for a, b in zip(plain, own, strict=True))
                    row |= {
                        f"{what}_ms": round(statistics.median(own) / per, 3),
                        f"{what}_speedup": round(faster, 3),
                    }
                print(json.dumps({**row, "load_average": os.getloadavg()[0], **conditions}))


if __name__ == "__main__":
    main()
