"""Does every method learn? Each on digits at a quarter of the width, judged on the test split.

    python benchmarks/methods.py [--arch resnet18] [--method NAME ...] [--write]

trains the methods one after the other with the data set's own recipe, in fewer epochs so that
each takes less than a minute on two slow cores, and prints one JSON line for each: accuracy of
every exit that it teaches, seconds, conditions. --write puts the lines into
results/methods.jsonl. The bar is 70 % at every exit taught; this is no comparison of methods, for
which digits are too easy and one seed too few.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from exitkit import machine, names
from exitkit.atomic import write_text
from exitkit.config import parse as parse_config
from exitkit.policy import metrics
from exitkit.train import evaluate, session

RESULTS = Path(__file__).resolve().parent.parent / "results" / "methods.jsonl"


def measure(method: str, options: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Train one method; return its row."""
    settings = {"method": method, "arch": options.arch, "width": options.width}
    settings |= {"seed": options.seed, "precision": "float32", "epochs": options.epochs}
    start = time.perf_counter()
    files = session.train(root=root, **vars(parse_config(settings, "benchmark")))
    seconds = time.perf_counter() - start
    table = evaluate.evaluate(files, "test")
    accuracy = {row["exit"]: row["top1"] for row in metrics.per_exit(table)}
    return {
        "benchmark": "methods",
        "method": method,
        "arch": options.arch,
        "width": options.width,
        "data": "digits",
        "epochs": options.epochs,
        **{f"exit{k}": round(share, 4) for k, share in accuracy.items()},
        "least": round(min(accuracy.values()), 4),
        "seconds": round(seconds, 1),
        "seed": options.seed,
        "commit": machine.commit(),
        "machine": machine.describe(),
    }


def main() -> None:
    """Measure the methods that the command line names, or all."""
    parser = argparse.ArgumentParser(description="accuracy of every method on digits")
    parser.add_argument("--arch", default="resnet18", choices=tuple(names.NETWORKS))
    parser.add_argument("--method", nargs="*", default=list(names.METHODS))
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name} too")
    options = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for method in options.method:
            lines.append(json.dumps(measure(method, options, Path(folder))))
            print(lines[-1], flush=True)
    if options.write:
        write_text(RESULTS, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
