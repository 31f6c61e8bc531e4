"""Node.js, and the packages of tests/npm: fetched once per lock file, kept in build/npm."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
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


def packages() -> Path:
    """Return the folder with node_modules; fail where Node.js is missing or too old."""
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
