"""The port of HTTP: from its start to an end at which everything accepted is answered."""

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from exitkit.serve.limits import Limits
from exitkit.serve.ports import BACKLOG
from exitkit.serve.scheduling.scheduler import LAST_RUN_S
from exitkit.serve.web.connections import LINGER_S, Connection

# Above the idle time of usual load balancers, which then close first.
KEEP_ALIVE_S = 75
# How often connections are looked at that might take too long.
LOOK_S = 0.5


class Listener(uvicorn.Server):
    """Serves an application on a listening socket; signals are the process's.

    Args:
        app: what answers; its lifespan's end finishes what was accepted.
        limits: of the server.
        taken: the socket.
        tls: None: plain HTTP.
    """

    def __init__(
        self, app: FastAPI, limits: Limits, taken: socket.socket, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
                ws="none",
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                # Later than our own end of patience, which answers what it gives up.
                timeout_graceful_shutdown=math.ceil(limits.drain_s + LAST_RUN_S),
            )
        )
        self.limits, self.taken, self.tls = limits, taken, tls
        self.stopping = False
        self._secured: dict[str, Any] = {}  # Any: options of TLS
        self._looking: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        # Only a TLS server may be told how long a handshake may take.
        if self.tls is not None:
            self._secured = {"ssl": self.tls, "ssl_handshake_timeout": self.limits.head_s}
        made = await loop.create_server(
            self._connect, sock=self.taken, backlog=BACKLOG, **self._secured
        )
        self.servers = [made]
        self._looking = loop.create_task(self._look())
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting; answer what was accepted, then end the application."""
        self.stopping = True
        await self._accept_rest()
        await super().shutdown(sockets)
        if self._looking is not None:
            self._looking.cancel()

    async def _accept_rest(self) -> None:
        """Take the connections that wait, and no more: to close a socket would reset them."""
        loop, waiting = asyncio.get_running_loop(), []
        loop.remove_reader(self.taken)
        await asyncio.sleep(0)  # those that the loop has accepted get their protocols
        with contextlib.suppress(OSError):  # there is none left
            while True:
                waiting.append(self.taken.accept()[0])
        for server in self.servers:
            server.close()
        tasks = [
            asyncio.ensure_future(loop.connect_accepted_socket(self._connect, one, **self._secured))
            for one in waiting
        ]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LINGER_S)
            for task in late:
                task.cancel()

    def _connect(self) -> Connection:
        state, shared = self.server_state, self.lifespan.state
        return Connection(self.config, state, shared, self.limits, lambda: self.stopping)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.check(loop.time())
            await asyncio.sleep(LOOK_S)
