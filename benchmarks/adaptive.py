"""What does lowering thresholds under load bring? The server's own code on a simulated clock.

Serves one bundle's sweep at loads above what its policy can do, with fixed thresholds and with an
accuracy floor so many points below the policy's accuracy, on tables of stage times that this
machine need not have (those of benchmarks/simulate.py, or one that `exitkit bench` measured). No
engine runs: everything printed is simulated from the seeds below, and accuracy is what the sweep
says of the tune split.

    python benchmarks/adaptive.py BUNDLE [--points 1,2] [--loads 1.1,1.5,2] [--costs FILE]

prints a Markdown table. Loads are Poisson, in multiples of what the policy reaches with full
batches, over so many images that the queue of 1,024 could be filled four times at that load.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from simulate import BATCH, QUEUE, SEED, TABLES

from exitkit import bundle
from exitkit.engine.costs import Costs
from exitkit.policy.policy import Policy
from exitkit.serve import adaptive, tradeoff
from exitkit.serve.adaptive import Depth
from exitkit.serve.scheduling import rules
from exitkit.serve.scheduling.scheduler import PASSES
from exitkit.serve.scheduling.simulate import Load, draw, poisson, simulate
from exitkit.serve.scheduling.stages import Stages
from exitkit.serve.tradeoff import Tradeoff

SHORT = ("GPU, 64 cost 1.4 x 1", "CPU, 64 cost 57 x 1")
FILLS = 4
# A load's first part, until the queue has settled, is not counted.
SETTLED = 0.4


def row(curve: Tradeoff, stages: Stages, load: float, points: float | None) -> str:
    """Return a table row's cells: with a floor so many points lower, or with fixed thresholds."""
    assert curve.in_force is not None
    floor = curve.in_force.accuracy - (points or 0) / 100
    kept = adaptive.keeping(curve, floor) if points is not None else [curve.in_force]
    rungs = adaptive.ladder(kept, curve.thresholds, stages)
    rate = load / rungs[0].seconds
    images = int(FILLS * QUEUE / (1 - 1 / load) / SETTLED)
    shares = {(p.threshold,) * len(curve.thresholds): p.shares for p in (*kept, curve.in_force)}
    exits = np.stack([draw(shares[one.thresholds], images, 1, SEED) for one in rungs])
    depth = None if points is None else Depth(rungs, QUEUE)
    came = poisson(rate, images, SEED + 1)
    out = simulate(
        stages, rules.full_first, Load(exits if depth else exits[0], came), QUEUE,
        PASSES * stages.whole(stages.batch), depth=depth,
    )  # fmt: skip
    late = came > SETTLED * came[-1]
    served = late & ~np.isnan(out.latency_s)
    low, high = np.quantile(out.latency_s[served], [0.5, 0.99]) * 1e3
    accuracy = np.mean([rungs[level].accuracy for level in out.level[served]])
    seconds = came[-1] * (1 - SETTLED)
    return (
        f"{served.sum() / seconds:.0f} | {1 - served.sum() / late.sum():.1%} | "
        f"{low:.1f} / {high:.1f} | {100 * accuracy:.2f} % | "
        f"{int(np.median(out.level[served]))} of {len(rungs) - 1}"
    )


def main() -> None:
    """Compare fixed thresholds with floors on every table of times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--points", default="1,2", help="of accuracy that may be lost")
    parser.add_argument("--loads", default="1.1,1.5,2")
    parser.add_argument("--costs", type=Path, help="a measured table instead")
    chosen = parser.parse_args()
    manifest = bundle.read_manifest(chosen.bundle)
    policy = Policy.read(chosen.bundle / bundle.POLICY)
    curve = tradeoff.read(chosen.bundle, manifest, policy)
    tables = {}
    if chosen.costs:
        costs = Costs(**json.loads(chosen.costs.read_text()))
        tables[chosen.costs.stem] = Stages.of(costs, int(costs.batch_sizes[-1]))
    else:
        for name in SHORT:
            alone, each, parts = TABLES[name]
            times = [[p * (alone + each * b) / 1e3 for b in range(1, BATCH + 1)] for p in parts]
            tables[name] = Stages(times)
    print("\n".join(tradeoff.describe(curve)))
    print("| stage times | load | floor | images/s | refused | p50 / p99 ms | accuracy | step |")
    print("|---|---|---|---|---|---|---|---|")
    floors = [None, *(float(p) for p in chosen.points.split(","))]
    for name, stages in tables.items():
        for load in map(float, chosen.loads.split(",")):
            for points in floors:
                what = "none" if points is None else f"{points:g} points lower"
                cells = row(curve, stages, load, points)
                print(f"| {name} | {load:g} | {what} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
