"""Build the wheel, install it into an empty environment, ask it for help and let it serve.

    python tests/wheel.py

The environment gets `exitkit[serve]` only: no torch. The bundle is a small real one that this
script trains and exports with the development environment first.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a command, show it, return its output; stop everything when it fails."""
    sys.stderr.write(f"$ {' '.join(command)}\n")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}\n{done.stderr}\nfailed: {' '.join(command)}")
    return done.stdout


def main() -> None:
    """Check that what is shipped works without the checkout."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle(folder)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", str(folder / "dist"), str(ROOT))
        wheel = next((folder / "dist").glob("*.whl"))
        venv.create(folder / "empty", with_pip=True)
        python = str(folder / "empty" / "bin" / "python")
        pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        run(*pip, "-c", str(ROOT / "constraints.txt"), f"{wheel}[serve]", cwd=folder)
        command = str(folder / "empty" / "bin" / "exitkit")
        assert "train" in run(command, "--help", cwd=folder)
        assert "torch" not in run(python, "-m", "pip", "list", cwd=folder).lower().split()
        serve(command, folder)
    sys.stderr.write("the wheel works\n")


def bundle(folder: Path) -> None:
    """Train and export a small network in `folder`."""
    exitkit = (sys.executable, "-m", "exitkit")
    run(*exitkit, "train", "--method", "deep", "--arch", "resnet18", "--width", "0.125",
        "--epochs", "1", "--precision", "float32", cwd=folder)  # fmt: skip
    run(*exitkit, "export", "--exits", "2,4", cwd=folder)


def serve(command: str, folder: Path) -> None:
    """Start the installed server, ask for the page and an answer, stop it."""
    port = "8931"
    server = subprocess.Popen([command, "serve", "--port", port], cwd=folder)
    try:
        base = f"http://127.0.0.1:{port}"
        for _ in range(100):
            try:
                ready = urllib.request.urlopen(f"{base}/v2/health/ready", timeout=5)
                break
            except OSError:
                time.sleep(0.2)
        else:
            sys.exit("the server did not become ready")
        assert ready.status == 200
        page = urllib.request.urlopen(f"{base}/", timeout=5).read()
        assert b"<html" in page.lower()
        sweep = json.load(urllib.request.urlopen(f"{base}/tradeoff", timeout=5))
        assert sweep
    finally:
        server.terminate()
        assert server.wait(timeout=30) == 0
        shutil.rmtree(folder / "runs")


if __name__ == "__main__":
    main()
