"""A process that is told to end leaves no half of a bundle behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from exitkit.runs import Run

WAIT_S = 300


def test_an_export_that_is_told_to_end_tidies_up(trained_run: Run, tmp_path: Path) -> None:
    bundles = tmp_path / "bundles"
    command = [sys.executable, "-m", "exitkit", "export", str(trained_run.folder)]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + WAIT_S
        while not any(bundles.glob(".small.*/*.onnx")):
            assert process.poll() is None
            assert time.monotonic() < until, "nothing was written"
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert out == ""
    assert err.endswith("error: stopped: told to end; nothing that was finished is lost\n")
    assert list(bundles.iterdir()) == []
