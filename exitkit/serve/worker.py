"""One of several processes that answer on the same port; `workers` starts and watches it."""

import contextlib
import ctypes
import shutil
import signal
import socket
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from exitkit.errors import EngineError, ExitkitError
from exitkit.serve import garbage, logs, process, shelf
from exitkit.serve.models import Models
from exitkit.serve.settings import Settings

OPEN = "open"


@dataclass(frozen=True)
class Place:
    """Where one worker serves.

    Attributes:
        taken: listening socket of HTTP.
        grpc: host:port of gRPC, None where there is none.
        counts: file for what it counts, in a folder that all workers share.
        beat: memory that the parent sees: rises as long as the event loop goes on; 0 before it has
            begun, and once it ends.
    """

    taken: socket.socket
    grpc: str | None
    counts: Path
    beat: ctypes.c_ulong


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


class _Server(process.Server):
    """A server whose event loop lets the parent see that it goes on."""

    def __init__(self, models: Models, settings: Settings, place: Place) -> None:
        heard = (signal.SIGTERM, signal.SIGHUP)
        super().__init__(models, settings, place.taken, place.grpc, heard)
        self.beat = place.beat

    async def on_tick(self, counter: int) -> bool:
        """Go on; called ten times a second until the server is to end."""
        self.beat.value += 1
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; that has bounds of its own."""
        self.beat.value = 0
        await super().shutdown(sockets)


class _Worker:
    def __init__(self, settings: Settings, place: Place, parent: Connection, late: bool) -> None:
        self.parent, self.late = parent, late
        self.models = shelf.collect(settings, place.counts)
        self.models.held_back = not late
        self.server = _Server(self.models, settings, place)
        self.counts, self.alone = place.counts.parent, False
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
        if self.alone:  # whoever made the folder was killed
            shutil.rmtree(self.counts, ignore_errors=True)
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
        self.alone = True
        self.server.stop()
