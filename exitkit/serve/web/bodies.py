"""The gate before every route that refuses bodies which are too large, or come too slowly."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from exitkit.errors import Overloaded, RequestError, TooLarge
from exitkit.serve.limits import Limits

Message = MutableMapping[str, Any]  # Any: values of ASGI messages are of many kinds
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

# After a refusal as much is read and thrown away, so that a client which sends first and reads
# afterwards sees the answer instead of a broken connection.
LINGER_BYTES, LINGER_S = 64 * 2**20, 5.0
# A body of b bytes may keep the server waiting for b / RATE seconds on top of the limit.
RATE = 256 * 2**10
# Under this name the body of a request stands in its scope, for who unpacks it.
BODY = "exitkit.body"


class TooSlow(RequestError):
    """A body that did not come in time; the connection is closed."""

    status = 408


class BodyLimit:
    """ASGI layer that ends a request whose body passes a limit: 413, 408, 429.

    A body that announces its length is refused before it is read; one that does not (chunked) is
    counted as it comes. All bodies together are bounded too: the bytes of a request count until
    it is answered.
    """

    def __init__(self, app: Application, limits: Limits) -> None:
        self.app, self.limits = app, limits
        self._held = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope[BODY] = body = Body(self, dict(scope["headers"]), receive)

        async def lingering(message: Message) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body")
            if last and body.lingers:
                await send({**message, "more_body": True})
                await _discard(receive)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        try:
            await self.app(scope, body.receive, lingering)
        finally:
            self._held -= body.held

    def hold(self, count: int) -> None:
        """Count bytes that are kept in memory or on disk.

        Raises:
            Overloaded: they are more than all requests together may have.
        """
        if self._held + count > self.limits.bodies_bytes:
            raise Overloaded(
                f"{count} bytes of a request body",
                f"{self._held} are held for other requests, the limit is "
                f"{self.limits.bodies_bytes}",
                "come again after the seconds in Retry-After",
                1.0,
            )
        self._held += count


class Body:
    """The body of one request, as it is received.

    Attributes:
        held: bytes of it that count until the request is answered.
    """

    def __init__(self, gate: BodyLimit, headers: dict[bytes, bytes], receive: Receive) -> None:
        self._gate, self._receive = gate, receive
        length = headers.get(b"content-length", b"0")
        self._announced = int(length) if length.isdigit() else 0
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
        self._gate.hold(count)
        self.held += count

    @property
    def lingers(self) -> bool:
        """Whether the client goes on sending what was refused."""
        # One that asked for leave to send (Expect) sends nothing now, a slow one would again.
        refused = isinstance(self._refusal, TooLarge | Overloaded)
        return refused and not self._asks_first

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
        limits = self._gate.limits
        self._require(self._announced)
        began = time.monotonic()
        allowed_s = limits.stall_s + self._taken / RATE
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
        limit = self._gate.limits.body_bytes
        if found > limit:
            raise TooLarge(
                "request body",
                f"{found} bytes or more, the limit is {limit}",
                "send fewer or smaller images",
            )


async def _discard(receive: Receive) -> None:
    async def read() -> None:
        taken, more = 0, True
        while more and taken < LINGER_BYTES:
            message = await receive()
            more = message["type"] == "http.request" and message.get("more_body", False)
            taken += len(message.get("body", b""))

    try:
        await asyncio.wait_for(read(), LINGER_S)
    except TimeoutError:
        return
