"""Commands as they are typed, in folders of their own."""

import json
import os
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from exitkit import images
from exitkit.cli import main

WAIT_S = 300


@dataclass(frozen=True)
class Said:
    """What a command returned and printed."""

    code: int
    out: str
    err: str

    @property
    def table(self) -> Any:
        return json.loads(self.out)


Exitkit = Callable[..., Said]


@pytest.fixture
def exitkit(capsys: pytest.CaptureFixture[str]) -> Exitkit:
    """Run a command in this process, in the current folder."""

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        code = main.run(arguments)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, entered."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _threads() -> Any:
    """A run sets torch's threads for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder in which `exitkit demo --json` has run, small; its answer is demo.json.

    Worker processes share it: the first one makes it, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "demo"
    done = folder / "demo.json"
    try:
        folder.mkdir()
    except FileExistsError:
        until = time.monotonic() + WAIT_S
        while not done.exists():
            assert time.monotonic() < until, "the worker that runs the demo has failed"
            time.sleep(0.2)
        return folder
    before = Path.cwd()
    os.chdir(folder)
    try:
        with (
            open("out.txt", "w") as out,
            open("err.txt", "w") as err,
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = main.run(["demo", "--json", "--epochs", "1", "--width", "0.125"])
        assert code == 0, Path("err.txt").read_text()
    finally:
        os.chdir(before)
    (folder / "out.txt").rename(done)
    return folder


@pytest.fixture(scope="session")
def digit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder of real digits: 0, 1 and 2, 24 for training and 8 for testing each."""
    folder = tmp_path_factory.mktemp("digits")
    digits = load_digits()
    for label in range(3):
        rows = np.flatnonzero(digits.target == label)
        for part, some in (("train", rows[:24]), ("test", rows[24:32])):
            place = folder / part / str(label)
            place.mkdir(parents=True)
            for row in some:
                grey = np.kron(digits.images[row] * 15.9, np.ones((4, 4))).astype(np.uint8)
                file = images.encode_png(np.repeat(grey[:, :, None], 3, axis=2))
                (place / f"{row}.png").write_bytes(file)
    return folder
