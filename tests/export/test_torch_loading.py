"""Provider torch: from a bundle's manifest to the network of the run that it came from."""

import dataclasses
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from exitkit import bundle, images
from exitkit.bundle import Manifest, Segment
from exitkit.cli import main
from exitkit.engine import backends
from exitkit.errors import BundleError, CheckpointError, ConfigError
from exitkit.export import choices, torch_backend
from exitkit.export.graphs import Eager
from exitkit.export.reference import Reference
from exitkit.export.segments import cut, input_shapes
from exitkit.images import ImageSpec
from exitkit.models import build, resize
from exitkit.policy.policy import Policy
from exitkit.runs import NetworkCard, Pruned, Run
from exitkit.train import checkpoint, evaluate

CLASSES = ("ant", "bee", "cow")
SPEC = ImageSpec(32, 32, (0.5,) * 3, (0.25,) * 3)
CPU = Eager(torch.device("cpu"))
# Half of the channels inside a block of stage 2.
INSIDE = "stages.2.1.body"
CUT = {
    f"{INSIDE}.0.weight": (4, 8, 3, 3),
    **{f"{INSIDE}.1.{name}": (4,) for name in ("weight", "bias", "running_mean", "running_var")},
    f"{INSIDE}.3.weight": (8, 4, 3, 3),
}
KINDS = {
    "plain": {},
    "leader": {"method": "ffsd"},
    "pruned": {"pruned": Pruned("before", "b" * 64, 0.5, CUT)},
    "maps": {"arch": "python:tests.models.foreign:convolutional", "at": ("blocks.0", "blocks.1")},
    "tokens": {"arch": "python:tests.models.foreign:transformer", "at": ("layers.0", "layers.1")},
}


def train(name: str, seed: int = 0, **kind: object) -> Run:
    """Make the files of a run of three exits in runs/, trained by nobody."""
    torch.manual_seed(seed)
    costs = {"macs": (1, 2, 3), "parameters": (1, 2, 3), "plain_macs": 3}
    values = {"arch": "resnet20", "method": "deep", "exits": (1, 2, 3), **costs, **kind}
    card = NetworkCard(heads="light", width=0.25, classes=CLASSES, image=SPEC, **values)
    network = build.rebuild(dataclasses.replace(card, pruned=None))
    if card.pruned is not None:
        resize.resize(network, card.pruned.shapes)
    network.train()(torch.randn(8, 3, 32, 32))  # batch norms have seen something
    run = Run(Path("runs") / name)
    run.folder.mkdir(parents=True)
    run.write_card(card)
    checkpoint.save_network(run.network, network.state_dict())
    run.checkpoint.touch()
    return run


def told(run: Run, asked: tuple[int, ...] | None = None, what: str = "network") -> Manifest:
    """Return what the manifest of an export says."""
    network, digest = evaluate.trained(run)
    card = run.read_card()
    pieces = cut(network, choices.exits(card, asked, what))
    shapes = input_shapes(pieces, 32, 32)
    rows = tuple(
        Segment(piece.exit, f"segment_{piece.exit}.onnx", shape, 1)
        for piece, shape in zip(pieces, shapes, strict=True)
    )
    return Manifest(run.name, digest, card.arch, card.method, CLASSES, SPEC, rows, 3, {}, {})


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("kind", "exits", "what"),
    [
        ("plain", (1, 3), "network"),
        ("plain", (2,), "network"),
        ("plain", None, "backbone"),
        ("leader", None, "leader"),
        ("pruned", None, "network"),
        ("maps", (1, 3), "network"),
        ("tokens", (2, 3), "network"),
    ],
)
def test_whatever_was_exported_answers_as_its_run(
    kind: str, exits: tuple[int, ...] | None, what: str
) -> None:
    run = train("one", **KINDS[kind])
    manifest = told(run, exits, what)
    network, _ = evaluate.trained(run)
    batch = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        whole = {answer.number: answer.logits.numpy() for answer in network(batch)}
    hidden = batch.numpy()
    segments = torch_backend.load(manifest, CPU)
    assert tuple(segment.exit for segment in segments) == manifest.exits
    for segment in segments:
        logits, hidden = segment.run(hidden)
        np.testing.assert_allclose(logits, whole[segment.exit], atol=1e-5)
        assert (segment.classes, segment.pool) == (3, "torch")
    assert hidden is None


