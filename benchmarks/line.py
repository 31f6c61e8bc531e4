"""What does early exit give and cost from training to an answer over HTTP?

Runs `exitkit demo` once per seed in an empty folder: MATE on MobileNetV2 and the digits, exits 2
and 4 against the plain network, every test image sent to a real server.

    python benchmarks/line.py [--seeds 0,1,2] [--epochs N] [--width W] [--write]

prints one JSON line per seed and policy, with its conditions; --write puts them into
results/line.jsonl.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from exitkit.atomic import write_text

RESULTS = Path(__file__).resolve().parent.parent / "results" / "line.jsonl"


def measure(seed: int, options: list[str]) -> list[str]:
    """Run the demo in a folder of its own; return its rows as JSON lines."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "exitkit", "demo", "--json", "--seed", str(seed), *options]
        done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return [json.dumps(row) for row in json.loads(done.stdout)["rows"]]


def main() -> None:
    """Measure every seed, one after the other."""
    parser = argparse.ArgumentParser(description="the whole line, per seed")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", help="instead of the demo's own")
    parser.add_argument("--width", help="instead of the demo's own")
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name} too")
    given = parser.parse_args()
    options = [
        word
        for name in ("epochs", "width")
        if getattr(given, name) is not None
        for word in (f"--{name}", getattr(given, name))
    ]
    lines: list[str] = []
    for seed in given.seeds.split(","):
        found = measure(int(seed), options)
        print("\n".join(found), flush=True)
        lines += found
    if given.write:
        write_text(RESULTS, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
