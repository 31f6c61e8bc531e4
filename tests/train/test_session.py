"""Runs from their settings to their scores, on real digits."""

import json
import logging
from pathlib import Path

import pytest
import torch

import exitkit
from exitkit import journal, runs, scores
from exitkit.errors import CheckpointError, ConfigError, DataError, TrainingError
from exitkit.train import checkpoint, evaluate, session
from tests.train import tiny


def test_a_run_leaves_everything_that_others_read(prepare, tmp_path):
    opened = prepare(method="deep")
    assert not opened.files.finished
    card = opened.files.read_card()
    assert (card.arch, card.exits, card.classes) == ("resnet18", (1, 2, 3, 4), ("0", "1", "2"))
    assert card.macs[0] < card.plain_macs < card.macs[-1]

    records = list(opened.run())
    run = runs.find(None, tmp_path / "runs")
    assert run.name == opened.files.name == "deep-resnet18-1"
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "checkpoint.pt", "config.json", "journal.jsonl", "network.json", "network.pt",
        "scores-tune.npz",
    ]  # fmt: skip
    network, digest = evaluate.trained(run)
    table = scores.load(run.scores("tune"), "tune")
    assert table.network == digest
    assert table.macs.tolist() == list(card.macs)
    assert table.logits.shape == (4, len(opened.data.tune), 3)
    # The scores are those of the selected epoch, whose accuracy the record has told.
    best = [record for record in records if record.selected][-1]
    found = (table.logits.argmax(axis=2) == table.labels).mean(axis=1)
    assert found.tolist() == pytest.approx(best.accuracy)
    assert not network.training


def test_settings_are_resolved_and_written(prepare, digit_folder, monkeypatch):
    monkeypatch.chdir(digit_folder.parent)
    opened = prepare(
        method="ce", data=digit_folder.name, epochs=None, lr=None, schedule=None, device="auto"
    )
    table = json.loads(opened.files.config.read_text())
    suggested = opened.data.defaults
    assert table["epochs"] == suggested.epochs
    assert (table["lr"], table["schedule"]) == (suggested.lr, suggested.schedule)
    assert table["data"] == str(digit_folder)
    assert table["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert None not in table.values()
    (start,) = journal.read(opened.files.journal)
    assert start["event"] == "start"
    assert start["settings"] == {**table, "milestones": list(table["milestones"])}
    assert start["machine"]["torch"] == torch.__version__.split("+")[0]
    assert (start["seed"], start["selection"]) == (0, "tune")
    assert start["exitkit"] == exitkit.__version__
    assert (
        any("24 training, 12 tune and 18 test images" in note for note in start["notes"])
        or (start["notes"])
    )


def test_stopped_and_resumed_is_as_never_stopped(prepare, tmp_path):
    calm = prepare("calm", method="mate")
    list(calm.run())
    torn = prepare("torn", method="mate")
    next(torn.run())
    torch.rand(3)
    resumed = session.resume("torn", root=tmp_path / "runs")
    assert [record.epoch for record in resumed.run()] == [1, 2]
    tiny.assert_same_runs(resumed.files, calm.files)
    with pytest.raises(CheckpointError, match="resuming run torn: it has finished all of its"):
        session.resume("torn", root=tmp_path / "runs")


def test_ctrl_c_keeps_the_last_epoch_and_says_how_to_go_on(prepare, monkeypatch):
    opened = prepare("stopped", method="ce")
    epochs = opened.run()
    next(epochs)
    before = opened.files.checkpoint.read_bytes()

    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(opened.trainer, "advance", press)
    with pytest.raises(
        session.Interrupted, match=r"1 of 3 epochs .* exitkit train --resume stopped"
    ):
        next(epochs)
    assert opened.files.checkpoint.read_bytes() == before
    assert [row["epochs"] for row in journal.read(opened.files.journal, "interrupted")] == [1]


def test_a_lost_loss_keeps_the_last_good_checkpoint(prepare, tmp_path):
    opened = prepare("lost", method="ce")
    epochs = opened.run()
    next(epochs)
    before = opened.files.checkpoint.read_bytes()
    with torch.no_grad():
        opened.network.heads["4"].classifier.bias[0] = float("nan")
    with pytest.raises(TrainingError, match="epoch 2, step 1"):
        next(epochs)
    assert opened.files.checkpoint.read_bytes() == before
    (failed,) = journal.read(opened.files.journal, "failed")
    assert "epoch 2, step 1" in failed["error"]
    assert runs.find("lost", tmp_path / "runs").finished


def test_a_torn_off_network_file_is_written_again(prepare, tmp_path):
    opened = prepare("torn", method="ce")
    next(opened.run())
    expected = opened.files.network.read_bytes()
    opened.files.network.unlink()
    (tmp_path / "runs" / "latest").unlink()
    session.resume("torn", root=tmp_path / "runs")
    assert opened.files.network.read_bytes() == expected
    assert runs.find(None, tmp_path / "runs").name == "torn"


def test_scores_that_are_missing_are_written_on_resuming(prepare, tmp_path):
    opened = prepare("short", method="ce", epochs=1)
    next(opened.run())
    assert not opened.files.scores("tune").exists()
    assert list(session.resume("short", root=tmp_path / "runs").run()) == []
    assert opened.files.scores("tune").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"method": "meat"}, ConfigError, r"'meat'.*did you mean 'mate'"),
        ({"device": "cuda:99"}, ConfigError, r"device cuda:99: this machine has \d usable GPU"),
        ({"device": "tpu"}, ConfigError, r"device 'tpu'.*auto, cpu, cuda"),
        ({"tune_share": 0.0}, ConfigError, r"no image is left to pick the best epoch on"),
        ({"schedule": "step", "milestones": (75.0,)}, ConfigError, r"milestone 75: is no share"),
        ({"data": "nowhere"}, (ConfigError, DataError), r"nowhere"),
    ],
)
def test_what_cannot_be_met_is_refused_and_leaves_nothing(
    prepare, tmp_path, changes, error, message
):
    with pytest.raises(error, match=message):
        prepare(**changes)
    assert not (tmp_path / "runs").exists()


