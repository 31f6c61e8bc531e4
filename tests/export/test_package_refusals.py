"""What an export refuses, and that a refusal leaves nothing behind."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx as onnx_library
import pytest
import torch
from click.testing import CliRunner

from exitkit.cli import export
from exitkit.data.split import DataSets
from exitkit.errors import (
    BundleError,
    CheckpointError,
    ConfigError,
    DataError,
    EngineError,
    ExportError,
    ParityError,
)
from exitkit.export import onnx, package
from exitkit.export.source import Source
from exitkit.runs import Run
from exitkit.train import checkpoint, origin


def test_weights_that_change_while_they_are_read_are_refused(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(trained_run.folder, run.folder)
    run.scores("tune").unlink()
    load = origin.load

    def trained_on(*asked: Any) -> DataSets:
        """Load the data, while the training that goes on keeps its next epoch."""
        weights = checkpoint.load_network(run.network)
        weights["heads.4.classifier.bias"] += 0.1
        checkpoint.save_network(run.network, weights)
        return load(*asked)

    monkeypatch.setattr(origin, "load", trained_on)
    with pytest.raises(CheckpointError, match="it is being trained; export again"):
        package.export(run, exits=(1,), root=tmp_path / "bundles")
    assert not (tmp_path / "bundles").exists()


def test_a_policy_of_other_weights_is_not_published(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = package.read

    def confused(*asked: Any) -> Source:
        source = read(*asked)
        return dataclasses.replace(
            source, scores=dataclasses.replace(source.scores, network="other weights")
        )

    monkeypatch.setattr(package, "read", confused)
    with pytest.raises(BundleError, match="this one belongs to network other weight"):
        package.export(trained_run, exits=(1,), root=tmp_path / "bundles")
    assert list((tmp_path / "bundles").iterdir()) == []


def test_a_broken_segment_is_refused_and_nothing_is_left(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = onnx.write

    def careless(piece, shape, path, opset):  # type: ignore[no-untyped-def]
        """Export, as an exporter with a fault would, a network whose last layer is off."""
        classifier = piece.piece.heads[str(piece.exit)].classifier
        classifier.bias.data[0] += 0.01
        return write(piece, shape, path, opset)

    monkeypatch.setattr(onnx, "write", careless)
    with pytest.raises(ParityError, match=r"exit 1: a logit is off by 0\.01 ") as caught:
        package.export(trained_run, exits=(1,), root=tmp_path / "bundles")
    assert caught.value.exit_code == 1
    (kept,) = (tmp_path / "bundles").iterdir()  # no bundle, but what was compared
    assert kept.name == "small.parity-failed.json"
    assert caught.value.do.endswith(f"{kept} says what was compared")
    row = json.loads(kept.read_text())["compared"]["exits"][0]
    assert (row["exit"], row["difference"]) == (1, pytest.approx(0.01, rel=1e-3))


def test_bad_requests_write_nothing(trained_run: Run, tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    for settings, words in (
        ({"exits": (7,)}, "exit 7: resnet18 has exits 1, 2, 3, 4"),
        ({"trt": True, "trt_target": ("sm90",)}, "no such TensorRT target"),
        ({"trt": True, "trt_target": ()}, "TensorRT targets: none are named; name some of sm75"),
        ({"trt_target": ("sm89",)}, "add --trt"),
        ({"name": "latest"}, "is no plain name"),
        ({"what": "leader"}, "--what leader: this run was trained by deep"),
        ({"what": "backbone", "exits": (2, 4)}, "answers at its own end, exit 4, alone"),
        ({"opset": 17}, "opset 17: the exporter writes 18 and later"),
        ({"opset": 99}, "opset 99: .* loads no later one than"),
    ):
        with pytest.raises(ConfigError, match=words):
            package.export(trained_run, root=root, **settings)
    assert not root.exists()


def test_a_class_that_triton_cannot_name_is_refused_before_any_work(
    trained_run: Run, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(trained_run.folder, run.folder)
    run.write_card(dataclasses.replace(run.read_card(), classes=("one", "two\nlines", "three")))
    with pytest.raises(ConfigError, match="has an end of line in its name; rename it"):
        package.export(run, root=tmp_path / "bundles", triton=tmp_path / "models")
    assert not (tmp_path / "bundles").exists()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--trt", "--trt-target", ""], "TensorRT target '': no such TensorRT target"),
        (["--form", ""], "form '': no such form"),
    ],
)
def test_an_empty_list_is_no_default(trained_run: Run, asked: list[str], words: str) -> None:
    said = CliRunner().invoke(export.command, [str(trained_run.folder), *asked])
    assert isinstance(said.exception, ConfigError)
    assert words in str(said.exception)


def test_an_opset_that_the_runtime_cannot_load_leaves_nothing(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = onnx.write

    def modern(piece, shape, path, opset):  # type: ignore[no-untyped-def]
        """Declare what no released runtime knows yet."""
        written = write(piece, shape, path)
        model = onnx_library.load(path)
        model.opset_import[0].version = 99
        onnx_library.save(model, path)
        return dataclasses.replace(written, opset=99)

    monkeypatch.setattr(onnx, "write", modern)
    with pytest.raises(EngineError, match=r"segment_1.onnx: cannot be loaded .*[Oo]pset 99"):
        package.export(trained_run, exits=(1,), root=tmp_path / "bundles")
    assert list((tmp_path / "bundles").iterdir()) == []


def test_weights_that_are_no_numbers_are_refused_by_name(trained_run: Run, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(trained_run.folder, run.folder)
    weights = torch.load(run.network, weights_only=True)
    weights["heads.2.classifier.bias"][1] = float("nan")
    torch.save(weights, run.network)
    with pytest.raises(ExportError, match=r"not finite, the first is heads\.2\.classifier\.bias"):
        package.export(run, root=tmp_path / "bundles")
    assert not (tmp_path / "bundles").exists()


def test_other_data_than_in_training_are_refused(
    trained_run: Run, write_digits: Callable[..., Path], tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(trained_run.folder, run.folder)
    settings = json.loads(run.config.read_text())
    other = str(write_digits(tmp_path / "digits", train=41))
    run.config.write_text(json.dumps({**settings, "data": other}))
    with pytest.raises(DataError, match="has other images or other classes now than in training"):
        package.export(run, root=tmp_path / "bundles")
    assert not (tmp_path / "bundles").exists()
