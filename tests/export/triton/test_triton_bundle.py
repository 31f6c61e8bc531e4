"""From a bundle's folder to a repository."""

import dataclasses
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backend import Server
from PIL import Image
from tiny_export import Tiny

from exitkit import bundle as bundles
from exitkit.cli import main
from exitkit.errors import BundleError, ConfigError, ParityError
from exitkit.export import triton
from exitkit.export.forms import cascade
from exitkit.export.reference import Reference


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def packed(export: Tiny, folder: Path) -> Path:
    """Make a bundle with 12 reference images."""
    folder.mkdir()
    for file in export.files:
        shutil.copy(file, folder)
    export.policy.write(folder / bundles.POLICY)
    exits = export.manifest.exits
    images = tuple(png(seed) for seed in range(12))
    logits = np.zeros((len(exits), 12, 5), np.float32)
    Reference("tune", exits, images, np.zeros(12, np.int64), logits, 0.0).save(
        folder / bundles.REFERENCE
    )
    bundles.write_manifest(folder, export.manifest)
    return folder


@pytest.fixture(scope="module")
def bundle(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of exits 1, 2 and 3; read-only for its users."""
    return packed(tiny, tmp_path_factory.mktemp("bundles") / "net-1")


def test_a_bundle_becomes_a_repository_of_its_name(
    tiny: Tiny, bundle: Path, tmp_path: Path
) -> None:
    folder = triton.of_bundle(bundle, tmp_path / "models", max_batch_size=24)
    server = Server(folder)
    assert sorted(server.configs) == [
        "net-1",
        "net-1_bls",
        "net-1_stage1",
        "net-1_stage2",
        "net-1_stage3",
    ]
    assert {config.max_batch_size for config in server.configs.values()} == {24}
    (answer,) = server.infer("net-1_bls", [{"images": tiny.images}])
    assert answer["exit"].ravel().tolist() == tiny.engine.answer(tiny.images).exit.tolist()


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["torchvision"] = None
from exitkit.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def test_the_command_makes_one_of_a_bundle_that_is_there(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, "export", "--triton", "models", "--json"]
    said = subprocess.run(
        [*command, "--of", str(bundle)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout) == {
        "bundle": "net-1",
        "folder": str(bundle),
        "triton": "models",
    }
    assert (tmp_path / "models" / "net-1_bls" / "config.pbtxt").is_file()


def test_the_command_refuses_what_exports_a_run(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, of = str(tmp_path / "models"), ["--of", str(bundle)]
    for typed, words in (
        (["--triton", folder, "--exits", "2", *of], "no run is exported, so exits has no meaning"),
        (["net-1", "--triton", folder, *of], "no run is exported, so run has no meaning"),
        (of, "names no folder to write; add --triton DIR"),
        (["--triton", folder, "--of", ""], "bundle '': the name is empty"),
    ):
        assert main.run(["export", *typed]) == 2
        assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_static_network_too(static: Tiny, tmp_path: Path) -> None:
    folder = triton.of_bundle(packed(static, tmp_path / "cut"), tmp_path / "models")
    (answer,) = Server(folder).infer("cut_bls", [{"images": static.images}])
    assert set(answer["exit"].ravel().tolist()) == {2}


def test_another_name_and_device(bundle: Path, tmp_path: Path) -> None:
    folder = triton.of_bundle(bundle, tmp_path / "models", "other", device="gpu")
    assert "kind: KIND_GPU" in (folder / "other_stage1" / "config.pbtxt").read_text()


def test_a_cascade_that_decides_differently_is_not_written(
    tiny: Tiny, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose temperatures are half as high."""
    honest = cascade.write

    def write(files, exits, temperatures, path, about, *, per_row):  # type: ignore[no-untyped-def]
        sharper = [temperature / 2 for temperature in temperatures]
        honest(files, exits, sharper, path, about, per_row=per_row)

    monkeypatch.setattr(cascade, "write", write)
    with pytest.raises(ParityError, match="deciding like the engine on 12 images"):
        triton.of_bundle(bundle, tmp_path / "models")
    assert not list(tmp_path.iterdir())


def test_a_damaged_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "net-1"
    shutil.copytree(bundle, copy)
    (copy / "segment_2.onnx").write_bytes(b"no network")
    with pytest.raises(BundleError, match="is truncated or was edited"):
        triton.of_bundle(copy, tmp_path / "models")


def test_refusals_of_write_come_through(tiny: Tiny, bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "net-1"
    shutil.copytree(bundle, copy)
    bundles.write_manifest(copy, dataclasses.replace(tiny.manifest, classes=("a\nb", *"cdef")))
    with pytest.raises(ConfigError, match="end of line in its name"):
        triton.of_bundle(copy, tmp_path / "models")
