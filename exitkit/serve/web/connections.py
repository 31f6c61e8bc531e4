"""One connection of HTTP/1.1, with an end to everything that a client can keep waiting.

uvicorn reads and writes; what it lacks is here: bounds on the size of a request's head and on the
time in which it has to come, an end to answers that nobody reads and to bodies that nobody wants
(`bodies` has read them for a while), a bound on open connections, and JSON for what is no HTTP.
"""

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from exitkit.serve.limits import Limits

# A server that stops still answers what is on its way on a connection that was idle.
LINGER_S = 0.5
# Requests that may wait on one connection, sent before the answers to those before them are read;
# the connection is closed behind them if there are more.
PIPELINE = 100


class Connection(HttpToolsProtocol):
    """One connection; `check` has to be called again and again.

    Args:
        config: uvicorn's.
        state: of the server, with all its connections.
        shared: what the application's lifespan shares.
        limits: of the server.
        stopping: tells whether the server is; a connection that is made then is soon closed.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        shared: dict[str, Any],  # Any: whatever a lifespan shares
        limits: Limits,
        stopping: Callable[[], bool],
    ) -> None:
        super().__init__(config, state, shared)
        self._limits, self._stopping = limits, stopping
        self._heads = 0  # begun
        self._head = 0  # bytes of the last one, but for those that came with its first
        self._inside = self._in_head = False  # a message, its head
        self._awaited: float | None = None  # since when a head comes
        self._unread: float | None = None  # since when the client does not read
        self._leaving = False  # after the next answer
        self._over = False  # what comes is not read any more

    def check(self, now: float) -> None:
        """End what takes too long; `now` is the event loop's time."""
        if self.transport.is_closing() and self._unread is None:
            self._unread = now  # until the rest of the answer is read
        if self._unread is not None and now - self._unread > self._limits.stall_s:
            self.transport.abort()
            return
        if self._awaited is None or self.transport.is_closing():
            return
        if self.flow.read_paused or not self._answered:
            return  # the client waits for us
        if self._in_head and now - self._awaited > self._limits.head_s:
            self._refuse(408, f"a request's head: did not come in {self._limits.head_s:g} s")
        elif now - self._awaited > self._limits.head_s:
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; refuse one connection more than the limit."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._awaited = self.loop.time()
        if len(self.connections) > self._limits.connections:
            most = self._limits.connections
            self._refuse(503, f"a connection: {most} are open already; use those again")
        elif self._stopping():
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if self._over:
            return
        if self._awaited is None and not self._inside and self._answered:
            self._awaited = self.loop.time()
        self._unset_keepalive_if_required()
        head = self._heads if self._in_head else 0
        rest: memoryview | None = memoryview(data)
        try:
            while rest is not None:
                rest = self._parse(rest)
        except httptools.HttpParserError:
            self._refuse(400, "a request: is no HTTP/1.1; see its specification, RFC 9112")
        if self._in_head and self._heads == head:
            self._head += len(data)
            if self._head > self._limits.head_bytes:
                self._refuse(431, self._too_long())

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._inside = self._in_head = True
        self._heads += 1
        self._head = 0
        if self._awaited is None:
            self._awaited = self.loop.time()

    def on_headers_complete(self) -> None:
        """Let the application answer, unless the head is too long."""
        self._in_head, self._awaited = False, None
        if self._over or self.parser.should_upgrade():
            return  # an upgrade goes on in `_parse`
        if len(self.url) + sum(map(len, _flat(self.headers))) > self._limits.head_bytes:
            self._refuse(431, self._too_long())
            return
        if len(self.pipeline) >= PIPELINE:
            self._refuse(429, f"a request: {PIPELINE} wait on this connection; read their answers")
            return
        super().on_headers_complete()
        if self._leaving:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        if not self._over:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a message."""
        self._inside, self._awaited = False, None
        if not self._over and not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """End an answer; what is left of the request's body has come for long enough."""
        super().on_response_complete()
        if self._inside and not self._in_head and self._answered:
            self.transport.close()

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        super().pause_writing()
        self._unread = self.loop.time()

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        super().resume_writing()
        self._unread = None

    def shutdown(self) -> None:
        """Close after the next answer, or soon if none is due."""
        self._leaving = True
        if self._answered:
            self.loop.call_later(LINGER_S, self._leave)
        else:
            self.cycle.keep_alive = False

    def _parse(self, data: memoryview) -> memoryview | None:
        """Parse what came; return what is left where a request offers another protocol.

        Java's client does so with every request. The parser takes what follows for that other
        protocol; so the head goes through another parser, without the offer, and the rest too.
        """
        try:
            self.parser.feed_data(data)
            return None
        except httptools.HttpParserUpgrade as stop:
            rest = data[stop.args[0] :]
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self._refuse(405, "CONNECT: this server is no proxy; send a request to itself")
            return None
        dropped = (b"connection", b"upgrade", b"http2-settings")
        head = [method, b" ", self.url, b" HTTP/", version, b"\r\n"]
        for name, value in self.headers:
            if name not in dropped:
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(b"".join([*head, b"\r\n"]))
        return rest

    def _leave(self) -> None:
        if self._answered and not self._inside and not self.transport.is_closing():
            self.transport.close()

    @property
    def _answered(self) -> bool:
        """Whether no request waits for its answer."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def _refuse(self, status: int, text: str) -> None:
        """Answer without asking the application, and close."""
        if self._over:
            return
        self._over = True
        if not self._answered and (self.cycle.response_started or not self.cycle.more_body):
            # The requests before it were whole; they have their answers coming.
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        body = json.dumps({"error": text}).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _too_long(self) -> str:
        most = self._limits.head_bytes
        return f"a request's head: is longer than {most} bytes; send fewer or shorter headers"


def _flat(headers: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [part for pair in headers for part in pair]
