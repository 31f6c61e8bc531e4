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
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
START_S, STOP_S = 120.0, 30.0
# Cores that other programs may use beside a measurement before it is made again; how long to look.
DISTURBED, LOOK_S = 0.1, 0.5


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


class Others:
    """How much of the machine other programs take while a block runs.

    Attributes:
        cores: that they used on average, known when the block has ended.
    """

    def __init__(self, *servers: "Server") -> None:
        self._servers, self.cores = servers, 0.0

    def __enter__(self) -> Self:
        self._before, self._began = self._spent(), time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        took = time.monotonic() - self._began
        self.cores = max(0.0, (self._spent() - self._before) / took)

    def _spent(self) -> float:
        """Return seconds of all cores that neither idled nor worked for us."""
        user, nice, system, _, _, *interrupts = _ticks()
        own = sum(server.cpu_s() for server in self._servers) + sum(os.times()[:4])
        return (user + nice + system + sum(interrupts[:2])) * TICK_S - own


def _ticks() -> list[int]:
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]


def wait_for_quiet(patience_s: float) -> None:
    """Return when other programs leave the machine alone, at the latest after some seconds."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with Others() as others:
            time.sleep(LOOK_S)
        if others.cores < DISTURBED:
            return


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
        self._process: subprocess.Popen | None = None

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

    @property
    def runs(self) -> bool:
        """Whether it has been started, and not ended."""
        return self._process is not None and self._process.poll() is None

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Take the processor from its whole process group while the block runs."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)

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
                # Also of children that have ended: their time must not vanish with them.
                total += sum(map(int, fields[11:15])) * TICK_S
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
