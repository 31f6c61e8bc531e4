"""Atomic files, the journal, settings, runs and errors: what everything stands on."""

import json
import os
from pathlib import Path

import pytest

from exitkit import atomic, config, journal, runs
from exitkit.errors import BundleError, CheckpointError, ConfigError, unknown


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")

    def write_half() -> None:
        with atomic.replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_files_get_the_permissions_that_open_would_give(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_link_is_replaced_in_one_step(tmp_path: Path) -> None:
    atomic.point(tmp_path / "latest", "one")
    atomic.point(tmp_path / "latest", "two")
    assert os.readlink(tmp_path / "latest") == "two"


def test_digest_of_three_letters(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # The first test vector of FIPS 180-2.
    assert atomic.sha256(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_the_journal_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    book = journal.Journal(path)
    book.write("epoch", epoch=0)
    with open(path, "a") as file:
        file.write('{"event": "epo')
    book.write("epoch", epoch=1)
    assert [row["epoch"] for row in journal.read(path, "epoch")] == [0, 1]


def test_settings_are_read_as_their_types() -> None:
    read = config.parse({"epochs": "3", "nesterov": "true", "milestones": "0.5,0.75"}, "--set")
    assert (read.epochs, read.nesterov, read.milestones) == (3, True, (0.5, 0.75))
    again = config.parse(json.loads(json.dumps(config.to_dict(read))), "config.json")
    assert again == read


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": "many"}, "has another type"),
        ({"epochs": 2.5}, "has another type"),
        ({"nesterov": "maybe"}, "has another type"),
        ({"epochs": 0}, "not above zero"),
        ({"epochs": float("inf")}, "has another type"),
        ({"width": "nan"}, "width nan: is no finite number"),
        ({"lr": "inf"}, "lr inf: is no finite number"),
        ({"seed": 2**63}, "does not fit into 64 bits"),
        ({"arch": "resnet81"}, "did you mean 'resnet18'"),
        ({"heads": "heavy"}, "choose one of: bottle, byot"),
        ({"precision": "fp16"}, "choose one of: auto, bf16, float32"),
        ({"tune_share": 1.0}, "is no share; give 0 or more, below 1"),
        ({"momentum": -0.1}, "below zero"),
        ({"nesterov": True, "momentum": 0.0}, "no momentum"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config.parse(settings, "recipe.toml")


def test_run_names_are_numbered_and_plain(tmp_path: Path) -> None:
    assert runs.create(None, "pskd(alpha=0.8)+byot", "resnet18", tmp_path).name == (
        "pskd-byot-resnet18-1"
    )
    (tmp_path / "mate-resnet18-1").mkdir()
    assert runs.create(None, "mate", "resnet18", tmp_path).name == "mate-resnet18-2"
    for name in ("../out", "latest", "a b", ""):
        with pytest.raises(ConfigError, match="no plain name"):
            runs.create(name, "mate", "resnet18", tmp_path)
    with pytest.raises(ConfigError, match="is there already"):
        runs.create("mate-resnet18-1", "mate", "resnet18", tmp_path)


def test_a_run_without_a_finished_epoch_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it has: none"):
        runs.find(None, tmp_path)
    (tmp_path / "young").mkdir()
    with pytest.raises(CheckpointError, match="no finished epoch"):
        runs.find("young", tmp_path)
    with pytest.raises(CheckpointError, match="it has: young"):
        runs.find("old", tmp_path)
    (tmp_path / "young" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="go on with exitkit train --resume young"):
        runs.find("young", tmp_path)


def test_a_bundle_that_is_not_there_is_told_from_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="it has: none"):
        runs.find_bundle(None, tmp_path)
    (tmp_path / "small").mkdir()
    (tmp_path / ".small.tmp").mkdir()  # of an export that runs just now
    with pytest.raises(BundleError, match=r"bundle big: not in .* \(it has: small\)"):
        runs.find_bundle("big", tmp_path)


def test_an_error_says_asked_found_do() -> None:
    error = unknown("method", "bytot", ["byot", "mate"])
    assert str(error) == (
        "method 'bytot': no such method; did you mean 'byot'? choose one of: byot, mate"
    )
    assert error.exit_code == 2
