"""Does MATE win when every method is tuned alike? mate, byot and deep on real CIFAR-100.

    python benchmarks/tune_mate.py --data FOLDER [--trials 8] [--part 1/2]
    python benchmarks/tune_mate.py --data FOLDER [--trials 8] --swap
    python benchmarks/tune_mate.py --data FOLDER [--trials 8] --final

FOLDER and recipe are those of benchmarks/cifar100.py. Every method gets the same number of
trials: the first has its defaults, the others draw options, learning rate and weight decay from
the lists and ranges below, by a generator that depends on the method and the trial's number
alone. With --swap each method's best options are then tried with the learning rate and weight
decay of each other method's best trial: without that, a method that happens to draw small rates
loses for it. A trial lasts half as many epochs as a final run, which buys twice as many trials,
and is judged by the mean accuracy of its exits on the TUNE split, at its best epoch; the test
split stays closed. --final trains the best trial of each method in full, with other seeds, and
only then opens the test split, once for each run.

Every run appends one row to results/mate_tuning.jsonl or results/mate.jsonl as soon as it is
finished; what has a row is not trained again, and an interrupted run goes on where it stopped.
"""

import argparse
import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import cifar100

from exitkit import journal, runs

TUNING = cifar100.RESULTS.with_name("mate_tuning.jsonl")
FINAL = cifar100.RESULTS.with_name("mate.jsonl")
SEED = 100  # of the trials; the final runs have others
OPTIMISER = {"lr": (0.02, 0.4), "weight_decay": (1e-4, 2e-3)}  # from, to; logarithmic
OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "mate": {
        "temperature": (1.0, 2.0, 3.0, 4.0),
        "teacher_temperature": (1.0, 2.0, 3.0, 4.0),
        "primary": (0.1, 0.3, 1.0),
        "others": (0.0, 0.1, 0.3),
        "teachers": (0.3, 1.0, 3.0),
        "diversity": (0.0, 0.1, 1.0),
        "scaled": (False, True),
    },
    "byot": {
        "alpha": (0.05, 0.1, 0.2, 0.3, 0.5),
        "temperature": (1.0, 2.0, 3.0, 4.0),
        "hint": (0.0, 1e-7, 1e-6, 1e-5),
        "last": (0.9, 1.0, 1.9),
    },
    "deep": {},
}


def draw(method: str, trial: int) -> dict[str, Any]:
    """Return the settings of one trial: method with options, lr, weight_decay."""
    optimiser = {name: cifar100.RECIPE[name] for name in OPTIMISER}
    if trial == 0:
        return {"method": method, **optimiser}
    source = random.Random(f"{method} {trial}")
    options = {name: source.choice(values) for name, values in OPTIONS[method].items()}
    for name, (low, high) in OPTIMISER.items():
        optimiser[name] = float(f"{low * (high / low) ** source.random():.2g}")
    written = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return {"method": f"{method}({written})" if options else method, **optimiser}


def swapped(method: str, trials: int) -> list[dict[str, Any]]:
    """Return a method's best options with the others' best lr and weight_decay, in their order."""
    own = best(method, range(trials))["method"]
    others = [best(other, range(trials)) for other in OPTIONS if other != method]
    return [{"method": own, **{name: row[name] for name in OPTIMISER}} for row in others]


def chosen(method: str, trial: int, trials: int) -> dict[str, Any]:
    """Return the settings of one trial: drawn, or swapped from `trials` on."""
    return draw(method, trial) if trial < trials else swapped(method, trials)[trial - trials]


def tune(
    method: str, trial: int, trials: int, settings: dict[str, Any], root: Path
) -> dict[str, Any]:
    """Train one trial; return its row, judged on the tune split."""
    drawn = chosen(method, trial, trials)
    files = cifar100.train(f"tune-{method}-{trial}", settings | drawn | {"seed": SEED}, root)
    (finish, *_) = journal.read(files.journal, "finish")
    shares = {f"tune{one['exit']}": round(one["top1"], 4) for one in finish["exits"]}
    return {
        "benchmark": "mate_tuning",
        "trial": trial,
        "name": method,
        **drawn,
        **shares,
        "tune": round(sum(shares.values()) / len(shares), 5),
        **cifar100.conditions(files),
    }


