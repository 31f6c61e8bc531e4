"""What do exits bring behind HTTP, and what does the server cost beside its engine?

A load generator in a process of its own (`load/`) sends real test images over kept connections;
server and load have one core each, with one thread of the engine. Every answer is held against the
offline engine's. Open loops are Poisson, and latency counts from when a request was due. Each part
lets its servers take turns within rounds; ratios are medians of the rounds' ratios, percentiles are
of all rounds' samples, which stay in the rows.

    exitkit export RUN --name NAME && exitkit export RUN --exits K --name NAME-plain   # K: deepest
    EXITKIT_CIFAR100=FOLDER python benchmarks/serve.py --networks NAME,... [--parts exits,http,...]

prints one JSON line a row, with its conditions; --write puts them into results/serve.jsonl, in the
place of older rows of the same questions. Thresholds are chosen on the tune split: the
cheapest within 0.3 points of the deepest exit, and those that save --saved of the compute. Accuracy
is on the test split.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from load import parts, targets
from load.lab import SEED, Lab, Target

from exitkit import machine
from exitkit.atomic import write_text

RESULTS = Path(__file__).resolve().parent.parent / "results" / "serve.jsonl"
LOADS = (0.3, 0.6, 0.9, 1.2)
SIMULATED = (0.3, 0.5, 0.7, 0.9)
PARTS = ("exits", "rebatching", "http", "rivals", "simulated")
DIGITS = 5  # of numbers in rows


def operating(lab: Lab, saved: list[float]) -> list[Target]:
    """Return the points to serve: equal accuracy first."""
    points, plain = lab.points(), parts.plain_macs(lab)
    found = [Target(lab.name, targets.equal(points), targets.EQUAL)]
    for share in saved:
        threshold = targets.saving(points, plain, share)
        found.append(Target(lab.name, threshold, f"{share:.0%} saved"))
    return found


def ask(part: str, lab: Lab, chosen: list[Target], options: argparse.Namespace) -> list[Any]:
    """Return the rows of one part."""
    rounds, seconds = options.rounds, options.seconds
    if part == "exits":
        return [
            row
            for images in options.images
            for row in parts.exits(lab, chosen, rounds, seconds, images)
        ]
    one = chosen[min(options.point, len(chosen) - 1)]
    verbs: dict[str, Callable[[], list[Any]]] = {
        "rebatching": lambda: parts.rebatching(lab, one, rounds, seconds),
        "http": lambda: parts.http(lab, chosen[0], rounds, seconds),
        "rivals": lambda: parts.rivals(lab, chosen[0], rounds, seconds, LOADS),
        "simulated": lambda: parts.simulated(lab, one, seconds, SIMULATED),
    }
    return verbs[part]()


def rounded(value: Any) -> Any:
    """Return a row with numbers of few digits."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundles", type=Path, default=Path("bundles"))
    parser.add_argument("--networks", required=True, help="bundles, each with its NAME-plain")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--saved", default="", help="shares of the compute, such as 0.3,0.5")
    parser.add_argument("--images", default="1", help="of one request in part exits: 1,8")
    parser.add_argument("--point", type=int, default=0, help="for rebatching and simulated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one load")
    parser.add_argument("--tries", type=int, default=1, help="of a load that others disturb")
    parser.add_argument("--work", type=Path, help="keep decoded images and logs there")
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name} too")
    options = parser.parse_args()
    options.images = [int(n) for n in options.images.split(",")]
    options.saved = [float(share) for share in options.saved.split(",") if share]
    return options


def merge(lines: list[str]) -> None:
    """Put rows into the tracked file, for those of the same questions, networks and requests."""
    mine = {_key(line) for line in lines}
    before = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    kept = [line for line in before if _key(line) not in mine]
    write_text(RESULTS, "\n".join([*kept, *lines]) + "\n")


def _key(line: str) -> tuple[str, str, int]:
    row = json.loads(line)
    return row["benchmark"], row["network"], row.get("images", 1)


def main() -> None:
    """Ask every part of every network."""
    options = parse()
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.networks.split(","):
            folder = (options.work or Path(temporary)).resolve()
            lab = Lab(options.bundles, name, folder, Path(os.environ.get("EXITKIT_CIFAR100", "")))
            lab.tries = options.tries
            chosen = operating(lab, options.saved)
            lab.prepare([lab.whole, *chosen])
            for part in options.parts.split(","):
                began = time.perf_counter()
                for row in ask(part, lab, chosen, options):
                    conditions = {
                        "load_average": round(os.getloadavg()[0], 2), "batch": 32, "threads": 1,
                        "seed": SEED, "commit": machine.commit(), "machine": machine.describe(),
                    }  # fmt: skip
                    line = json.dumps({"benchmark": f"serve_{part}", **rounded(row), **conditions})
                    shown = {k: v for k, v in json.loads(line).items() if k != "samples"}
                    print(json.dumps(shown), flush=True)
                    lines.append(line)
                print(f"# {name}, {part}: {time.perf_counter() - began:.0f} s", flush=True)
    if options.write:
        merge(lines)


if __name__ == "__main__":
    main()
