"""One process that serves: the socket first, then the model, then the signals."""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from exitkit.errors import EngineError
from exitkit.serve import logs, shelf, tls, warmup
from exitkit.serve.access import Access
from exitkit.serve.models import Models
from exitkit.serve.ports import listen, place, reserve
from exitkit.serve.settings import Settings
from exitkit.serve.web import app
from exitkit.serve.web.listener import Listener

if TYPE_CHECKING:
    from exitkit.serve.rpc import listener as rpc

logger = logging.getLogger(__name__)

Echo = Callable[[str], None]


class _Server(Listener):
    """A server that ends well: a signal stops it, and it returns instead of dying."""

    def __init__(
        self,
        models: Models,
        settings: Settings,
        taken: socket.socket,
        held: socket.socket | None,
        echo: Echo,
    ) -> None:
        self.rpc = None if held is None else _rpc(models, settings, place(held))
        beside = self.rpc or contextlib.nullcontext()
        secured = tls.read(settings)
        super().__init__(app.create(models, settings, beside), models.limits, taken, secured)
        self.models, self.echo = models, echo
        self.url = address(taken, secure=secured is not None)
        self.failure: Exception | None = None
        self.loaded = threading.Event()

    def serve_here(self) -> None:
        """Serve until told to stop; everything that was accepted is answered.

        Raises:
            ExitkitError: a model could not be loaded.
        """
        threading.Thread(target=self._load, name="exitkit-load", daemon=True).start()
        self.run(sockets=[self.taken])
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """Stop accepting, finish, return from `serve_here`; from any thread."""
        self.models.drain()
        self.should_exit = True

    def _load(self) -> None:
        """Load the models while the server answers already: it is live, but not ready."""
        try:
            self.models.start()
        except Exception as error:
            self.failure = error
            self.should_exit = True
        else:
            for name in self.models.names:
                for line in warmup.describe(self.models.get(name)):
                    self.echo(line)
            if self.rpc is not None:
                self.echo(f"gRPC: {self.rpc.place}")
            self.echo(f"ready: {self.url}  (docs at /docs, Ctrl-C stops)")
        self.loaded.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting; answer what was accepted, after `drain_s` with 503."""
        loop, models = asyncio.get_running_loop(), self.models
        models.drain()
        if self.rpc is not None:
            self.rpc.close()
        end = loop.call_later(models.limits.drain_s, loop.run_in_executor, None, models.give_up)
        await super().shutdown(sockets)
        end.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM; unlike uvicorn, do not raise them again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._caught) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        # The second Ctrl-C does not wait.
        self.force_exit = self.should_exit and number == signal.SIGINT
        self.stop()


def run(settings: Settings, echo: Echo = logger.info) -> None:
    """Serve bundles until SIGINT or SIGTERM; then finish what was accepted and return.

    The server answers as soon as the port is taken: what needs a model gets 503 until all are
    loaded and warm.

    Args:
        settings: what it is told.
        echo: told the operating point and the address, line by line.

    Raises:
        ConfigError: the port is in use (said before a model is loaded), a wrong threshold, a
            provider that cannot be had here.
        BundleError: no bundle, or a damaged one.
    """
    logs.set_up(settings.log)
    with listen(settings.host, settings.port) as taken, _held(settings) as held:
        models = shelf.collect(settings)
        warning = Access(settings).warning()
        if warning is not None:
            echo(warning)
        _Server(models, settings, taken, held, echo).serve_here()
        late = f"not everything was answered within {models.limits.drain_s:g} s"
        echo(f"stopped; {'everything accepted was answered' if models.drained else late}")


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
    with listen(told.host, told.port) as taken, _held(told) as held:
        running = _Server(shelf.collect(told), told, taken, held, logger.info)
        ended: list[Exception] = []

        def serve() -> None:
            try:
                running.serve_here()
            except Exception as error:
                ended.append(error)

        thread = threading.Thread(target=serve, name="exitkit-serve", daemon=True)
        thread.start()
        running.loaded.wait()
        if running.failure is not None:
            thread.join()  # it ends by itself, and says why
        try:
            while not running.started and thread.is_alive():
                time.sleep(0.005)
            if not thread.is_alive() and not ended:
                raise EngineError("a server", "it did not start", "see the log")
            if not ended:
                yield running.url
        finally:
            running.stop()
            thread.join()
        if ended:
            raise ended[0]


@contextlib.contextmanager
def _held(settings: Settings) -> Iterator[socket.socket | None]:
    """Hold the port of gRPC; None where there is none."""
    if settings.grpc_port is None:
        yield None
        return
    with reserve(settings.host, settings.grpc_port) as held:
        yield held


def _rpc(models: Models, settings: Settings, place: str) -> "rpc.Listener":
    # Only who serves gRPC needs its packages.
    from exitkit.serve.rpc import listener

    return listener.Listener(models, settings, place)


def address(taken: socket.socket, secure: bool = False) -> str:
    """Return the URL of a listening socket."""
    return f"{'https' if secure else 'http'}://{place(taken)}"
