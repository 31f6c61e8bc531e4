"""Options of a run: each by its numbers, all together, stopped and resumed to the bit."""

from pathlib import Path

import pytest
import torch

from exitkit import runs, train
from exitkit.config import parse
from exitkit.errors import CheckpointError, ConfigError
from exitkit.models.build import build
from exitkit.policy import metrics
from exitkit.train import checkpoint, evaluate, session, weights
from tests.train import tiny

EVERYTHING = {
    "ema": 0.9,
    "clip": 1.0,
    "class_weights": "balanced",
    "mixup": 0.2,
    "cutmix": 1.0,
    "autoaugment": "cifar",
    "cutout": 8,
    "cutout_holes": 2,
}


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"method": "mate+dsr", "regime": "mixed", "epochs": 4, **EVERYTHING}, 1),
        ({"method": "mate+dsr", "regime": "mixed", "epochs": 4, **EVERYTHING}, 2),
        ({"method": "mate+dsr", "regime": "mixed", "epochs": 4, **EVERYTHING}, 3),
        ({"method": "pskd+byot", "regime": "frozen", "weights": "first", "ema": 0.99}, 1),
        ({"method": "byot", "cache_mb": 0, "workers": 0, **EVERYTHING}, 1),
    ],
)
def test_stopped_and_resumed_is_as_never_stopped(prepare, tmp_path, changes, kept):
    first = prepare("first", method="deep", epochs=1)
    list(first.run())
    calm = prepare("calm", **changes)
    list(calm.run())
    torn = prepare("torn", **changes)
    epochs = torn.run()
    for _ in range(kept):
        next(epochs)
    # What the network began with is in the checkpoint, and needed no longer.
    first.files.network.unlink()
    torch.rand(3)
    resumed = session.resume("torn", root=tmp_path / "runs")
    list(resumed.run())
    tiny.assert_same_runs(resumed.files, calm.files)


def test_a_run_stopped_before_its_first_epoch_begins_with_the_same_weights(prepare, tmp_path):
    list(prepare("first", method="deep", epochs=1).run())
    changes = {"method": "deep", "regime": "frozen", "weights": "first", "epochs": 1}
    prepare("torn", **changes)
    calm = prepare("calm", **changes)
    list(calm.run())
    resumed = session.resume("torn", root=tmp_path / "runs")
    list(resumed.run())
    one, other = (checkpoint.load_network(run.files.network) for run in (resumed, calm))
    tiny.assert_same(one, other)


def test_a_run_in_its_first_phase_has_no_network_to_export(prepare, tmp_path):
    opened = prepare("begun", method="deep", regime="mixed", epochs=2)
    assert any("alone up to epoch 1 (its" in note for note in opened.notes)
    next(opened.run())
    assert not opened.files.network.exists()
    with pytest.raises(CheckpointError, match=r"no network yet.*--resume begun"):
        runs.find(None, tmp_path / "runs")
    list(session.resume(None, root=tmp_path / "runs").run())
    assert runs.find(None, tmp_path / "runs").name == "begun"


def test_the_latest_of_no_finished_epoch_lists_what_can_be_resumed(prepare, tmp_path):
    prepare("one", method="ce")
    prepare("two", method="ce", epochs=1)
    with pytest.raises(CheckpointError, match=r"no run has finished an epoch; go on .*: one, two"):
        session.resume(None, root=tmp_path / "runs")
    list(session.resume("two", root=tmp_path / "runs").run())
    with pytest.raises(CheckpointError, match=r"two: it has finished .* NAME is one of: one"):
        session.resume(None, root=tmp_path / "runs")


def test_class_weights_are_inverse_frequencies(start, write_digits, tmp_path):
    folder = write_digits(tmp_path / "uneven", classes=3, train=20)
    for number, path in enumerate(sorted((folder / "train" / "0").iterdir())):
        if number >= 5:
            path.unlink()
    trainer, _, sets = start("deep", data=str(folder), class_weights="balanced")
    counts = [4, 16, 16]  # of 5, 20 and 20 a fifth is held out
    assert torch.bincount(sets.train.labels).tolist() == counts
    expected = [36 / (3 * count) for count in counts]
    torch.testing.assert_close(trainer.step.class_weights, torch.tensor(expected))
    mean = sum(w * n for w, n in zip(expected, counts, strict=True)) / 36
    assert mean == pytest.approx(1.0)
    assert "class_weights" not in trainer.step.state_dict()