def best(method: str, trials: Sequence[int]) -> dict[str, Any]:
    """Return the row of a method's best trial; all of its trials must be there, equally long."""
    found = {row["trial"]: row for row in cifar100.rows(TUNING) if row["name"] == method}
    missing = [trial for trial in trials if trial not in found]
    if missing:
        raise SystemExit(f"{method}: no row for trials {missing}; train those first")
    if len(lasted := {found[trial]["epochs"] for trial in trials}) > 1:
        raise SystemExit(f"{method}: trials of {sorted(lasted)} epochs cannot be compared")
    return max((found[trial] for trial in trials), key=lambda row: row["tune"])


def check(method: str, trials: Sequence[int], drawn: int) -> None:
    """Refuse rows of other settings than this file gives them."""
    best(method, trials)
    for row in cifar100.rows(TUNING):
        if row["name"] == method and row["trial"] in trials:
            own = chosen(method, row["trial"], drawn)
            if any(row[key] != value for key, value in own.items()):
                raise SystemExit(
                    f"{method}, trial {row['trial']}: the row has other settings than {own}"
                )


def final(method: str, seed: int, trials: int, settings: dict[str, Any], root: Path) -> Any:
    """Train a method's best trial with another seed; return its row, judged on the test split."""
    everything = range(trials + len(OPTIONS) - 1)  # drawn and swapped
    check(method, everything, trials)
    winner = best(method, everything)
    tuned = {key: winner[key] for key in ("method", *OPTIMISER)}
    files = cifar100.train(f"final-{method}-{seed}", settings | tuned | {"seed": seed}, root)
    shares = cifar100.tested(files)
    exits = [share for key, share in shares.items() if key.startswith("exit")]
    return {
        "benchmark": "mate",
        "name": method,
        "trials": len(everything),
        "trial": winner["trial"],
        **tuned,
        **shares,
        "mean": round(sum(exits) / len(exits), 5),
        **cifar100.conditions(files),
    }


def main() -> None:
    """Train what has no row yet."""
    parser = argparse.ArgumentParser(description="mate, byot and deep, tuned alike")
    parser.add_argument("--data", type=Path, required=True, help="images or archives")
    parser.add_argument("--methods", nargs="*", default=list(OPTIONS))
    parser.add_argument("--trials", type=int, default=8, help="of each method, drawn")
    parser.add_argument("--swap", action="store_true", help="try the others' best optimiser")
    parser.add_argument("--final", action="store_true", help="train the best, open the test split")
    parser.add_argument("--seeds", default="0,1,2", help="of the final runs")
    parser.add_argument("--part", default="1/1", help="which share of the work is done here")
    parser.add_argument(
        "--epochs", type=int, help="of each run: 12 of a final run, 6 of a trial unless given"
    )
    parser.add_argument("--width", type=float, default=cifar100.RECIPE["width"])
    parser.add_argument("--runs", type=Path, default=runs.RUNS / "cifar100")
    parser.add_argument("--threads", type=int, help="of each training")
    given = parser.parse_args()
    data = cifar100.images(given.data, given.runs)
    settings = cifar100.RECIPE | {"data": str(data), "threads": given.threads}
    whole = cifar100.RECIPE["epochs"]
    epochs = given.epochs or (whole if given.final else whole // 2)
    warmup = 1 / epochs if epochs > 1 else 0.0
    settings |= {"epochs": epochs, "width": given.width, "warmup": warmup}
    seeds = [int(seed) for seed in given.seeds.split(",")]
    path, key = (FINAL, "seed") if given.final else (TUNING, "trial")
    swaps = given.trials * given.swap
    trials = range(swaps, swaps + len(OPTIONS) - 1) if given.swap else range(given.trials)
    wanted = list(product(seeds if given.final else trials, given.methods))
    there = {(row[key], row["name"]) for row in cifar100.rows(path)}
    part, parts = map(int, given.part.split("/"))
    for number, method in wanted[part - 1 :: parts]:
        if (number, method) in there:
            continue
        if given.final:
            found = final(method, number, given.trials, settings, given.runs)
        else:
            found = tune(method, number, given.trials, settings, given.runs)
        cifar100.append(found, path)


if __name__ == "__main__":
    main()