def test_a_run_that_is_not_here_is_named() -> None:
    manifest = told(train("one"))
    with pytest.raises(CheckpointError, match=r"run two on provider torch: .*it has: one.*folder"):
        torch_backend.load(dataclasses.replace(manifest, name="two"), CPU)


def test_a_run_that_was_trained_on_is_another_network() -> None:
    run = train("one")
    manifest = told(run)
    other = train("other", seed=1)
    run.network.write_bytes(other.network.read_bytes())
    with pytest.raises(BundleError, match=r"has weights \w{12} and the bundle those of .*again"):
        torch_backend.load(manifest, CPU)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_another_precision_than_the_runs_is_refused(precision: str) -> None:
    manifest = dataclasses.replace(told(train("one")), precision=precision, network="c" * 64)
    with pytest.raises(ConfigError, match=f"its {precision} weights are in its ONNX files alone"):
        torch_backend.load(manifest, CPU)


def test_a_manifest_that_contradicts_the_run_is_refused() -> None:
    manifest = told(train("one"))
    first, second, third = manifest.segments
    wider = dataclasses.replace(second, input_shape=(9, 32, 32))
    fourth = dataclasses.replace(third, exit=4)
    for change in (
        {"segments": (first, wider, third)},
        {"segments": (first, second, fourth)},
        {"segments": (fourth,)},
        {"segments": (third,)},  # which would take images
        {"classes": CLASSES[:2]},
    ):
        with pytest.raises(BundleError, match="tells of other exits or sizes than the run has"):
            torch_backend.load(dataclasses.replace(manifest, **change), CPU)


def test_without_a_gpu_nothing_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = told(train("one"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"provider torch: torch .* sees no CUDA GPU on"):
        torch_backend.load(manifest)


def test_provider_torch_is_asked_for_by_name_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest = told(train("one"))
    monkeypatch.setattr(torch_backend, "_graphs", lambda: CPU)
    segments = backends.load(Path("nowhere"), manifest, provider="torch")
    assert [segment.pool for segment in segments] == ["torch"] * 3
    with pytest.raises(ConfigError, match="a shared pool on provider torch"):
        backends.load(Path("nowhere"), manifest, pool="shared", provider="torch")


def test_the_gate_is_repeated_with_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("one")
    folder = Path("bundles") / "one"
    folder.mkdir(parents=True)
    manifest = told(run)
    for piece in manifest.segments:
        (folder / piece.file).write_bytes(b"no ONNX: nobody but torch computes here")
    network, digest = evaluate.trained(run)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        answers = network(torch.from_numpy(images.normalise(pixels, SPEC)))
    logits = np.stack([answer.logits.numpy() for answer in answers])
    files = tuple(png(picture) for picture in pixels)
    kept = Reference("tune", (1, 2, 3), files, np.zeros(40, np.int64), logits, 0.0)
    kept.save(folder / bundle.REFERENCE)
    Policy(digest, (1, 2, 3), (0.5, 0.5), (1.0,) * 3).write(folder / bundle.POLICY)
    bundle.write_manifest(folder, manifest)
    monkeypatch.setattr(torch_backend, "_graphs", lambda: CPU)
    assert main.run(["export", "--verify", "one", "--provider", "torch"]) == 0
    assert "decides like the trained network on 40 images" in capsys.readouterr().out
    logits[1, 7] += 0.01
    kept.save(folder / bundle.REFERENCE)
    bundle.write_manifest(folder, manifest)
    assert main.run(["export", "--verify", "one", "--provider", "torch"]) == 1
    assert "exit 2: a logit is off by" in capsys.readouterr().err


def png(picture: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(picture).save(held, "PNG")
    return held.getvalue()


def test_an_installation_without_torch_names_the_extra() -> None:
    manifest = told(train("one"))
    bundle.write_manifest(Path(), manifest)
    code = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from exitkit.bundle import read_manifest
from exitkit.cli import main
from exitkit.engine import backends
backends.load(Path(), read_manifest(Path(), verify=False), provider="torch")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    said = 'ConfigError: provider torch: torch is not installed; pip install "exitkit[train]"'
    assert said in done.stderr
