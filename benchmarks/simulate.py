"""Which stage should run next? The server's own decisions on a simulated clock.

Compares four ways to serve one network with exits, on tables of stage times that this machine
need not have: merged batches that run to their end before anybody is answered (`merged`), the
deepest or the shallowest stage first, and the rule that serves (`full_first`). No engine runs;
everything printed is simulated, from the seeds below.

    python benchmarks/simulate.py [--requests N] [--images N] [--costs FILE --shares A,B,...]

prints a Markdown table. Throughput is at twice the limit's load and a share of the limit: every
stage at full batches, of just the images that reach it. Latencies are milliseconds, p50 / p99,
under Poisson load: at 70 % of what `merged` reaches, and at 70 % of the limit, where an entry
`full` means that the way cannot serve that load and refuses. Compute saved is against running all
images through all stages in full batches. --costs takes a table that `exitkit bench` measured.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from exitkit.engine.costs import Costs
from exitkit.serve.scheduling import rules
from exitkit.serve.scheduling.queues import Queues
from exitkit.serve.scheduling.scheduler import PASSES
from exitkit.serve.scheduling.simulate import Load, Outcome, draw, poisson, simulate
from exitkit.serve.scheduling.stages import Stages

BATCH, QUEUE, LOAD, SEED = 64, 1024, 0.7, 0
# Milliseconds of one stage: alone, and for every row. Four stages like it, or of these shares.
TABLES: dict[str, tuple[float, float, tuple[float, ...]]] = {
    "GPU, 64 cost 1.4 x 1": (0.5, 0.003, (1, 1, 1, 1)),
    "GPU, early stages dear": (0.5, 0.003, (2, 1, 1, 0.5)),
    "between, 64 cost 6.7 x 1": (1.0, 0.1, (1, 1, 1, 1)),
    "CPU, 64 cost 57 x 1": (0.1, 0.8, (1, 1, 1, 1)),
}
SHARES = {"half": (0.5, 0.25, 0.15, 0.1), "rare": (0.8, 0.15, 0.04, 0.01)}
WAYS: dict[str, tuple[Callable[[Queues, float], tuple[int, int]], bool]] = {
    "merged": (rules.deepest, True),
    "deepest": (rules.deepest, False),
    "shallowest": (rules.shallowest, False),
    "full_first": (rules.full_first, False),
}


def limit(stages: Stages, shares: Sequence[float]) -> float:
    """Return images per second when every stage runs full batches of those that reach it."""
    reach, seconds = 1.0, 0.0
    for k, share in enumerate(shares):
        seconds += reach * min(stages.seconds(k, b) / b for b in range(1, stages.batch + 1))
        reach -= share
    return 1 / seconds


def compare(
    stages: Stages, shares: Sequence[float], requests: int, images: int
) -> dict[str, list[str]]:
    """Return the table's cells for each way."""
    most = limit(stages, shares)
    exits = draw(shares, requests, images, SEED)

    def run(way: str, rate: float) -> Outcome:
        rule, whole = WAYS[way]
        load = Load(exits, poisson(rate / images, requests, SEED + 1))
        return simulate(stages, rule, load, QUEUE, PASSES * stages.whole(stages.batch), whole=whole)

    cells: dict[str, list[str]] = {}
    reached = {}
    for way in WAYS:
        out = run(way, 2 * most)
        answered = images * (requests - out.refused)
        reached[way] = answered / out.end_s
        plain = stages.whole(stages.batch) / stages.batch
        cells[way] = [
            f"{reached[way]:.0f}", f"{reached[way] / most:.0%}",
            f"{1 - out.busy_s / answered / plain:.0%}",
        ]  # fmt: skip
    for rate in (LOAD * reached["merged"], LOAD * most):
        for way in WAYS:
            out = run(way, rate)
            low, high = np.nanquantile(out.latency_s, [0.5, 0.99]) * 1e3
            full = out.refused > 0.01 * requests
            cells[way].append("full" if full else f"{low:.2f} / {high:.2f}")
    return cells


def show(name: str, stages: Stages, shares: Sequence[float], requests: int, images: int) -> None:
    """Print the rows of one table of times."""
    for way, cells in compare(stages, shares, requests, images).items():
        print(f"| {name} | {way} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Compare the ways on every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=8000)
    parser.add_argument("--images", type=int, default=1, help="of one request")
    parser.add_argument("--costs", type=Path, help="a measured table instead")
    parser.add_argument("--shares", default="", help="that leave at each exit, with --costs")
    chosen = parser.parse_args()
    print("| stage times, shares that leave | way | images/s | of the limit | compute saved |"
          " p50 / p99 at 70 % of merged | at 70 % of the limit |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    if chosen.costs:
        costs = Costs(**json.loads(chosen.costs.read_text()))
        shares = [float(share) for share in chosen.shares.split(",")]
        stages = Stages.of(costs, int(costs.batch_sizes[-1]))
        show(chosen.costs.stem, stages, shares, chosen.requests, chosen.images)
        return
    for name, (alone, row, parts) in TABLES.items():
        stages = Stages(
            [[part * (alone + row * b) / 1e3 for b in range(1, BATCH + 1)] for part in parts]
        )
        for label, shares in SHARES.items():
            show(f"{name}, {label}", stages, shares, chosen.requests, chosen.images)


if __name__ == "__main__":
    main()
