"""Benchmarks that train and resume do so, on a few images; what they measure is not asked here."""

import importlib
import json
import random
import sys
import zipfile
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def tune_mate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("tune_mate")
    monkeypatch.setattr(module, "TUNING", tmp_path / "mate_tuning.jsonl")
    monkeypatch.setattr(module, "FINAL", tmp_path / "mate.jsonl")
    return module


def call(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["tune_mate.py", *words])
    module.main()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_trials_are_drawn_by_method_and_number_alone(tune_mate: ModuleType) -> None:
    from exitkit.config import parse
    from exitkit.objectives import build

    random.seed(1)
    first = [tune_mate.draw(name, trial) for name in tune_mate.OPTIONS for trial in range(8)]
    random.seed(2)
    assert first == [tune_mate.draw(n, trial) for n in tune_mate.OPTIONS for trial in range(8)]
    assert tune_mate.draw("mate", 0) == {"method": "mate", "lr": 0.1, "weight_decay": 5e-4}
    assert len({str(drawn) for drawn in first}) == len(first)
    for drawn in first:
        assert build.parse(parse(drawn, "a trial").method)


def test_tuning_goes_on_and_opens_the_test_split_only_at_the_end(
    tune_mate: ModuleType, tmp_path: Path, digit_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--data", str(digit_folder), "--runs", str(tmp_path / "runs"), "--trials", "2"]
    options += ["--methods", "deep", "--epochs", "1", "--width", "0.0625", "--threads", "1"]
    monkeypatch.setitem(tune_mate.cifar100.RECIPE, "batch_size", 16)
    monkeypatch.setattr(tune_mate, "OPTIONS", {"deep": {}})
    with pytest.raises(SystemExit, match=r"deep: no row for trials \[0, 1\]; train those first"):
        call(tune_mate, monkeypatch, *options, "--final")
    call(tune_mate, monkeypatch, *options, "--part", "1/2")
    assert [row["trial"] for row in rows(tune_mate.TUNING)] == [0]
    call(tune_mate, monkeypatch, *options)
    found = rows(tune_mate.TUNING)
    assert [row["trial"] for row in found] == [0, 1]
    assert found[0]["tune"] == pytest.approx(sum(found[0][f"tune{k}"] for k in (1, 2, 3, 4)) / 4)
    assert not list((tmp_path / "runs").glob("*/scores-test.npz"))
    call(tune_mate, monkeypatch, *options, "--final", "--seeds", "0")
    call(tune_mate, monkeypatch, *options, "--final", "--seeds", "0")
    (row,) = rows(tune_mate.FINAL)
    better = max(found, key=lambda one: one["tune"])
    assert (row["trial"], row["lr"]) == (better["trial"], better["lr"])
    assert row["mean"] == pytest.approx(sum(row[f"exit{k}"] for k in (1, 2, 3, 4)) / 4, abs=1e-5)
    opened = {path.resolve().parent.name for path in (tmp_path / "runs").glob("*/scores-test.npz")}
    assert opened == {"final-deep-0"}
    # A row of another draw is no trial of this list.
    tune_mate.TUNING.write_text(tune_mate.TUNING.read_text().replace('"lr": 0.1', '"lr": 0.3'))
    with pytest.raises(SystemExit, match="deep, trial 0: the row has other settings"):
        call(tune_mate, monkeypatch, *options, "--final", "--seeds", "1")


def test_best_options_are_tried_with_the_optimisers_of_the_others(tune_mate: ModuleType) -> None:
    shares = {"deep": (0.3, 0.5), "byot": (0.4, 0.2), "mate": (0.1, 0.2)}
    drawn = [
        {"name": name, "trial": trial, "epochs": 6, "tune": share, **tune_mate.draw(name, trial)}
        for name, both in shares.items()
        for trial, share in enumerate(both)
    ]
    tune_mate.TUNING.write_text("".join(json.dumps(row) + "\n" for row in drawn))
    tried = [tune_mate.chosen("mate", trial, 2) for trial in (2, 3)]
    optimiser = [{key: row[key] for key in ("lr", "weight_decay")} for row in drawn]
    mate = tune_mate.draw("mate", 1)["method"]
    # The others in their order: byot's best is its first trial, deep's its second.
    assert tried == [{"method": mate, **optimiser[2]}, {"method": mate, **optimiser[1]}]
    drawn[0]["epochs"] = 5
    tune_mate.TUNING.write_text("".join(json.dumps(row) + "\n" for row in drawn))
    with pytest.raises(SystemExit, match=r"deep: trials of \[5, 6\] epochs cannot be compared"):
        tune_mate.chosen("mate", 2, 2)


def test_a_row_on_cifar100_has_what_its_table_shows(
    tune_mate: ModuleType, tmp_path: Path, digit_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exitkit.report.benchmarks import SEEDS, TABLES

    cifar100 = tune_mate.cifar100
    for name, value in (("batch_size", 16), ("width", 0.0625), ("epochs", 1), ("warmup", 0.0)):
        monkeypatch.setitem(cifar100.RECIPE, name, value)
    row = cifar100.row("ce", 3, digit_folder, tmp_path, 1)
    columns = {column.key for column in TABLES["cifar100"].columns} - {SEEDS}
    assert columns - set(row) == {"exit1", "exit2", "exit3"}  # ce teaches the deepest alone
    assert (row["benchmark"], row["method"], row["seed"]) == ("cifar100", "ce", 3)
    assert row["ensemble"] is None
    # The run is there; what it was trained with is not what a changed recipe would tell.
    assert cifar100.row("ce", 3, digit_folder, tmp_path, 2) == row
    monkeypatch.setitem(cifar100.RECIPE, "lr", 0.3)
    with pytest.raises(SystemExit, match=r"ce-3 was trained with lr 0\.1, not 0\.3: remove it"):
        cifar100.row("ce", 3, digit_folder, tmp_path, 1)


def test_a_run_that_went_on_elsewhere_says_so(
    tune_mate: ModuleType, tmp_path: Path, digit_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exitkit import machine
    from exitkit.train import session

    cifar100 = tune_mate.cifar100
    settings = {"method": "ce", "arch": "resnet20", "width": 0.25, "batch_size": 16, "epochs": 2}
    settings |= {"data": str(digit_folder), "precision": "float32", "threads": 1}
    started = session.prepare(cifar100.parse(settings, "a test"), name="one", root=tmp_path)
    next(started.run())
    monkeypatch.setattr(machine, "commit", lambda: "another")
    files = cifar100.train("one", settings, tmp_path)
    (other,) = cifar100.conditions(files)["resumed"]
    assert other == {"commit": "another", "machine": machine.describe()}


def test_archives_are_unpacked_whole_or_not_at_all(tune_mate: ModuleType, tmp_path: Path) -> None:
    for name in "ab":
        with zipfile.ZipFile(tmp_path / f"cifar100-{name}.zip", "w") as archive:
            archive.writestr(f"train/x/{name}.png", name)
            archive.writestr(f"test/x/{name}.png", name)
    root = tmp_path / "runs"
    made = tune_mate.cifar100.images(tmp_path, root)
    found = sorted(str(path.relative_to(made)) for path in made.rglob("*.png"))
    assert found == ["test/x/a.png", "test/x/b.png", "train/x/a.png"]
    assert [path.name for path in root.iterdir()] == ["images"]
    (tmp_path / "cifar100-b.zip").unlink()
    with pytest.raises(FileNotFoundError):
        tune_mate.cifar100.images(tmp_path, tmp_path / "more")
    assert not list((tmp_path / "more").iterdir())


@pytest.fixture
def torch_graphs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    # The tests of the engine are a package of the name that the benchmark imports.
    monkeypatch.delitem(sys.modules, "engine", raising=False)
    return importlib.import_module("torch_graphs")


def test_graphs_are_held_against_the_stages_at_the_rows_that_reach_them(
    torch_graphs: ModuleType,
) -> None:
    import torch

    from exitkit.export.graphs import Eager

    place = Eager(torch.device("cpu"))
    shares = torch_graphs.SHARES
    options = Namespace(width=0.0625, batches=(2,), shares=shares, rounds=1)
    (row,) = torch_graphs.measure(options, place, place)  # asserts where images leave
    assert (row["batch"], row["rounds"], len(row["stage_ms"])) == (2, 1, 4)
    # Of 2 images 2, 1, 0.5 and 0.2 reach the stages; the last counts as its share of one.
    times = {"graphs": [64.0], "eager": [128.0], "all": [9.0], "plain": [8.0], "plain eager": [7.0]}
    row = torch_graphs.row({**times, 0: [0.5], 1: [0.2], 2: [0.1], 3: [1.0]}, 2, shares)
    assert (row["limit_ms"], row["graphs_ms"], row["graphs_over_limit"]) == (1.0, 2.0, 2.0)
    assert (row["graphs_over_plain"], row["graphs_over_eager"]) == (0.25, 0.5)
    row = torch_graphs.row({**times, 0: [0.4], 1: [0.4], 2: [0.4], 3: [1.0]}, 1, shares)
    assert row["limit_ms"] == 0.8  # 1, 0.5, 0.25 and 0.1 of one image's times


def test_graphs_are_not_measured_without_a_gpu(
    torch_graphs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["torch_graphs.py"])
    with pytest.raises(SystemExit, match="sees no CUDA GPU here"):
        torch_graphs.main()
