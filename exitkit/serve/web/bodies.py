"""The gate before every route that refuses bodies which are too large, or come too slowly."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from exitkit.errors import RequestError, TooLarge
from exitkit.serve.intake import RATE, Held, TooSlow
from exitkit.serve.limits import Limits

Message = MutableMapping[str, Any]  # Any: values of ASGI messages are of many kinds
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

# Of a body that nobody wants as much is read and thrown away before its connection is closed, so
# that a client which sends first and reads afterwards sees the answer instead of a broken
# connection.
LINGER_BYTES, LINGER_S = 64 * 2**20, 5.0
# Under this name the body of a request stands in its scope, for who unpacks it.
BODY = "exitkit.body"


class BodyLimit:
    """ASGI layer that ends a request whose body passes a limit: 413, 408, 429.

    A body that announces its length is refused before it is read; one that does not (chunked) is
    counted as it comes. All bodies together are bounded too: the bytes of a request count until
    it is answered.

    Args:
        app: what answers.
        limits: of the server.
        held: bytes of all its requests.
    """

    def __init__(self, app: Application, limits: Limits, held: Held) -> None:
        self.app, self.limits, self.held = app, limits, held

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope[BODY] = body = Body(self.limits, self.held, dict(scope["headers"]), receive)

        async def lingering(message: Message) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body")
            if last and body.lingers:
                await send({**message, "more_body": True})
                await body.discard()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        try:
            await self.app(scope, body.receive, lingering)
        finally:
            self.held.drop(body.held)


class Body:
    """The body of one request, as it is received.

    Attributes:
        held: bytes of it that count until the request is answered.
    """

    def __init__(
        self, limits: Limits, together: Held, headers: dict[bytes, bytes], receive: Receive
    ) -> None:
        self._limits, self._together, self._receive = limits, together, receive
        length = headers.get(b"content-length", b"0")
        self._announced = int(length) if length.isdigit() else 0
        self._comes = self._announced > 0 or b"transfer-encoding" in headers
        self._asks_first = b"expect" in headers
        self._taken, self._waited_s = 0, 0.0
        self._complete = False
        self._refusal: RequestError | None = None
        self.held = 0

    def hold(self, count: int) -> None:
        """Count bytes until the request is answered.

        Raises:
            Overloaded: all requests together would hold too many.
        """
        self._together.add(count)
        self.held += count

    @property
    def lingers(self) -> bool:
        """Whether the client goes on sending what nobody reads."""
        # One that asks for leave to send (Expect) has none yet, a slow one would be slow again.
        slow = isinstance(self._refusal, TooSlow)
        return self._comes and not (self._complete or self._asks_first or slow)

    async def discard(self) -> None:
        """Read the rest for a while, and throw it away."""
        taken, more = 0, True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(LINGER_S, self._limits.stall_s)):
                while more and taken < LINGER_BYTES:
                    message = await self._receive()
                    more = message["type"] == "http.request" and message.get("more_body", False)
                    taken += len(message.get("body", b""))

    async def receive(self) -> Message:
        """Return the next message."""
        if self._complete:
            return await self._receive()
        if self._refusal is None:
            try:
                return await self._next()
            except RequestError as error:
                self._refusal = error
        raise self._refusal

    async def _next(self) -> Message:
        self._require(self._announced)
        self._asks_first = False  # to receive gives leave
        began = time.monotonic()
        allowed_s = self._limits.stall_s + self._taken / RATE
        try:
            async with asyncio.timeout(allowed_s - self._waited_s):
                message = await self._receive()
        except TimeoutError as error:
            raise TooSlow(
                f"a request body of {self._announced or 'some'} bytes",
                f"{self._taken} came in {allowed_s:.0f} s",
                "send it faster, or send smaller images",
            ) from error
        self._waited_s += time.monotonic() - began
        count = len(message.get("body", b""))
        self._taken += count
        self._require(self._taken)
        self.hold(count)
        self._complete = not message.get("more_body", False)
        return message

    def _require(self, found: int) -> None:
        limit = self._limits.body_bytes
        if found > limit:
            raise TooLarge(
                "request body",
                f"{found} bytes or more, the limit is {limit}",
                "send fewer or smaller images",
            )
