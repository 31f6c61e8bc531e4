"""The gate before every route that refuses bodies which are too large."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from exitkit.errors import TooLarge

Message = MutableMapping[str, Any]  # Any: values of ASGI messages are of many kinds
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

# After a refusal as much is read and thrown away, so that a client which sends first and reads
# afterwards sees the answer instead of a broken connection.
LINGER_BYTES, LINGER_S = 64 * 2**20, 5.0


class BodyLimit:
    """ASGI layer that ends a request with 413 once its body passes the limit.

    A body that announces its length is refused before it is read; one that does not (chunked) is
    counted as it comes.
    """

    def __init__(self, app: Application, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        announced = int(length) if length.isdigit() else 0
        taken, refused = 0, False

        async def counted() -> Message:
            nonlocal taken, refused
            if not refused and announced <= self.limit:
                message = await receive()
                taken += len(message.get("body", b""))
                if taken <= self.limit:
                    return message
            refused = True
            raise self._error(max(taken, announced))

        async def lingering(message: Message) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body")
            # A client that asked for leave to send (Expect) sends nothing now.
            if refused and last and b"expect" not in headers:
                await send({**message, "more_body": True})
                await _discard(receive)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self.app(scope, counted, lingering)

    def _error(self, found: int) -> TooLarge:
        return TooLarge(
            "request body",
            f"{found} bytes or more, the limit is {self.limit}",
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
