"""How large, fast and right is every form of a bundle, in every precision?

Bundles of one run stand beside each other: its float32 segments are the yardstick for the others'
decisions. Each is asked with its own policy's thresholds about the same encoded images, which
no policy was fitted on. All forms of one run take turns inside each round.

    exitkit export RUN --form cascade,chain,all [--precision int8 --name RUN-int8]
    python benchmarks/forms.py --images DATA/test bundles/RUN bundles/RUN-int8 [--count N]

IMAGES holds one folder per class. Needs no torch. Prints one JSON line per bundle and form, with
its conditions; --write puts them into results/forms.jsonl.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from exitkit import bundle, images, machine
from exitkit.atomic import write_text
from exitkit.bundle import POLICY, Manifest
from exitkit.engine import ort, timing
from exitkit.engine.engine import Engine
from exitkit.policy.policy import Policy

RESULTS = Path(__file__).resolve().parent.parent / "results" / "forms.jsonl"
STAGED = "staged"
BATCH = 32
TIMED = 64  # images in each round
Numbers = NDArray[np.int64]
Ask = Callable[[NDArray[np.float32]], tuple[Numbers, Numbers]]


@dataclass(frozen=True)
class Form:
    """One form of one bundle, ready to run.

    Attributes:
        manifest: of its bundle.
        name: of the form.
        bytes: of its files.
        ask: normalised images [n, 3, H, W] -> exits [n] and labels [n].
    """

    manifest: Manifest
    name: str
    bytes: int
    ask: Ask

    @property
    def run(self) -> tuple[str, tuple[int, ...]]:
        """What forms must share to be compared: the run and the kept exits."""
        return self.manifest.name, self.manifest.exits


def load(folder: Path, threads: int) -> list[Form]:
    """Open a bundle's segments and its other forms."""
    manifest, policy = bundle.read_manifest(folder), Policy.read(folder / POLICY)
    engine = Engine(ort.load(folder, manifest, "private", threads), policy)
    size = sum((folder / piece.file).stat().st_size for piece in manifest.segments)
    forms = [Form(manifest, STAGED, size, by_engine(engine))]
    for name, file in manifest.forms.items():
        path = folder / file
        forms.append(Form(manifest, name, path.stat().st_size, by_graph(path, policy, threads)))
    return forms


def by_engine(engine: Engine) -> Ask:
    """Return what asks the engine."""

    def ask(pixels: NDArray[np.float32]) -> tuple[Numbers, Numbers]:
        answers = engine.answer(pixels)
        return answers.exit, answers.label

    return ask


def by_graph(path: Path, policy: Policy, threads: int) -> Ask:
    """Return what asks a form in plain ONNX Runtime, with threads as the engine's."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    thresholds = np.asarray(policy.thresholds, dtype=np.float32)
    more = {"thresholds": thresholds} if len(thresholds) else {}

    def ask(pixels: NDArray[np.float32]) -> tuple[Numbers, Numbers]:
        names = ["exit", "probabilities"]
        exits, probabilities = session.run(names, {"images": pixels, **more})
        return exits, probabilities.argmax(axis=1)

    return ask


def pictures(folder: Path, manifest: Manifest, count: int) -> tuple[NDArray[np.float32], Numbers]:
    """Return up to `count` normalised images, spread over a folder of classes, and their labels."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if set(names) != set(manifest.classes):
        sys.exit(f"{folder}: its folders are not the {len(manifest.classes)} classes of the bundle")
    files = [path for name in names for path in sorted((folder / name).iterdir())]
    rows = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    pixels = [images.decode(files[row].read_bytes(), manifest.image) for row in rows]
    labels = [manifest.classes.index(files[row].parent.name) for row in rows]
    return images.normalise(np.stack(pixels), manifest.image), np.array(labels)


def decisions(ask: Ask, pixels: NDArray[np.float32], batch: int) -> tuple[Numbers, Numbers]:
    """Return exits and labels [N], asked in batches."""
    starts = range(0, len(pixels), batch)
    found = [ask(pixels[start : start + batch]) for start in starts]
    exits, labels = zip(*found, strict=True)
    return np.concatenate(exits), np.concatenate(labels)


def measure(forms: Sequence[Form], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row per form of one run."""
    pixels, labels = pictures(options.images, forms[0].manifest, options.count)
    timed = pixels[np.linspace(0, len(pixels) - 1, TIMED).round().astype(int)]
    pieces: dict[tuple[int, int], Callable[[], object]] = {
        (place, batch): lambda ask=form.ask, batch=batch: decisions(ask, timed, batch)
        for batch in (1, BATCH)
        for place, form in enumerate(forms)
    }
    times = timing.interleave(pieces, options.rounds, least_ms=0.0)
    said = [decisions(form.ask, pixels, BATCH) for form in forms]
    rows, yardstick, staged = [], None, said[0]
    for place, (form, (exits, named)) in enumerate(zip(forms, said, strict=True)):
        if form.name == STAGED:
            staged = exits, named
            if form.manifest.precision == "float32" and yardstick is None:
                yardstick = exits, named
        ms = {batch: statistics.median(times[place, batch]) for batch in (1, BATCH)}
        rows.append(
            {
                "benchmark": "forms",
                "arch": form.manifest.arch,
                "method": form.manifest.method,
                "run": form.manifest.name,
                "exits": ", ".join(map(str, form.manifest.exits)),
                "mmacs": round(form.manifest.plain_macs / 1e6, 3),
                "precision": form.manifest.precision,
                "form": form.name,
                "mb": round(form.bytes / 1e6, 3),
                "ms1": round(ms[1] / TIMED, 4),
                "ms32": round(ms[BATCH] * BATCH / TIMED, 4),
                "accuracy": round(float((named == labels).mean()), 5),
                "as_staged": same((exits, named), staged),
                "as_float32": None if yardstick is None else same((exits, named), yardstick),
                "left": [round(float((exits == k).mean()), 4) for k in form.manifest.exits],
                "images": len(pixels),
                "rounds": options.rounds,
                "load_average": round(os.getloadavg()[0], 2),  # other work shows here
            }
        )
    return rows


def same(one: tuple[Numbers, Numbers], other: tuple[Numbers, Numbers]) -> float:
    """Return the share of images that leave at the same exit with the same label."""
    return round(float(((one[0] == other[0]) & (one[1] == other[1])).mean()), 5)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="every form of bundles, side by side")
    parser.add_argument("bundles", type=Path, nargs="+", help="of one run, its float32 first")
    parser.add_argument("--images", type=Path, required=True, help="a folder per class")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name} too")
    return parser.parse_args()


def main() -> None:
    """Measure run by run."""
    options = parse()
    conditions = {
        "threads": options.threads, "commit": machine.commit(), "machine": machine.describe(),
    }  # fmt: skip
    groups: dict[tuple[str, tuple[int, ...]], list[Form]] = {}
    for folder in options.bundles:
        for form in load(folder, options.threads):
            groups.setdefault(form.run, []).append(form)
    lines = []
    for forms in groups.values():
        lines += [json.dumps({**row, **conditions}) for row in measure(forms, options)]
        print("\n".join(lines[-len(forms) :]), flush=True)
    if options.write:
        write_text(RESULTS, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
