"""Where processes run: each on cores of its own, started here, watched, and stopped again."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
START_S, STOP_S = 120.0, 30.0


def halves() -> tuple[set[int], set[int]]:
    """Return the core of the server and that of the load: the first two that there are.

    Raises:
        SystemExit: there is one core only, on which one would disturb the other.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("one core: server and load would share it; this needs two")
    return {cores[0]}, {cores[1]}


def start(command: Sequence[str | Path], cores: set[int], **options: object) -> subprocess.Popen:
    """Start a program on some cores, with one OpenMP thread, in a process group of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "1000"}
    here = Path(__file__).resolve().parents[1]
    environment["PYTHONPATH"] = os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        list(map(str, command)), env=environment, start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores), **options,  # type: ignore[call-overload]
    )  # fmt: skip


def ask(command: Sequence[str | Path], cores: set[int]) -> str:
    """Run a program of this folder to its end; return what it printed."""
    process = start([sys.executable, *command], cores, stdout=subprocess.PIPE, text=True)
    text, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed with {process.returncode}")
    return str(text)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Server:
    """A server under test: ready when the block begins, gone when it ends.

    Args:
        command: that starts it; every `{port}` in it becomes its port.
        cores: that it may use.
        ready: path that answers 200 once it is ready.
        log: file for what it prints.
    """

    def __init__(self, command: Sequence[str], cores: set[int], ready: str, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [word.replace("{port}", str(self.port)) for word in command]
        self._cores, self._ready, self._log = cores, ready, log

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = start(self._command, self._cores, stdout=log, stderr=log)
        end = time.monotonic() + START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > end:
                self._stop()
                raise SystemExit(f"{self._command[:3]} did not start; see {self._log}")
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._stop()

    def cpu_s(self) -> float:
        """Return the processor time of the server's whole process group so far."""
        group = os.getpgid(self._process.pid)
        total = 0.0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            if int(fields[2]) == group:
                total += (int(fields[11]) + int(fields[12])) * TICK_S
        return total

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + self._ready, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _stop(self) -> None:
        for how in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self._process.pid, how)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                continue
            break
        with contextlib.suppress(ProcessLookupError):  # children that outlived it
            os.killpg(self._process.pid, signal.SIGKILL)
