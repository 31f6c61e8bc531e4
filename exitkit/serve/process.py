"""One process that serves: the socket first, then the model, then the signals."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from exitkit.errors import EngineError
from exitkit.serve import garbage, logs, openfiles, shelf, signals, tls, warmup
from exitkit.serve.access import Access
from exitkit.serve.intake import Held
from exitkit.serve.limits import Limits
from exitkit.serve.models import Models, NotLoaded
from exitkit.serve.ports import listen, place, reserve
from exitkit.serve.scheduling.scheduler import LAST_RUN_S
from exitkit.serve.settings import Settings
from exitkit.serve.web import app
from exitkit.serve.web.connections import LINGER_S
from exitkit.serve.web.listener import Listener

if TYPE_CHECKING:
    from exitkit.serve.rpc import listener as rpc

logger = logging.getLogger(__name__)

Echo = Callable[[str], None]


class Server(Listener):
    """A server that ends well: a signal stops it, and it returns instead of dying.

    Args:
        models: that it serves.
        settings: of the server.
        taken: socket of HTTP.
        grpc: host:port of gRPC, held by `ports.reserve`; None: there is none.
        heard: signals that it listens to: SIGHUP asks for a reload, all others stop it.
    """

    def __init__(
        self,
        models: Models,
        settings: Settings,
        taken: socket.socket,
        grpc: str | None = None,
        heard: tuple[signal.Signals, ...] = signals.SIGNALS,
    ) -> None:
        held = Held(models.limits.bodies_bytes)
        self.rpc = None if grpc is None else _rpc(models, settings, grpc, held)
        made = app.create(models, settings, self.rpc or contextlib.nullcontext(), held)
        super().__init__(made, models.limits, taken, tls.read(settings))
        self.models, self.heard = models, heard
        self.reloads = threading.Event()  # set: somebody asks for one
        self._terminal = os.isatty(0)

    def serve_here(self, *beside: Callable[[], None]) -> None:
        """Serve until told to stop; everything that was accepted is answered.

        Args:
            beside: what runs meanwhile, each on a thread of its own, and ends when the server
                stops and `reloads` is set.
        """
        threads = [threading.Thread(target=one, name="exitkit-beside", daemon=True)
                   for one in beside]  # fmt: skip
        with self.capture_signals():
            for thread in threads:
                thread.start()
            self.run(sockets=[self.taken])
            self.reloads.set()
            for thread in threads:
                # What is being loaded cannot be stopped; leaving the process under it would crash.
                thread.join(self.models.limits.drain_s + LAST_RUN_S)

    def stop(self) -> None:
        """Stop accepting, finish, return from `serve_here`; from any thread."""
        self.models.drain()
        self.should_exit = True

    def reload(self, tell: Callable[[list[str]], None]) -> None:
        """Load the models anew whenever that is asked for, until the server stops.

        Args:
            tell: told what came of each.
        """
        while self.reloads.wait() and not self.models.draining:
            self.reloads.clear()
            tell(self.models.reload())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting; answer what was accepted, after `drain_s` with 503."""
        loop, models = asyncio.get_running_loop(), self.models
        models.drain()
        if self.rpc is not None:
            self.rpc.close()
        end = loop.call_later(models.limits.drain_s, loop.run_in_executor, None, models.give_up)
        await super().shutdown(sockets)
        end.cancel()
        if self.force_exit:  # nothing was waited for, and nothing was ended
            await loop.run_in_executor(None, models.give_up)
            if self.server_state.tasks:
                await asyncio.wait(self.server_state.tasks, timeout=LINGER_S)
            await self.lifespan.shutdown()
            models.drained = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listen to signals, without raising them again afterwards as uvicorn does."""
        with signals.handled(self._caught, self.heard):
            yield

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if number == signals.HANGUP and not (self._terminal and signals.hung_up()):
            self.reloads.set()
            return
        if self.should_exit and number == signal.SIGINT:  # the second Ctrl-C does not wait
            self.force_exit = True
            if self.rpc is not None:
                self.rpc.give_up()
        self.stop()


def run(settings: Settings, echo: Echo = logger.info) -> None:
    """Serve bundles until SIGINT or SIGTERM; then finish what was accepted and return.

    SIGHUP loads every model anew; a bundle that cannot be served is refused, and what served
    before goes on. The server answers as soon as the port is taken: what needs a model gets 503
    until all are loaded and warm.

    Args:
        settings: what it is told.
        echo: told the operating point and the address, line by line.

    Raises:
        ConfigError: the port is in use (said before a model is loaded), a wrong threshold, a
            provider that cannot be had here, more connections than the system allows.
        BundleError: no bundle, or a damaged one.
    """
    try:
        with signals.raised() as again:  # until somebody listens
            _run(settings, echo, again)
    except signals.Stopped:
        say(echo, [farewell(True, settings.limits)])


def _run(settings: Settings, echo: Echo, again: Callable[[], None]) -> None:
    logs.set_up(settings.log)
    openfiles.allow(settings.limits)
    if settings.workers > 1:
        from exitkit.serve import workers  # imports this module

        workers.run(settings, echo)
        return
    with sockets(settings) as (taken, grpc):
        models = shelf.collect(settings)
        warning = Access(settings).warning()
        if warning is not None:
            echo(warning)
        running = _Alone(models, settings, taken, grpc, echo)
        running.settles = True
        again()
        running.serve_here(running.load, lambda: running.reload(lambda said: say(echo, said)))
        if running.failure is not None:
            raise running.failure
        say(echo, [farewell(models.drained, models.limits, running.force_exit)])


@contextlib.contextmanager
def server(
    *folders: Path,
    port: int = 0,
    pool: str = "private",
    **settings: Any,  # Any: the fields of `Settings`
) -> Iterator[str]:
    """Serve bundles on a thread while the block runs; yield the address, http://host:port.

    It is the real server on a real socket, for tests and the demo. It takes a free port and
    measures no pools unless told otherwise; `settings` are the fields of `Settings`.
    """
    told = Settings(folders, port=port, pool=pool, **settings)
    with sockets(told) as (taken, grpc):
        running = _Alone(shelf.collect(told), told, taken, grpc, logger.info)
        thread = threading.Thread(
            target=running.serve_here, args=(running.load,), name="exitkit-serve", daemon=True
        )
        thread.start()
        running.loaded.wait()
        try:
            while not running.started and thread.is_alive():
                time.sleep(0.005)
            if not thread.is_alive() and running.failure is None:
                raise EngineError("a server", "it did not start", "see the log")
            if running.failure is None:
                yield running.url
        finally:
            running.stop()
            thread.join()
        if running.failure is not None:
            raise running.failure


class _Alone(Server):
    """The one process of a server: it loads and says what it serves."""

    def __init__(
        self, models: Models, settings: Settings, taken: socket.socket, grpc: str | None, echo: Echo
    ) -> None:
        super().__init__(models, settings, taken, grpc)
        self.echo, self.grpc, self.url = echo, grpc, address(taken, settings)
        self.failure: Exception | None = None
        self.loaded = threading.Event()
        self.settles = False  # whether the process is this server's alone

    def load(self) -> None:
        """Load the models while the server answers already: it is live, but not ready."""
        try:
            self.models.start()
            if self.settles:
                garbage.settle()
            if not self.models.draining:
                say(self.echo, [*describe(self.models), *where(self.url, self.grpc)])
        except Exception as error:
            self.failure = error
            self.should_exit = True
        self.loaded.set()


@contextlib.contextmanager
def sockets(settings: Settings) -> Iterator[tuple[socket.socket, str | None]]:
    """Take the port of HTTP and hold that of gRPC; yield the socket and host:port or None.

    Raises:
        ConfigError: a port is in use or not allowed, or the host is unknown.
    """
    with contextlib.ExitStack() as stack:
        taken = stack.enter_context(listen(settings.host, settings.port))
        if settings.grpc_port is None:
            yield taken, None
        else:
            held = stack.enter_context(reserve(settings.host, settings.grpc_port))
            yield taken, place(held)


def describe(models: Models) -> list[str]:
    """Say what serves, model by model."""
    said: list[str] = []
    for name in models.names:
        with contextlib.suppress(NotLoaded):  # a client had it unloaded meanwhile
            said += warmup.describe(models.get(name))
    return said


def where(url: str, grpc: str | None) -> list[str]:
    """Say where a server listens, once it is ready."""
    told = [] if grpc is None else [f"gRPC: {grpc}"]
    return [*told, f"ready: {url}  (docs at /docs, Ctrl-C stops)"]


def farewell(drained: bool | None, limits: Limits, forced: bool = False) -> str:
    """Say how a server ended; `forced` is one that was told not to wait."""
    if drained:
        return "stopped; everything accepted was answered"
    if forced:
        return "stopped; what the last Ctrl-C found unanswered was given up"
    return f"stopped; not everything was answered within {limits.drain_s:g} s"


def say(echo: Echo, lines: Iterable[str]) -> None:
    """Say some lines to whoever listens."""
    with contextlib.suppress(OSError):  # the terminal may be gone, or who read it
        for line in lines:
            echo(line)


def _rpc(models: Models, settings: Settings, place: str, held: Held) -> "rpc.Listener":
    # Only who serves gRPC needs its packages.
    from exitkit.serve.rpc import listener

    return listener.Listener(models, settings, place, held)


def address(taken: socket.socket, settings: Settings) -> str:
    """Return the URL of a listening socket."""
    return f"{'http' if settings.certificate is None else 'https'}://{place(taken)}"