def test_names_are_taken_once_and_numbered(prepare, tmp_path):
    assert prepare(method="ce").files.name == "ce-resnet18-1"
    assert prepare(method="ce").files.name == "ce-resnet18-2"
    with pytest.raises(ConfigError, match="ce-resnet18-1 is there already"):
        prepare("ce-resnet18-1", method="ce")
    with pytest.raises(CheckpointError, match=r"run other: not in .*ce-resnet18-1, ce-resnet18-2"):
        session.resume("other", root=tmp_path / "runs")


def test_a_place_that_cannot_be_written_is_named(prepare, tmp_path):
    (tmp_path / "runs").write_text("a file is in the way")
    with pytest.raises(ConfigError, match=r"runs: .*; check that it may be written and has room"):
        prepare(method="ce")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_checkpoint_of_other_settings_is_refused(prepare, tmp_path):
    opened = prepare("edited", method="ce")
    next(opened.run())
    table = json.loads(opened.files.config.read_text())
    opened.files.config.write_text(json.dumps({**table, "width": 0.25}))
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: does not fit"):
        session.resume("edited", root=tmp_path / "runs")


def test_other_images_are_refused_on_resuming_and_evaluating(prepare, write_digits, tmp_path):
    folder = write_digits(tmp_path / "own", classes=2)
    opened = prepare("moved", method="ce", data=str(folder))
    next(opened.run())
    next((folder / "train" / "0").glob("*.png")).unlink()
    with pytest.raises(DataError, match=r"data of run moved: own has other images"):
        session.resume("moved", root=tmp_path / "runs")
    for split in ("tune", "test"):
        with pytest.raises(DataError, match=r"data of run moved: own has other images"):
            evaluate.evaluate(opened.files, split)


def test_another_machine_is_told_on_resuming(prepare, tmp_path):
    opened = prepare("moved", method="ce")
    text = opened.files.journal.read_text()
    opened.files.journal.write_text(text.replace('"torch": "', '"torch": "1.'))
    notes = session.resume("moved", root=tmp_path / "runs").notes
    assert any("differs from the one where the run began (torch)" in note for note in notes)


def test_a_memory_in_half_precision_is_told_of_and_taken_up_again(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr("exitkit.objectives.table.HALF_ABOVE", 0)
    opened = prepare("vast", method="pskd", epochs=2)
    assert any("predictions in half precision" in note for note in opened.notes)
    next(opened.run())
    kept = opened.objective.memory.rows.clone()
    assert kept.dtype == torch.half
    assert kept.any()
    again = session.resume("vast", root=tmp_path / "runs")
    assert torch.equal(again.objective.memory.rows, kept)


def test_the_papers_protocol_picks_on_test_and_says_so(prepare):
    opened = prepare(method="ce", epochs=1, paper_protocol=True, tune_share=0.0)
    assert any("picked on the TEST split" in note for note in opened.notes)
    (record,) = opened.run()
    expected = evaluate.evaluate(opened.files, "test")
    share = (expected.logits[-1].argmax(axis=1) == expected.labels).mean()
    assert record.accuracy == (pytest.approx(share),)
    assert not opened.files.scores("tune").exists()


def test_evaluate_writes_the_scores_of_a_split(prepare):
    opened = prepare("judged", method="deep", epochs=1)
    list(opened.run())
    table = evaluate.evaluate(opened.files, "test")
    assert (table.split, table.logits.shape) == ("test", (4, 18, 3))
    read = scores.load(opened.files.scores("test"), "test")
    assert (read.logits == table.logits).all()
    (event,) = journal.read(opened.files.journal, "evaluate")
    assert [row["exit"] for row in event["exits"]] == [1, 2, 3, 4]
    with pytest.raises(ConfigError, match=r"split 'train'.*test, tune"):
        evaluate.evaluate(opened.files, "train")
    weights = checkpoint.load_network(opened.files.network)
    checkpoint.save_network(opened.files.network, {"other": next(iter(weights.values()))})
    with pytest.raises(CheckpointError, match=r"network\.pt: does not fit"):
        evaluate.evaluate(opened.files)


def test_the_package_is_the_function(digit_folder, tmp_path: Path, caplog):
    caplog.set_level(logging.INFO, "exitkit")
    for number in (1, 2):
        settings = tiny.settings(digit_folder, method="ce", epochs=1)
        run = exitkit.train(root=tmp_path / "runs", **settings)
        assert run.name == f"ce-resnet18-{number}"
    assert "epoch 1 of 1: accuracy" in caplog.text
    with pytest.raises(ConfigError, match=r"setting 'epocs' \(exitkit.train\).*'epochs'"):
        exitkit.train(epocs=3)
