"""A server in a process of its own, for tests that send it signals."""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
from waiting import LATEST_S

SCRIPT = """
import json, sys
from pathlib import Path
from exitkit.serve import run
from exitkit.serve.limits import Limits
from exitkit.serve.settings import Settings
told = json.loads(sys.argv[1])
bundles, limits = tuple(map(Path, told.pop("bundles"))), Limits(**told.pop("limits"))
run(Settings(bundles, limits=limits, **told), echo=lambda line: print(line, flush=True))
"""


class Serving:
    """A running server and what it says.

    Attributes:
        process: that it runs in.
        url: where it answers, once it has said so; `grpc` the same, without one where it does not.
    """

    def __init__(self, process: "subprocess.Popen[str]", out: IO[str]) -> None:
        self.process, self.url, self.grpc = process, "", ""
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(out,))
        self._reader.start()

    def _read(self, out: IO[str]) -> None:
        for line in out:
            self._lines.put(line.rstrip())
        self._lines.put("")

    def until(self, begin: str) -> list[str]:
        """Wait for a line that begins so; return all lines until then."""
        said: list[str] = []
        while not said or not said[-1].startswith(begin):
            said.append(self._lines.get(timeout=LATEST_S))
            assert said[-1], f"the server ended and never said {begin!r}: {said}"
        return said

    def refuses(self) -> bool:
        """Whether it takes no new connection."""
        try:
            httpx.get(f"{self.url}/v2/health/live", timeout=LATEST_S)
        except httpx.TransportError:
            return True
        return False

    def end(self) -> list[str]:
        """Wait for the end; return the lines until then."""
        self.process.wait(LATEST_S)
        self._reader.join(LATEST_S)
        return [line for line in list(self._lines.queue) if line]


@contextmanager
def serving(
    *bundles: Path,
    limits: dict[str, Any] | None = None,
    ready: bool = True,
    first: str = "",
    **told: Any,
) -> Iterator[Serving]:
    """Serve bundles in a process of its own until the block ends; by default wait until ready.

    It leads a group of processes, as a terminal's; `first` is what it runs before all else.
    """
    settings = {"port": 0, "pool": "private", "threads": 1, "limits": limits or {}, **told}
    words = json.dumps({"bundles": [str(one) for one in bundles], **settings})
    command = [sys.executable, "-W", "error", "-c", first + SCRIPT, words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        assert process.stdout is not None
        running = Serving(process, process.stdout)
        try:
            if ready:
                said = running.until("ready: ")
                running.url = said[-1].split()[1]
                places = [line.split()[1] for line in said if line.startswith("gRPC: ")]
                running.grpc = "".join(places)
            yield running
        finally:
            process.kill()
            running.end()
