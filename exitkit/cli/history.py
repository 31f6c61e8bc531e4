"""What `exitkit runs` lists, read from the runs' journals; needs no torch."""

import json
from pathlib import Path
from typing import Any

from exitkit import journal
from exitkit.cli.output import Outcome
from exitkit.report import tables
from exitkit.report.tables import Column, Row
from exitkit.runs import LATEST, RUNS, Run

COLUMNS = (
    Column("name", "run"),
    Column("method", "method"),
    Column("arch", "network"),
    Column("data", "data"),
    Column("epochs", "epochs"),
    Column("accuracy", "accuracy per exit (tune), best epoch"),
    Column("latest", ""),
)


def listed(root: Path = RUNS) -> Outcome:
    """List the runs, oldest first."""
    folders = [p for p in root.iterdir() if (p / "config.json").is_file()] if root.is_dir() else []
    folders = [p for p in folders if not p.is_symlink() and not p.name.startswith(".")]
    latest = (root / LATEST).resolve().name if (root / LATEST).exists() else ""
    found = [
        _run(Run(folder), folder.name == latest)
        for folder in sorted(folders, key=lambda p: (p / "config.json").stat().st_mtime)
    ]
    if not found:
        return Outcome({"runs": []}, f"no runs in {root}/; begin with: exitkit train")
    rows: list[Row] = [
        {
            **{key: one[key] for key in ("name", "method", "arch", "data")},
            "epochs": f"{one['epochs_done']}/{one['epochs']}",
            "accuracy": "  ".join(f"{share:.1%}" for share in one["accuracy"]),
            "latest": "latest" if one["latest"] else "",
        }
        for one in found
    ]
    return Outcome({"runs": found}, tables.text(rows, COLUMNS))


def _run(run: Run, latest: bool) -> dict[str, Any]:  # Any: JSON values
    config = _config(run)
    epochs = {int(row["epoch"]): row for row in journal.read(run.journal, "epoch")}
    best = [row for _, row in sorted(epochs.items()) if row.get("selected")]
    accuracy = list(best[-1]["accuracy"]) if best else []
    finish = list(journal.read(run.journal, "finish"))
    kept = bool(finish) and not epochs  # pruned with --epochs 0: finished, and never trained
    if kept:
        accuracy = [row["top1"] for row in finish[-1].get("exits", [])]
    return {
        "name": run.name,
        "folder": str(run.folder),
        "method": config.get("method", ""),
        "arch": config.get("arch", ""),
        "data": config.get("data", ""),
        "epochs": 0 if kept else config.get("epochs", 0),
        "epochs_done": len(epochs),
        "finished": bool(finish),
        "accuracy": accuracy,
        "latest": latest,
    }


def _config(run: Run) -> dict[str, Any]:
    try:
        table = json.loads(run.config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # A list shows what it can; the command that uses the run says what is wrong with it.
        return {"method": "unreadable config.json"}
    return table if isinstance(table, dict) else {}
