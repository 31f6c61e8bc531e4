"""A pruned run is a run like any other: it trains, evaluates, exports and tells its origin."""

import dataclasses
import hashlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from exitkit import journal, runs, scores
from exitkit.cli import inspecting
from exitkit.errors import CheckpointError, ConfigError
from exitkit.export import package
from exitkit.models import costs
from exitkit.runs import Run
from exitkit.train import checkpoint, evaluate, prune, session


def digests(run: Run) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in run.folder.iterdir()}


@pytest.fixture(scope="module")
def pruned_run(trained_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    before = digests(trained_run)
    root = tmp_path_factory.mktemp("pruned")
    made = prune.prune(trained_run, ratio=0.5, epochs=2, root=root)
    assert digests(trained_run) == before
    return made


def test_the_new_run_says_where_it_comes_from(pruned_run: Run, trained_run: Run) -> None:
    parent = checkpoint.network_digest(checkpoint.load_network(trained_run.network))
    card, whole = pruned_run.read_card(), trained_run.read_card()
    assert pruned_run.name == "small-pruned-1"
    assert card.pruned is not None
    assert (card.pruned.run, card.pruned.network, card.pruned.ratio) == ("small", parent, 0.5)
    assert card.pruned.shapes["stages.4.1.body.0.weight"] == (32, 32, 3, 3)
    assert "heads.1.classifier.bias" not in card.pruned.shapes
    same = dataclasses.replace(
        card, macs=whole.macs, parameters=whole.parameters, plain_macs=whole.plain_macs, pruned=None
    )
    assert same == whole
    told = checkpoint.read_config(pruned_run)
    own = checkpoint.read_config(trained_run)
    assert told == dataclasses.replace(own, epochs=2, lr=0.005, weights=str(trained_run.network))
    assert runs.find(None, pruned_run.folder.parent).folder == pruned_run.folder


def test_a_card_without_pruning_is_written_as_before(trained_run: Run) -> None:
    table = json.loads((trained_run.folder / "network.json").read_text())
    assert "pruned" not in table
    assert trained_run.read_card().pruned is None


def test_costs_and_accuracy_are_compared_per_exit(pruned_run: Run, trained_run: Run) -> None:
    table = prune.compared(pruned_run)
    card, whole = pruned_run.read_card(), trained_run.read_card()
    columns = {key: tuple(row[key] for row in table["exits"]) for key in table["exits"][0]}
    assert columns["exit"] == (1, 2, 3, 4)
    assert (columns["macs_before"], columns["macs"]) == (whole.macs, card.macs)
    assert (columns["parameters_before"], columns["parameters"]) == (
        whole.parameters,
        card.parameters,
    )
    assert table["plain_macs"] == card.plain_macs < 0.27 * whole.plain_macs
    network, digest = evaluate.trained(pruned_run)
    assert costs.count(network, 32).leaving(card.exits) == card.macs
    for run, column in ((trained_run, "accuracy_before"), (pruned_run, "accuracy")):
        told = scores.load(run.scores("tune"), "tune")
        right = [(logits.argmax(axis=1) == told.labels).mean() for logits in told.logits]
        np.testing.assert_allclose(columns[column], right)
    assert scores.load(pruned_run.scores("tune"), "tune").network == digest


def test_what_is_trained_again_learns(pruned_run: Run) -> None:
    losses = [row["loss"] for row in journal.epochs(pruned_run.journal)]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    first = checkpoint.load_network(pruned_run.network)
    assert all(math.isfinite(float(tensor.double().sum())) for tensor in first.values())


def test_the_export_of_a_pruned_run_passes_its_gate(pruned_run: Run, tmp_path: Path) -> None:
    report = package.export(pruned_run, exits=(2, 4), root=tmp_path)
    assert not report.parity.failures
    assert [segment.macs for segment in report.manifest.segments] == [
        costs.count(evaluate.trained(pruned_run)[0], 32).leaving((2, 4))[0],
        costs.count(evaluate.trained(pruned_run)[0], 32).segments((2, 4))[1],
    ]
    card = pruned_run.read_card()
    assert card.pruned is not None
    origin = {"run": card.pruned.run, "ratio": 0.5, "of": card.pruned.network}
    assert report.manifest.origin["pruned"] == origin
    assert "pruned from run " in inspecting.inspected(report.folder).words


def test_a_pruned_run_is_evaluated_and_pruned_once_more(pruned_run: Run, tmp_path: Path) -> None:
    table = evaluate.evaluate(pruned_run, "test")
    assert table.exits == (1, 2, 3, 4)
    twice = prune.prune(pruned_run, ratio=0.5, epochs=0, root=tmp_path, name="twice")
    card = twice.read_card()
    assert card.pruned is not None
    assert card.pruned.shapes["stages.4.1.body.0.weight"] == (16, 16, 3, 3)
    assert card.plain_macs < 0.3 * pruned_run.read_card().plain_macs
    assert evaluate.trained(twice)[0].heads["1"].classifier.in_features == 16


def test_pruning_once_more_begins_with_the_first_runs_recipe(
    pruned_run: Run, tmp_path: Path
) -> None:
    again = prune.prepare(pruned_run, ratio=0.5, root=tmp_path)
    assert (again.config.epochs, again.config.lr) == (2, 0.005)  # of 10 epochs at 0.05
    third = prune.prepare(pruned_run, ratio=0.5, epochs=1, root=tmp_path, given={"lr": "0.2"})
    assert (third.config.epochs, third.config.lr) == (1, 0.2)
    (told,) = journal.read(third.files.journal, "prune")
    assert told["first"] == {"epochs": 10, "lr": 0.05}


def test_a_first_run_that_is_not_known_is_asked_for(pruned_run: Run, tmp_path: Path) -> None:
    older = copied(pruned_run, tmp_path)
    rows = [row for row in journal.read(older.journal) if row.pop("first", None) or True]
    older.journal.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ConfigError, match=r"an older exitkit pruned it .* give --epochs and --lr"):
        prune.prepare(older, ratio=0.5, root=tmp_path)
    with pytest.raises(ConfigError, match=r"give --lr$"):
        prune.prepare(older, ratio=0.5, epochs=1, root=tmp_path)
    made = prune.prepare(older, ratio=0.5, epochs=1, root=tmp_path, given={"lr": "0.2"})
    assert (made.config.epochs, made.config.lr) == (1, 0.2)


