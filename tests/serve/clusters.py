"""Servers on Ray in processes of their own, clusters for them, and clients that ask and ask."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from waiting import wait_for

CLIENTS, PATIENCE_S = 8, 180
TOKEN = "a-token"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
HEADERS = {**AUTHORIZED, "Content-Type": "image/png"}


class Started:
    """A process and all that it has started."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        told = {**os.environ, "EXITKIT_TOKEN": TOKEN, **environment}
        self.process = subprocess.Popen(command, env=told, stdout=subprocess.PIPE, text=True)
        self.seen: set[int] = set()

    def family(self) -> dict[int, str]:
        """Return the processes that there are: id to command."""
        parents, commands = {}, {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                commands[int(entry.name)] = (entry / "cmdline").read_text()
            except OSError:  # it has ended
                continue
            parents[int(entry.name)] = int(parent)
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        self.seen |= found
        return {pid: commands.get(pid, "") for pid in found}

    def replicas(self) -> set[int]:
        """Return the processes that answer."""
        return {pid for pid, text in self.family().items() if text.startswith("ray::ServeReplica")}

    def left(self) -> set[int]:
        """Return what is left of the processes that were seen."""
        return {pid for pid in self.seen if Path(f"/proc/{pid}").exists()}

    def read(self, start: str) -> list[str]:
        """Return the lines of its standard output up to the first that starts so."""
        lines: list[str] = []
        impatience = threading.Timer(PATIENCE_S, self.kill)
        impatience.start()
        try:
            assert self.process.stdout is not None
            while not lines or not lines[-1].startswith(start):
                line = self.process.stdout.readline()
                assert line, f"it ended after {lines}"
                lines.append(line.rstrip())
        finally:
            impatience.cancel()
        self.family()
        return lines

    def end(self) -> list[str]:
        """Send SIGTERM; return what it still said."""
        self.family()
        self.process.terminate()
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        return said.splitlines()

    def kill(self) -> None:
        """End what is left."""
        if self.process.poll() is None:
            self.family()
        for pid in self.left():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def folder() -> Iterator[Path]:
    """Make a folder for Ray's files: its sockets lie there, and their names must be short."""
    made = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def started(*command: str, **environment: str) -> Iterator[Started]:
    """Start a process; nothing of it is left behind the block."""
    made = Started(command, environment)
    try:
        yield made
    finally:
        made.kill()


@contextmanager
def serving(place: Path, *words: str, **environment: str) -> Iterator[tuple[str, Started]]:
    """Run `exitkit serve --ray` with Ray's files in a folder; yield where, and the process."""
    said = {"RAY_TMPDIR": str(place), "HOME": str(place), "RAY_ADDRESS": "", **environment}
    command = (sys.executable, "-m", "exitkit", "serve", *words, "--ray", "--port", "0")
    with started(*command, **said) as made:
        lines = made.read("ready: ")
        yield lines[-1].split()[1], made
        if made.process.poll() is None:
            assert made.end()[-1] == "stopped"
        assert made.process.returncode == 0
        wait_for(lambda: not made.left())


@dataclass
class Client:
    """Somebody who asks and asks until told to stop; notes when, the status and the text."""

    url: str
    image: bytes
    noted: list[tuple[float, int, str]] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask; the status is 0 where no answer came."""
        with httpx.Client(timeout=PATIENCE_S, headers=HEADERS) as client:
            while not self.enough.is_set():
                began = time.monotonic()
                try:
                    answer = client.post(self.url, content=self.image)
                    self.noted.append((began, answer.status_code, answer.text))
                except httpx.TransportError as error:
                    self.noted.append((began, 0, repr(error)))


@contextmanager
def asking(url: str, image: bytes) -> Iterator[list[Client]]:
    """Let clients ask while the block runs; it begins when each of them has its first answer."""
    clients = [Client(url, image) for _ in range(CLIENTS)]
    threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: all(client.noted for client in clients))
        yield clients
    finally:
        for client in clients:
            client.enough.set()
        for thread in threads:
            thread.join(PATIENCE_S)