def same(found: dict, expected: dict) -> bool:
    return all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_weights_fit_or_are_refused(prepare, tmp_path, write_digits):
    root = tmp_path / "runs"
    deep = prepare("deep", method="deep", epochs=1)
    list(deep.run())
    list(prepare("plain", method="ce", epochs=1).run())

    begun = prepare("begun", method="deep", weights="plain")
    (told,) = [note for note in begun.notes if note.startswith("weights from")]
    assert told.endswith("network.pt; exits 1, 2, 3 begin fresh")
    saved = checkpoint.load_network(root / "plain" / "network.pt")
    assert same(begun.network.state_dict(), saved)

    whole = prepare("whole", method="deep", weights=str(deep.files.network))
    assert same(whole.network.state_dict(), checkpoint.load_network(deep.files.network))
    assert whole.config.weights == str(deep.files.network.resolve())

    with pytest.raises(ConfigError, match=r"another network .*is \(8, 3, 3, 3\), not"):
        prepare(method="deep", weights="deep", width=0.25)
    two = write_digits(tmp_path / "two", classes=2)
    tuned = prepare("tuned", method="deep", weights="deep", data=str(two))
    assert any("exits 1, 2, 3, 4 begin fresh" in note for note in tuned.notes)
    with pytest.raises(ConfigError, match="of other classes"):
        prepare(method="deep", weights="deep", data=str(two), regime="frozen")
    other = tmp_path / "other.pt"
    other.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="cannot be read"):
        prepare(method="deep", weights=str(other))
    assert weights.locate("fresh") == "fresh"


@pytest.mark.parametrize(("part", "exits"), [("stages.1.", (3,)), ("heads.3.", (3,))])
def test_weights_of_a_deeper_network_are_refused(tmp_path, part, exits):
    small = build("resnet20", 3, width=0.25, exits=exits)
    more = {f"{part}9.weight": torch.zeros(1)}
    checkpoint.save_network(tmp_path / "more.pt", {**small.state_dict(), **more})
    with pytest.raises(ConfigError, match=f"another network .*{part}9.weight is of no layer here"):
        weights.load_weights(small, tmp_path / "more.pt", ("a", "b", "c"), whole=True)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("regime", "forzen", "did you mean 'frozen'"),
        ("class_weights", "rare", "choose one of: balanced, none"),
        ("autoaugment", "cifar10", "did you mean 'cifar'"),
        ("clip", -1, "clip -1.0: is below zero"),
        ("cutout_holes", 0, "is not above zero"),
        ("backbone_share", 1, "is no share; give 0 or more, below 1"),
        ("milestones", "0.5,nan", "milestone nan: is no share above zero"),
        ("milestones", (-1.0, 0.5), "milestone -1: is no share above zero"),
    ],
)
def test_values_that_make_no_sense_are_refused(name, value, words):
    with pytest.raises(ConfigError, match=words):
        parse({name: value}, "the test")


def test_none_is_a_word_of_some_settings():
    assert parse({"autoaugment": None, "class_weights": None}, "--set").autoaugment == "none"


@pytest.mark.slow
def test_everything_at_once_learns_digits(tmp_path: Path):
    settings = {"arch": "resnet18", "width": 0.25, "precision": "float32", "lr": 0.05}
    run = train(
        method="mate+dsr", root=tmp_path, epochs=8, regime="mixed", backbone_share=0.25,
        **settings, **{**EVERYTHING, "clip": 5.0, "cutmix": 0.2, "cutout": 4},
    )  # fmt: skip
    assert run.name == "mate-dsr-resnet18-1"
    found = {row["exit"]: row["top1"] for row in metrics.per_exit(evaluate.evaluate(run, "test"))}
    # Six epochs of strongly changed images: less than test_methods asks of plain ones.
    assert min(found.values()) >= 0.60, found
