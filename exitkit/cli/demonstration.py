"""What `exitkit demo` does: the everyday commands one after the other, with a real server."""

import time
from pathlib import Path
from typing import Any

from exitkit import data, machine, runs
from exitkit.bundle import read_manifest
from exitkit.cli import evidence, output, training
from exitkit.cli.loopback import Load, Server
from exitkit.cli.output import Outcome
from exitkit.config import TrainConfig
from exitkit.data.split import DataSets
from exitkit.export import package
from exitkit.report import tables
from exitkit.report.tables import Column
from exitkit.runs import Run
from exitkit.train import checkpoint

# Smaller than what `exitkit train` takes by default, so that two slow cores need minutes.
EPOCHS, WIDTH = 8, 0.5
EXITS = (2, 4)
COLUMNS = (
    Column("policy", "policy"),
    Column("accuracy", "accuracy", ".2%"),
    Column("mmacs", "mean MACs, M", ",.2f"),
    Column("p50_ms", "p50 ms", ".2f"),
    Column("p95_ms", "p95 ms", ".2f"),
    *(Column(f"images at exit {number}", f"left at exit {number}") for number in EXITS),
)


def run(epochs: int | None, width: float | None, seed: int) -> Outcome:
    """Train, export, serve, ask, report; say what is being done on stderr."""
    began = time.monotonic()
    settings = {"epochs": epochs or EPOCHS, "width": width or WIDTH, "seed": seed}
    output.note(
        f"demo: MATE on MobileNetV2 with {settings['epochs']} epochs at {settings['width']:g} of "
        "the full width (exitkit train takes more of both)"
    )
    _heading("exitkit train --method mate --arch mobilenetv2")
    session = training.begin(settings, name=None, resume=None, download=False)
    training.watch(session)
    trained = runs.find(session.files.name)
    plain, early = _export(trained)
    sets = data.load(checkpoint.read_config(trained))
    rows = _serve(early, sets, ("recommended", None), ("threshold 1", 1.0))
    rows += _serve(plain, sets, ("plain network", None))
    _heading("exitkit report")
    report = evidence.report(trained, early, trained.folder)
    alone = {f"exit{row['exit']}": row["top1"] for row in report.table["exits"]}
    told = [{**_conditions(session.config), **row, **alone} for row in rows]
    return _outcome(told, report, len(sets.test), time.monotonic() - began)


def _conditions(config: TrainConfig) -> dict[str, Any]:  # Any: JSON values
    """Return what each row depends on, as tracked rows carry it (exitkit.report.results)."""
    told = {name: getattr(config, name) for name in ("method", "arch", "width", "epochs", "data")}
    conditions = {"commit": machine.commit(), "seed": config.seed, "machine": machine.describe()}
    return {"benchmark": "line", **told, **conditions}


def _export(run: Run) -> tuple[Path, Path]:
    """Export the plain network for comparison, then exits 2 and 4, which become the latest."""
    _heading(f"exitkit export --exits {EXITS[-1]} --name {run.name}-plain")
    plain = package.export(run, exits=EXITS[-1:], name=f"{run.name}-plain", progress=output.note)
    _heading(f"exitkit export --exits {','.join(map(str, EXITS))}")
    early = package.export(run, exits=EXITS, progress=output.note)
    return plain.folder, early.folder


def _serve(
    bundle: Path, sets: DataSets, *policies: tuple[str, float | None]
) -> list[dict[str, Any]]:
    """Start a real server on a bundle and send it every test image, once per policy."""
    _heading(f"exitkit serve {bundle.name}")
    files = [sets.test.encoded(row) for row in range(len(sets.test))]
    truth = [sets.classes[label] for label in sets.test.labels.tolist()]
    with Server(bundle) as server:
        output.note(f"sending {len(files)} images over HTTP, {len(policies)} times")
        loads = server.ask(files, [threshold for _, threshold in policies])
    macs = _macs(bundle)
    return [_row(name, load, truth, macs) for (name, _), load in zip(policies, loads, strict=True)]


def _macs(bundle: Path) -> dict[int, int]:
    """Return the multiply-adds of leaving at each exit of a bundle."""
    total, found = 0, {}
    for segment in read_manifest(bundle).segments:
        total += segment.macs
        found[segment.exit] = total
    return found


def _row(
    name: str, load: Load, truth: list[str], macs: dict[int, int]
) -> dict[str, Any]:  # Any: JSON values
    count = len(truth)
    right = sum(label == true for label, true in zip(load.labels, truth, strict=True))
    left = {number: load.exits.count(number) for number in EXITS}
    mean = sum(macs[number] for number in load.exits) / count
    return {
        "policy": name,
        "accuracy": right / count,
        "mean_macs": mean,
        "mmacs": mean / 1e6,
        "p50_ms": load.percentile(50),
        "p95_ms": load.percentile(95),
        "images": count,
        **{f"images at exit {number}": left[number] for number in EXITS},
        **{f"left{number}": left[number] / count for number in EXITS},
    }


def _outcome(rows: list[dict[str, Any]], report: Outcome, images: int, seconds: float) -> Outcome:
    words = [
        f"{images} test images over HTTP on loopback, one at a time; accuracy and ms measured at "
        "the client, MACs computed",
        "",
        tables.text(rows, COLUMNS),
        "",
        report.words,
        "",
        f"the whole line took {seconds:.0f} s; go on with: exitkit serve",
    ]
    table = {"rows": rows, "report": report.table, "seconds": seconds}
    return Outcome(table, "\n".join(words))


def _heading(command: str) -> None:
    output.note(f"\n$ {command}")
