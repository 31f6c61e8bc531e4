"""One process that serves: the socket first, then the model, then the signals."""

import asyncio
import contextlib
import errno
import logging
import math
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn

from exitkit.errors import ConfigError, EngineError
from exitkit.serve import app, warmup
from exitkit.serve.limits import Limits
from exitkit.serve.scheduler import LAST_RUN_S
from exitkit.serve.service import Service

logger = logging.getLogger(__name__)

BACKLOG = 2048
# Above the idle time of usual load balancers, which then close first.
KEEP_ALIVE_S = 75
HOST, PORT = "127.0.0.1", 8000


class _Server(uvicorn.Server):
    """A uvicorn server that ends well: a signal stops it, and it returns instead of dying."""

    def __init__(self, service: Service, socket_: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app.create(service),
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
                ws="none",
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                # Later than our own end of patience, which answers what it gives up.
                timeout_graceful_shutdown=math.ceil(service.limits.drain_s + LAST_RUN_S),
            )
        )
        self.service, self.socket = service, socket_

    def serve_here(self) -> None:
        """Serve until told to stop; everything that was accepted is answered."""
        self.run(sockets=[self.socket])

    def stop(self) -> None:
        """Stop accepting, finish, return from `serve_here`; from any thread."""
        self.service.drain()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting; answer what was accepted, after `drain_s` with 503."""
        loop, service = asyncio.get_running_loop(), self.service
        service.drain()
        end = loop.call_later(
            service.limits.drain_s, loop.run_in_executor, None, service.scheduler.close, 0.0
        )
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


def run(
    bundle: Path,
    host: str = HOST,
    port: int = PORT,
    threshold: float | None = None,
    limits: Limits | None = None,
    pool: str = "auto",
    threads: int | None = None,
    provider: str = "cpu",
    echo: Callable[[str], None] = logger.info,
) -> None:
    """Serve a bundle until SIGINT or SIGTERM; then finish what was accepted and return.

    Args:
        bundle: its folder.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        threshold: for all exits, instead of the bundle's own policy.
        limits: of the server.
        pool: of threads, see `warmup.prepare`.
        threads: of the pool; all cores where None.
        provider: what computes, see exitkit.engine.backends.
        echo: told the operating point and the address, line by line.

    Raises:
        ConfigError: the port is in use (said before the model is loaded), a wrong threshold, a
            provider that cannot be had here.
        BundleError: no bundle, or a damaged one.
    """
    with listen(host, port) as socket_:
        service = warmup.prepare(bundle, threshold, limits or Limits(), pool, threads, provider)
        for line in warmup.describe(service):
            echo(line)
        echo(f"ready: {address(socket_)}  (docs at /docs, Ctrl-C stops)")
        _Server(service, socket_).serve_here()
        late = f"not everything was answered within {service.limits.drain_s:g} s"
        echo(f"stopped; {'everything accepted was answered' if service.drained else late}")


@contextlib.contextmanager
def server(
    bundle: Path,
    host: str = HOST,
    port: int = 0,
    threshold: float | None = None,
    limits: Limits | None = None,
    pool: str = "private",
    threads: int | None = None,
) -> Iterator[str]:
    """Serve a bundle on a thread while the block runs; yield the address, http://host:port.

    It is the real server on a real socket, for tests and the demo; arguments as in `run`.
    """
    with listen(host, port) as socket_:
        service = warmup.prepare(bundle, threshold, limits or Limits(), pool, threads)
        running = _Server(service, socket_)
        thread = threading.Thread(target=running.serve_here, name="exitkit-serve", daemon=True)
        thread.start()
        try:
            while not running.started:
                if not thread.is_alive():
                    raise EngineError("a server", "it did not start", "see the log")
                time.sleep(0.005)
            yield address(socket_)
        finally:
            running.stop()
            thread.join()


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Take a port, so that a second server learns at once that it is taken.

    Clients that come while the model is loaded wait for their answer.

    Raises:
        ConfigError: the port is in use or not allowed, or the host is unknown.
    """
    asked = f"address {host}:{port}"
    if not 0 <= port <= 65535:
        raise ConfigError(asked, "no such port", "choose --port from 0 to 65535")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ConfigError(asked, f"unknown host ({error.strerror})", "use 127.0.0.1") from error
    with socket.socket(family, kind, protocol) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(place)
            taken.listen(BACKLOG)
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            found = f"port {port} is in use" if in_use else str(error.strerror)
            raise ConfigError(asked, found, "choose another --port, or --port 0") from error
        yield taken


def address(taken: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = taken.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
