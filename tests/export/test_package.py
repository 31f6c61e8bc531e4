"""The whole export of a small trained run."""

import dataclasses
import json
import os
import resource
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx as onnx_library
import pytest

from exitkit import journal, scores
from exitkit.atomic import sha256
from exitkit.bundle import read_manifest
from exitkit.errors import (
    ConfigError,
    ExportError,
)
from exitkit.export import package
from exitkit.export.package import ExportReport
from exitkit.policy.policy import Policy
from exitkit.runs import Run
from exitkit.train import checkpoint


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def report(trained_run: Run, bundles: Path) -> ExportReport:
    """Exits 2 and 4, with engines ahead of time."""
    return package.export(trained_run, exits=(4, 2), trt=True, trt_target=("sm89",), root=bundles)


def test_the_bundle_is_whole_and_the_latest(
    report: ExportReport, trained_run: Run, bundles: Path
) -> None:
    assert report.folder == bundles / "small"
    assert os.readlink(bundles / "latest") == "small"
    assert sorted(p.name for p in report.folder.iterdir()) == [
        "manifest.json",
        "parity.json",
        "policy.json",
        "reference.npz",
        "segment_2.engine",
        "segment_2.onnx",
        "segment_4.engine",
        "segment_4.onnx",
        "sweep.json",
    ]
    manifest = read_manifest(report.folder)
    assert manifest == report.manifest
    assert manifest.exits == (2, 4)
    assert [s.input_shape for s in manifest.segments] == [(3, 32, 32), (16, 16, 16)]
    assert manifest.classes == trained_run.read_card().classes == ("0", "1", "2")
    assert manifest.network == scores.load(trained_run.scores("tune")).network
    assert json.loads((report.folder / "parity.json").read_text())["passed"] is True
    events = [
        e["exits"]
        for e in journal.read(trained_run.journal, "export")
        if e["bundle"] == str(report.folder)
    ]
    assert events == [[2, 4]]


def test_costs_count_only_the_kept_heads(report: ExportReport, trained_run: Run) -> None:
    card = trained_run.read_card()
    first, second = (segment.macs for segment in report.manifest.segments)
    assert first < card.macs[1]  # without head 1, which was trained but not kept
    assert first + second < card.macs[3]
    assert report.manifest.plain_macs == card.plain_macs < first + second


def test_engines_say_what_they_were_built_from(report: ExportReport) -> None:
    for segment in report.manifest.segments:
        engine = segment.engine
        assert engine is not None
        assert engine.file == f"segment_{segment.exit}.engine"
        assert engine.onnx == sha256(report.folder / segment.file)
        assert (engine.builder, engine.targets) == ("tensorrt_rtx", ("sm89",))
        assert not report.manifest.stale(segment)


def test_policy_and_sweep_come_from_the_tune_scores(report: ExportReport, trained_run: Run) -> None:
    policy = Policy.read(report.folder / "policy.json")
    table = scores.load(trained_run.scores("tune"))
    assert (policy.network, policy.exits) == (table.network, (2, 4))
    assert policy.thresholds == (pytest.approx(report.chosen.threshold),)
    sweep = json.loads((report.folder / "sweep.json").read_text())
    assert (sweep["split"], sweep["images"], sweep["exits"]) == ("tune", len(table.labels), [2, 4])
    assert sweep["chosen"] in sweep["points"]
    # At threshold 0 every image leaves at exit 2, which has the second row of the scores.
    right = float(np.mean(table.logits[1].argmax(axis=1) == table.labels))
    assert sweep["points"][0]["shares"] == [1.0, 0.0]
    assert sweep["points"][0]["accuracy"] == pytest.approx(right)
    assert sweep["points"][0]["mean_macs"] == report.manifest.segments[0].macs


@dataclass(frozen=True)
class Static:
    """An export of exit 1 alone, from a run whose scores are of other weights."""

    run: Run
    report: ExportReport
    lines: tuple[str, ...]


