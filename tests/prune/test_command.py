"""`exitkit prune` as it is typed."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import exitkit.train
from exitkit.cli import main
from exitkit.runs import Run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_run: Run) -> Path:
    """An entered folder with runs/small in it, the latest."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained_run.folder, tmp_path / "runs" / "small")
    (tmp_path / "runs" / "latest").symlink_to("small")
    return tmp_path


def test_it_prunes_the_latest_run_and_prints_a_table(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["prune", "--ratio", "0.5", "--epochs", "1", "--set", "clip=5"]) == 0
    said = capsys.readouterr()
    assert "pruning run small" in said.err
    assert "epoch 1/1" in said.err
    words = said.out.splitlines()
    assert words[0] == (
        "run small-pruned-1: run small with 51% of its channels and 26% of its multiply-adds, on "
        "the 48 images of the tune split"
    )
    assert words[2].split()[:4] == ["exit", "MACs,", "M", "pruned"]
    assert [line.split()[:4] for line in words[3:7]] == [
        ["1", "2.61", "0.71", "27%"],
        ["2", "4.74", "1.25", "26%"],
        ["3", "6.87", "1.78", "26%"],
        ["4", "8.97", "2.31", "26%"],
    ]
    assert words[-1] == "next: exitkit export small-pruned-1"
    assert "trained again" in words[2]
    assert main.run(["prune", "small", "--epochs", "0"]) == 0
    assert "trained again" not in capsys.readouterr().out
    assert main.run(["prune", "small", "--epochs", "0", "--json", "--name", "cut"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert (table["run"], table["pruned_from"]["run"]) == ("cut", "small")
    assert [row["exit"] for row in table["exits"]] == [1, 2, 3, 4]
    assert table["exits"][3]["macs"] == 2308160
    assert main.run(["runs", "--json"]) == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)["runs"]}
    assert listed["cut"]["latest"]
    assert listed["small-pruned-1"]["finished"]


def test_it_refuses_in_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["prune", "--ratio", "1.5"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: --ratio 1.5: is no share; give more than 0 and less than 1"
    )
    assert main.run(["prune", "nobody"]) == 2
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["latest", "small"]


def test_without_torch_pruning_it_names_the_extra(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torch_pruning"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("prune", "prune_cut", "pruner", "prune_graph"):
        monkeypatch.delitem(sys.modules, f"exitkit.train.{name}", raising=False)
        monkeypatch.delattr(exitkit.train, name, raising=False)
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    assert main.run(["prune"]) == 2
    assert 'torch_pruning is not installed; pip install "exitkit[prune]"' in (
        capsys.readouterr().err
    )
