"""Do the steps of the Containerfile in an empty environment, and let what they install serve.

    python tests/wheel.py

They build the wheel and install `exitkit[serve]` from it alone: no torch. The bundle is a small
real one that this script trains and exports with the development environment first.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import container
from container import Stage


def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


PORT = free_port()


def run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command, show it, return its output; stop everything when it fails."""
    sys.stderr.write(f"$ {' '.join(command)}\n")
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}\n{done.stderr}\nfailed: {' '.join(command)}")
    return done.stdout


def main() -> None:
    """Check that what is shipped works without the checkout."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exported = bundle(folder)
        stage = container.build(folder / "container")
        programs = stage.folder / "venv" / "bin"
        listed = run(str(programs / "pip"), "list", cwd=folder, env=stage.environment)
        assert "torch" not in listed.lower().split()
        program = str(programs / stage.command[0])
        assert "train" in run(program, "--help", cwd=folder, env=stage.environment)
        serve(stage, exported)
    sys.stderr.write("the wheel works, and so do the container file's steps\n")


def bundle(folder: Path) -> Path:
    """Train and export a small network in `folder`; return its bundle."""
    exitkit = (sys.executable, "-m", "exitkit")
    run(*exitkit, "train", "--method", "deep", "--arch", "resnet18", "--width", "0.125",
        "--epochs", "1", "--precision", "float32", cwd=folder)  # fmt: skip
    run(*exitkit, "export", "--exits", "2,4", cwd=folder)
    return (folder / "bundles" / "latest").resolve()


def serve(stage: Stage, exported: Path) -> None:
    """Start the server as a container would, ask for the page and an answer, stop it."""
    here = {"/bundle": str(exported), "0.0.0.0": "127.0.0.1"}
    program, *words = (here.get(word, word) for word in stage.command)
    command = [str(stage.folder / "venv" / "bin" / program), *words]
    before = files(stage.folder)
    server = subprocess.Popen(
        [*command, "--port", str(PORT), "--grpc-port", "0"],
        cwd=stage.place,
        env={**stage.environment, "EXITKIT_TOKEN": "secret"},
    )
    try:
        for _ in range(100):
            if healthy(stage):
                break
            assert server.poll() is None, "the server ended"
            time.sleep(0.2)
        else:
            sys.exit("the server did not become ready")
        assert b"<html" in ask("/").lower()
        assert json.loads(ask("/tradeoff", token="secret"))
        assert status("/tradeoff") == 401, "the token of the environment was not asked for"
    finally:
        server.terminate()  # the signal of STOPSIGNAL
        assert server.wait(timeout=30) == 0
    assert not healthy(stage)
    assert files(stage.folder) == before, "it wrote into the container"


def healthy(stage: Stage) -> bool:
    """Run the container's health check."""
    program, *words = (word.replace(":8000/", f":{PORT}/") for word in stage.check)
    command = [str(stage.folder / "venv" / "bin" / program), *words]
    done = subprocess.run(command, env=stage.environment, capture_output=True, check=False)
    return done.returncode == 0


def ask(path: str, token: str | None = None) -> bytes:
    """Return what the server answers."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        found: bytes = answer.read()
    return found


def status(path: str) -> int:
    """Return the status of what the server answers to somebody without a token."""
    try:
        ask(path)
    except urllib.error.HTTPError as refused:
        return refused.code
    return 200


def files(folder: Path) -> set[Path]:
    """Return every file below a folder but compiled Python."""
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


if __name__ == "__main__":
    main()