def test_without_epochs_the_cut_weights_are_the_network(trained_run: Run, tmp_path: Path) -> None:
    run = prune.prune(trained_run, ratio=0.3, epochs=0, root=tmp_path)
    assert run.finished
    assert not journal.epochs(run.journal)
    table = prune.compared(run)
    assert [row["accuracy"] for row in table["exits"]] == pytest.approx(
        [row["accuracy_pruned"] for row in table["exits"]]
    )
    old = checkpoint.load_network(trained_run.network)
    new = checkpoint.load_network(run.network)
    left = set(old["stages.1.0.weight"].flatten().tolist())
    assert set(new["stages.1.0.weight"].flatten().tolist()) < left
    with pytest.raises(CheckpointError, match="it has finished all of its epochs"):
        session.resume(run.name, root=tmp_path)


def test_the_default_is_a_quarter_of_the_epochs(trained_run: Run, tmp_path: Path) -> None:
    prepared = prune.prepare(trained_run, ratio=0.2, root=tmp_path, given={"lr": "0.03"})
    assert (prepared.config.epochs, prepared.config.lr) == (2, 0.03)  # of 10; half to even
    assert prepared.notes[0].startswith(
        "pruned from run small: 8.9 M multiply-adds of the plain network become "
    )
    with pytest.raises(CheckpointError, match="no network yet"):
        runs.find(prepared.files.name, tmp_path)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"ratio": 0.0}, "--ratio 0: is no share; give more than 0 and less than 1"),
        ({"ratio": 1.0}, "--ratio 1: is no share"),
        ({"ratio": float("nan")}, "--ratio nan: is no share"),
        ({"ratio": 0.01}, "pruning resnet18 .*no channel goes: 0 of 12 .*give a larger --ratio"),
        ({"ratio": 0.5, "epochs": -1}, "--epochs -1: is below zero"),
        ({"ratio": 0.5, "name": "a/b"}, "run name 'a/b': is no plain name"),
        ({"ratio": 0.5, "name": "small"}, "is there already"),
        ({"ratio": 0.5, "given": {"seed": 3}}, "pruning run small with seed: a pruned run has"),
        ({"ratio": 0.5, "given": {"spped": 3}}, "no such setting"),
        ({"ratio": 0.5, "epochs": 5, "given": {"epochs": 1}}, "--epochs 5: epochs is given twice"),
        ({"ratio": 0.5, "epochs": 0, "given": {"epochs": 3}}, "--epochs 0: epochs is given twice"),
        (
            {"ratio": 0.5, "epochs": 0, "given": {"lr": 0.9, "threads": 1, "clip": 5}},
            "--epochs 0 with lr, clip: nothing is trained",
        ),
        ({"ratio": 0.5, "given": {"regime": "frozen"}}, "stages are frozen, and what is left"),
        ({"ratio": 0.5, "epochs": 1, "given": {"regime": "mixed"}}, "one epoch is no two phases"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    asked: dict[str, object], found: str, trained_run: Run
) -> None:
    root = trained_run.folder.parent
    before = sorted(path.name for path in root.iterdir())
    with pytest.raises(ConfigError, match=found):
        prune.prepare(trained_run, root=root, **asked)
    assert sorted(path.name for path in root.iterdir()) == before


