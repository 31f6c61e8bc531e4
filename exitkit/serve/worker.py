"""One of several processes that answer on the same port; `workers` starts and watches it."""

import contextlib
import signal
import socket
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from exitkit.errors import EngineError, ExitkitError
from exitkit.serve import garbage, logs, process, shelf
from exitkit.serve.settings import Settings

OPEN = "open"


@dataclass(frozen=True)
class Place:
    """What all workers of a server share.

    Attributes:
        taken: listening socket of HTTP.
        grpc: host:port of gRPC, None where there is none.
        counts: folder for what they count.
    """

    taken: socket.socket
    grpc: str | None
    counts: Path


@dataclass(frozen=True)
class Said:
    """What a worker tells its parent.

    Attributes:
        state: "loaded", "reloaded", "failed" or "ended".
        lines: for people.
        error: why it failed.
        drained: whether everything that was accepted was answered before it ended.
    """

    state: str
    lines: tuple[str, ...] = ()
    error: ExitkitError | None = None
    drained: bool = False


def work(settings: Settings, place: Place, parent: Connection, late: bool) -> None:
    """Serve until SIGTERM, or until the parent is gone.

    Args:
        settings: of this process.
        place: where it serves.
        parent: hears what is said here, and says when all workers have loaded.
        late: take no connections before everything is loaded: others answer meanwhile.
    """
    # Ctrl-C reaches all processes of a terminal; the parent passes it on in its own way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    logs.set_up(settings.log)
    try:
        drained = _Worker(settings, place, parent, late).run()
        said, code = Said("ended", drained=drained), 0
    except ExitkitError as error:
        said, code = Said("failed", error=error), error.exit_code
    with contextlib.suppress(OSError):  # nobody may be left to be told
        parent.send(said)
    raise SystemExit(code)


class _Worker:
    def __init__(self, settings: Settings, place: Place, parent: Connection, late: bool) -> None:
        self.parent, self.late = parent, late
        self.models = shelf.collect(settings, place.counts)
        self.models.held_back = not late
        self.server = process.Server(
            self.models, settings, place.taken, place.grpc, (signal.SIGTERM, signal.SIGHUP)
        )
        self.failure: Exception | None = None
        self._saying = threading.Lock()

    def run(self) -> bool:
        """Serve; return whether everything that was accepted was answered."""
        threading.Thread(target=self._listen, name="exitkit-parent", daemon=True).start()
        if self.late:
            self._load()
        if self.failure is None:
            self.server.serve_here(
                *(() if self.late else (self._load,)), lambda: self.server.reload(self._reloaded)
            )
        if isinstance(self.failure, ExitkitError):
            raise self.failure
        if self.failure is not None:
            raise EngineError(
                "a worker", f"failed ({self.failure!r})", "see the log"
            ) from self.failure
        return bool(self.models.drained)

    def _load(self) -> None:
        try:
            self.models.start()
            garbage.settle()
        except Exception as error:
            self.failure = error
            self.server.stop()
        else:
            if not self.models.draining:
                self._say(Said("loaded", tuple(process.describe(self.models))))

    def _reloaded(self, lines: list[str]) -> None:
        self._say(Said("reloaded", tuple(lines)))

    def _say(self, said: Said) -> None:
        with self._saying, contextlib.suppress(OSError):  # `_listen` notices that nobody hears
            self.parent.send(said)

    def _listen(self) -> None:
        """Hear when all workers have loaded; end when the parent is gone."""
        with contextlib.suppress(EOFError, OSError):
            while self.parent.recv() == OPEN:
                self.models.held_back = False
        self.server.stop()
