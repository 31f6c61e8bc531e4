"""How good does each objective make each exit on real CIFAR-100, in a quarter of an hour?

    python benchmarks/cifar100.py --data FOLDER [--methods NAME ...] [--seeds 0,1,2] [--part 1/2]

FOLDER holds the images as `train/<class>/*` and `test/<class>/*`, or the archives
cifar100-a.zip and cifar100-b.zip with them; of archives the training images are those of a alone
(a balanced half), the test images all. ResNet-18 at a quarter of the width is trained by every
method with one recipe, 12 epochs in bf16; the best epoch is picked on a tune split, the test
split is opened once, at the end.

Every run appends one row to results/cifar100.jsonl as soon as it is finished. What has a row is
not trained again, and a run that was interrupted goes on where it stopped: call the command again
until it has nothing left to do. --part shares the work among processes.
"""

import argparse
import json
import os
import re
import shutil
import zipfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from exitkit import journal, runs
from exitkit.config import TrainConfig, parse
from exitkit.policy import metrics
from exitkit.runs import Run
from exitkit.train import checkpoint, evaluate, session

RESULTS = Path(__file__).resolve().parent.parent / "results" / "cifar100.jsonl"
METHODS = (
    "ce",
    "deep",
    "byot",
    "mate",
    "pskd",
    "dsr",
    "beed",
    "drg+dsr",
    "loth",
    "pskd+byot(last=1.9)+dmfl",
    "ffsd",
)
RECIPE = {
    "arch": "resnet18",
    "width": 0.25,
    "epochs": 12,
    "precision": "bf16",
    "batch_size": 128,
    "lr": 0.1,
    "nesterov": True,
    "weight_decay": 5e-4,
    "schedule": "cosine",
    "warmup": 1 / 12,
    "tune_share": 0.1,
}


def images(given: Path, root: Path) -> Path:
    """Return a folder with train/ and test/: `given`, or what its archives hold."""
    if (given / "train").is_dir():
        return given
    made = root / "images"
    if made.is_dir():
        return made
    draft = root / f".images.{os.getpid()}"
    try:
        for name, wanted in (("a", ("train/", "test/")), ("b", ("test/",))):
            with zipfile.ZipFile(given / f"cifar100-{name}.zip") as archive:
                archive.extractall(draft, [m for m in archive.namelist() if m.startswith(wanted)])
        draft.rename(made)  # whole or not at all: another part may be at it, or be reading it
    except OSError:
        if not made.is_dir():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return made


def rows(path: Path = RESULTS) -> list[dict[str, Any]]:
    """Return the rows that are there."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def append(found: dict[str, Any], path: Path = RESULTS) -> None:
    """Write one row, in one write: several processes may share the file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")
    print(json.dumps(found), flush=True)


def train(name: str, settings: dict[str, Any], root: Path) -> Run:
    """Train a run to its end, from its checkpoint where there is one."""
    files, asked = Run(root / name), parse(settings, "the benchmark")
    if not files.folder.exists():
        started = session.prepare(asked, name=name, root=root)
    else:
        _refuse_others(files, settings, asked)
        if any(journal.read(files.journal, "finish")):
            return files
        started = session.resume(name, root=root)
    for record in started.run():
        shares = " ".join(f"{share:.1%}" for share in record.accuracy)
        print(f"{name} epoch {record.epoch + 1}/{record.epochs} tune {shares}", flush=True)
    return files


def _refuse_others(files: Run, settings: dict[str, Any], asked: TrainConfig) -> None:
    """Refuse a run that was begun with other settings: its row would tell ours."""
    held = checkpoint.read_config(files)
    asked = replace(asked, data=str(Path(asked.data).resolve()))
    for name in settings.keys() - {"threads"}:
        if getattr(held, name) != getattr(asked, name):
            raise SystemExit(
                f"{files.folder} was trained with {name} {getattr(held, name)}, not "
                f"{getattr(asked, name)}: remove it, or give another --runs"
            )


def conditions(files: Run) -> dict[str, Any]:
    """Return what a finished run was trained on, how, and where."""
    epochs = list(journal.read(files.journal, "epoch"))
    (start, *_), (finish, *_) = (list(journal.read(files.journal, e)) for e in ("start", "finish"))
    told = start["settings"]
    where = ("commit", "machine")
    elsewhere = [
        {key: row[key] for key in where}
        for row in journal.read(files.journal, "resume")
        if any(row[key] != start[key] for key in where)
    ]
    return {
        **{k: told[k] for k in ("arch", "width", "epochs", "precision")},
        "data": start["notes"][0].partition(";")[0],
        "selected": finish["selected"] + 1,
        "images_per_s": round(sum(e["images_per_s"] for e in epochs) / len(epochs)),
        "seed": told["seed"],
        "commit": start["commit"],
        "machine": start["machine"],
        **({"resumed": elsewhere} if elsewhere else {}),
    }


def tested(files: Run) -> dict[str, float | None]:
    """Open the test split; return the share of right answers of every exit and of their mean."""
    table = evaluate.evaluate(files, "test")
    shares = {f"exit{one['exit']}": round(one["top1"], 4) for one in metrics.per_exit(table)}
    ensemble = metrics.top(table.logits.mean(axis=0), table.labels, 1)
    return {**shares, "ensemble": round(ensemble, 4) if len(table.exits) > 1 else None}


def row(method: str, seed: int, data: Path, root: Path, threads: int | None) -> dict[str, Any]:
    """Train one method with one seed; return what stands in the table."""
    name = f"{re.sub(r'[^a-z0-9]+', '-', method).strip('-')}-{seed}"
    settings = RECIPE | {"method": method, "seed": seed, "data": str(data), "threads": threads}
    files = train(name, settings, root)
    return {"benchmark": "cifar100", "method": method, **tested(files), **conditions(files)}


def main() -> None:
    """Train what has no row yet."""
    parser = argparse.ArgumentParser(description="every objective on real CIFAR-100")
    parser.add_argument("--data", type=Path, required=True, help="images or archives")
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--part", default="1/1", help="which share of the work is done here")
    parser.add_argument("--runs", type=Path, default=runs.RUNS / "cifar100")
    parser.add_argument("--threads", type=int, help="of each training")
    given = parser.parse_args()
    part, parts = map(int, given.part.split("/"))
    wanted = [(m, int(seed)) for seed, m in product(given.seeds.split(","), given.methods)]
    there = {(found["method"], found["seed"]) for found in rows()}
    missing = [one for one in wanted if one not in there]
    print(f"{len(wanted) - len(missing)} of {len(wanted)} rows are there", flush=True)
    data = images(given.data, given.runs)
    for method, seed in [one for i, one in enumerate(wanted) if i % parts == part - 1]:
        if (method, seed) not in missing:
            continue
        append(row(method, seed, data, given.runs, given.threads))


if __name__ == "__main__":
    main()
