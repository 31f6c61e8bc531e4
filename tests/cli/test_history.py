"""What `exitkit runs` lists."""

import json
from pathlib import Path

from exitkit.cli import history
from exitkit.journal import Journal
from exitkit.runs import Run


def write(root: Path, name: str) -> Journal:
    run = Run(root / name)
    run.folder.mkdir()
    run.config.write_text(json.dumps({"method": "deep", "epochs": 4}))
    return Journal(run.journal)


def test_a_run_that_was_pruned_and_not_trained_has_no_epochs_to_go(tmp_path: Path) -> None:
    exits = [{"exit": 2, "top1": 0.25}, {"exit": 4, "top1": 0.5}]
    write(tmp_path, "pruned").write("finish", exits=exits)
    trained = write(tmp_path, "trained")
    trained.write("epoch", epoch=0, selected=True, accuracy=[0.75])
    rows = {row["name"]: row for row in history.listed(tmp_path).table["runs"]}
    row, other = rows["pruned"], rows["trained"]
    assert (row["epochs_done"], row["epochs"], row["finished"]) == (0, 0, True)
    assert row["accuracy"] == [0.25, 0.5]
    assert (other["epochs_done"], other["epochs"], other["finished"]) == (1, 4, False)
    words = history.listed(tmp_path).words
    assert "0/0" in words
    assert "25.0%  50.0%" in words
    assert "1/4" in words