@pytest.fixture(scope="module")
def static(trained_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Static:
    run = Run(tmp_path_factory.mktemp("runs") / "stale")
    shutil.copytree(trained_run.folder, run.folder)
    table = scores.load(run.scores("tune"))
    stale = dataclasses.replace(table, network="other weights", logits=table.logits + 1)
    scores.save(stale, run.scores("tune"))
    lines: list[str] = []
    root = tmp_path_factory.mktemp("static")
    made = package.export(run, exits=(1,), name="cut", root=root, progress=lines.append)
    return Static(run, made, tuple(lines))


def test_a_single_exit_is_a_static_network(static: Static) -> None:
    folder = static.report.folder
    assert sorted(p.name for p in folder.glob("segment*")) == ["segment_1.onnx"]
    assert static.report.manifest.exits == (1,)
    assert static.report.chosen.shares == (1.0,)
    policy = Policy.read(folder / "policy.json")
    assert (policy.exits, policy.thresholds) == ((1,), ())
    assert os.readlink(folder.parent / "latest") == "cut"


def test_scores_of_other_weights_are_computed_again(static: Static, trained_run: Run) -> None:
    assert "scoring the tune split with the weights of stale" in static.lines
    again, first = (scores.load(run.scores("tune")) for run in (static.run, trained_run))
    assert again.network == first.network
    np.testing.assert_allclose(again.logits, first.logits, atol=1e-5)


def test_the_only_copy_of_another_network_stays(static: Static, tmp_path: Path) -> None:
    """A run's folder was removed, and its name given to another run."""
    run = Run(tmp_path / static.run.name)
    shutil.copytree(static.run.folder, run.folder)
    weights = checkpoint.load_network(run.network)
    weights["heads.4.classifier.bias"] += 0.1
    checkpoint.save_network(run.network, weights)
    run.scores("tune").unlink()
    before = {path: sha256(path) for path in static.report.folder.iterdir()}
    root = static.report.folder.parent
    old = run.journal.read_text()
    run.journal.unlink()
    with pytest.raises(ConfigError, match=r"another network, .* choose another --name, or remove"):
        package.export(run, exits=(1,), name="cut", root=root)
    assert {path: sha256(path) for path in static.report.folder.iterdir()} == before
    # Had the same run been trained on, its journal would know the network of the bundle.
    run.journal.write_text(old)
    shutil.copytree(root, tmp_path / "bundles", symlinks=True)
    made = package.export(run, exits=(1,), name="cut", root=tmp_path / "bundles")
    assert static.report.manifest.origin["weights"] in made.manifest.origin["earlier"]


def test_a_run_that_may_only_be_read_is_exported(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: journal.Journal, event: str, **fields: object) -> None:
        raise PermissionError(13, "Permission denied", str(self.path))

    monkeypatch.setattr(journal.Journal, "write", write)
    made = package.export(trained_run, exits=(1,), root=tmp_path, triton=tmp_path / "models")
    assert made.repository == tmp_path / "models"
    assert made.notes[-1] == (
        "the journal of run small does not tell of this export ([Errno 13] Permission denied: "
        f"'{trained_run.journal}')"
    )


def test_an_opset_is_written_as_asked(trained_run: Run, tmp_path: Path) -> None:
    made = package.export(trained_run, exits=(1,), opset=21, root=tmp_path)
    (imported,) = onnx_library.load(made.folder / "segment_1.onnx").opset_import
    assert imported.version == 21
    assert made.manifest.origin["opset"] == {"segment_1.onnx": 21}


def test_the_backbone_is_the_plain_network(trained_run: Run, tmp_path: Path) -> None:
    made = package.export(trained_run, what="backbone", root=tmp_path)
    assert made.folder == tmp_path / "small-backbone"
    assert made.manifest.exits == (4,)
    assert made.manifest.segments[0].macs == made.manifest.plain_macs
    shipped = {w.name for w in onnx_library.load(made.folder / "segment_4.onnx").graph.initializer}
    # Batch norms are folded into convolutions, so weights keep the names of layers of the network.
    heads = {name.partition("heads.")[2].partition(".")[0] for name in shipped if "heads." in name}
    assert heads == {"4"}


def test_a_disk_that_fills_up_leaves_the_old_bundle_and_nothing_else(
    static: Static, trained_run: Run
) -> None:
    root = static.report.folder.parent
    before = {path: sha256(path) for path in static.report.folder.iterdir()}
    size = (static.report.folder / "segment_1.onnx").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))  # no file grows larger
    try:
        with pytest.raises(OSError, match="too large"):
            package.export(trained_run, exits=(1,), name="cut", root=root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: sha256(path) for path in static.report.folder.iterdir()} == before
    assert sorted(path.name for path in root.iterdir()) == ["cut", "latest"]


def test_without_tensorrt_the_onnx_bundle_stays_complete(
    report: ExportReport, trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(report.folder, tmp_path / "small")
    lines: list[str] = []
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    models, words = tmp_path / "models", "without engines, and no Triton model repository in"
    with pytest.raises(ExportError, match=rf"exitkit\[trt-rtx\].* {words} {models}") as caught:
        package.export(
            trained_run,
            exits=(1,),
            trt=True,
            trt_target=("sm89",),
            triton=models,
            root=tmp_path,
            progress=lines.append,
        )
    assert caught.value.exit_code == 1
    # Said before any work; what else there is to know comes with the error.
    assert lines[0].endswith("is installed; the bundle will be written without engines")
    assert lines[1].endswith(
        "small is there and will be replaced, and its TensorRT engines with it"
    )
    assert lines[-1].startswith("reference.npz holds ")
    assert not models.exists()
    manifest = read_manifest(tmp_path / "latest")
    assert [(s.file, s.engine) for s in manifest.segments] == [("segment_1.onnx", None)]
