"""Serve a repository with a real Triton server and compare its answers with the engine's.

    python tests/export/triton/on_server.py --wheel FOLDER --python FOLDER

No pytest collects this: the server comes from the wheel nvidia-pytriton, which does not go
together with the NumPy of the tests (docs/triton.md says how to get both folders). The wheel
holds Triton's core and its Python backend; the ONNX Runtime backend it lacks is
`onnxruntime_backend.py` here, which Triton runs through the Python backend. So the repository is
served as it was written.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from tiny_export import Tiny, export  # noqa: E402

REQUESTS, CLIENTS = 120, 12


class Client:
    """Talks JSON to a server."""

    def __init__(self, http: int, metrics: int) -> None:
        self.base, self.numbers = f"http://127.0.0.1:{http}/v2", f"http://127.0.0.1:{metrics}"

    def get(self, path: str, body: object = None) -> Any:
        """Return a route's answer; with a body, of a POST."""
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.base}/{path}".rstrip("/"), data, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def infer(self, model: str, more: dict[str, Any] | None = None, **tensors: np.ndarray) -> Any:
        """Return the outputs by name, or (status, message)."""
        inputs = [
            {"name": k, "datatype": "FP32", "shape": v.shape, "data": v.ravel().tolist()}
            for k, v in tensors.items()
        ]
        try:
            found = self.get(f"models/{model}/infer", {"inputs": inputs, **(more or {})})
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())["error"]
        return {o["name"]: np.array(o["data"]).reshape(o["shape"]) for o in found["outputs"]}

    def taken(self) -> dict[int, int]:
        """Return the business logic's counters."""
        with urllib.request.urlopen(f"{self.numbers}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        rows = re.findall(r'^exitkit_exits_taken_total\{exit="(\d)".*\} (\d+)$', text, re.MULTILINE)
        return {int(exit): int(number) for exit, number in rows}


def main() -> None:
    """Run everything; the first difference ends it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--python", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bundle").mkdir()
        tiny = export(folder / "bundle", (1, 2, 3))
        repository = tiny.write(folder / "models", max_batch_size=8)
        # More rows than a stage takes come together in the business logic.
        logic = repository / "tiny_bls" / "config.pbtxt"
        logic.write_text(logic.read_text().replace("\nmax_batch_size: 8", "\nmax_batch_size: 32"))
        with serving(repository, folder, asked.wheel.resolve(), asked.python.resolve()) as client:
            told = client.get("models/tiny_bls/config")
            say(f"Triton {client.get('')['version']} serves {told['name']} and its stages")
            same_answers(client, tiny)
            own_errors(client, tiny)
            labels(client, tiny)
            a_lost_stage(client, tiny)
    say("Triton answers as the engine does")


def same_answers(client: Client, tiny: Tiny) -> None:
    """Many clients at once, with requests of any size and thresholds, on both variants."""
    draw = np.random.default_rng(3)
    wishes = []
    for _ in range(REQUESTS):
        rows = draw.choice(24, size=draw.integers(1, 9), replace=False)
        wishes.append((rows, draw.choice(np.float32([0, 0.4, 0.9, 1]), (len(rows), 2))))
    before = Counter(client.taken())
    for model in ("tiny", "tiny_bls"):
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(
                pool.map(
                    lambda w, m=model: client.infer(m, images=tiny.images[w[0]], thresholds=w[1]),
                    wishes,
                )
            )
        exits: Counter[int] = Counter()
        for (rows, own), answer in zip(wishes, answers, strict=True):
            wanted = tiny.engine.answer(tiny.images[rows], thresholds=own)
            assert answer["exit"][:, 0].tolist() == wanted.exit.tolist(), (model, answer)
            np.testing.assert_allclose(answer["confidence"][:, 0], wanted.probability, rtol=1e-4)
            assert answer["probabilities"].argmax(axis=1).tolist() == wanted.label.tolist()
            exits.update(wanted.exit.tolist())
        assert set(exits) == {1, 2, 3}
        say(f"{model}: {REQUESTS} requests, {exits.total()} images, exits {dict(exits)}: equal")
    own = client.infer("tiny_bls", images=tiny.images)  # with the thresholds of the settings
    wanted = tiny.engine.answer(tiny.images)
    assert own["exit"][:, 0].tolist() == wanted.exit.tolist()
    exits.update(wanted.exit.tolist())
    assert Counter(client.taken()) - before == exits, client.taken()
    say(f"counters: {client.taken()}")
    for model in ("tiny", "tiny_bls", "tiny_stage1", "tiny_stage2", "tiny_stage3"):
        (stats,) = client.get(f"models/{model}/stats")["model_stats"]
        rows, calls = stats["inference_count"], stats["execution_count"]
        say(f"{model}: {rows} rows in {calls} calls")


def own_errors(client: Client, tiny: Tiny) -> None:
    """What is wrong with one request is told to that one; those beside it are answered."""
    broken = tiny.images[:2].copy()
    broken[0, 0, 0, 0] = np.inf  # Triton's JSON knows Infinity
    limits, above = np.full((2, 2), 0.5, np.float32), np.full((2, 2), 1.5, np.float32)
    wishes: list[tuple[dict[str, Any], dict[str, np.ndarray], str]] = [
        ({}, {"images": tiny.images[:2], "thresholds": above}, "threshold 1.5 is no probability"),
        ({}, {"images": broken, "thresholds": limits}, "no finite number"),
        ({"parameters": {"threshold": 0.5}}, {"images": tiny.images[:2]}, "parameter 'threshold'"),
        ({}, {"images": tiny.images[:2], "thresholds": limits}, ""),
    ] * 6
    wanted = tiny.engine.answer(tiny.images[:2], thresholds=limits).exit.tolist()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda w: client.infer("tiny_bls", w[0], **w[1]), wishes))
    for (_, _, message), answer in zip(wishes, answers, strict=True):
        if message:
            assert answer[0] == 400, answer
            assert message in answer[1], answer
        else:
            assert answer["exit"][:, 0].tolist() == wanted
    many = client.infer("tiny_bls", images=np.zeros((33, 3, 8, 8), np.float32))
    assert many[0] == 400
    say("errors: each request has its own")


def labels(client: Client, tiny: Tiny) -> None:
    """The classification extension knows the names of the classes."""
    asked = {"outputs": [{"name": "probabilities", "parameters": {"classification": 1}}]}
    for model in ("tiny", "tiny_bls"):
        own = np.tile(np.float32(tiny.policy.thresholds), (3, 1))
        found = client.infer(model, asked, images=tiny.images[:3], thresholds=own)
        names = [row[0].split(":")[2] for row in found["probabilities"].tolist()]
        wanted = tiny.engine.answer(tiny.images[:3]).label
        assert names == [tiny.manifest.classes[label] for label in wanted]
    say("labels: known to both variants")


def a_lost_stage(client: Client, tiny: Tiny) -> None:
    """Rows that leave before it are answered, the others are told which stage is missing."""
    client.get("repository/models/tiny_stage2/unload", {})
    for _ in range(100):
        early = client.infer("tiny_bls", images=tiny.images[:2], thresholds=np.zeros((2, 2), "f4"))
        late = client.infer("tiny_bls", images=tiny.images[:2], thresholds=np.ones((2, 2), "f4"))
        if isinstance(late, tuple):
            break
        time.sleep(0.1)
    assert early["exit"].ravel().tolist() == [1, 1]
    say(f"a stage that is gone: {late}")
    assert "tiny_stage2" in late[1]
    client.get("repository/models/tiny_stage2/load", {})
    again = client.infer("tiny_bls", images=tiny.images[:2], thresholds=np.ones((2, 2), "f4"))
    assert again["exit"].ravel().tolist() == [3, 3]


@contextlib.contextmanager
def serving(repository: Path, folder: Path, wheel: Path, python: Path) -> Iterator[Client]:
    """Start the server on free ports and stop it afterwards."""
    home = wheel / "pytriton" / "tritonserver"
    backends = folder / "backends"
    shutil.copytree(home / "backends", backends)
    config = (python / "pyvenv.cfg").read_text()
    version = re.search(r"^version\s*=\s*(3\.\d+)", config, re.MULTILINE)
    assert version is not None
    stub = home / "python_backend_stubs" / version[1] / "triton_python_backend_stub"
    shutil.copy(stub, backends / "python")
    (backends / "python" / stub.name).chmod(0o755)
    (backends / "onnxruntime").mkdir()
    shutil.copy(HERE / "onnxruntime_backend.py", backends / "onnxruntime" / "model.py")
    (home / "bin" / "tritonserver").chmod(0o755)
    http, grpc, metrics = free_ports(3)
    command = [
        str(home / "bin" / "tritonserver"), "--model-repository", str(repository),
        "--backend-directory", str(backends), "--model-control-mode", "explicit",
        "--load-model", "*", "--http-port", str(http), "--grpc-port", str(grpc),
        "--metrics-port", str(metrics), "--exit-timeout-secs", "20",
        *(f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PATH": f"{python / 'bin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(wheel / "nvidia_pytriton.libs"),
    }
    log = folder / "server.log"
    with log.open("w") as file:
        server = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        client = Client(http, metrics)
        for _ in range(600):
            if server.poll() is not None:
                sys.exit(f"{log.read_text()}\nthe server stopped")
            with contextlib.suppress(OSError):
                client.get("health/ready")
                break
            time.sleep(0.5)
        yield client
    finally:
        server.terminate()
        server.wait(timeout=60)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def say(words: str) -> None:
    """Show a line of what was found."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
