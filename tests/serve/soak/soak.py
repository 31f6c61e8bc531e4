"""Mixed load on a real server for as long as wanted: `python soak.py MINUTES BUNDLE BUNDLE`.

Every answer is held against the offline engine's, models are loaded anew all the while, memory is
watched, and at the end the server is told to stop in the middle of it all.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
from clients import Clients
from known import Known

CLIENTS, LOAD_EVERY_S = 24, 3.0


@dataclass(frozen=True)
class Report:
    """What happened.

    Attributes:
        counted: clients by kind, images checked, refusals.
        memory: of the server, bytes, once a second.
        wrong: what was not as it should be.
        ended: the server's exit code.
        last: the last line that it printed.
    """

    counted: dict[str, int]
    memory: list[int]
    wrong: list[str]
    ended: int
    last: str

    @property
    def growth(self) -> float:
        """Memory of the last quarter over that of the second, less 1."""
        quarter = len(self.memory) // 4
        return median(self.memory[-quarter:]) / median(self.memory[quarter : 2 * quarter]) - 1


def soak(
    bundles: list[Path], seconds: float, seed: int = 0, options: tuple[str, ...] = ()
) -> Report:
    """Serve bundles in a process of its own and let many clients ask for `seconds`."""
    known = [Known.of(bundle, seed + place) for place, bundle in enumerate(bundles)]
    with _process(bundles, options) as (running, url):
        clients = Clients(url, known, seed)
        memory: list[int] = []
        wrong = asyncio.run(_drive(clients, running, seconds, memory))
        output, _ = running.communicate(timeout=60)
    last = (output.splitlines() or [""])[-1]
    return Report(dict(clients.counted), memory, wrong, running.returncode, last)


async def _drive(
    clients: Clients, running: "subprocess.Popen[str]", seconds: float, memory: list[int]
) -> list[str]:
    end, wrong, stopping = time.monotonic() + seconds, list[str](), asyncio.Event()

    async def client() -> None:
        while not stopping.is_set() and len(wrong) < 20:
            try:
                await clients.ask()
            except (httpx.TransportError, OSError) as error:
                # Once the server stops, connections are refused; what was accepted is answered,
                # which `soak` learns from its last line and this from every broken answer.
                if not stopping.is_set() or isinstance(error, httpx.ReadError):
                    wrong.append(_said(error))
            except Exception as error:
                wrong.append(_said(error))

    async def every(pause_s: float, act: "object") -> None:
        while not stopping.is_set():
            await asyncio.sleep(pause_s)
            if not stopping.is_set():
                await act()  # type: ignore[operator]

    async def load() -> None:
        try:
            await clients.load()
        except Exception as error:
            wrong.append(f"load: {_said(error)}")

    async def weigh() -> None:
        memory.append(_resident(running.pid))

    tasks = [asyncio.create_task(client()) for _ in range(CLIENTS)]
    others = [asyncio.create_task(every(LOAD_EVERY_S, load)), asyncio.create_task(every(1, weigh))]
    while time.monotonic() < end and not wrong and running.poll() is None:
        await asyncio.sleep(0.1)
    stopping.set()
    running.terminate()
    await asyncio.gather(*tasks, *others)
    await clients.http.aclose()
    return wrong


def _said(error: Exception) -> str:
    return " ".join([repr(error), *getattr(error, "__notes__", [])])


@contextmanager
def _process(
    bundles: list[Path], options: tuple[str, ...]
) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    command = [sys.executable, "-m", "exitkit", "serve", *map(str, bundles), "--port", "0"]
    command += ["--threads", "1", "--grpc-port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            line = ""
            while not line.startswith("ready: "):
                line = running.stdout.readline()
                assert line, "the server ended"
            yield running, line.split()[1]
        finally:
            running.kill()


def _resident(pid: int) -> int:
    """Return the bytes of memory that a process holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    found = soak([Path(name) for name in sys.argv[2:]], 60 * float(sys.argv[1]))
    growth = found.growth if len(found.memory) > 7 else None
    print(json.dumps({**vars(found), "growth": growth}, indent=1))  # noqa: T201
    sys.exit(bool(found.wrong))
