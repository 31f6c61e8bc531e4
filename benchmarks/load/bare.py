"""The engine without any server, in a process of its own: answers to expect, and its speed.

`python -m load.bare prepare JOB.json` computes every test image's logits once and prints what
each threshold answers; `speed` times the engine alone; `stages` prints the table of times that a
server would measure.
"""

import itertools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from exitkit.engine import model as models
from exitkit.engine import timing
from exitkit.engine.engine import all_logits
from exitkit.policy.policy import Policy
from exitkit.policy.solvers import exits_taken
from exitkit.scores import Scores
from exitkit.serve import warmup
from load import pictures

CHUNK = 64


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Answer all test images offline, once for each of the job's thresholds."""
    folder = Path(job["bundle"])
    model = models.load(folder, threads=1)
    held = pictures.read(Path(job["pictures"]))
    inputs = np.load(Path(job["pictures"]) / pictures.INPUTS)
    segments = model.engine.segments
    parts = [all_logits(segments, inputs[i : i + CHUNK]) for i in range(0, len(inputs), CHUNK)]
    logits = np.concatenate(parts, axis=1)
    classes = model.manifest.classes
    truth = np.array([classes.index(name) for name in held.truth])
    exits = model.manifest.exits
    macs = np.cumsum([segment.macs for segment in model.manifest.segments])
    scores = Scores(
        "test", model.manifest.network, exits, macs, logits, truth, np.arange(len(truth))
    )
    found = []
    for threshold in job["thresholds"]:
        policy = model.policy if threshold is None else model.policy.with_threshold(threshold)
        found.append(_answers(scores, policy, classes))
    return {"truth": held.truth, "of": found}


def _answers(scores: Scores, policy: Policy, classes: tuple[str, ...]) -> dict[str, Any]:
    taken = exits_taken(scores, policy)
    rows = np.arange(len(taken))
    label = scores.logits[taken, rows].argmax(axis=1)
    return {
        "labels": [classes[k] for k in label],
        "exits": [policy.exits[k] for k in taken],
        "accuracy": float((label == scores.labels).mean()),
        "macs": float(scores.macs[taken].mean()),
        "shares": [float((taken == k).mean()) for k in range(len(policy.exits))],
        "thresholds": list(policy.thresholds),
    }


def speed(job: dict[str, Any]) -> dict[str, Any]:
    """Time batches of the images that are sent; images per second, median ms of a call."""
    model = models.load(Path(job["bundle"]), job["threshold"], threads=1)
    inputs = np.load(Path(job["pictures"]) / pictures.INPUTS, mmap_mode="r")
    inputs = inputs[pictures.drawn(len(inputs), job["seed"])]
    batch, engine = job["batch"], model.engine
    warmup.warm(engine, batch)
    calls: list[float] = []
    end = time.perf_counter() + job["seconds"]
    for start in itertools.cycle(range(0, len(inputs) - batch + 1, batch)):
        at = time.perf_counter()
        engine.answer(inputs[start : start + batch])
        calls.append((time.perf_counter() - at) * 1e3)
        if time.perf_counter() > end:
            break
    return {"per_s": batch * len(calls) * 1e3 / sum(calls), "p50_ms": statistics.median(calls)}


def stages(job: dict[str, Any]) -> dict[str, Any]:
    """Measure the scheduler's table of times as a starting server does."""
    engine = models.load(Path(job["bundle"]), threads=1).engine
    warmup.warm(engine, job["batch"])
    one = timing.measure(engine, (1,), warmup.ROUNDS).all_segments_ms[0]
    table = warmup.measure_stages(engine, job["batch"], one)
    rows = range(1, job["batch"] + 1)
    return {"seconds": [[table.seconds(k, b) for b in rows] for k in range(table.count)]}


def main() -> None:
    """Do what is named first with the job whose file is named second."""
    verb = {"prepare": prepare, "speed": speed, "stages": stages}[sys.argv[1]]
    sys.stdout.write(json.dumps(verb(json.loads(Path(sys.argv[2]).read_text()))) + "\n")


if __name__ == "__main__":
    main()
