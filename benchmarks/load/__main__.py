"""Run one job of load: `python -m load JOB.json` prints one JSON line."""

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from exitkit.serve.scheduling.simulate import poisson
from load import drive, pictures, samples, wire

CLIENTS, FASTEST = 8, 20_000  # of the warm-up; requests per second that no server here reaches


def arrivals(kind: str, rate: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """Return rising seconds below `seconds`: `poisson` or `constant`, `rate` per second."""
    if kind == "constant":
        return np.arange(int(rate * seconds)) / rate
    assert kind == "poisson", kind
    drawn = poisson(rate, int(rate * seconds * 1.5) + 50, seed)
    return drawn[drawn < seconds]


def encode(job: dict[str, Any], asked: list[list[int]]) -> list[bytes]:
    """Return every kind of request of a job as bytes."""
    folder = Path(job["pictures"])
    if job["kind"] in ("file", "base64"):
        files = pictures.read(folder).files
        write = wire.file if job["kind"] == "file" else wire.base64_json
        return [write(files[numbers[0]]) for numbers in asked]
    inputs = np.load(folder / pictures.INPUTS, mmap_mode="r")
    write_rows = {"tensor": wire.tensor, "json": wire.plain}[job["kind"]]
    return [write_rows(job["model"], inputs[numbers]) for numbers in asked]


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run a job; see benchmarks/serve.py for its keys."""
    table = json.loads(Path(job["expected"]).read_text())
    expected = samples.Expected(table["labels"], table["exits"], table["truth"])
    asked = wire.batches(pictures.drawn(len(expected.labels), job["seed"]), job["images"])
    requests = encode(job, asked)
    host, port = urlsplit(job["url"]).hostname or "", urlsplit(job["url"]).port or 0
    seconds, warm = job["seconds"], job["warm"]
    if job["loop"] == "closed":
        most = int((seconds + warm) * FASTEST)
        log = drive.closed_loop(host, port, requests, job["clients"], seconds + warm, most)
        kept, warmed = log.due >= warm, 0
        per_s = samples.rate(log, job["images"], warm, warm + seconds)
    else:
        first = drive.closed_loop(host, port, requests, CLIENTS, warm, int(warm * FASTEST) + 1)
        warmed = len(first.replies)
        due = arrivals(job["loop"], job["rate"] / job["images"], seconds, job["seed"])
        log = drive.open_loop(host, port, requests, due)
        kept = np.ones(len(due), dtype=bool)
        per_s = samples.rate(log, job["images"], 0.0, seconds)
    found = samples.judge(log, asked, expected)
    good = np.array([reply is not None and reply.status == 200 for reply in log.replies])
    latency = np.where(good, (log.answered - log.due) * 1e3, np.nan)[kept]
    return {
        **found,
        "requests": int(kept.sum()),
        "warmed": warmed * job["images"],
        "per_s": per_s,
        "p50_ms": samples.percentile(latency, 0.5),
        "p99_ms": samples.percentile(latency, 0.99),
        # How late the generator itself was: what a slow server cannot explain.
        "late_p99_ms": samples.percentile((log.sent - log.due)[kept] * 1e3, 0.99),
        "generator_cpu": log.spent_s / log.took_s,
        "samples": samples.pack(latency),
    }


def main() -> None:
    """Run the job whose file is named."""
    sys.stdout.write(json.dumps(run(json.loads(Path(sys.argv[1]).read_text()))) + "\n")


if __name__ == "__main__":
    main()
