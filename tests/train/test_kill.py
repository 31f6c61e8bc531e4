"""A run that is killed again and again ends like one that nobody disturbed, bit for bit."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from exitkit.runs import Run
from tests.train import tiny

HERE = Path(__file__).parents[2]

# Every place at which a file may be half there; a number is a random time in seconds at most.
PLACES = [
    "open .checkpoint.pt.",
    "rename .checkpoint.pt.",
    "rename .network.pt.",
    0.5,
    "open journal.jsonl",
    "open .checkpoint.pt.",
    "rename .latest.",
    1.0,
    "open .scores-tune.npz.",
]


class Server:
    """The process of mortal.py."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.train.mortal", str(root), str(folder)],
            cwd=HERE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, name: str, method: str, at: str | None = None, after: float | None = None):
        order = {"name": name, "method": method, "at": at, "after": after}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory, digit_folder):
    server = Server(tmp_path_factory.mktemp("kill") / "runs", digit_folder)
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pskd", "dsr", "ffsd"])
def test_killed_at_writes_and_at_random_steps(server, method):
    calm, torn = f"{method}-calm", f"{method}-torn"
    assert not server.order(calm, method)["died"]
    halves = 0
    for place in PLACES:
        if isinstance(place, float):
            server.order(torn, method, None, random.uniform(0, place))
        else:
            # Die right before a rename, when the new file lies whole beside the old one. A write
            # takes milliseconds: die somewhere inside, or right after it.
            exact = place.startswith("rename")
            server.order(torn, method, place, None if exact else random.uniform(0, 0.004))
        halves += any((server.root / torn).glob(".checkpoint.pt.*"))
    assert not server.order(torn, method)["died"]
    assert halves, "no kill has come while the checkpoint was written"
    assert not list((server.root / torn).glob(".*")), "half-written files were left"
    tiny.assert_same_runs(Run(server.root / torn), Run(server.root / calm))
