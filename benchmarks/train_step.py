"""What do exits cost in training, and what does bf16 gain?

A training step (forward, loss, backward, optimiser) of a network with four light exits under
deep supervision against one of the same network without early exits under plain labels. Exits
are allowed to cost what their multiply-adds say: the ratio of the times is divided by the ratio
of the multiply-adds, and 1.00 means that nothing else was paid. The steps take turns inside each
round; what is reported is the median of the rounds' ratios.

    python benchmarks/train_step.py [--quick] [--threads N] [--rounds N] [--batch N]

prints one JSON line per network with its conditions, and one for bf16 over float32 (full-width
resnet18), which is measured only on processors with avx512_bf16. --write puts what was measured
into results/train_step.jsonl.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from exitkit import machine
from exitkit.atomic import write_text
from exitkit.models import build, costs
from exitkit.objectives import build as objectives
from exitkit.objectives.step import Step
from exitkit.records import Batch, Clock
from exitkit.train.optim import Optimisers, Schedule
from exitkit.train.settings import Resolved
from exitkit.train.trainer import Plan, Trainer

RESULTS = Path(__file__).resolve().parent.parent / "results" / "train_step.jsonl"
CLASSES, SIZE, SEED = 100, 32, 0
METHOD, PLAIN = "deep", "ce"
CLOCK = Clock(0, 1, 0, 1)
FLAT = Schedule("step", 0.0, (), 1.0)


def trainer(arch: str, method: str, precision: str, options: argparse.Namespace) -> Trainer:
    """Return a trainer whose `advance` is the step to time."""
    torch.manual_seed(SEED)
    exits = None if objectives.teaches(method) == "all" else (4,)
    network = build.build(arch, CLASSES, SIZE, width=options.width, exits=exits)
    plan = build.blueprint(network, CLASSES, options.batch, SIZE, _no_branch)
    step = Step(network, objectives.build(method, plan)).to(memory_format=torch.channels_last)
    config = Resolved(
        epochs=1, batch_size=options.batch, lr=0.01, image_size=SIZE, schedule="step",
        tune_share=0.1, warmup=0.0, threads=options.threads,
    )  # fmt: skip
    optimisers = Optimisers(network, step.objective.param_groups(), config, FLAT)
    optimisers.set_time(CLOCK)
    return Trainer(step.train(), optimisers, Plan(1, torch.device("cpu"), precision, None))


def _no_branch(first: int, exits: object) -> torch.nn.Module:
    raise NotImplementedError("neither method builds a network of its own")


def batch(size: int) -> Batch:
    """Return noise with labels: the speed of a step does not depend on what is in the images."""
    generator = torch.Generator().manual_seed(SEED)
    images = torch.randn(size, 3, SIZE, SIZE, generator=generator)
    labels = torch.randint(CLASSES, (size,), generator=generator)
    return Batch((images.to(memory_format=torch.channels_last),), labels, torch.arange(size))


def interleave(cases: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return milliseconds of each case per round, after a warm-up; even rounds turn the order."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 2):
        for name in list(cases) if number % 2 else reversed(list(cases)):
            start = time.perf_counter()
            cases[name]()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: taken[2:] for name, taken in times.items()}


def compare(
    slow: Trainer, fast: Trainer, options: argparse.Namespace
) -> tuple[float, float, float]:
    """Return the medians of both steps in milliseconds, and of the ratio slow over fast."""
    images = batch(options.batch)
    times = interleave(
        {"slow": lambda: slow.advance(images, CLOCK), "fast": lambda: fast.advance(images, CLOCK)},
        options.rounds,
    )
    ratios = [a / b for a, b in zip(times["slow"], times["fast"], strict=True)]
    return (*(statistics.median(times[name]) for name in times), statistics.median(ratios))


def exits_row(arch: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a network with exits against the one without."""
    many, plain = (trainer(arch, method, "float32", options) for method in (METHOD, PLAIN))
    counted = costs.count(many.network, SIZE)
    ratio = counted.leaving(counted.exits)[-1] / counted.plain
    many_ms, plain_ms, times = compare(many, plain, options)
    return {
        "benchmark": "train_step",
        "arch": arch,
        "exits_ms": round(many_ms, 2),
        "plain_ms": round(plain_ms, 2),
        "mac_ratio": round(ratio, 4),
        "time_ratio": round(times, 4),
        "over_macs": round(times / ratio, 4),
        "images_per_s": round(1000 * options.batch / many_ms, 1),
    }


def bf16_row(options: argparse.Namespace) -> dict[str, Any]:
    """Measure float32 against bf16 autocast, or say why not."""
    row: dict[str, Any] = {"benchmark": "train_bf16", "arch": "resnet18"}
    if not has_bf16():
        return {**row, "not_measured": "this processor has no avx512_bf16"}
    slow, fast = (trainer("resnet18", METHOD, name, options) for name in ("float32", "bf16"))
    float32_ms, bf16_ms, gain = compare(slow, fast, options)
    times = {"float32_ms": round(float32_ms, 2), "bf16_ms": round(bf16_ms, 2)}
    return {**row, **times, "gain": round(gain, 4)}


def has_bf16() -> bool:
    """Tell whether the processor multiplies bf16 numbers itself."""
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="training step with exits over one without")
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="quarter width, 5 rounds of 32 images")
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name} too")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.batch, options.width = 5, 32, 0.25
    return options


def main() -> None:
    """Print a line per question."""
    options = parse()
    torch.set_num_threads(options.threads)
    conditions = {
        "method": METHOD, "plain": PLAIN, "heads": "light", "width": options.width,
        "classes": CLASSES, "image_size": SIZE, "batch": options.batch, "rounds": options.rounds,
        "threads": options.threads, "seed": SEED, "commit": machine.commit(),
        "machine": machine.describe(),
    }  # fmt: skip
    lines = []
    for measure in (
        lambda: exits_row("resnet18", options),
        lambda: exits_row("mobilenetv2", options),
        lambda: bf16_row(options),
    ):
        row = measure()
        print(json.dumps({**row, **conditions}), flush=True)
        if "not_measured" not in row:
            lines.append(json.dumps({**row, **conditions}))
    if options.write:
        write_text(RESULTS, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
