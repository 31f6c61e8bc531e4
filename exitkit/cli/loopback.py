"""A real server in a process of its own, and a client that measures what it answers."""

import http.client
import json
import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from exitkit.cli import output
from exitkit.errors import EngineError

READY = re.compile(r"http://127\.0\.0\.1:(\d+)")
WARM_UP, READY_S, STOP_S = 10, 120.0, 30.0


@dataclass
class Load:
    """What one policy answered, image by image.

    Attributes:
        labels, exits: of the answers.
        ms: from sending the first byte to reading the last, at the client.
    """

    labels: list[str] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        """Return the time within which this share of the answers came (nearest rank)."""
        ranked = sorted(self.ms)
        return ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]


class Server:
    """`exitkit serve` on a free port of 127.0.0.1, stopped when the block ends.

    Args:
        bundle: folder of the bundle.
    """

    def __init__(self, bundle: Path) -> None:
        self._bundle = bundle
        self._lines: list[str] = []
        self._address = threading.Event()
        self._port = 0

    def __enter__(self) -> Self:
        """Start the server and wait until it says where it listens.

        Raises:
            EngineError: it stopped before, or said nothing for two minutes.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "exitkit", "serve", str(self._bundle), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._address.wait(READY_S) or not self._port:
            self._stop()
            raise EngineError(
                f"a server for bundle {self._bundle.name}",
                f"it did not start ({'; '.join(self._lines[-3:]) or 'it said nothing'})",
                "run exitkit doctor",
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def ask(self, files: Sequence[bytes], thresholds: Sequence[float | None]) -> list[Load]:
        """Send every image file once per threshold (None: the bundle's own policy), one at a time.

        The thresholds take turns image by image, so that a slow moment hits all of them.
        """
        paths = ["/predict" if t is None else f"/predict?threshold={t:g}" for t in thresholds]
        loads = [Load() for _ in thresholds]
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            for file in files[:WARM_UP]:
                for path in paths:
                    _ask(connection, path, file, Load())
            for file in files:
                for path, load in zip(paths, loads, strict=True):
                    _ask(connection, path, file, load)
        finally:
            connection.close()
        return loads

    def _read(self) -> None:
        """Repeat what the server says; find its port in it. Ends when the server does."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            output.note(line.rstrip())
            self._lines.append(line.strip())
            found = READY.search(line)
            if found and not self._port:
                self._port = int(found.group(1))
                self._address.set()
        self._address.set()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _ask(connection: http.client.HTTPConnection, path: str, file: bytes, load: Load) -> None:
    began = time.perf_counter()
    connection.request("POST", path, body=file, headers={"Content-Type": "image/png"})
    response = connection.getresponse()
    body = response.read()
    seconds = time.perf_counter() - began
    if response.status != http.HTTPStatus.OK:
        raise EngineError(
            f"POST {path}", f"status {response.status}: {body[:200]!r}", "see the server's log"
        )
    answer = json.loads(body)
    load.labels.append(answer["label"])
    load.exits.append(answer["exit"])
    load.ms.append(seconds * 1e3)