def copied(run: Run, folder: Path) -> Run:
    return Run(Path(shutil.copytree(run.folder, folder / run.name)))


def test_a_run_judged_on_its_test_split_is_compared_there(trained_run: Run, tmp_path: Path) -> None:
    parent = copied(trained_run, tmp_path)
    own = dataclasses.replace(checkpoint.read_config(parent), paper_protocol=True)
    parent.config.write_text(checkpoint.written(own))
    for epochs in (0, 1):
        run = prune.prune(parent, ratio=0.5, epochs=epochs, root=tmp_path)
        table = prune.compared(run)
        assert (table["split"], table["images"]) == ("test", 18)
        told = evaluate.evaluate(run, "test")
        right = [(logits.argmax(axis=1) == told.labels).mean() for logits in told.logits]
        np.testing.assert_allclose([row["accuracy"] for row in table["exits"]], right)


def test_weights_that_are_not_finite_are_refused(trained_run: Run, tmp_path: Path) -> None:
    run = copied(trained_run, tmp_path)
    weights = checkpoint.load_network(run.network)
    weights["stages.2.0.body.0.weight"][0] = torch.nan
    checkpoint.save_network(run.network, weights)
    with pytest.raises(CheckpointError, match="a weight is not a finite number"):
        prune.prune(run, ratio=0.5, root=tmp_path)


@pytest.mark.parametrize(
    ("shapes", "found"),
    [
        ({"0.weight": "3x4x3x3"}, "its layers do not fit each other"),
        ({"0.weight": "4x4x1x1"}, "its layers do not fit each other"),
        ({"0.weight": "99x4x3x3"}, "cannot be cut from"),
        ({"0.weight": "many"}, "cannot be read"),
        ({"1.bias": "3"}, "its tensors do not fit each other"),
        (  # another network, but none that the weights belong to
            {"0.weight": "3x4x3x3", "3.weight": "4x3x3x3"}
            | {f"1.{name}": "3" for name in ("weight", "bias", "running_mean", "running_var")},
            "network.pt: does not fit",
        ),
    ],
)
def test_an_edited_card_is_refused(
    shapes: dict[str, str], found: str, pruned_run: Run, tmp_path: Path
) -> None:
    run = copied(pruned_run, tmp_path)
    path = run.folder / "network.json"
    table = json.loads(path.read_text())
    table["pruned"]["shapes"] |= {f"stages.1.3.body.{k}": shape for k, shape in shapes.items()}
    path.write_text(json.dumps(table))
    with pytest.raises(CheckpointError, match=found):
        evaluate.trained(run)


def test_a_run_that_was_not_pruned_has_nothing_to_compare(trained_run: Run) -> None:
    with pytest.raises(ConfigError, match="its network was not pruned"):
        prune.compared(trained_run)
