"""A cascade in the runtimes of JavaScript: native in Node, and the browser's WebAssembly."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import hand_made
import numpy as np
import pytest
from hand_made import EXITS, TEMPERATURES

from exitkit.engine.engine import Engine
from exitkit.export.forms import cascade, check
from exitkit.export.forms.check import Expected

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "tests" / "npm"
KEPT = ROOT / "build" / "npm"  # git ignores it
LEAST = 20


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: install Node.js {LEAST} or later, which brings it")
    return found


def run(*command: str, folder: Path | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}")
    return done.stdout


@pytest.fixture(scope="module")
def packages() -> Path:
    """The folder with node_modules, installed once per lock file."""
    version = run(program("node"), "--version").strip()
    if int(version.lstrip("v").split(".")[0]) < LEAST:
        pytest.fail(f"node is {version}: install Node.js {LEAST} or later")
    npm = program("npm")
    files = [SOURCE / "package.json", SOURCE / "package-lock.json"]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    kept = KEPT / digest
    if kept.is_dir():
        return kept
    KEPT.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=KEPT, prefix=f".{digest}."))
    try:
        for file in files:
            shutil.copy(file, folder)
        # The packages' install scripts would only fetch libraries for GPUs.
        run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder)
        if not kept.is_dir():  # else another test process was faster
            os.rename(folder, kept)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return kept


@pytest.fixture(scope="module")
def expected(engine: Engine) -> Expected:
    return check.expect(engine, hand_made.images(48))


def write_table(path: Path, expected: Expected) -> None:
    levels, early = expected.thresholds.shape
    header = [*expected.images.shape, levels, early, len(check.BATCHES), *check.BATCHES]
    with path.open("wb") as file:
        for values, kind in (
            (header, "<i4"),
            (expected.images, "<f4"),
            (expected.thresholds, "<f4"),
        ):
            file.write(np.asarray(values, dtype=kind).tobytes())


@pytest.mark.parametrize("runtime", ["onnxruntime-node", "onnxruntime-web"])
def test_the_cascade_takes_the_same_exits_outside_python(
    runtime: str, packages: Path, files: list[Path], expected: Expected, tmp_path: Path
) -> None:
    form, table, answers = (
        tmp_path / name for name in ("cascade.onnx", "table.bin", "answers.bin")
    )
    cascade.write(files, EXITS, TEMPERATURES, form, {})
    write_table(table, expected)
    script = str(SOURCE / "exits.mjs")
    run(program("node"), script, str(packages), runtime, str(form), str(table), str(answers))
    raw = answers.read_bytes()
    count = expected.exit.size
    exits, labels = np.frombuffer(raw, "<i4", 2 * count).reshape(2, *expected.exit.shape)
    confidence = np.frombuffer(raw, "<f4", count, offset=8 * count).reshape(expected.exit.shape)
    told = ~expected.near
    assert told.mean() > 0.9
    assert min((expected.exit == number).sum() for number in EXITS) > 50
    assert exits[told].tolist() == expected.exit[told].tolist()
    assert labels[told].tolist() == expected.label[told].tolist()
    np.testing.assert_allclose(confidence[told], expected.confidence[told], atol=1e-5)


def test_the_packages_are_pinned_and_the_lock_file_names_no_registry() -> None:
    versions = json.loads((SOURCE / "package.json").read_text())["dependencies"].values()
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
    assert '"resolved"' not in (SOURCE / "package-lock.json").read_text()
